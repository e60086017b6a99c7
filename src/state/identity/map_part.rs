//! Part of the identity map: entries sorted by key, in blocks, followed by an index and a Bloom filter.
//!
//! ```text
//! block:   entries, each with its key (16 bytes, big-endian), its kind (1), the time of observation (4,
//!          little-endian), the length of its text (2) and the text
//! index:   for each block the first key (16), its offset (8, little-endian), and its XXH3-64 (8)
//! filter:  a Bloom filter over the keys
//! trailer: offset of the index (8), number of blocks (4), bytes of the filter (4), XXH3-64 of the file's id and of
//!          everything from the index on (8), "identity" (8)
//! ```
//!
//! Index, filter and trailer are verified when a part is opened, and each block when it is read.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::super::StateError;
use super::super::immutable_file::{ImmutableFile, ImmutableWriter};
use super::super::store::{Blob, Store};
use super::PARTS;
use super::known::{KnownIdentity, MapKey};

pub(super) const SUFFIX: &str = ".map";
const MAGIC: &[u8; 8] = b"identity";
const TRAILER_LEN: usize = 32;
const ENTRY_LEN: usize = 32;
const BLOCK_LEN: usize = 16 << 10;
const FILTER_BITS: u64 = 10;
const PROBES: u32 = 6;

/// The path of a part in the state.
pub(super) fn path_of(id: &str) -> String {
    format!("{PARTS}/{id}{SUFFIX}")
}

/// Writes a part. Keys must arrive in strictly ascending order.
pub(super) struct MapWriter {
    file: ImmutableWriter,
    block: Vec<u8>,
    block_rows: u64,
    index: Vec<MapBlock>,
    filter: Vec<u8>,
}

/// An index entry.
#[derive(Clone, Copy)]
struct MapBlock {
    first: MapKey,
    start: u64,
    checksum: u64,
}

impl MapWriter {
    /// Creates a part of at most `rows_max` entries, which determine the size of its filter.
    pub(super) fn create(store: &Store, rows_max: u64) -> Result<Self, StateError> {
        let file = ImmutableWriter::create(store, PARTS, SUFFIX)?;
        let bytes = (rows_max * FILTER_BITS).div_ceil(8).max(1);
        let filter = vec![0; usize::try_from(bytes).unwrap_or(1)];
        Ok(Self { file, block: Vec::new(), block_rows: 0, index: Vec::new(), filter })
    }

    pub(super) fn push(&mut self, key: MapKey, known: &KnownIdentity) -> Result<(), StateError> {
        if self.block.is_empty() {
            self.index.push(MapBlock { first: key, start: self.file.bytes(), checksum: 0 });
        }
        let (kind, seen, text) = known.parts();
        self.block.extend_from_slice(&key.to_be_bytes());
        self.block.push(kind);
        self.block.extend_from_slice(&seen.to_le_bytes());
        self.block.extend_from_slice(&text.len().to_le_bytes()[..2]);
        self.block.extend_from_slice(text.as_bytes());
        self.block_rows += 1;
        for bit in probes(key, self.filter.len() as u64 * 8) {
            self.filter[usize::try_from(bit / 8).unwrap_or(0)] |= 1 << (bit % 8);
        }
        if self.block.len() >= BLOCK_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StateError> {
        if let Some(block) = self.index.last_mut().filter(|_| !self.block.is_empty()) {
            block.checksum = xxh3_64(&self.block);
        }
        self.file.push(&self.block, self.block_rows)?;
        self.block.clear();
        self.block_rows = 0;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<ImmutableFile, StateError> {
        self.flush()?;
        let at = self.file.bytes();
        let mut tail = Vec::with_capacity(self.index.len() * ENTRY_LEN + self.filter.len() + TRAILER_LEN);
        for MapBlock { first, start, checksum } in &self.index {
            tail.extend_from_slice(&first.to_be_bytes());
            tail.extend_from_slice(&start.to_le_bytes());
            tail.extend_from_slice(&checksum.to_le_bytes());
        }
        tail.extend_from_slice(&self.filter);
        tail.extend_from_slice(&at.to_le_bytes());
        for len in [self.index.len(), self.filter.len()] {
            tail.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        }
        let checksum = end_checksum(self.file.id(), &tail);
        tail.extend_from_slice(&checksum.to_le_bytes());
        tail.extend_from_slice(MAGIC);
        self.file.push(&tail, 0)?;
        self.file.finish()
    }
}

/// The checksum of index, filter and trailer. It includes the id, to detect swapped files.
fn end_checksum(id: &str, tail: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(id.as_bytes());
    hash.update(tail);
    hash.digest()
}

/// The filter bits of a key, computed from its halves by double hashing.
fn probes(key: MapKey, bits: u64) -> impl Iterator<Item = u64> {
    #[allow(clippy::cast_possible_truncation, reason = "the halves")]
    let (high, low) = ((key >> 64) as u64, key as u64);
    (0..u64::from(PROBES)).map(move |n| high.wrapping_add(n.wrapping_mul(low | 1)) % bits.max(1))
}

/// A part, for lookups.
pub(in super::super) struct MapPart {
    blob: Blob,
    rows: u64,
    index: Vec<MapBlock>,
    /// The offset where the blocks end.
    end: u64,
    filter: Vec<u8>,
}

impl MapPart {
    pub(super) fn open(store: &Store, file: &ImmutableFile) -> Result<Self, StateError> {
        Self::of(store.open_blob(&path_of(&file.id))?, file.rows)
    }

    /// Verifies the order of all entries.
    pub(in super::super) fn check(blob: Blob) -> Result<(), StateError> {
        let part = Self::of(blob, 0)?;
        let (mut entries, mut last) = (part.entries(), None);
        while let Some((key, _)) = entries.advance()? {
            if last.is_some_and(|last| last >= key) {
                let problem = "its entries are not sorted".to_owned();
                return Err(StateError::Damaged { path: part.blob.path().to_owned(), problem });
            }
            last = Some(key);
        }
        Ok(())
    }

    fn of(blob: Blob, rows: u64) -> Result<Self, StateError> {
        let damaged =
            |problem: &str| StateError::Damaged { path: blob.path().to_owned(), problem: problem.to_owned() };
        let at = blob.len().checked_sub(TRAILER_LEN as u64).ok_or_else(|| damaged("it is truncated"))?;
        let mut trailer = [0; TRAILER_LEN];
        blob.read_exact_at(&mut trailer, at)?;
        let word =
            |at: usize| u32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
        let end = u64::from(word(0)) | u64::from(word(4)) << 32;
        let (blocks, filter) = (word(8) as usize, word(12) as usize);
        let len = blocks * ENTRY_LEN + filter;
        if &trailer[24..] != MAGIC || end.checked_add(len as u64) != Some(at) {
            return Err(damaged("its trailer is damaged"));
        }
        let mut tail = vec![0; len];
        blob.read_exact_at(&mut tail, end)?;
        tail.extend_from_slice(&trailer[..16]);
        let id = blob.path().file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if trailer[16..24] != end_checksum(id, &tail).to_le_bytes() {
            return Err(damaged("its checksum does not match: it was changed, or is another file"));
        }
        tail.truncate(len);
        let filter = tail.split_off(blocks * ENTRY_LEN);
        let entry = |entry: &[u8; ENTRY_LEN]| {
            let word =
                |at: usize| u64::from_le_bytes(entry[at..].first_chunk::<8>().copied().unwrap_or_default());
            let first = MapKey::from_be_bytes(entry.first_chunk::<16>().copied().unwrap_or_default());
            MapBlock { first, start: word(16), checksum: word(24) }
        };
        let index = tail.as_chunks().0.iter().map(entry).collect();
        Ok(Self { blob, rows, index, end, filter })
    }

    /// How many entries it has.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn may_have(&self, key: MapKey) -> bool {
        let bit = |bit: u64| {
            usize::try_from(bit / 8)
                .ok()
                .and_then(|at| self.filter.get(at))
                .is_some_and(|b| b >> (bit % 8) & 1 == 1)
        };
        probes(key, self.filter.len() as u64 * 8).all(bit)
    }

    /// Looks up a key.
    pub(super) fn get(&self, key: MapKey) -> Result<Option<KnownIdentity>, StateError> {
        if !self.may_have(key) {
            return Ok(None);
        }
        let Some(block) = self.block_of(key) else { return Ok(None) };
        let entries = self.block(block)?;
        Ok(entries.into_iter().find(|(found, _)| *found == key).map(|(_, known)| known))
    }

    /// The index of the block that may contain a key.
    pub(super) fn block_of(&self, key: MapKey) -> Option<usize> {
        self.index.partition_point(|block| block.first <= key).checked_sub(1)
    }

    pub(super) fn block(&self, at: usize) -> Result<Vec<(MapKey, KnownIdentity)>, StateError> {
        let MapBlock { start, checksum, .. } = self.index[at];
        let end = self.index.get(at + 1).map_or(self.end, |next| next.start);
        let damaged = |problem: &str| StateError::Damaged {
            path: self.blob.path().to_owned(),
            problem: problem.to_owned(),
        };
        let len = end.checked_sub(start).and_then(|len| usize::try_from(len).ok());
        let mut bytes = vec![
            0;
            len.filter(|len| *len <= 1 << 24)
                .ok_or_else(|| damaged("a block has an invalid length"))?
        ];
        self.blob.read_exact_at(&mut bytes, start)?;
        if xxh3_64(&bytes) != checksum {
            return Err(damaged("the checksum of a block does not match"));
        }
        let (mut entries, mut rest) = (Vec::new(), bytes.as_slice());
        while !rest.is_empty() {
            let (entry, after) = entry(rest).ok_or_else(|| damaged("an entry is truncated"))?;
            entries.push(entry);
            rest = after;
        }
        Ok(entries)
    }

    /// Returns a cursor over all entries in key order.
    pub(super) fn entries(&self) -> MapEntries<'_> {
        MapEntries { part: self, block: 0, entries: Vec::new().into_iter() }
    }
}

fn entry(bytes: &[u8]) -> Option<((MapKey, KnownIdentity), &[u8])> {
    let (key, rest) = bytes.split_first_chunk::<16>()?;
    let (kind, rest) = rest.split_first()?;
    let (seen, rest) = rest.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    let known = KnownIdentity::from_parts(*kind, u32::from_le_bytes(*seen), std::str::from_utf8(text).ok()?)?;
    Some(((MapKey::from_be_bytes(*key), known), rest))
}

/// A cursor over the entries of a part.
pub(super) struct MapEntries<'a> {
    part: &'a MapPart,
    block: usize,
    entries: std::vec::IntoIter<(MapKey, KnownIdentity)>,
}

impl MapEntries<'_> {
    pub(super) fn advance(&mut self) -> Result<Option<(MapKey, KnownIdentity)>, StateError> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            if self.block == self.part.index.len() {
                return Ok(None);
            }
            self.entries = self.part.block(self.block)?.into_iter();
            self.block += 1;
        }
    }
}
