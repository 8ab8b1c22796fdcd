//! Amounts of money as text: exact in cents, never through a float.

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAmount {
    /// Not written like one.
    #[error("write dollars and cents like 12.34, without sign")]
    Malformed,
    /// Cannot be counted.
    #[error("it is too large")]
    TooLarge,
}

/// Cents from `12.34`, `12.3` or `12`.
///
/// # Errors
/// When the text is anything else: a sign, more than two decimals, spaces.
pub fn parse(text: &str) -> Result<u64, NotAnAmount> {
    let (whole, decimals) = match text.split_once('.') {
        Some((whole, decimals)) if matches!(decimals.len(), 1 | 2) => (whole, decimals),
        Some(_) => return Err(NotAnAmount::Malformed),
        None => (text, ""),
    };
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(decimals) {
        return Err(NotAnAmount::Malformed);
    }
    let dollars: u64 = whole.parse().map_err(|_| NotAnAmount::TooLarge)?;
    // At most two digits, so the fallback is for none at all.
    let digits: u64 = decimals.parse().unwrap_or(0);
    let cents = if decimals.len() == 1 {
        digits * 10
    } else {
        digits
    };
    let total = dollars
        .checked_mul(100)
        .and_then(|whole| whole.checked_add(cents));
    total.ok_or(NotAnAmount::TooLarge)
}

/// `$2,500,315.63` from cents.
pub fn format(cents: u64) -> String {
    format!("${}.{:02}", group(cents / 100), cents % 100)
}

/// `2,500,315`.
pub fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_in_cents() {
        let good = [
            ("0", 0),
            ("12", 1_200),
            ("12.3", 1_230),
            ("12.34", 1_234),
            ("0.07", 7),
        ];
        for (text, cents) in good {
            assert_eq!(parse(text), Ok(cents), "{text}");
        }
        assert_eq!(parse("184467440737095516.15"), Ok(u64::MAX));
        assert_eq!(parse("184467440737095516.16"), Err(NotAnAmount::TooLarge));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "", ".", ".5", "5.", "-1", "+1", "1.234", "1,000", "1e3", " 1", "1 ", "½",
        ] {
            assert_eq!(parse(text), Err(NotAnAmount::Malformed), "{text:?}");
        }
    }

    #[test]
    fn amounts_are_shown_with_groups() {
        let shown = [
            (0, "$0.00"),
            (7, "$0.07"),
            (99_999, "$999.99"),
            (100_000, "$1,000.00"),
        ];
        for (cents, text) in shown {
            assert_eq!(format(cents), text);
        }
        assert_eq!(format(250_031_563), "$2,500,315.63");
    }
}
