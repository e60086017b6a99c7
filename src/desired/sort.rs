//! More members than fit into memory, in any order: 256 partitions by the first bits of the key, spilled
//! when they outgrow the bound, and sorted one at a time when they are walked.
//!
//! Keys are evenly spread, so the partitions are of a size; each is small enough for a processor's cache
//! at ten million members. A key is not kept while its member waits: hashing again is cheaper than
//! carrying it to the disk and back.

use std::io;

use super::segment::{Pool, SEGMENT_LEN, Segment};
use super::walk::Members;
use crate::model::{Identifier, Key, KeySeed};

/// Partitions of a set.
pub(super) const PARTITIONS: usize = 256;

/// Members in any order, each perhaps more than once.
#[derive(Debug)]
pub struct SortedSet {
    pub(super) seed: KeySeed,
    pub(super) pool: Pool,
    /// The segment of each partition that is being filled. Memory is wasted by half of each.
    pub(super) open: Vec<Vec<u8>>,
    pub(super) full: Vec<Vec<Segment>>,
    /// The partition that is spilled next.
    spill_next: usize,
}

impl SortedSet {
    /// An empty set that holds at most `memory_max` bytes in memory, also while it is walked.
    #[must_use]
    pub fn new(seed: KeySeed, memory_max: usize) -> Self {
        let mut full = Vec::new();
        full.resize_with(PARTITIONS, Vec::new);
        // What is kept apart is for the order of the partitions that are being sorted and walked.
        let pool = Pool::new(memory_max - memory_max / 8, PARTITIONS);
        Self { seed, pool, open: vec![Vec::new(); PARTITIONS], full, spill_next: PARTITIONS - 1 }
    }

    /// Adds members by their packed identifiers, one after the other.
    ///
    /// # Errors
    /// When the temporary file does not take what memory cannot hold.
    pub fn extend(&mut self, mut packed: &[u8]) -> io::Result<()> {
        while !packed.is_empty() {
            let len = Identifier::packed_len(packed).map_err(io::Error::other)?;
            let (first, rest) = packed.split_at(len);
            self.push(first)?;
            packed = rest;
        }
        Ok(())
    }

    /// Adds a member by its packed identifier.
    ///
    /// # Errors
    /// When the temporary file does not take what memory cannot hold.
    #[inline]
    pub fn push(&mut self, packed: &[u8]) -> io::Result<()> {
        let partition = Key::of(self.seed, packed).partition();
        if self.open[partition].len() + packed.len() > SEGMENT_LEN {
            self.turn(partition)?;
        }
        self.open[partition].extend_from_slice(packed);
        Ok(())
    }

    /// Puts an empty segment in the place of a full one.
    #[cold]
    fn turn(&mut self, partition: usize) -> io::Result<()> {
        if self.pool.left() == 0 {
            self.spill((self.pool.len_max() / 8).max(1))?;
        }
        let full = std::mem::replace(&mut self.open[partition], self.pool.take());
        self.full[partition].push(Segment::Held(full));
        Ok(())
    }

    /// Spills whole partitions until `wanted` segments are left: from the last to the first, since the
    /// first are walked first, and can be then without being read again.
    fn spill(&mut self, wanted: usize) -> io::Result<()> {
        for _ in 0..PARTITIONS {
            if self.pool.left() >= wanted {
                break;
            }
            for segment in &mut self.full[self.spill_next] {
                self.pool.spill(segment)?;
            }
            self.spill_next = self.spill_next.checked_sub(1).unwrap_or(PARTITIONS - 1);
        }
        Ok(())
    }

    /// Leaves enough memory to load as many partitions as will be in flight.
    pub(super) fn make_room(&mut self, partitions: usize) -> io::Result<()> {
        let spilled = |full: &&Vec<Segment>| full.iter().any(|s| matches!(s, Segment::Spilled { .. }));
        let largest = self.full.iter().filter(spilled).map(Vec::len).max().unwrap_or(0);
        self.spill(largest * partitions)
    }

    /// Walks the members in the order of their keys, each once.
    #[must_use]
    pub fn into_members(self) -> Members {
        Members::new(self)
    }
}
