//! Normalization of one identifier: trims the value and rejects placeholders and invalid texts.

use super::{NonIdentifier, is_invisible};

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidIdentifier {
    /// It is a placeholder for a missing value, such as `null` or `[REDACTED]`.
    Placeholder,
    /// It is the text of a number that cannot be an identifier: `NaN`, `Infinity`, `-0`.
    Number(NonIdentifier),
    /// It is longer than the vendor's limit.
    TooLong,
    /// It contains a control character.
    ControlCharacter,
    /// It is not UTF-8.
    NotUtf8,
}

/// Length of the longest placeholder.
const PLACEHOLDER_LEN_MAX: usize = 36;

/// Texts that programs write for a missing identifier, compared without case. Many rows with such a text would be one
/// user. Grouped by length, because the length excludes most texts. Sources: the null words of pandas, R, Go, SQL's
/// `copy`, JavaScript; the error values of spreadsheets.
const fn placeholders(len: usize) -> &'static [&'static str] {
    match len {
        1 => &["0", "-", ".", "?"],
        2 => &["na", "\\n", "--", "{}", "[]", "\"\"", "''"],
        3 => &["0.0", "n/a", "nil", "nat", "#na"],
        4 => &["none", "null", "true", "void", "<na>", "#n/a", "n.a."],
        5 => &["false", "<nil>", "#ref!", "#num!", "(nil)", "empty"],
        6 => &[
            "(null)", "<null>", "[null]", "<none>", "(none)", "\"null\"", "#name?", "#null!", "#calc!",
            "pd.nat",
        ],
        7 => &["unknown", "#value!", "#div/0!", "#spill!", "#field!", "(blank)", "(empty)", "missing"],
        8 => &["redacted", "#n/a n/a", "#unknown"],
        9 => &["undefined", "<unknown>", "(unknown)", "(not set)", "#blocked!"],
        10 => &["[redacted]", "<redacted>"],
        11 => &["<undefined>"],
        13 => &["#getting_data"],
        15 => &["[object object]"],
        32 => &["00000000000000000000000000000000"],
        36 => &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
        _ => &[],
    }
}

/// Texts of numbers that cannot be identifiers, grouped by length like [`placeholders`].
const fn numbers(len: usize) -> &'static [(&'static str, NonIdentifier)] {
    use NonIdentifier::{Infinite, NegativeZero, NotANumber};
    match len {
        2 => &[("-0", NegativeZero)],
        3 => &[("nan", NotANumber), ("inf", Infinite)],
        4 => &[("-nan", NotANumber), ("-inf", Infinite), ("+inf", Infinite), ("-0.0", NegativeZero)],
        5 => &[("<nan>", NotANumber)],
        6 => &[("1.#ind", NotANumber), ("1.#inf", Infinite)],
        7 => &[("-1.#ind", NotANumber), ("1.#qnan", NotANumber), ("-1.#inf", Infinite)],
        8 => &[("-1.#qnan", NotANumber), ("infinity", Infinite)],
        9 => &[("-infinity", Infinite), ("+infinity", Infinite)],
        _ => &[],
    }
}

/// All texts that are always rejected, in lower case.
pub fn all_placeholders() -> impl Iterator<Item = &'static str> {
    (0..=PLACEHOLDER_LEN_MAX)
        .flat_map(|len| placeholders(len).iter().copied().chain(numbers(len).iter().map(|(text, _)| *text)))
}

/// Whether such a text starts with this byte, in either case.
const FIRST: [bool; 256] = {
    let (mut first, mut len) = ([false; 256], 0);
    while len <= PLACEHOLDER_LEN_MAX {
        let (mut at, words, texts) = (0, placeholders(len), numbers(len));
        while at < words.len() + texts.len() {
            let text = if at < words.len() { words[at] } else { texts[at - words.len()].0 };
            let byte = text.as_bytes()[0];
            first[byte as usize] = true;
            first[byte.to_ascii_uppercase() as usize] = true;
            at += 1;
        }
        len += 1;
    }
    first
};

/// Returns the identifier in a value: UTF-8, trimmed, at most `len_max` bytes. `None`: the value is empty or one of
/// `null_values`.
///
/// # Errors
/// Why the value cannot be an identifier.
#[inline]
pub fn normalize_identifier<'a>(
    bytes: &'a [u8],
    len_max: usize,
    null_values: &[Box<[u8]>],
) -> Result<Option<&'a [u8]>, InvalidIdentifier> {
    // Nearly every identifier is visible ASCII: valid UTF-8, nothing to trim, no control characters.
    let (value, is_control) = if is_graphic(bytes) { (bytes, false) } else { text(bytes)? };
    if value.is_empty() || null_values.iter().any(|null| **null == *value) {
        Ok(None)
    } else if let Some(unusable) = placeholder(value) {
        Err(unusable)
    } else if value.len() > len_max {
        Err(InvalidIdentifier::TooLong)
    } else if is_control {
        Err(InvalidIdentifier::ControlCharacter)
    } else {
        Ok(Some(value))
    }
}

/// Validates and trims a value. Also returns whether it has control characters.
#[cold]
fn text(bytes: &[u8]) -> Result<(&[u8], bool), InvalidIdentifier> {
    let text = std::str::from_utf8(bytes).map_err(|_| InvalidIdentifier::NotUtf8)?.trim();
    // Text with only invisible characters counts as empty.
    let text = if text.chars().all(is_invisible) { "" } else { text };
    Ok((text.as_bytes(), text.chars().any(char::is_control)))
}

/// Whether all bytes are visible ASCII. Checks eight at a time without branches. A byte beyond ASCII may carry into the
/// next one, but has already decided the result.
#[inline]
fn is_graphic(bytes: &[u8]) -> bool {
    const TOPS: u64 = repeat(0x80);
    let other = |eight: &[u8; 8]| {
        let eight = u64::from_ne_bytes(*eight);
        eight | eight.wrapping_add(repeat(1)) | !eight.wrapping_add(repeat(0x80 - 0x21))
    };
    match bytes.last_chunk() {
        Some(last) => {
            bytes.as_chunks().0.iter().fold(other(last), |found, eight| found | other(eight)) & TOPS == 0
        }
        None => bytes.iter().all(u8::is_ascii_graphic),
    }
}

const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Returns the reason if the value is a placeholder. The first byte or the length excludes nearly every identifier.
#[inline]
fn placeholder(value: &[u8]) -> Option<InvalidIdentifier> {
    let may_be =
        value.len() <= PLACEHOLDER_LEN_MAX && value.first().is_some_and(|first| FIRST[usize::from(*first)]);
    if may_be { placeholder_of(value) } else { None }
}

fn placeholder_of(value: &[u8]) -> Option<InvalidIdentifier> {
    if placeholders(value.len()).iter().any(|known| known.as_bytes().eq_ignore_ascii_case(value)) {
        return Some(InvalidIdentifier::Placeholder);
    }
    let number = numbers(value.len()).iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(value));
    number.map(|(_, why)| InvalidIdentifier::Number(*why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<Option<&str>, InvalidIdentifier>) {
        assert_eq!(
            normalize_identifier(bytes, 40, &[]),
            expected.map(|text| text.map(str::as_bytes)),
            "{}",
            bytes.escape_ascii()
        );
    }

    #[test]
    fn values_are_trimmed_and_otherwise_unchanged() {
        check(b" u1 \t", Ok(Some("u1")));
        check("\u{a0}Zoë\u{2003}".as_bytes(), Ok(Some("Zoë")));
        check(b"A b", Ok(Some("A b")));
        check(b" \r", Ok(None));
        check("\u{feff}\u{200b}".as_bytes(), Ok(None));
    }

    #[test]
    fn visible_ascii_is_distinguished_from_other_bytes() {
        for len in 0..20 {
            for (at, byte) in (0..len).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut bytes = vec![b'~'; len];
                bytes[at] = byte;
                assert_eq!(is_graphic(&bytes), byte.is_ascii_graphic(), "{bytes:?}");
            }
        }
    }

    #[test]
    fn every_placeholder_is_listed_under_its_length() {
        for (len, known) in (0..100).flat_map(|len| placeholders(len).iter().map(move |known| (len, known))) {
            assert_eq!(known.len(), len, "{known}");
            assert!(all_placeholders().any(|text| text == *known && text == known.to_ascii_lowercase()));
        }
    }

    #[test]
    fn placeholders_of_any_case_are_rejected_and_similar_texts_are_not() {
        for text in [
            "NULL",
            "null",
            "Undefined",
            "[Redacted]",
            "0",
            "00000000-0000-0000-0000-000000000000",
            "<nil>",
            "<NA>",
            "NaT",
            "#N/A",
            "#REF!",
            "#VALUE!",
            "n/a",
            "None",
            "\\N",
            " <NULL> ",
            "#DIV/0!",
            "NA",
            "(Not Set)",
        ] {
            check(text.as_bytes(), Err(InvalidIdentifier::Placeholder));
        }
        for (text, why) in [
            ("NaN", NonIdentifier::NotANumber),
            ("-Infinity", NonIdentifier::Infinite),
            ("-0", NonIdentifier::NegativeZero),
        ] {
            check(text.as_bytes(), Err(InvalidIdentifier::Number(why)));
        }
        for text in ["nullable", "00", "none@x.test", "nanny", "-1", "in", "#1", "Infinite"] {
            check(text.as_bytes(), Ok(Some(text)));
        }
    }

    #[test]
    fn texts_that_braze_does_not_accept_are_rejected() {
        check(b"a\x00b", Err(InvalidIdentifier::ControlCharacter));
        check("a\u{85}b".as_bytes(), Err(InvalidIdentifier::ControlCharacter));
        check(b"M\xfcller", Err(InvalidIdentifier::NotUtf8));
        check(&[b'x'; 41], Err(InvalidIdentifier::TooLong));
    }
}
