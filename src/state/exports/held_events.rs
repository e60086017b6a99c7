//! Events that wait: for their person to become known, or until Heap takes more of them.
//!
//! An entry is its length (4 bytes, little end first), whether it is about a user instead of an event (1), when it
//! began to wait (8, milliseconds), what it waits for (1), that in two texts, each behind its length in two bytes,
//! and the event as it goes to Heap. A file does not change; which of its entries are settled, the version says.

use std::io::{self, Read};

use super::super::immutable_file::{ImmutableFile, ImmutableWriter, checksum};
use super::super::store::Blob;
use super::super::{StateError, StateReader, StateWriter};
use super::waiting_folder_of;
use crate::model::{ExportId, RowSet, Timestamp};

pub(in super::super) const SUFFIX: &str = ".events";
const PERSON: u8 = 0;
const LIMIT: u8 = 1;
/// Longest entry: an event of Braze's has at most 900 KB.
const ENTRY_LEN_MAX: usize = 64 << 20;
const BUFFER_LEN: usize = 256 << 10;

/// A file of events that wait, and which of them do not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldEventsFile {
    /// The file.
    pub file: ImmutableFile,
    /// Since when the first of them waits.
    pub oldest: Timestamp,
    /// How many of its entries still wait for their person; the others wait for Heap's limit.
    pub persons: u64,
    /// Entries that are settled.
    pub settled: RowSet,
}

impl HeldEventsFile {
    /// How many still wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.file.rows - self.settled.len()
    }

    /// How many still wait for Heap's limit.
    #[must_use]
    pub fn limited(&self) -> u64 {
        self.waiting().saturating_sub(self.persons)
    }

    /// An entry waits no more. `is_person`: it waited for its person.
    pub fn settle(&mut self, row: u64, is_person: bool) {
        if !self.settled.contains(row) {
            self.settled.insert(row..row + 1);
            self.persons = self.persons.saturating_sub(u64::from(is_person));
        }
    }
}

/// What an event waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldEvent<'a> {
    /// That somebody tells who has one of these: Braze's id, a device. An empty one is none.
    Person {
        /// Braze's id.
        user_id: &'a str,
        /// The device.
        device_id: &'a str,
    },
    /// That Heap takes more of this person.
    Limit {
        /// Heap's identity, or its user id.
        who: &'a str,
    },
}

/// An event that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldEvents<'a> {
    /// It is about a user, and no event.
    pub is_profile: bool,
    /// Since when it waits.
    pub since: Timestamp,
    /// For what.
    pub awaited: HeldEvent<'a>,
    /// The JSON object, which names nobody while the person is not known.
    pub event: &'a [u8],
}

impl<'a> HeldEvents<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.push(u8::from(self.is_profile));
        out.extend_from_slice(&self.since.as_millisecond().to_le_bytes());
        let (kind, texts) = match self.awaited {
            HeldEvent::Person { user_id, device_id } => (PERSON, [user_id, device_id]),
            HeldEvent::Limit { who } => (LIMIT, [who, ""]),
        };
        out.push(kind);
        for text in texts {
            // Longer ones were refused when the event was mapped; nobody is looked up by half a key.
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
            PERSON => HeldEvent::Person { user_id: first, device_id: second },
            LIMIT => HeldEvent::Limit { who: first },
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

/// Writes one file of events that wait. Dropped before it is finished, nothing of it is left.
pub struct HeldEventsWriter {
    file: ImmutableWriter,
    entry: Vec<u8>,
    oldest: Option<Timestamp>,
    persons: u64,
}

impl HeldEventsWriter {
    /// Appends one.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn push(&mut self, waiting: &HeldEvents<'_>) -> Result<(), StateError> {
        self.oldest = Some(self.oldest.map_or(waiting.since, |oldest| oldest.min(waiting.since)));
        self.persons += u64::from(matches!(waiting.awaited, HeldEvent::Person { .. }));
        self.entry.clear();
        waiting.write(&mut self.entry);
        self.file.push(&self.entry, 1)
    }

    /// Puts the file where it lasts.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn finish(self) -> Result<HeldEventsFile, StateError> {
        let (oldest, persons) = (self.oldest.unwrap_or(Timestamp::MAX), self.persons);
        self.file.finish().map(|file| HeldEventsFile { file, oldest, persons, settled: RowSet::default() })
    }
}

/// The entries of one file, one after the other.
pub struct HeldEventRows {
    blob: Blob,
    position: u64,
    buffer: Vec<u8>,
    at: usize,
    row: u64,
}

impl HeldEventRows {
    /// The next entry, with its number.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn advance(&mut self) -> Result<Option<(u64, HeldEvents<'_>)>, StateError> {
        if !self.fill(4)? {
            return Ok(None);
        }
        let head = self.buffer[self.at..self.at + 4].first_chunk::<4>().copied().unwrap_or_default();
        let len = u32::from_le_bytes(head) as usize;
        if len > ENTRY_LEN_MAX || !self.fill(4 + len)? {
            return Err(self.damaged("an entry that is not whole"));
        }
        let start = self.at + 4;
        self.at = start + len;
        self.row += 1;
        if HeldEvents::read(&self.buffer[start..start + len]).is_none() {
            return Err(self.damaged("an entry that is none"));
        }
        Ok(HeldEvents::read(&self.buffer[start..start + len]).map(|entry| (self.row - 1, entry)))
    }

    /// Makes sure that so many bytes are there. `false`: the file ends here.
    fn fill(&mut self, len: usize) -> Result<bool, StateError> {
        if self.buffer.len() - self.at >= len {
            return Ok(true);
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let want = len.max(BUFFER_LEN);
        let mut reader = BlobReader { blob: &self.blob, position: &mut self.position };
        reader.by_ref().take((want - self.buffer.len()) as u64).read_to_end(&mut self.buffer)?;
        match self.buffer.len() {
            0 => Ok(false),
            held if held >= len => Ok(true),
            _ => Err(self.damaged("it ends in the middle of an entry")),
        }
    }

    fn damaged(&self, what: &str) -> StateError {
        StateError::Damaged { path: self.blob.path().to_owned(), what: what.to_owned() }
    }
}

struct BlobReader<'a> {
    blob: &'a Blob,
    position: &'a mut u64,
}

impl Read for BlobReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.blob.read_at(into, *self.position)?;
        *self.position += len as u64;
        Ok(len)
    }
}

impl StateReader {
    /// The events of a file, settled ones too.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn waiting(&self, export: &ExportId, room: &HeldEventsFile) -> Result<HeldEventRows, StateError> {
        let path = format!("{}/{}{SUFFIX}", waiting_folder_of(export), room.file.id);
        let blob = self.store.open_blob(&path)?;
        // An event that was changed must not be sent.
        if checksum(&blob).map_err(StateError::Scratch)? != room.file.checksum {
            let what = "its checksum does not match: it was changed, or is another file".to_owned();
            return Err(StateError::Damaged { path: blob.path().to_owned(), what });
        }
        Ok(HeldEventRows { blob, position: 0, buffer: Vec::new(), at: 0, row: 0 })
    }
}

impl StateWriter {
    /// Starts a file of events that wait.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn waiting_writer(&self, export: &ExportId) -> Result<HeldEventsWriter, StateError> {
        let file = ImmutableWriter::create(&self.reader().store, &waiting_folder_of(export), SUFFIX)?;
        Ok(HeldEventsWriter { file, entry: Vec::new(), oldest: None, persons: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::store::Store;
    use super::*;

    #[test]
    fn what_waits_for_the_limit_is_told_from_what_waits_for_a_person() {
        let file = ImmutableFile { id: "f".into(), rows: 5, bytes: 9, checksum: 0 };
        let settled = RowSet::default();
        let mut room = HeldEventsFile { file, oldest: Timestamp::UNIX_EPOCH, persons: 3, settled };
        room.settle(0, true);
        room.settle(0, true);
        room.settle(1, true);
        assert_eq!((room.waiting(), room.persons, room.limited()), (3, 1, 2));
        room.settle(4, false);
        assert_eq!((room.waiting(), room.persons, room.limited()), (2, 1, 1));
    }

    #[test]
    fn what_waits_is_read_as_it_was_written() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let file = ImmutableWriter::create(&store, "exports/e/waiting", SUFFIX).unwrap();
        let mut writer = HeldEventsWriter { file, entry: Vec::new(), oldest: None, persons: 0 };
        let since = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        let large = vec![b'x'; 3 * BUFFER_LEN];
        let person = HeldEvent::Person { user_id: "b1", device_id: "" };
        let all = [
            HeldEvents { is_profile: false, since, awaited: person, event: b"{}" },
            HeldEvents { is_profile: true, since, awaited: HeldEvent::Limit { who: "é" }, event: &large },
            HeldEvents { is_profile: false, since, awaited: HeldEvent::Limit { who: "" }, event: b"" },
        ];
        all.iter().for_each(|waiting| writer.push(waiting).unwrap());
        let room = writer.finish().unwrap();
        assert_eq!((room.file.rows, room.waiting(), room.persons, room.oldest), (3, 3, 1, since));
        let reader = StateReader { store, format: None, heads: Default::default() };
        let mut rows = reader.waiting(&ExportId::new("e").unwrap(), &room).unwrap();
        for (number, expected) in all.iter().enumerate() {
            let (row, waiting) = rows.advance().unwrap().unwrap();
            assert_eq!((row, waiting), (number as u64, *expected));
        }
        assert!(rows.advance().unwrap().is_none());
    }
}
