//! Pull scanner for JSON text: it returns one start, key or scalar at a time and copies nothing.
//!
//! It is as strict as RFC 8259, except that it accepts raw control characters in texts, so that a stray tab loses no
//! event. The nesting depth is limited, which bounds the recursion.
//!
//! `serde_json` takes 1.05 times the CPU time to split request bodies like those of `benches/readers` (200,000 events,
//! medians of 15, optimized build of this module alone). A mapper on its `RawValue` takes 1.3 times
//! the CPU time to split and map them, because each level of an event is scanned again. `serde_json` also rejects raw
//! control characters and half surrogate pairs, and with them the whole event, and does not limit the depth of skipped
//! values.

use std::borrow::Cow;

use super::swar::find_quote_or_backslash;

/// The deepest accepted nesting.
const DEPTH_MAX: usize = 128;

/// Text that is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON at byte {offset}: {what}")]
pub struct JsonError {
    /// The position in bytes from the start of the text.
    pub offset: usize,
    /// What was expected there.
    pub what: &'static str,
}

impl JsonError {
    /// Whether the text may be JSON that is nested deeper than the scanner reads.
    #[must_use]
    pub fn is_too_deep(&self) -> bool {
        self.what == TOO_DEEP
    }
}

const TOO_DEEP: &str = "nested too deep";

/// A text between its quotes, with its escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawString<'a> {
    inner: &'a str,
    has_escapes: bool,
}

impl<'a> RawString<'a> {
    /// The unescaped text. Half a surrogate pair becomes U+FFFD.
    pub(crate) fn text(self) -> Cow<'a, str> {
        if self.has_escapes { Cow::Owned(unescaped(self.inner)) } else { Cow::Borrowed(self.inner) }
    }
}

/// The start of a value: a complete scalar, or the opening bracket of a list or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueStart<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(RawString<'a>),
    List,
    Object,
}

#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The position of the scanner in bytes from the start of the text.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    pub(crate) fn error<T>(&self, what: &'static str) -> Result<T, JsonError> {
        Err(JsonError { offset: self.at, what })
    }

    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.here() {
                Some(byte) if byte > b' ' => return Some(byte),
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                byte => return byte,
            }
        }
    }

    /// The start of the next value.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<ValueStart<'a>, JsonError> {
        match self.peek() {
            Some(b'"') => self.quoted().map(ValueStart::Text),
            Some(b'{') => self.open().map(|()| ValueStart::Object),
            Some(b'[') => self.open().map(|()| ValueStart::List),
            Some(b'-' | b'0'..=b'9') => self.number().map(ValueStart::Number),
            Some(b't') => self.literal("true", ValueStart::Bool(true)),
            Some(b'f') => self.literal("false", ValueStart::Bool(false)),
            Some(b'n') => self.literal("null", ValueStart::Null),
            _ => self.error("no value"),
        }
    }

    fn open(&mut self) -> Result<(), JsonError> {
        if self.depth == DEPTH_MAX {
            return self.error(TOO_DEEP);
        }
        self.at += 1;
        self.depth += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    /// The next key of the open object, with its colon consumed; `None` at its end, which is consumed.
    #[inline]
    pub(crate) fn key(&mut self, is_first: bool) -> Result<Option<RawString<'a>>, JsonError> {
        match (self.peek(), is_first) {
            (Some(b'}'), _) => {
                self.close();
                return Ok(None);
            }
            (Some(b','), false) => {
                self.at += 1;
                self.peek();
            }
            (_, true) => {}
            _ => return self.error("no comma between members"),
        }
        if self.peek() != Some(b'"') {
            return self.error("no key");
        }
        let key = self.quoted()?;
        if self.peek() != Some(b':') {
            return self.error("no colon");
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Whether the open list has another element; its end is consumed.
    #[inline]
    pub(crate) fn element(&mut self, is_first: bool) -> Result<bool, JsonError> {
        match (self.peek(), is_first) {
            (Some(b']'), _) => {
                self.close();
                Ok(false)
            }
            (Some(b','), false) => {
                self.at += 1;
                if self.peek() == Some(b']') { self.error("no value") } else { Ok(true) }
            }
            (_, true) => Ok(true),
            _ => self.error("no comma between elements"),
        }
    }

    /// Skips the rest of a value.
    #[inline]
    pub(crate) fn skip(&mut self, start: ValueStart<'a>) -> Result<(), JsonError> {
        match start {
            ValueStart::Object => self.skip_members(),
            ValueStart::List => self.skip_elements(),
            _ => Ok(()),
        }
    }

    fn skip_members(&mut self) -> Result<(), JsonError> {
        let mut is_first = true;
        while self.key(is_first)?.is_some() {
            is_first = false;
            let start = self.value()?;
            self.skip(start)?;
        }
        Ok(())
    }

    fn skip_elements(&mut self) -> Result<(), JsonError> {
        let mut is_first = true;
        while self.element(is_first)? {
            is_first = false;
            let start = self.value()?;
            self.skip(start)?;
        }
        Ok(())
    }

    /// Fails unless only white space is left.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        if self.peek().is_none() { Ok(()) } else { self.error("text after the value") }
    }

    /// Whether only white space is left.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    // The copy of a returned text takes as long as the search for its end.
    #[inline(always)]
    fn quoted(&mut self) -> Result<RawString<'a>, JsonError> {
        let (start, bytes) = (self.at + 1, self.text.as_bytes());
        let (mut end, mut has_escapes) = (start, false);
        loop {
            let Some(found) = bytes.get(end..).and_then(find_quote_or_backslash) else {
                return self.error("an unterminated string");
            };
            end += found;
            if bytes[end] == b'"' {
                break;
            }
            has_escapes = true;
            end = self.escape(end)?;
        }
        self.at = end + 1;
        Ok(RawString { inner: &self.text[start..end], has_escapes })
    }

    /// The end of the escape at `at`.
    fn escape(&self, at: usize) -> Result<usize, JsonError> {
        let bytes = self.text.as_bytes();
        let is_hex =
            |digits: Option<&[u8]>| digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        match bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') if is_hex(bytes.get(at + 2..at + 6)) => Ok(at + 6),
            _ => Err(JsonError { offset: at, what: "an unknown escape" }),
        }
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.at += usize::from(self.here() == Some(b'-'));
        let is_zero = self.here() == Some(b'0');
        let digits = self.digits()?;
        if is_zero && digits > 1 {
            return self.error("a number that begins with 0");
        }
        if self.here() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.here() {
            self.at += 1;
            self.at += usize::from(matches!(self.here(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn here(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn digits(&mut self) -> Result<usize, JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { self.error("no digit") } else { Ok(digits) }
    }

    fn literal(&mut self, literal: &str, start: ValueStart<'a>) -> Result<ValueStart<'a>, JsonError> {
        if !self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            return self.error("no value");
        }
        self.at += literal.len();
        Ok(start)
    }
}

/// Replaces the escapes of a text; the scanner has checked them.
fn unescaped(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let escape = rest.as_bytes().first().copied().unwrap_or_default();
        rest = rest.get(1..).unwrap_or_default();
        match escape {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => rest = unicode(rest, &mut out),
            other => out.push(char::from(other)),
        }
    }
    out.push_str(rest);
    out
}

/// Appends the character of a `\u` escape, which may take two escapes, and returns the rest.
fn unicode<'a>(digits: &'a str, out: &mut String) -> &'a str {
    let unit = |text: &str| text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let rest = digits.get(4..).unwrap_or_default();
    let first = unit(digits).unwrap_or(0xFFFD);
    let second = rest.strip_prefix("\\u").and_then(unit).filter(|low| (0xDC00..0xE000).contains(low));
    match (first, second) {
        (0xD800..0xDC00, Some(low)) => {
            let code = 0x10000 + ((first - 0xD800) << 10) + (low - 0xDC00);
            out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            rest.get(6..).unwrap_or_default()
        }
        _ => {
            out.push(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
            rest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> Result<(), JsonError> {
        let mut scanner = Scanner::new(text);
        let start = scanner.value()?;
        scanner.skip(start)?;
        scanner.end()
    }

    /// Texts of the characters of JSON, so that many are nearly JSON.
    fn nearly_json() -> impl Strategy<Value = String> {
        let sign = prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u00e9", "\\n", "1", "-", "0", ".5", "e3", "true",
            "false", "null", " ", "a", "é", "\"k\":", "\"v\"",
        ]);
        prop::collection::vec(sign, 0..12).prop_map(|signs| signs.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn it_takes_what_the_judge_takes(text in nearly_json()) {
            let judged = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(whole(&text).is_ok(), judged, "{:?}", whole(&text));
        }

        #[test]
        fn texts_say_what_the_judge_reads(text in "\\PC{0,20}|[\\x00-\\x7f]{0,9}") {
            let json = serde_json::to_string(&text).unwrap();
            let Ok(ValueStart::Text(raw)) = Scanner::new(&json).value() else { panic!("{json}") };
            prop_assert_eq!(raw.text(), text);
        }
    }

    fn says(json: &str, expected: &str) {
        let Ok(ValueStart::Text(raw)) = Scanner::new(json).value() else { panic!("{json}") };
        assert_eq!(raw.text(), expected);
    }

    #[test]
    fn escapes_of_every_kind() {
        says(r#""a\/\"\\\b\f\n\r\tz""#, "a/\"\\\u{8}\u{c}\n\r\tz");
        says(r#""\u00e9\ud83d\ude00!""#, "é😀!");
        says(r#""\ud83d!\ude00\ud83d\u0041""#, "\u{fffd}!\u{fffd}\u{fffd}A");
    }

    #[test]
    fn depth_has_an_end() {
        assert!(whole(&("[".repeat(128) + &"]".repeat(128))).is_ok());
        assert_eq!(whole(&"[".repeat(100_000)).unwrap_err().what, "nested too deep");
    }

    #[test]
    fn an_error_has_its_position() {
        assert_eq!(
            whole("{\"a\":1 \"b\":2}").unwrap_err().to_string(),
            "not JSON at byte 7: no comma between members"
        );
        assert_eq!(whole("\"abc").unwrap_err().offset, 0);
    }
}
