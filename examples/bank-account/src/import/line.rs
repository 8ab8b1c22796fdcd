//! One line of the purchase log: fixed columns, nothing else.

use chrono::{NaiveDate, NaiveTime};
use tidelog::Timestamp;

use crate::money;

/// Bytes of a line without its end.
const LINE_BYTES: usize = 26;

/// One purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// The customer, as written: `00001`.
    pub customer: String,
    /// The day it was made, at 00:00 UTC.
    pub date: Timestamp,
    /// How many CDs.
    pub cds: u32,
    /// What they cost, in cents; zero occurs.
    pub cents: u64,
}

/// Whether this is the line of column names.
pub fn is_header(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"customer_id")
}

/// Reads one line, without its end.
///
/// ```text
///  0   6  " 00001"     customer
///  6   9  " 19970101"  date
/// 15   3  "  1"        CDs
/// 18   8  "   11.77"   dollars
/// ```
///
/// # Errors
/// What is wrong with which column.
pub fn parse(line: &[u8]) -> Result<Purchase, String> {
    if line.len() != LINE_BYTES || !line.is_ascii() {
        let shown = String::from_utf8_lossy(line.get(..40).unwrap_or(line)).into_owned();
        return Err(format!(
            "expected {LINE_BYTES} characters, found {}: {shown:?}",
            line.len()
        ));
    }
    // ASCII of a known length, so no part is ever missing.
    let text = std::str::from_utf8(line).unwrap_or_default();
    let column = |from: usize, to: usize| text.get(from..to).unwrap_or_default();

    let customer = column(0, 6).strip_prefix(' ').filter(|id| is_digits(id));
    let customer = customer.ok_or_else(|| bad("customer id", column(0, 6), "five digits"))?;
    let date = column(6, 15)
        .strip_prefix(' ')
        .filter(|date| is_digits(date));
    let date = date.and_then(|date| NaiveDate::parse_from_str(date, "%Y%m%d").ok());
    let date = date.ok_or_else(|| bad("date", column(6, 15), "a day as yyyymmdd"))?;
    let cds = column(15, 18).trim_start();
    let cds = Some(cds)
        .filter(|cds| is_digits(cds))
        .and_then(|cds| cds.parse().ok());
    let cds = cds.ok_or_else(|| bad("number of CDs", column(15, 18), "a whole number"))?;
    let cents = money::parse(column(18, 26).trim_start());
    let cents = cents.map_err(|error| bad("value", column(18, 26), &error.to_string()))?;
    Ok(Purchase {
        customer: customer.to_owned(),
        date: Timestamp::from(date.and_time(NaiveTime::MIN).and_utc()),
        cds,
        cents,
    })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn bad(what: &str, found: &str, expected: &str) -> String {
    format!("{what} {found:?}: expected {expected}")
}
