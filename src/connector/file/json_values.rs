//! Splits text into JSON values, one at a time and in bounded memory: one value per line, values without line breaks
//! (Firehose), values over several lines, and lists of values.
//!
//! A damaged value ends with its line, so that the following values remain readable.

use memchr::{memchr, memchr_iter, memchr3};

use super::FileError;
use super::lines::FileLines;
use crate::config::FinalNewline;

const MARK: &[u8] = b"\xef\xbb\xbf";
/// Starts a value in a JSON text sequence (RFC 7464).
const RECORD_SEPARATOR: u8 = 0x1e;

/// A cursor over the values of a file.
#[derive(Debug, Default)]
pub(super) struct JsonValues {
    in_list: bool,
    /// The file has a list, possibly an empty one.
    pub(super) had_list: bool,
    /// Line breaks separate the values.
    by_line: bool,
    /// No line break has followed the last value.
    is_open: bool,
    /// The current line has several values, so the shortcut for one value per line is off.
    is_dense: bool,
}

impl JsonValues {
    /// Advances to the next value. Returns `false` at the end of the file.
    pub(super) fn begin(&mut self, lines: &mut FileLines) -> Result<bool, FileError> {
        loop {
            let Some(first) = lines.bytes().first().copied() else {
                if lines.more()? {
                    continue;
                }
                return self.end(lines).map(|()| false);
            };
            match first {
                0xef if lines.bytes().len() < MARK.len() && lines.more()? => {}
                0xef if lines.bytes().starts_with(MARK) => lines.advance(MARK.len(), 0),
                b' ' | b'\t' | b'\r' | RECORD_SEPARATOR => lines.advance(1, 0),
                b'\n' => {
                    lines.advance(1, 1);
                    self.by_line |= self.is_open && !self.in_list;
                    self.is_open = false;
                    self.is_dense = false;
                }
                b',' if self.in_list => lines.advance(1, 0),
                b']' if self.in_list => {
                    lines.advance(1, 0);
                    self.in_list = false;
                    self.is_open = false;
                }
                b'[' if !self.in_list => {
                    lines.advance(1, 0);
                    self.in_list = true;
                    self.had_list = true;
                }
                _ => return Ok(true),
            }
        }
    }

    fn end(&self, lines: &FileLines) -> Result<(), FileError> {
        if self.in_list {
            return Err(lines.truncated("its list is never closed"));
        }
        if self.by_line && self.is_open { lines.unterminated(0).map(drop) } else { Ok(()) }
    }

    /// The length of a line that is probably one value, as nearly all lines are.
    #[inline]
    pub(super) fn plain_line(&self, lines: &FileLines) -> Option<usize> {
        match lines.bytes() {
            bytes @ [b'{', ..] if !self.in_list && !self.is_dense => memchr(b'\n', bytes),
            _ => None,
        }
    }

    /// The length of the value that starts here. An incomplete value ends with its line.
    pub(super) fn frame(&mut self, lines: &mut FileLines) -> Result<usize, FileError> {
        self.is_dense = true;
        let is_container = matches!(lines.bytes(), [b'{' | b'[', ..]);
        if !is_container && !self.in_list {
            return rest_of_line(lines, 0);
        }
        let end = if is_container { container(lines)? } else { scalar(lines)? };
        let len = match end {
            ValueEnd::Complete(len) => len,
            ValueEnd::Broken(len) => return Ok(len),
            ValueEnd::EndOfFile => return Err(lines.truncated("its last JSON value is incomplete")),
        };
        self.followed(lines, len)
    }

    /// A value must be followed by a separator, or it is damaged.
    fn followed(&self, lines: &mut FileLines, len: usize) -> Result<usize, FileError> {
        let mut at = len;
        loop {
            match lines.bytes().get(at).copied() {
                Some(b' ' | b'\t' | b'\r') => at += 1,
                Some(b'\n' | b'{' | b'[' | 0xef | RECORD_SEPARATOR) => return Ok(len),
                Some(b',' | b']') if self.in_list => return Ok(len),
                Some(_) => return rest_of_line(lines, at),
                None => {
                    if !lines.more()? {
                        return Ok(len);
                    }
                }
            }
        }
    }

    /// Advances over a value.
    #[inline]
    pub(super) fn consume(&mut self, lines: &mut FileLines, len: usize) {
        let breaks = memchr_iter(b'\n', &lines.bytes()[..len]).count();
        lines.advance(len, breaks as u64);
        self.is_open = true;
    }
}

enum ValueEnd {
    /// The length of the value.
    Complete(usize),
    /// The value is damaged. Its line ends here.
    Broken(usize),
    EndOfFile,
}

/// Finds the end of an object or a list.
fn container(lines: &mut FileLines) -> Result<ValueEnd, FileError> {
    let (mut at, mut depth, mut in_text, mut first_break) = (0, 0_usize, false, None);
    loop {
        let bytes = lines.bytes();
        if in_text {
            match memchr3(b'"', b'\\', b'\n', &bytes[at.min(bytes.len())..]).map(|found| at + found) {
                Some(found) if bytes[found] == b'"' => (in_text, at) = (false, found + 1),
                Some(found) if bytes[found] == b'\\' => at = found + 2,
                // JSON strings contain no line breaks.
                Some(found) => return Ok(ValueEnd::Broken(found)),
                None => {
                    at = at.max(bytes.len());
                    if !lines.more()? {
                        return Ok(ValueEnd::EndOfFile);
                    }
                }
            }
            continue;
        }
        match bytes.get(at) {
            Some(b'"') => in_text = true,
            Some(b'{' | b'[') => depth += 1,
            Some(b'}' | b']') if depth == 1 => return Ok(ValueEnd::Complete(at + 1)),
            Some(b'}' | b']') => depth -= 1,
            Some(b'\n') => {
                let is_only = *first_break.get_or_insert(at) == at;
                match next_byte(lines, at + 1)? {
                    // The next line starts a value of its own.
                    Some(b'{') => return Ok(ValueEnd::Broken(first_break.unwrap_or(at))),
                    None if is_only => return Ok(ValueEnd::Broken(at)),
                    None => return Ok(ValueEnd::EndOfFile),
                    Some(_) => {}
                }
            }
            Some(_) => {}
            None => {
                if !lines.more()? {
                    return Ok(ValueEnd::EndOfFile);
                }
                continue;
            }
        }
        at += 1;
    }
}

/// Finds the end of a scalar within a list.
fn scalar(lines: &mut FileLines) -> Result<ValueEnd, FileError> {
    let (mut at, mut in_text) = (0, false);
    loop {
        match (lines.bytes().get(at), in_text) {
            (Some(b'\n'), true) => return Ok(ValueEnd::Broken(at)),
            (Some(b'\\'), true) => at += 1,
            (Some(b'"'), _) => in_text = !in_text,
            (Some(b',' | b']' | b'\n' | b'{' | b'['), false) => return Ok(ValueEnd::Complete(at)),
            (Some(_), _) => {}
            (None, _) => {
                if !lines.more()? {
                    return Ok(ValueEnd::EndOfFile);
                }
                continue;
            }
        }
        at += 1;
    }
}

fn next_byte(lines: &mut FileLines, at: usize) -> Result<Option<u8>, FileError> {
    loop {
        if let Some(byte) = lines.bytes().get(at) {
            return Ok(Some(*byte));
        }
        if !lines.more()? {
            return Ok(None);
        }
    }
}

/// The length up to the end of the line. A last line without a line break may be incomplete.
fn rest_of_line(lines: &mut FileLines, from: usize) -> Result<usize, FileError> {
    let mut searched = from;
    loop {
        if let Some(found) = memchr(b'\n', &lines.bytes()[searched..]) {
            return Ok(searched + found);
        }
        searched = lines.bytes().len();
        if !lines.more()? {
            return match lines.final_newline() {
                FinalNewline::Required => Err(lines.truncated("its last line is incomplete")),
                FinalNewline::Optional => Ok(searched),
            };
        }
    }
}
