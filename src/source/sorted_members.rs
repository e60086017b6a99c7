//! External sort, second half: a cursor over the members of a set in key order. Its own thread loads and sorts
//! partitions ahead of the cursor.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{Builder, JoinHandle};

use super::caseless::caseless;
use super::sorted_set::{PARTITIONS, SortedSet};
use super::spill::{CHUNK_LEN, SpillChunk, SpillFile};
use crate::contained::contained_as_here;
use crate::model::{Identifier, KeySeed, MemberKey};

/// Sorted partitions that may wait. One more is being sorted, and another iterated.
const WAITING_MAX: usize = 1;
const IN_FLIGHT_MAX: usize = WAITING_MAX + 2;

/// Cursor over the members, in strictly ascending key order.
#[derive(Debug)]
pub struct SortedMembers {
    /// The set, until the first member is requested and the thread starts.
    set: Option<SortedSet>,
    sorter: Option<MemberSorter>,
    current: SortedPartition,
    next: usize,
    duplicates: u64,
}

/// The sorting thread. It drops its ends of both channels when it ends.
#[derive(Debug)]
struct MemberSorter {
    spill: Arc<SpillFile>,
    sorted: Receiver<io::Result<SortedPartition>>,
    used: Sender<SortedPartition>,
    thread: JoinHandle<()>,
}

/// The members of one partition.
#[derive(Debug, Default)]
struct SortedPartition {
    pieces: Vec<SortedPiece>,
    order: Vec<SortEntry>,
    duplicates: u64,
}

/// One chunk of a partition.
#[derive(Debug)]
enum SortedPiece {
    InMemory(SpillChunk),
    Loaded(Vec<u8>),
}

impl SortedPiece {
    fn bytes<'a>(&'a self, spill: &'a SpillFile) -> &'a [u8] {
        match self {
            Self::InMemory(chunk) => spill.in_memory(*chunk).unwrap_or_default(),
            Self::Loaded(bytes) => bytes,
        }
    }
}

/// One member: the halves of its key, and the position of its packed identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct SortEntry {
    high: u64,
    low: u64,
    position: usize,
}

impl SortEntry {
    fn key(&self) -> MemberKey {
        MemberKey::from_halves(self.high, self.low)
    }
}

/// The packed identifier at a position of a partition.
fn packed_at<'a>(pieces: &'a [SortedPiece], spill: &'a SpillFile, position: usize) -> &'a [u8] {
    let rest = &pieces[position / CHUNK_LEN].bytes(spill)[position % CHUNK_LEN..];
    &rest[..Identifier::packed_len(rest).unwrap_or(0)]
}

impl SortedSet {
    /// A cursor over the members in key order, without duplicates.
    #[must_use]
    pub fn into_members(self) -> SortedMembers {
        SortedMembers {
            set: Some(self),
            sorter: None,
            current: SortedPartition::default(),
            next: 0,
            duplicates: 0,
        }
    }
}

impl SortedMembers {
    /// Advances to the next member and returns its key; none at the end.
    ///
    /// # Errors
    /// When the temporary file cannot be read, or the thread cannot start.
    #[inline]
    pub fn advance(&mut self) -> io::Result<Option<MemberKey>> {
        while self.next >= self.current.order.len() {
            if !self.load()? {
                return Ok(None);
            }
        }
        let key = self.current.order[self.next].key();
        self.next += 1;
        Ok(Some(key))
    }

    /// Advances while the next members equal `keys`. Returns how many matched.
    pub fn advance_while_equal(&mut self, keys: &[MemberKey]) -> usize {
        let members = self.current.order[self.next..].iter();
        let count = members.zip(keys).take_while(|(entry, key)| entry.key() == **key).count();
        self.next += count;
        count
    }

    /// The packed identifier of the current member.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        let current = self.next.checked_sub(1).and_then(|at| self.current.order.get(at));
        let (Some(SortEntry { position, .. }), Some(sorter)) = (current, &self.sorter) else { return &[] };
        packed_at(&self.current.pieces, &sorter.spill, *position)
    }

    /// Duplicates so far.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Loads the next partition. Returns `false` after the last one.
    fn load(&mut self) -> io::Result<bool> {
        if let Some(set) = self.set.take() {
            self.sorter = Some(MemberSorter::start(set)?);
        }
        let Some(sorter) = &self.sorter else { return Ok(false) };
        // The thread ends after the last partition.
        let _ = sorter.used.send(std::mem::take(&mut self.current));
        self.next = 0;
        match sorter.sorted.recv() {
            Ok(sorted) => {
                self.current = sorted?;
                self.duplicates += self.current.duplicates;
                Ok(true)
            }
            Err(mpsc::RecvError) => {
                self.end();
                Ok(false)
            }
        }
    }

    /// Ends the thread, after the last partition or after a panic, which continues here.
    fn end(&mut self) {
        if let Some(Err(panic)) = self.sorter.take().map(|sorter| sorter.thread.join()) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl MemberSorter {
    fn start(mut set: SortedSet) -> io::Result<Self> {
        set.reserve(IN_FLIGHT_MAX)?;
        let SortedSet { seed, spill, open, mut full, is_by_caseless_form, .. } = set;
        full.iter_mut().zip(open).for_each(|(full, open)| full.push(open));
        let spill = Arc::new(spill);
        let buffer = SortBuffer {
            seed,
            is_by_caseless_form,
            spill: Arc::clone(&spill),
            free: Vec::new(),
            hashed: Vec::new(),
            ends: Vec::new(),
            caseless_buffer: Vec::new(),
        };
        let (sink, sorted) = mpsc::sync_channel(WAITING_MAX);
        let (used, back) = mpsc::channel();
        let thread = Builder::new()
            .name("sort".to_owned())
            .spawn(contained_as_here(move || sort_all(buffer, &full, &sink, &back)))?;
        Ok(Self { spill, sorted, used, thread })
    }
}

/// Sorts one partition after another, until the last one or until the cursor is dropped.
fn sort_all(
    mut buffer: SortBuffer,
    partitions: &[Vec<SpillChunk>],
    sink: &SyncSender<io::Result<SortedPartition>>,
    back: &Receiver<SortedPartition>,
) {
    for chunks in partitions {
        let mut order = Vec::new();
        while let Ok(used) = back.try_recv() {
            order = used.order;
            buffer.recycle(used.pieces);
        }
        let sorted = buffer.sort(chunks, order);
        let failed = sorted.is_err();
        if sink.send(sorted).is_err() || failed {
            return;
        }
    }
}

/// Buffers that are reused for each partition.
struct SortBuffer {
    seed: KeySeed,
    is_by_caseless_form: bool,
    spill: Arc<SpillFile>,
    free: Vec<Vec<u8>>,
    hashed: Vec<SortEntry>,
    /// The end of each bucket in the order.
    ends: Vec<u32>,
    caseless_buffer: Vec<u8>,
}

impl SortBuffer {
    fn recycle(&mut self, pieces: Vec<SortedPiece>) {
        self.free.extend(pieces.into_iter().filter_map(|piece| match piece {
            SortedPiece::Loaded(bytes) => Some(bytes),
            SortedPiece::InMemory(_) => None,
        }));
    }

    fn sort(&mut self, chunks: &[SpillChunk], mut order: Vec<SortEntry>) -> io::Result<SortedPartition> {
        let pieces = chunks.iter().map(|chunk| self.piece(*chunk)).collect::<io::Result<Vec<_>>>()?;
        self.hashed.clear();
        let spill = Arc::clone(&self.spill);
        for (start, piece) in (0..).step_by(CHUNK_LEN).zip(&pieces) {
            self.hash(piece.bytes(&spill), start)?;
        }
        self.fill_buckets(&mut order);
        let packed = |entry: &SortEntry| packed_at(&pieces, &spill, entry.position);
        let mut from = 0;
        for end in &self.ends {
            let end = *end as usize;
            if end - from > 1 {
                if self.is_by_caseless_form {
                    let by = |a: &SortEntry, b: &SortEntry| {
                        a.key().cmp(&b.key()).then_with(|| packed(a).cmp(packed(b)))
                    };
                    order[from..end].sort_unstable_by(by);
                } else {
                    order[from..end].sort_unstable();
                }
            }
            from = end;
        }
        if self.is_by_caseless_form {
            order.dedup_by(|next, entry| next.key() == entry.key() && packed(next) == packed(entry));
        } else {
            order.dedup_by_key(|entry| (entry.high, entry.low));
        }
        let duplicates = (self.hashed.len() - order.len()) as u64;
        Ok(SortedPartition { pieces, order, duplicates })
    }

    fn piece(&mut self, chunk: SpillChunk) -> io::Result<SortedPiece> {
        if self.spill.in_memory(chunk).is_some() {
            return Ok(SortedPiece::InMemory(chunk));
        }
        let mut bytes = self.free.pop().unwrap_or_default();
        self.spill.load(chunk, &mut bytes)?;
        Ok(SortedPiece::Loaded(bytes))
    }

    /// Hashes the members of a piece that begins at `start`.
    fn hash(&mut self, bytes: &[u8], start: usize) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let len = Identifier::packed_len(&bytes[at..]).map_err(io::Error::other)?;
            let packed = &bytes[at..at + len];
            let keyed = if self.is_by_caseless_form {
                caseless(packed, &mut self.caseless_buffer).map_err(io::Error::other)?
            } else {
                packed
            };
            let (high, low) = MemberKey::of(self.seed, keyed).halves();
            self.hashed.push(SortEntry { high, low, position: start + at });
            at += len;
        }
        Ok(())
    }

    /// Bucket sort by the bits that follow those of the partition. There are about as many buckets as entries and keys
    /// are evenly distributed, so most buckets hold one or two entries.
    fn fill_buckets(&mut self, order: &mut Vec<SortEntry>) {
        let bits = self.hashed.len().clamp(2, 1 << 31).ilog2();
        let bucket =
            |entry: &SortEntry| usize::try_from(entry.high << PARTITIONS.ilog2() >> (64 - bits)).unwrap_or(0);
        self.ends.clear();
        self.ends.resize(1 << bits, 0);
        for entry in &self.hashed {
            self.ends[bucket(entry)] += 1;
        }
        let mut start = 0;
        for end in &mut self.ends {
            start += std::mem::replace(end, start);
        }
        order.resize(self.hashed.len(), SortEntry::default());
        for entry in &self.hashed {
            let end = &mut self.ends[bucket(entry)];
            order[*end as usize] = *entry;
            *end += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::IdentifierKind;

    fn set(memory_max: usize, people: impl Iterator<Item = u32>) -> SortedSet {
        let mut set = SortedSet::new(KeySeed(3), memory_max);
        for n in people {
            let mut packed = Vec::new();
            Identifier { kind: IdentifierKind::ExternalId, label: "", value: &format!("user-{n:080}") }
                .pack_into(&mut packed);
            set.push(&packed).unwrap();
        }
        set
    }

    fn collect(memory_max: usize, people: impl Iterator<Item = u32>) -> (Vec<String>, u64, bool) {
        let set = set(memory_max, people);
        let spilled = set.spill.has_spilled();
        let mut members = set.into_members();
        let (mut found, mut last) = (Vec::new(), None);
        while let Some(key) = members.advance().unwrap() {
            assert!(last < Some(key), "strictly ascending");
            assert_eq!(MemberKey::of(KeySeed(3), members.packed()), key);
            last = Some(key);
            found.push(Identifier::unpack(members.packed()).unwrap().0.value.to_owned());
        }
        assert!(
            members.advance().unwrap().is_none() && members.packed().is_empty(),
            "the cursor stays at the end"
        );
        (found, members.duplicates(), spilled)
    }

    #[test]
    fn every_member_is_returned_once_in_memory_or_spilled() {
        let people = || (0..400_000).chain(100..300);
        let (whole, duplicates, spilled) = collect(usize::MAX, people());
        assert_eq!((whole.len(), duplicates, spilled), (400_000, 200, false));
        assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), 400_000);
        for memory_max in [0, 1 << 20, 28 << 20] {
            let (again, duplicates, spilled) = collect(memory_max, people());
            assert_eq!((duplicates, spilled), (200, true));
            assert!(again == whole, "the memory bound does not change the result");
        }
        assert_eq!(collect(0, std::iter::empty()).0, Vec::<String>::new());
        assert_eq!(collect(0, std::iter::repeat_n(7, 3)).1, 2);
    }

    #[test]
    fn a_cursor_can_be_dropped_early() {
        let mut members = set(1 << 20, 0..300_000).into_members();
        assert!(members.advance().unwrap().is_some());
    }
}
