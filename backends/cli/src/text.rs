//! Texts that come from a store, so that they cannot move the cursor, hide, or turn around what stands
//! beside them.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character is shown by its number: control characters, those that turn the direction of
/// writing, line separators, and those that take no room.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Most texts are plain, and seen to be at once.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The text for people.
pub fn shown(text: &str) -> Cow<'_, str> {
    if is_plain(text) || !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            hidden if is_hidden(hidden) => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(hidden));
            }
            other => safe.push(other),
        }
    }
    Cow::Owned(safe)
}

/// JSON in one line that says the same: such characters stand in its texts alone, where numbers may
/// stand for them. Line breaks stay.
pub fn json_shown(json: &str) -> Cow<'_, str> {
    let hides = |character: char| is_hidden(character) && character != '\n';
    if is_plain(json) || !json.contains(hides) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if !hides(character) {
            safe.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(safe, "\\u{unit:04x}");
        }
    }
    Cow::Owned(safe)
}

/// The JSON value in `bytes` in one line, every text and number as it stands there; `None` when it is
/// none.
pub fn one_line(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<&serde_json::value::RawValue>(bytes).ok()?;
    let mut line = Vec::with_capacity(bytes.len());
    let mut inside = false;
    let mut escaped = false;
    for byte in bytes.iter().copied() {
        if inside {
            inside = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            inside = byte == b'"';
        }
        line.push(byte);
    }
    String::from_utf8(line).ok()
}

/// A text in lines of so many columns, broken between words; a word that has more stays whole, so that
/// it can be copied.
pub fn wrapped(text: &str, room: Option<usize>) -> Vec<Cow<'_, str>> {
    let Some(room) = room.filter(|room| console::measure_text_width(text) > *room) else {
        return vec![Cow::Borrowed(text)];
    };
    let mut lines: Vec<Cow<'_, str>> = Vec::new();
    let mut taken = 0;
    for word in text.split(' ') {
        let width = console::measure_text_width(word);
        match lines.last_mut() {
            Some(line) if taken + 1 + width <= room => {
                let line = line.to_mut();
                line.push(' ');
                line.push_str(word);
                taken += 1 + width;
            }
            _ => {
                lines.push(Cow::Borrowed(word));
                taken = width;
            }
        }
    }
    lines
}

/// `1 segment`, `1,200 segments`
pub fn counted(number: u64, what: &str) -> String {
    let several = if number == 1 { "" } else { "s" };
    format!("{} {what}{several}", grouped(number))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// `12,345`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_move_the_cursor_or_turn_the_line_is_shown_by_its_number() {
        assert_eq!(shown("Till/7 é 漢 👍"), "Till/7 é 漢 👍");
        assert_eq!(shown("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(shown("a\nb\tc\rd"), "a\\nb\\tc\\rd");
        for hidden in [
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{200f}',
            '\u{61c}',
            '\u{7f}',
            '\u{9b}',
            '\u{feff}',
            '\u{2028}',
            '\u{e0041}',
        ] {
            let text = format!("a{hidden}b");
            assert!(!shown(&text).contains(hidden), "{hidden:?}");
            let json = serde_json::to_string(&text).unwrap();
            let safe = json_shown(&json);
            assert!(!safe.contains(hidden), "{hidden:?}");
            assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        }
    }

    #[test]
    fn a_value_in_one_line_keeps_its_numbers_and_texts() {
        let value =
            "{ \"a b\" :\n [1.10, 1e400, 12345678901234567890123],\t\"c\\\" d\": \"e  \\\\\" }";
        let line = r#"{"a b":[1.10,1e400,12345678901234567890123],"c\" d":"e  \\"}"#;
        assert_eq!(one_line(value.as_bytes()).unwrap(), line);
        assert_eq!(one_line(b"{} {}"), None);
        assert_eq!(one_line(b"\xff"), None);
        assert_eq!(one_line(b""), None);
    }

    #[test]
    fn long_texts_are_broken_between_words_and_nothing_is_lost() {
        let text = "at byte 4096: the commit that stood here is gone";
        for room in 1..60 {
            let lines = wrapped(text, Some(room));
            assert_eq!(lines.join(" "), text);
            let fits = |line: &Cow<'_, str>| line.len() <= room || !line.contains(' ');
            assert!(lines.iter().all(fits), "{room}: {lines:?}");
        }
        assert_eq!(wrapped(text, None), [text]);
        assert_eq!(counted(1, "segment"), "1 segment");
        assert_eq!(counted(1_200, "segment"), "1,200 segments");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
