//! Sorting more members than fit into memory: 256 partitions by the first bits of the key, filled as
//! rows come in, spilled when they outgrow the bound, and sorted one at a time when they are walked.
//!
//! Keys are evenly spread, so the partitions are of a size; each is small enough for a processor's cache
//! at ten million members. A key is not kept while its member waits: hashing again is cheaper than
//! carrying it to the disk and back.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use crate::model::{Identifier, Key, KeySeed};

const PARTITIONS: usize = 256;
/// Bytes of a full segment. Memory is wasted by half of one in each partition.
const SEGMENT_LEN: usize = 32 << 10;

/// Members in any order, each perhaps more than once.
#[derive(Debug)]
pub struct SortedSet {
    seed: KeySeed,
    memory_max: usize,
    partitions: Vec<Partition>,
    /// Bytes in full segments.
    held: usize,
    spill: Option<Spill>,
}

#[derive(Debug, Default)]
struct Partition {
    open: Vec<u8>,
    full: Vec<Vec<u8>>,
    spilled: Vec<Extent>,
}

/// A piece of the spill file.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u64,
    len: usize,
}

#[derive(Debug)]
struct Spill {
    file: File,
    len: u64,
}

impl SortedSet {
    /// An empty set that holds about `memory_max` bytes in memory.
    #[must_use]
    pub fn new(seed: KeySeed, memory_max: usize) -> Self {
        let mut partitions = Vec::new();
        partitions.resize_with(PARTITIONS, Partition::default);
        Self { seed, memory_max, partitions, held: 0, spill: None }
    }

    /// Adds a member by its packed identifier.
    ///
    /// # Errors
    /// When the spill file does not take what memory cannot hold.
    #[inline]
    pub fn push(&mut self, packed: &[u8]) -> io::Result<()> {
        let partition = &mut self.partitions[Key::of(self.seed, packed).partition()];
        if partition.open.len() + packed.len() > SEGMENT_LEN {
            let full = std::mem::replace(&mut partition.open, Vec::with_capacity(SEGMENT_LEN));
            self.held += full.capacity();
            partition.full.push(full);
            if self.held > self.memory_max {
                self.spill()?;
            }
            return self.push(packed);
        }
        partition.open.extend_from_slice(packed);
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill { file: tempfile::tempfile()?, len: 0 }),
        };
        for partition in &mut self.partitions {
            let start = spill.len;
            for segment in partition.full.drain(..) {
                spill.file.write_all(&segment)?;
                spill.len += segment.len() as u64;
            }
            let len = usize::try_from(spill.len - start).map_err(io::Error::other)?;
            if len > 0 {
                partition.spilled.push(Extent { start, len });
            }
        }
        self.held = 0;
        Ok(())
    }

    /// Walks the members in the order of their keys, each once.
    #[must_use]
    pub fn into_members(self) -> Members {
        let Self { seed, partitions, spill, .. } = self;
        let spill = spill.map(|spill| spill.file);
        Members {
            seed,
            partitions: partitions.into_iter(),
            spill,
            bytes: Vec::new(),
            order: Vec::new(),
            next: 0,
            duplicates: 0,
        }
    }
}

/// A walk over the members in strictly ascending order of their keys.
#[derive(Debug)]
pub struct Members {
    seed: KeySeed,
    partitions: std::vec::IntoIter<Partition>,
    spill: Option<File>,
    /// The members of the current partition, in the order in which they came.
    bytes: Vec<u8>,
    /// Their keys, sorted, with the place of each in `bytes`.
    order: Vec<(Key, usize)>,
    next: usize,
    duplicates: u64,
}

impl Members {
    /// Moves on to the next member, if there is one.
    ///
    /// # Errors
    /// When the spill file cannot be read.
    #[inline]
    pub fn advance(&mut self) -> io::Result<Option<Key>> {
        while self.next == self.order.len() {
            let Some(partition) = self.partitions.next() else { return Ok(None) };
            self.load(partition)?;
        }
        let (key, _) = self.order[self.next];
        self.next += 1;
        Ok(Some(key))
    }

    /// The packed identifier of the current member.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        let Some((_, start)) = self.next.checked_sub(1).and_then(|at| self.order.get(at)) else { return &[] };
        let rest = &self.bytes[*start..];
        &rest[..Identifier::packed_len(rest).unwrap_or(0)]
    }

    /// How many members were pushed again, as far as the walk has come.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    fn load(&mut self, partition: Partition) -> io::Result<()> {
        self.bytes.clear();
        self.order.clear();
        self.next = 0;
        if let Some(file) = &mut self.spill {
            for Extent { start, len } in partition.spilled {
                let end = self.bytes.len();
                self.bytes.resize(end + len, 0);
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut self.bytes[end..])?;
            }
        }
        for segment in partition.full.iter().chain([&partition.open]) {
            self.bytes.extend_from_slice(segment);
        }
        let mut start = 0;
        while start < self.bytes.len() {
            let len = Identifier::packed_len(&self.bytes[start..]).map_err(io::Error::other)?;
            self.order.push((Key::of(self.seed, &self.bytes[start..start + len]), start));
            start += len;
        }
        self.order.sort_unstable();
        let all = self.order.len();
        self.order.dedup_by_key(|(key, _)| *key);
        self.duplicates += (all - self.order.len()) as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::Kind;

    fn walk(memory_max: usize, people: impl Iterator<Item = u32>) -> (Vec<String>, u64, bool) {
        let mut set = SortedSet::new(KeySeed(3), memory_max);
        for n in people {
            let mut packed = Vec::new();
            Identifier { kind: Kind::ExternalId, label: "", value: &format!("user-{n:030}") }
                .pack_into(&mut packed);
            set.push(&packed).unwrap();
        }
        let spilled = set.spill.is_some();
        let mut members = set.into_members();
        let (mut found, mut last) = (Vec::new(), None);
        while let Some(key) = members.advance().unwrap() {
            assert!(last < Some(key), "strictly ascending");
            assert_eq!(Key::of(KeySeed(3), members.packed()), key);
            last = Some(key);
            found.push(Identifier::unpack(members.packed()).unwrap().0.value.to_owned());
        }
        (found, members.duplicates(), spilled)
    }

    #[test]
    fn every_member_once_whether_it_fits_or_not() {
        let people = || (0..400_000).chain(100..300);
        let (whole, duplicates, spilled) = walk(usize::MAX, people());
        assert_eq!((whole.len(), duplicates, spilled), (400_000, 200, false));
        assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), 400_000);
        let (again, duplicates, spilled) = walk(1 << 20, people());
        assert_eq!((duplicates, spilled), (200, true));
        assert!(again == whole, "the bound changes nothing");
        assert_eq!(walk(0, std::iter::empty()).0, Vec::<String>::new());
    }
}
