//! Bytes → lines, in one reused buffer that grows only for long lines.
//!
//! CSV rows may contain line breaks within quotes, so a line can be extended by the next one.

use std::path::{Path, PathBuf};

use memchr::memchr;

use super::FileError;
use super::open::FileInput;
use crate::config::FinalNewline;

const BUFFER_LEN: usize = 256 << 10;
/// Longest row in bytes. A longer row is an unclosed quote or not a row.
const ROW_LEN_MAX: usize = 1 << 20;

/// Cursor over the lines of a file.
pub(super) struct FileLines {
    input: FileInput,
    path: PathBuf,
    final_newline: FinalNewline,
    buffer: Vec<u8>,
    /// Unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The input has ended.
    finished: bool,
    /// The line that starts at `start`, from 1.
    line: u64,
}

/// Bytes up to a line break or to the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineBytes {
    /// Its length without the line break.
    pub(super) len: usize,
    /// Whether there is a line break.
    pub(super) terminated: bool,
}

impl FileLines {
    pub(super) fn new(input: FileInput, path: &Path, final_newline: FinalNewline) -> Self {
        let (buffer, path) = (vec![0; BUFFER_LEN], path.to_owned());
        Self { input, path, final_newline, buffer, start: 0, end: 0, finished: false, line: 1 }
    }

    /// The number of the current line.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The unread bytes in the buffer.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Finds the first line break at or after `from` bytes. None if the file ends there.
    ///
    /// # Errors
    /// When the file cannot be read, is truncated, or has a row that is too long.
    #[inline]
    pub(super) fn stretch(&mut self, from: usize) -> Result<Option<LineBytes>, FileError> {
        let mut searched = from;
        loop {
            if let Some(found) = memchr(b'\n', &self.bytes()[searched..]) {
                return Ok(Some(LineBytes { len: searched + found, terminated: true }));
            }
            searched = self.end - self.start;
            if self.finished {
                return if searched == from { Ok(None) } else { self.unterminated(searched).map(Some) };
            }
            self.fill()?;
        }
    }

    /// Whether a last row without a line break is accepted.
    pub(super) fn final_newline(&self) -> FinalNewline {
        self.final_newline
    }

    /// Reads more bytes into the buffer. Returns `false` at the end of the file.
    pub(super) fn more(&mut self) -> Result<bool, FileError> {
        if !self.finished {
            self.fill()?;
        }
        Ok(!self.finished)
    }

    /// Advances over `len` bytes that contain `breaks` line breaks.
    #[inline]
    pub(super) fn advance(&mut self, len: usize, breaks: u64) {
        self.start += len;
        self.line += breaks;
    }

    /// A last row of this length without a line break.
    pub(super) fn unterminated(&self, len: usize) -> Result<LineBytes, FileError> {
        match self.final_newline {
            FinalNewline::Optional => Ok(LineBytes { len, terminated: false }),
            FinalNewline::Required => {
                Err(FileError::NoFinalNewline { path: self.path.clone(), line: self.line })
            }
        }
    }

    /// The error for a file that ends in the middle of a row.
    pub(super) fn truncated(&self, how: &str) -> FileError {
        FileError::Truncated { path: self.path.clone(), what: format!("{how} (line {})", self.line) }
    }

    /// The error for rows that cannot be separated from here on.
    pub(super) fn malformed(&self, what: &'static str) -> FileError {
        FileError::Malformed { path: self.path.clone(), line: self.line, what }
    }

    /// Advances over a stretch that contains `breaks` line breaks, its own included.
    #[inline]
    pub(super) fn consume(&mut self, stretch: LineBytes, breaks: u64) {
        self.start += stretch.len + usize::from(stretch.terminated);
        self.line += breaks;
    }

    fn fill(&mut self) -> Result<(), FileError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end > ROW_LEN_MAX {
            return Err(self.malformed("this row is longer than 1 MiB: is a quote never closed?"));
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let read = self.input.read(&mut self.buffer[self.end..], &self.path)?;
        self.end += read;
        self.finished = read == 0;
        Ok(())
    }

    /// Skips a byte order mark at the start.
    pub(super) fn skip_mark(&mut self) -> Result<(), FileError> {
        while self.end - self.start < 3 && !self.finished {
            self.fill()?;
        }
        if self.bytes().starts_with(b"\xef\xbb\xbf") {
            self.start += 3;
        }
        Ok(())
    }
}
