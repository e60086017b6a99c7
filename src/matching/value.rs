//! One value: trimmed, and refused when it cannot be an identifier.

use super::Reason;

/// Texts that exports write where there is no identifier. Whoever they name, it is not one person:
/// sent, they would put whoever happens to have that id into the cohort. Compared without case.
const PLACEHOLDERS: [&str; 17] = [
    "0",
    "-",
    "n/a",
    "nan",
    "nil",
    "none",
    "null",
    "true",
    "false",
    "(null)",
    "<null>",
    "unknown",
    "redacted",
    "undefined",
    "[redacted]",
    "[object object]",
    "00000000-0000-0000-0000-000000000000",
];

/// The lengths that placeholders have, and the bytes that they begin with: a bit for each.
const PLACEHOLDER_FORMS: (u64, u128) = {
    let (mut lengths, mut starts, mut at) = (0, 0, 0);
    while at < PLACEHOLDERS.len() {
        let first = PLACEHOLDERS[at].as_bytes()[0];
        lengths |= 1 << PLACEHOLDERS[at].len();
        starts |= 1 << first.to_ascii_lowercase() | 1 << first.to_ascii_uppercase();
        at += 1;
    }
    (lengths, starts)
};

/// The identifier in a value; none if the value is empty.
///
/// # Errors
/// The reason why it cannot be one.
#[inline]
pub(super) fn read<'a>(
    bytes: &'a [u8],
    len_max: usize,
    null_values: &[Box<[u8]>],
) -> Result<Option<&'a str>, Reason> {
    let text = std::str::from_utf8(bytes).map_err(|_| Reason::NotUtf8)?;
    // Nearly every identifier is letters, digits and signs: nothing to trim, nothing to control.
    let graphic = is_graphic(bytes);
    let text = if graphic { text } else { text.trim() };
    if text.is_empty() || null_values.iter().any(|null| **null == *text.as_bytes()) {
        Ok(None)
    } else if is_placeholder(text) {
        Err(Reason::Placeholder)
    } else if text.len() > len_max {
        Err(Reason::TooLong)
    } else if !graphic && text.chars().any(char::is_control) {
        Err(Reason::ControlCharacter)
    } else {
        Ok(Some(text))
    }
}

/// Whether all bytes are visible ASCII, eight at a time. Bytes beyond ASCII may carry into the next one,
/// but have given the answer by then.
#[inline]
fn is_graphic(bytes: &[u8]) -> bool {
    const TOPS: u64 = each(0x80);
    let is_graphic = |eight: &[u8; 8]| {
        let eight = u64::from_ne_bytes(*eight);
        let (beyond, visible) = (eight | eight.wrapping_add(each(1)), eight.wrapping_add(each(0x80 - 0x21)));
        beyond & TOPS == 0 && visible & TOPS == TOPS
    };
    match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().chain([last]).all(is_graphic),
        None => bytes.iter().all(u8::is_ascii_graphic),
    }
}

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The length and the first byte tell nearly every text from all placeholders.
#[inline]
fn is_placeholder(text: &str) -> bool {
    let (lengths, starts) = PLACEHOLDER_FORMS;
    text.len() < 64
        && text.as_bytes().first().is_some_and(|first| *first < 128 && starts >> *first & 1 == 1)
        && lengths >> text.len() & 1 == 1
        && PLACEHOLDERS.iter().any(|known| known.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<Option<&str>, Reason>) {
        assert_eq!(read(bytes, 40, &[]), expected, "{}", bytes.escape_ascii());
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
    fn placeholders_of_any_case_and_nothing_like_them() {
        for text in ["NULL", "null", "Undefined", "[Redacted]", "0", "00000000-0000-0000-0000-000000000000"] {
            check(text.as_bytes(), Err(Reason::Placeholder));
        }
        for text in ["nullable", "00", "none@x.test"] {
            check(text.as_bytes(), Ok(Some(text)));
        }
    }

    #[test]
    fn what_cannot_be_sent() {
        check(b"a\x00b", Err(Reason::ControlCharacter));
        check("a\u{85}b".as_bytes(), Err(Reason::ControlCharacter));
        check(b"M\xfcller", Err(Reason::NotUtf8));
        check(&[b'x'; 41], Err(Reason::TooLong));
    }
}
