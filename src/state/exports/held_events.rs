//! Held events: events that wait until their user is known, or until Heap's limit allows more.
//!
//! An entry has: its length (4 bytes, little-endian), whether it is a user profile (1), since when it is held (8,
//! milliseconds), what it waits for (1), two texts that describe that, each after its length (2), and the event as it
//! is sent to Heap. Files are immutable; the version records which entries are released.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::super::as_text::{rows, time};
use super::super::immutable_file::{ImmutableFile, ImmutableWriter, checksum};
use super::super::store::Blob;
use super::super::{StateError, StateReader, StateWriter};
use super::held_folder_of;
use crate::model::{ExportId, RowSet, Timestamp};

pub(in super::super) const SUFFIX: &str = ".events";
const UNIDENTIFIED: u8 = 0;
const LIMIT: u8 = 1;
/// Maximum length of an entry. Braze's events have at most 900 KB.
const ENTRY_LEN_MAX: usize = 64 << 20;
const BUFFER_LEN: usize = 256 << 10;

/// A file of held events, and which of them are released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldEventsFile {
    /// The file.
    pub file: ImmutableFile,
    /// Since when the oldest of them is held.
    #[serde(with = "time")]
    pub oldest: Timestamp,
    /// How many of its entries wait for their user; the others wait for Heap's limit.
    pub awaiting_user: u64,
    /// Entries that are released.
    #[serde(with = "rows")]
    pub settled: RowSet,
}

impl HeldEventsFile {
    /// How many are still held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.file.rows - self.settled.len()
    }

    /// How many wait for Heap's limit.
    #[must_use]
    pub fn awaiting_limit(&self) -> u64 {
        self.held().saturating_sub(self.awaiting_user)
    }

    /// Releases an entry. `is_unidentified`: it waited for its user.
    pub fn settle(&mut self, row: u64, is_unidentified: bool) {
        if !self.settled.contains(row) {
            self.settled.insert(row..row + 1);
            self.awaiting_user = self.awaiting_user.saturating_sub(u64::from(is_unidentified));
        }
    }
}

/// What an event waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason<'a> {
    /// Until the user with one of these ids is known. An empty id is ignored.
    Unidentified {
        /// Braze's id.
        user_id: &'a str,
        /// The device id.
        device_id: &'a str,
    },
    /// Until Heap's limit allows more events of this user.
    Limit {
        /// The user's identity or user id in Heap.
        who: &'a str,
    },
}

/// A held event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldEvent<'a> {
    /// Whether it is a user profile instead of an event.
    pub is_profile: bool,
    /// Since when it is held.
    pub since: Timestamp,
    /// What it waits for.
    pub awaited: HoldReason<'a>,
    /// The JSON object. It has no identity while the user is unknown.
    pub event: &'a [u8],
}

impl<'a> HeldEvent<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.push(u8::from(self.is_profile));
        out.extend_from_slice(&self.since.as_millisecond().to_le_bytes());
        let (kind, texts) = match self.awaited {
            HoldReason::Unidentified { user_id, device_id } => (UNIDENTIFIED, [user_id, device_id]),
            HoldReason::Limit { who } => (LIMIT, [who, ""]),
        };
        out.push(kind);
        for text in texts {
            // Longer texts were rejected when the event was mapped. A truncated key must not be looked up.
            let text = if u16::try_from(text.len()).is_ok() { text } else { "" };
            out.extend_from_slice(&text.len().to_le_bytes()[..2]);
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(self.event);
        let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    }

    fn read(entry: &'a [u8]) -> Option<Self> {
        let (is_profile, rest) = entry.split_first()?;
        let (since, rest) = rest.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first()?;
        let (first, rest) = text(rest)?;
        let (second, event) = text(rest)?;
        let awaited = match *kind {
            UNIDENTIFIED => HoldReason::Unidentified { user_id: first, device_id: second },
            LIMIT => HoldReason::Limit { who: first },
            _ => return None,
        };
        let since = Timestamp::from_millisecond(i64::from_le_bytes(*since)).ok()?;
        Some(Self { is_profile: *is_profile != 0, since, awaited, event })
    }
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// Writes one file of held events. Nothing remains if it is dropped before [`Self::finish`].
pub struct HeldEventsWriter {
    file: ImmutableWriter,
    entry: Vec<u8>,
    oldest: Option<Timestamp>,
    awaiting_user: u64,
}

impl HeldEventsWriter {
    /// Appends a held event.
    ///
    /// # Errors
    /// When the write fails.
    pub fn push(&mut self, waiting: &HeldEvent<'_>) -> Result<(), StateError> {
        self.oldest = Some(self.oldest.map_or(waiting.since, |oldest| oldest.min(waiting.since)));
        self.awaiting_user += u64::from(matches!(waiting.awaited, HoldReason::Unidentified { .. }));
        self.entry.clear();
        waiting.write(&mut self.entry);
        self.file.push(&self.entry, 1)
    }

    /// Commits the file to disk.
    ///
    /// # Errors
    /// When the write fails.
    pub fn finish(self) -> Result<HeldEventsFile, StateError> {
        let (oldest, awaiting_user) = (self.oldest.unwrap_or(Timestamp::MAX), self.awaiting_user);
        self.file.finish().map(|file| HeldEventsFile {
            file,
            oldest,
            awaiting_user,
            settled: RowSet::default(),
        })
    }
}

/// A cursor over the entries of one file.
pub struct HeldEventRows {
    blob: Blob,
    position: u64,
    buffer: Vec<u8>,
    at: usize,
    row: u64,
}

impl HeldEventRows {
    /// Returns the next entry with its row number.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn advance(&mut self) -> Result<Option<(u64, HeldEvent<'_>)>, StateError> {
        if !self.fill(4)? {
            return Ok(None);
        }
        let head = self.buffer[self.at..self.at + 4].first_chunk::<4>().copied().unwrap_or_default();
        let len = u32::from_le_bytes(head) as usize;
        if len > ENTRY_LEN_MAX || !self.fill(4 + len)? {
            return Err(self.damaged("an entry is truncated"));
        }
        let start = self.at + 4;
        self.at = start + len;
        self.row += 1;
        if HeldEvent::read(&self.buffer[start..start + len]).is_none() {
            return Err(self.damaged("an entry is invalid"));
        }
        Ok(HeldEvent::read(&self.buffer[start..start + len]).map(|entry| (self.row - 1, entry)))
    }

    /// Buffers at least `len` bytes. `false`: the end of the file.
    fn fill(&mut self, len: usize) -> Result<bool, StateError> {
        if self.buffer.len() - self.at >= len {
            return Ok(true);
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let want = len.max(BUFFER_LEN);
        let mut reader = HeldEventsReader { blob: &self.blob, position: &mut self.position };
        reader.by_ref().take((want - self.buffer.len()) as u64).read_to_end(&mut self.buffer)?;
        match self.buffer.len() {
            0 => Ok(false),
            held if held >= len => Ok(true),
            _ => Err(self.damaged("it ends in the middle of an entry")),
        }
    }

    fn damaged(&self, problem: &str) -> StateError {
        StateError::Damaged { path: self.blob.path().to_owned(), problem: problem.to_owned() }
    }
}

struct HeldEventsReader<'a> {
    blob: &'a Blob,
    position: &'a mut u64,
}

impl Read for HeldEventsReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.blob.read_at(into, *self.position)?;
        *self.position += len as u64;
        Ok(len)
    }
}

impl StateReader {
    /// Opens a cursor over the events of a file, including released ones.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn held_events(&self, export: &ExportId, file: &HeldEventsFile) -> Result<HeldEventRows, StateError> {
        let path = format!("{}/{}{SUFFIX}", held_folder_of(export), file.file.id);
        let blob = self.store.open_blob(&path)?;
        // A damaged event must not be sent.
        if checksum(&blob).map_err(StateError::TemporaryFile)? != file.file.checksum {
            let problem = "its checksum does not match: it was changed, or is another file".to_owned();
            return Err(StateError::Damaged { path: blob.path().to_owned(), problem });
        }
        Ok(HeldEventRows { blob, position: 0, buffer: Vec::new(), at: 0, row: 0 })
    }
}

impl StateWriter {
    /// Creates a file of held events.
    ///
    /// # Errors
    /// When the write fails.
    pub fn held_writer(&self, export: &ExportId) -> Result<HeldEventsWriter, StateError> {
        let file = ImmutableWriter::create(&self.reader().store, &held_folder_of(export), SUFFIX)?;
        Ok(HeldEventsWriter { file, entry: Vec::new(), oldest: None, awaiting_user: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::store::Store;
    use super::*;

    #[test]
    fn events_held_for_the_limit_and_for_a_user_are_counted_separately() {
        let file = ImmutableFile { id: "f".into(), rows: 5, bytes: 9, checksum: 0 };
        let settled = RowSet::default();
        let mut file = HeldEventsFile { file, oldest: Timestamp::UNIX_EPOCH, awaiting_user: 3, settled };
        file.settle(0, true);
        file.settle(0, true);
        file.settle(1, true);
        assert_eq!((file.held(), file.awaiting_user, file.awaiting_limit()), (3, 1, 2));
        file.settle(4, false);
        assert_eq!((file.held(), file.awaiting_user, file.awaiting_limit()), (2, 1, 1));
    }

    #[test]
    fn held_events_are_read_as_written() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let file = ImmutableWriter::create(&store, "exports/e/held", SUFFIX).unwrap();
        let mut writer = HeldEventsWriter { file, entry: Vec::new(), oldest: None, awaiting_user: 0 };
        let since = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        let large = vec![b'x'; 3 * BUFFER_LEN];
        let user = HoldReason::Unidentified { user_id: "b1", device_id: "" };
        let all = [
            HeldEvent { is_profile: false, since, awaited: user, event: b"{}" },
            HeldEvent { is_profile: true, since, awaited: HoldReason::Limit { who: "é" }, event: &large },
            HeldEvent { is_profile: false, since, awaited: HoldReason::Limit { who: "" }, event: b"" },
        ];
        all.iter().for_each(|waiting| writer.push(waiting).unwrap());
        let file = writer.finish().unwrap();
        assert_eq!((file.file.rows, file.held(), file.awaiting_user, file.oldest), (3, 3, 1, since));
        let reader = StateReader { store, format: None, heads: Default::default() };
        let mut rows = reader.held_events(&ExportId::new("e").unwrap(), &file).unwrap();
        for (number, expected) in all.iter().enumerate() {
            let (row, waiting) = rows.advance().unwrap().unwrap();
            assert_eq!((row, waiting), (number as u64, *expected));
        }
        assert!(rows.advance().unwrap().is_none());
    }
}
