//! External sort, first half: members are pushed in any order into 256 partitions by the first bits of the key.
//!
//! A partition is a list of chunks. Chunks beyond the memory bound spill to a temporary file. `sorted_members` sorts one
//! partition at a time. Keys are evenly distributed, so partitions have similar sizes: at ten million members each fits
//! into a processor's cache. Keys are not stored: hashing again costs less than writing and reading them.

use std::io;

use super::caseless::caseless;
use super::spill::{CHUNK_LEN, SpillChunk, SpillFile};
use crate::model::{KeySeed, MemberKey};

/// Partitions of a set.
pub(super) const PARTITIONS: usize = 256;

/// Members in any order, possibly with duplicates.
#[derive(Debug)]
pub struct SortedSet {
    pub(super) seed: KeySeed,
    pub(super) memory_max: usize,
    pub(super) spill: SpillFile,
    /// The chunk of each partition that accepts members. Empty before the first member.
    pub(super) open: Vec<SpillChunk>,
    pub(super) full: Vec<Vec<SpillChunk>>,
    /// Members are sorted by their caseless form. Members with the same form but different identifiers are distinct.
    pub(super) is_by_caseless_form: bool,
    caseless_buffer: Vec<u8>,
}

impl SortedSet {
    /// An empty set that uses at most `memory_max` bytes of memory, also while it is sorted.
    #[must_use]
    pub fn new(seed: KeySeed, memory_max: usize) -> Self {
        // The reserve is for the order of the partitions that are being sorted or iterated.
        let memory_max = memory_max - memory_max / 8;
        let full = vec![Vec::new(); PARTITIONS];
        let (spill, open, caseless_buffer) = (SpillFile::new(memory_max), Vec::new(), Vec::new());
        Self { seed, memory_max, spill, open, full, is_by_caseless_form: false, caseless_buffer }
    }

    /// The same, sorted by the keys of the caseless forms.
    #[must_use]
    pub(super) fn by_caseless_form(seed: KeySeed, memory_max: usize) -> Self {
        Self { is_by_caseless_form: true, ..Self::new(seed, memory_max) }
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Adds a member by its packed identifier.
    ///
    /// # Errors
    /// When the temporary file cannot be written.
    #[inline]
    pub fn push(&mut self, packed: &[u8]) -> io::Result<()> {
        let keyed = if self.is_by_caseless_form {
            caseless(packed, &mut self.caseless_buffer).map_err(io::Error::other)?
        } else {
            packed
        };
        let partition = MemberKey::of(self.seed, keyed).partition();
        if let Some(open) = self.open.get_mut(partition)
            && self.spill.extend(open, packed)
        {
            return Ok(());
        }
        self.push_to_new_chunk(partition, packed)
    }

    /// Replaces a full chunk, or allocates the first chunks, and adds the member to an empty one.
    #[cold]
    fn push_to_new_chunk(&mut self, partition: usize, packed: &[u8]) -> io::Result<()> {
        match self.open.get_mut(partition) {
            Some(open) => self.full[partition].push(self.spill.replace_full(open)?),
            None => self.open = self.spill.open(PARTITIONS)?,
        }
        self.spill.extend(&mut self.open[partition], packed);
        Ok(())
    }

    /// Spills until as many partitions as will be in flight can be loaded.
    pub(super) fn reserve(&mut self, partitions: usize) -> io::Result<()> {
        loop {
            let spilled =
                |full: &Vec<SpillChunk>| full.iter().filter(|c| self.spill.in_memory(**c).is_none()).count();
            let largest = self.full.iter().map(spilled).max().unwrap_or(0) + 1;
            if largest == 1 && self.spill.memory() <= self.memory_max {
                return Ok(()); // no chunk must be loaded
            }
            let loaded = partitions * largest * CHUNK_LEN;
            let fits = self.spill.memory() + loaded <= self.memory_max;
            if (fits && self.spill.reserve(loaded)) || !self.spill.spill()? {
                return Ok(());
            }
        }
    }
}
