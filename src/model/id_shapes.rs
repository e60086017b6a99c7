//! Suspicious forms of identifiers, counted over the rows of a source: signs of conversion by a spreadsheet or a data
//! frame, and invisible characters.

use serde::{Deserialize, Serialize};
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

/// Counts of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdShapes {
    /// Identifiers that end in `.0`, as a data frame writes whole numbers in a column with gaps.
    pub decimal: u64,
    /// Numbers in exponent notation, as a spreadsheet writes long ones: `1.23457E+11`.
    pub exponent: u64,
    /// Identifiers with characters that are not visible.
    pub invisible: u64,
}

impl IdShapes {
    /// Counts the value of a packed identifier.
    #[inline]
    pub fn count(&mut self, packed: &[u8]) {
        let value = packed.get(1).and_then(|label_len| packed.get(2 + usize::from(*label_len) + 2..));
        let value = value.unwrap_or_default();
        match value.last() {
            Some(b'0') if is_decimal(value) => self.decimal += 1,
            Some(b'0'..=b'9') if is_exponent(value) => self.exponent += 1,
            _ if value.is_ascii() => {}
            _ => self.invisible += u64::from(std::str::from_utf8(value).is_ok_and(has_invisible)),
        }
    }
}

/// Whether a text ends in a point and zeros.
fn is_decimal(value: &[u8]) -> bool {
    let zeros = value.iter().rev().take_while(|byte| **byte == b'0').count();
    value.len() > zeros + 1 && value[value.len() - zeros - 1] == b'.'
}

/// Whether a text is a number in exponent notation: one digit, optional decimal places, and an exponent. Without a
/// decimal point or a sign it may be a hexadecimal id.
fn is_exponent(value: &[u8]) -> bool {
    let Some(at) = value.iter().rev().take(5).position(|byte| byte.eq_ignore_ascii_case(&b'e')) else {
        return false;
    };
    let (mantissa, exponent) = value.split_at(value.len() - at - 1);
    let exponent = &exponent[1..];
    let digits = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-"));
    let mantissa = mantissa.strip_prefix(b"-").unwrap_or(mantissa);
    let are_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let has_places = match mantissa {
        [first] if first.is_ascii_digit() => false,
        [first, b'.', places @ ..] if first.is_ascii_digit() && are_digits(places) => true,
        _ => return false,
    };
    are_digits(digits.unwrap_or(exponent)) && (digits.is_some() || has_places)
}

/// Whether a character is not visible: zero-width characters, marks of direction and byte order, soft hyphens,
/// variation selectors.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

fn has_invisible(text: &str) -> bool {
    text.chars().any(is_invisible)
}

/// Whether a text may look like another one: it has invisible characters or is not in composed form (Unicode NFC).
#[must_use]
pub fn is_ambiguous(text: &str) -> bool {
    has_invisible(text) || !is_nfc(text)
}

/// Returns the visible form: without invisible characters, composed, ASCII in lower case. Texts that look alike have the
/// same.
#[must_use]
pub fn visible_form(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let visible: String = text.chars().filter(|c| !is_invisible(*c)).nfc().collect();
    visible.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identifier, IdentifierKind};

    #[test]
    fn suspicious_forms_are_counted() {
        let count = |value: &str| {
            let (mut packed, mut shapes) = (Vec::new(), IdShapes::default());
            Identifier { kind: IdentifierKind::Alias, label: "crm", value }.pack_into(&mut packed);
            shapes.count(&packed);
            [shapes.decimal, shapes.exponent, shapes.invisible]
        };
        for decimal in ["123.0", "u1.0", "123.00"] {
            assert_eq!(count(decimal), [1, 0, 0], "{decimal}");
        }
        for exponent in ["1.23457E+11", "1E+11", "1.2e15", "-1.5e+300", "9e-05"] {
            assert_eq!(count(exponent), [0, 1, 0], "{exponent}");
        }
        for invisible in ["u\u{200b}1", "\u{feff}u1", "u\u{ad}1"] {
            assert_eq!(count(invisible), [0, 0, 1], "{invisible:?}");
        }
        for plain in
            ["100", "0", ".0", "1e15", "12345e67", "a1e+10", "user-4711", "Zo\u{eb}", "1.5", "12.5e+3", "e"]
        {
            assert_eq!(count(plain), [0, 0, 0], "{plain}");
        }
    }
}
