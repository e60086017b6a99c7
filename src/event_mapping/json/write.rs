//! JSON writer for scalars in the form that Heap accepts.
//!
//! Heap documents "fewer than 1024 characters" without defining a character. The writer counts UTF-16 units, which are
//! never fewer than any other unit except bytes.

use std::io::Write as _;

use super::swar::is_plain;

/// The longest name or value in UTF-16 units (Heap, `/api/track`: fewer than 1,024 characters).
pub(crate) const TEXT_LEN_MAX: usize = 1023;
/// From here on doubles do not represent every whole number.
const WHOLE_MAX: i64 = 1 << 53;

/// Appends a quoted text, cut to [`TEXT_LEN_MAX`]. Invalid UTF-8 becomes U+FFFD.
#[inline]
pub(crate) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() <= TEXT_LEN_MAX && is_plain(bytes) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    } else {
        quoted(out, cut(&String::from_utf8_lossy(bytes)));
    }
}

/// The longest prefix of a text that Heap accepts.
pub(crate) fn cut(text: &str) -> &str {
    if text.len() <= TEXT_LEN_MAX {
        return text;
    }
    let mut units = 0;
    for (at, char) in text.char_indices() {
        units += char.len_utf16();
        if units > TEXT_LEN_MAX {
            return &text[..at];
        }
    }
    text
}

/// Appends a quoted text of any length.
pub(crate) fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend([byte >> 4, byte & 15].map(|n| b"0123456789abcdef"[usize::from(n)]));
        }
    }
}

/// Appends a number as its sender wrote it, normalized: whole numbers without a fraction, numbers that a double cannot
/// hold as text.
pub(crate) fn number(out: &mut Vec<u8>, token: &str) {
    if !token.contains(['.', 'e', 'E']) {
        match token.parse() {
            Ok(whole) => integer(out, whole),
            Err(_) => text(out, token.as_bytes()),
        }
        return;
    }
    let is_written = token.parse().is_ok_and(|value| float(out, value));
    if !is_written {
        text(out, token.as_bytes());
    }
}

/// Appends a whole number, as text if a double would change it.
#[inline]
pub(crate) fn integer(out: &mut Vec<u8>, value: i64) {
    let is_exact = (-WHOLE_MAX..=WHOLE_MAX).contains(&value);
    if !is_exact {
        out.push(b'"');
    }
    if value < 0 {
        out.push(b'-');
    }
    unsigned(out, value.unsigned_abs());
    if !is_exact {
        out.push(b'"');
    }
}

/// Appends digits.
pub(crate) fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    let (mut digits, mut at) = ([b'0'; 20], 20);
    loop {
        at -= 1;
        #[allow(clippy::cast_possible_truncation, reason = "a digit")]
        let digit = (value % 10) as u8;
        digits[at] += digit;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the shortest decimal of a number. Returns `false` and appends nothing for NaN and infinities.
pub(crate) fn float(out: &mut Vec<u8>, value: f64) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "2^53 is exact")]
    let whole_max = WHOLE_MAX as f64;
    if !value.is_finite() {
        return false;
    }
    if value.trunc() == value && value.abs() <= whole_max {
        #[allow(clippy::cast_possible_truncation, reason = "whole, and small enough")]
        integer(out, value as i64);
        return true;
    }
    write!(out, "{value:?}").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(write: impl FnOnce(&mut Vec<u8>), expected: &str) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn a_text_is_read_again(value in "\\PC{0,30}|[\\x00-\\x7f]{0,30}") {
            let mut out = Vec::new();
            text(&mut out, value.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), value);
        }

        #[test]
        fn a_number_is_read_again(value in any::<f64>(), whole in any::<i64>()) {
            let mut out = Vec::new();
            if float(&mut out, value) {
                prop_assert_eq!(serde_json::from_slice::<f64>(&out).unwrap(), value);
            }
            out.clear();
            integer(&mut out, whole);
            let written = String::from_utf8(out).unwrap();
            prop_assert_eq!(written.trim_matches('"'), whole.to_string());
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let check = |text: &str, chars: usize| assert_eq!(cut(text).chars().count(), chars);
        check(&"é".repeat(1023), 1023);
        check(&"é".repeat(1024), 1023);
        check(&"😀".repeat(600), 511);
        check(&("x".to_owned() + &"😀".repeat(600)), 512);
    }

    #[test]
    fn numbers_that_doubles_hold_stay_numbers() {
        check(|out| number(out, "9007199254740992"), "9007199254740992");
        check(|out| number(out, "9007199254740993"), "\"9007199254740993\"");
        check(|out| number(out, "-12345678901234567890123"), "\"-12345678901234567890123\"");
        check(|out| number(out, "100.0"), "100");
        check(|out| number(out, "-0"), "0");
        check(|out| number(out, "3.140"), "3.14");
        check(|out| number(out, "1e400"), "\"1e400\"");
        check(|out| assert!(!float(out, f64::NAN) && !float(out, f64::INFINITY)), "");
    }
}
