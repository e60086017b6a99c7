//! One value: trimmed, and refused when it cannot name one person.

/// Why a text names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It stands for "nobody", as `null` and `[REDACTED]` do.
    Placeholder,
    /// It is longer than the vendor takes.
    TooLong,
    /// It holds a control character.
    ControlCharacter,
    /// It is not UTF-8.
    NotUtf8,
}

/// Length of the longest of them.
const PLACEHOLDER_LEN_MAX: usize = 36;

/// Texts that exports write where there is no identifier. Whoever they name, it is not one person:
/// sent, they would put whoever happens to have that id into the cohort. Compared without case.
/// Given by their length, which tells nearly every text from all of them.
const fn placeholders(len: usize) -> &'static [&'static str] {
    match len {
        1 => &["0", "-"],
        3 => &["n/a", "nan", "nil"],
        4 => &["none", "null", "true"],
        5 => &["false"],
        6 => &["(null)", "<null>"],
        7 => &["unknown"],
        8 => &["redacted"],
        9 => &["undefined"],
        10 => &["[redacted]"],
        15 => &["[object object]"],
        36 => &["00000000-0000-0000-0000-000000000000"],
        _ => &[],
    }
}

/// All of those texts, in lower case.
pub fn all_placeholders() -> impl Iterator<Item = &'static str> {
    (0..=PLACEHOLDER_LEN_MAX).flat_map(|len| placeholders(len).iter().copied())
}

/// The identifier in a value, in UTF-8 and at most `len_max` bytes; none if the value is empty or one of
/// `null_values`.
///
/// # Errors
/// The reason why it cannot be one.
#[inline]
pub fn usable<'a>(
    bytes: &'a [u8],
    len_max: usize,
    null_values: &[Box<[u8]>],
) -> Result<Option<&'a [u8]>, Unusable> {
    // Nearly every identifier is letters, digits and signs: UTF-8, nothing to trim, nothing to control.
    let (value, is_control) = if is_graphic(bytes) { (bytes, false) } else { text(bytes)? };
    if value.is_empty() || null_values.iter().any(|null| **null == *value) {
        Ok(None)
    } else if is_placeholder(value) {
        Err(Unusable::Placeholder)
    } else if value.len() > len_max {
        Err(Unusable::TooLong)
    } else if is_control {
        Err(Unusable::ControlCharacter)
    } else {
        Ok(Some(value))
    }
}

/// A value that is UTF-8, trimmed, and whether there is a control character in it.
#[cold]
fn text(bytes: &[u8]) -> Result<(&[u8], bool), Unusable> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unusable::NotUtf8)?.trim();
    Ok((text.as_bytes(), text.chars().any(char::is_control)))
}

/// Whether all bytes are visible ASCII, eight at a time and without a branch for each. Bytes beyond ASCII
/// may carry into the next one, but have given the answer by then.
#[inline]
fn is_graphic(bytes: &[u8]) -> bool {
    const TOPS: u64 = each(0x80);
    let other = |eight: &[u8; 8]| {
        let eight = u64::from_ne_bytes(*eight);
        eight | eight.wrapping_add(each(1)) | !eight.wrapping_add(each(0x80 - 0x21))
    };
    match bytes.last_chunk() {
        Some(last) => {
            bytes.as_chunks().0.iter().fold(other(last), |found, eight| found | other(eight)) & TOPS == 0
        }
        None => bytes.iter().all(u8::is_ascii_graphic),
    }
}

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[inline]
fn is_placeholder(value: &[u8]) -> bool {
    placeholders(value.len()).iter().any(|known| known.as_bytes().eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<Option<&str>, Unusable>) {
        assert_eq!(
            usable(bytes, 40, &[]),
            expected.map(|text| text.map(str::as_bytes)),
            "{}",
            bytes.escape_ascii()
        );
    }

    #[test]
    fn trimmed_and_otherwise_as_it_is() {
        check(b" u1 \t", Ok(Some("u1")));
        check("\u{a0}Zoë\u{2003}".as_bytes(), Ok(Some("Zoë")));
        check(b"A b", Ok(Some("A b")));
        check(b" \r", Ok(None));
    }

    #[test]
    fn visible_ascii_is_told_from_the_rest() {
        for len in 0..20 {
            for (at, byte) in (0..len).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut bytes = vec![b'~'; len];
                bytes[at] = byte;
                assert_eq!(is_graphic(&bytes), byte.is_ascii_graphic(), "{bytes:?}");
            }
        }
    }

    #[test]
    fn every_placeholder_is_found_by_its_length() {
        for (len, known) in (0..100).flat_map(|len| placeholders(len).iter().map(move |known| (len, known))) {
            assert_eq!(known.len(), len, "{known}");
            assert!(all_placeholders().any(|text| text == *known && text == known.to_ascii_lowercase()));
        }
    }

    #[test]
    fn placeholders_of_any_case_and_nothing_like_them() {
        for text in ["NULL", "null", "Undefined", "[Redacted]", "0", "00000000-0000-0000-0000-000000000000"] {
            check(text.as_bytes(), Err(Unusable::Placeholder));
        }
        for text in ["nullable", "00", "none@x.test"] {
            check(text.as_bytes(), Ok(Some(text)));
        }
    }

    #[test]
    fn what_cannot_be_sent() {
        check(b"a\x00b", Err(Unusable::ControlCharacter));
        check("a\u{85}b".as_bytes(), Err(Unusable::ControlCharacter));
        check(b"M\xfcller", Err(Unusable::NotUtf8));
        check(&[b'x'; 41], Err(Unusable::TooLong));
    }
}
