//! NDJSON lines with checksums, for the journal and rejects.
//!
//! The last member of a line is `checksum`: XXH3-64 of the file's subject ([`subject_of`]) and of the text before it. It
//! detects a flipped bit, a truncated line and a line of another file.
//!
//! # Guarantees
//! A damaged line is skipped and logged with its file and number. The other lines are still read.

use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::PathBuf;

use xxhash_rust::xxh3::Xxh3;

use super::StateError;
use super::store::{Blob, Store, StoreError};

const BEFORE: &[u8] = b",\"checksum\":\"";
const AFTER: &[u8] = b"\"}";
/// Hex digits of a checksum.
const DIGITS: usize = 16;

fn checksum(subject: &str, text: &[u8]) -> String {
    let mut hash = Xxh3::new();
    hash.update(subject.as_bytes());
    hash.update(b"\n");
    hash.update(text);
    format!("{:016x}", hash.digest())
}

/// The subject of a file, which the checksums of its lines include. For the journal: its runs. For rejects: the run and
/// the cohort, export or webhook. All files of one split log have the same subject.
pub(super) fn subject_of(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    match folder.strip_prefix("rejects/") {
        Some(run) => format!("{run}/{}", owner_of(name)),
        None => name.split('.').next().unwrap_or_default().to_owned(),
    }
}

/// Returns the cohort, export or webhook from a file name: `exports.<id>`, `inbox.<connection>`, or a cohort id.
pub(super) fn owner_of(name: &str) -> &str {
    let mut dots = name.match_indices('.').map(|(at, _)| at);
    let Some(first) = dots.next() else { return name };
    // A cohort may have the id `exports` or `inbox`: then the suffix follows at once.
    let is_prefix = matches!(&name[..first], "exports" | "inbox");
    let second = dots.next().filter(|second| is_prefix && !is_random(&name[first + 1..*second]));
    &name[..second.unwrap_or(first)]
}

/// Whether a part of a file name is the random number of a file that replaces or merges others.
pub(super) fn is_random(part: &str) -> bool {
    part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Appends a JSON object as a line with its checksum. The closing brace of the object may be missing.
pub(super) fn seal(subject: &str, object: &[u8], out: &mut Vec<u8>) {
    let text = object.strip_suffix(b"}").unwrap_or(object);
    for part in [text, BEFORE, checksum(subject, text).as_bytes(), AFTER, b"\n"] {
        out.extend_from_slice(part);
    }
}

/// Returns the text of a line before its checksum, which lacks the closing brace. `None`: the checksum does not match.
pub(super) fn unsealed<'a>(subject: &str, line: &'a [u8]) -> Option<&'a [u8]> {
    let rest = line.strip_suffix(AFTER)?;
    let (text, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    let text = text.strip_suffix(BEFORE)?;
    (checksum(subject, text).as_bytes() == digits).then_some(text)
}

/// The state of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineQuality {
    /// Its checksum matches.
    Whole,
    /// Its checksum does not match.
    Damaged,
    /// It has no end: the process was killed while writing it.
    Unfinished,
}

/// Reads the lines of one file in order.
pub(super) struct LogLines {
    reader: Box<dyn BufRead>,
    path: PathBuf,
    subject: String,
    line: Vec<u8>,
    number: u64,
    damaged: u64,
    first_damaged: u64,
}

struct LogReader {
    blob: Blob,
    position: u64,
}

impl Read for LogReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = self.blob.read_at(into, self.position)?;
        self.position += len as u64;
        Ok(len)
    }
}

impl LogLines {
    /// Opens a file and reads its lines as they are needed.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(store: &Store, relative: &str) -> Result<Self, StateError> {
        let blob = store.open_blob(relative)?;
        Ok(Self::new(store, relative, Box::new(BufReader::new(LogReader { blob, position: 0 }))))
    }

    /// Reads the lines of a file's content.
    pub(super) fn of_bytes(store: &Store, relative: &str, bytes: Vec<u8>) -> Self {
        Self::new(store, relative, Box::new(Cursor::new(bytes)))
    }

    fn new(store: &Store, relative: &str, reader: Box<dyn BufRead>) -> Self {
        let (path, subject, line) = (store.at(relative), subject_of(relative), Vec::new());
        Self { reader, path, subject, line, number: 0, damaged: 0, first_damaged: 0 }
    }

    /// Reads the next non-empty line. `None`: the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn advance(&mut self) -> Result<Option<LineQuality>, StateError> {
        loop {
            self.line.clear();
            let len = self.reader.read_until(b'\n', &mut self.line);
            if len.map_err(|e| StoreError::new("read", &self.path, e))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            let is_ended = self.line.last() == Some(&b'\n');
            self.line.truncate(self.line.len() - usize::from(is_ended));
            if !self.line.is_empty() {
                let is_whole = unsealed(&self.subject, &self.line).is_some();
                return Ok(Some(match (is_whole, is_ended) {
                    (true, _) => LineQuality::Whole,
                    (false, true) => LineQuality::Damaged,
                    (false, false) => LineQuality::Unfinished,
                }));
            }
        }
    }

    /// Reads the next intact line. At the end it logs the damaged lines and returns `false`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn advance_whole(&mut self) -> Result<bool, StateError> {
        while let Some(quality) = self.advance()? {
            match quality {
                LineQuality::Whole => return Ok(true),
                LineQuality::Damaged => self.note_damage(),
                LineQuality::Unfinished => {}
            }
        }
        self.log_damage();
        Ok(false)
    }

    /// Counts the current line as damaged.
    pub(super) fn note_damage(&mut self) {
        self.damaged += 1;
        if self.damaged == 1 {
            self.first_damaged = self.number;
        }
    }

    /// Logs how many lines are damaged, if any.
    pub(super) fn log_damage(&self) {
        if self.damaged > 0 {
            let (path, first, count) = (self.path.display(), self.first_damaged, self.damaged);
            tracing::warn!("{path}: skipped damaged lines: {count}, the first is line {first}");
        }
    }

    /// The current line, without its line break.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// The current line without its checksum and closing brace, if it is intact.
    pub(super) fn text(&self) -> Option<&[u8]> {
        unsealed(&self.subject, &self.line)
    }

    /// The number of the current line, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_truncation_is_detected_and_other_lines_survive() {
        let store = Store::in_folder(std::path::Path::new("s"));
        let path = "rejects/20260101t000000000z-000001/carts.2.ndjson";
        let subject = subject_of(path);
        assert_eq!(subject, "20260101t000000000z-000001/carts");
        let mut bytes = Vec::new();
        let objects: [&[u8]; 3] = [br#"{"value":"a"}"#, br#"{"value":"b"}"#, br#"{"value":"c"}"#];
        objects.iter().for_each(|object| seal(&subject, object, &mut bytes));
        let read = |path: &str, bytes: &[u8]| {
            let mut lines = LogLines::of_bytes(&store, path, bytes.to_vec());
            let (mut whole, mut others) = (Vec::new(), 0);
            while let Some(quality) = lines.advance().unwrap() {
                match quality {
                    LineQuality::Whole => {
                        let json: serde_json::Value = serde_json::from_slice(lines.line()).unwrap();
                        whole.push(json["value"].as_str().unwrap().to_owned());
                    }
                    _ => others += 1,
                }
            }
            (whole, others)
        };
        assert_eq!(read(path, &bytes), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], 0));
        let len = bytes.len() / 3;
        for bit in len * 8..2 * len * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (whole, others) = read(path, &bad);
            // A line that lost its line break damages the next one.
            assert!(whole.len() <= 2 && others >= 1 && whole[0] == "a", "{bit}: {whole:?}");
            assert!(bit / 8 == 2 * len - 1 || whole == ["a", "c"], "{bit}: {whole:?}");
        }
        assert_eq!(read(path, &bytes[..2 * len + 9]), (vec!["a".to_owned(), "b".to_owned()], 1));
        assert_eq!(read(&path.replace("carts", "other"), &bytes).0, Vec::<String>::new(), "another file's");
    }
}
