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
    let text = std::str::from_utf8(bytes).map_err(|_| Reason::NotUtf8)?.trim();
    if text.is_empty() || null_values.iter().any(|null| **null == *text.as_bytes()) {
        Ok(None)
    } else if is_placeholder(text) {
        Err(Reason::Placeholder)
    } else if text.len() > len_max {
        Err(Reason::TooLong)
    } else if has_control(text) {
        Err(Reason::ControlCharacter)
    } else {
        Ok(Some(text))
    }
}

fn is_placeholder(text: &str) -> bool {
    PLACEHOLDERS.iter().any(|known| known.len() == text.len() && known.eq_ignore_ascii_case(text))
}

fn has_control(text: &str) -> bool {
    let plain = text.bytes().fold(true, |plain, b| plain & (0x20..0x7f).contains(&b));
    !plain && text.chars().any(char::is_control)
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
