//! More members than fit into memory, in any order: 256 partitions by the first bits of the key, in
//! chunks of which a bound is kept in memory, sorted one at a time when they are walked.
//!
//! Keys are evenly spread, so the partitions are of a size; each is small enough for a processor's cache
//! at ten million members. A key is not kept while its member waits: hashing again is cheaper than
//! carrying it to the disk and back.

use std::io;

use super::case_variants;
use super::sorted_members::SortedMembers;
use super::spill::{CHUNK_LEN, SpillChunk, SpillFile};
use crate::model::{KeySeed, MemberKey};

/// Partitions of a set.
pub(super) const PARTITIONS: usize = 256;

/// Members in any order, each perhaps more than once.
#[derive(Debug)]
pub struct SortedSet {
    pub(super) seed: KeySeed,
    pub(super) memory_max: usize,
    pub(super) log: SpillFile,
    /// The chunk of each partition that is being filled. None before the first member.
    pub(super) open: Vec<SpillChunk>,
    pub(super) full: Vec<Vec<SpillChunk>>,
    /// Keys are those of the lower case: each way of writing is a member.
    pub(super) is_by_lower_case: bool,
    lower: Vec<u8>,
}

impl SortedSet {
    /// An empty set that holds at most `memory_max` bytes in memory, also while it is walked.
    #[must_use]
    pub fn new(seed: KeySeed, memory_max: usize) -> Self {
        // What is kept apart is for the order of the partitions that are being sorted and walked.
        let memory_max = memory_max - memory_max / 8;
        let full = vec![Vec::new(); PARTITIONS];
        let (log, open, lower) = (SpillFile::new(memory_max), Vec::new(), Vec::new());
        Self { seed, memory_max, log, open, full, is_by_lower_case: false, lower }
    }

    /// The same, in the order of the keys of the members' lower case.
    #[must_use]
    pub(super) fn by_lower_case(seed: KeySeed, memory_max: usize) -> Self {
        Self { is_by_lower_case: true, ..Self::new(seed, memory_max) }
    }

    /// Whether nobody was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Adds a member by its packed identifier.
    ///
    /// # Errors
    /// When the temporary file does not take what memory cannot hold.
    #[inline]
    pub fn push(&mut self, packed: &[u8]) -> io::Result<()> {
        let keyed = if self.is_by_lower_case {
            case_variants::lower(packed, &mut self.lower).map_err(io::Error::other)?
        } else {
            packed
        };
        let partition = MemberKey::of(self.seed, keyed).partition();
        if let Some(open) = self.open.get_mut(partition)
            && self.log.extend(open, packed)
        {
            return Ok(());
        }
        self.turn(partition, packed)
    }

    /// Puts a full chunk away, or begins the first ones, and adds the member to an empty one.
    #[cold]
    fn turn(&mut self, partition: usize, packed: &[u8]) -> io::Result<()> {
        match self.open.get_mut(partition) {
            Some(open) => self.full[partition].push(self.log.turn(open)?),
            None => self.open = self.log.open(PARTITIONS)?,
        }
        self.log.extend(&mut self.open[partition], packed);
        Ok(())
    }

    /// Leaves enough memory to load as many partitions as will be in flight.
    pub(super) fn make_room(&mut self, partitions: usize) -> io::Result<()> {
        loop {
            let spilled =
                |full: &Vec<SpillChunk>| full.iter().filter(|c| self.log.kept(**c).is_none()).count();
            let largest = self.full.iter().map(spilled).max().unwrap_or(0) + 1;
            if largest == 1 && self.log.memory() <= self.memory_max {
                return Ok(()); // nothing is to be loaded
            }
            let loaded = partitions * largest * CHUNK_LEN;
            let fits = self.log.memory() + loaded <= self.memory_max;
            if (fits && self.log.make_room(loaded)) || !self.log.spill()? {
                return Ok(());
            }
        }
    }

    /// Walks the members in the order of their keys, each once.
    #[must_use]
    pub fn into_members(self) -> SortedMembers {
        SortedMembers::new(self)
    }
}
