//! Changes by small syncs: users who enter or leave a segment, in one file per segment and batch.
//!
//! ```text
//! segments/<connection>/parts/<uuid>.changes
//! ```
//!
//! An entry has: the time that Heap signed (8 bytes, little-endian, milliseconds), the arrival number of its sync (8),
//! the hash of its sync (8), the hash of its page (8), the operation (1; 0 adds, 1 removes), the length of the packed
//! identifier (2) and the packed identifier. Of two changes of one user the later one wins, regardless of the order of
//! the entries, so pages may arrive in any order and any number of times.

use xxhash_rust::xxh3::xxh3_128;

use super::super::immutable_file::{ImmutableFile, ImmutableWriter};
use super::super::part::{PartFolder, folder_of};
use super::super::{StateError, StateReader, StateWriter};
use super::SegmentTable;
use crate::model::{ChangeOp, ConnectionName, Identifier, KeySeed, MemberKey};

/// The suffix of these files.
pub(in super::super) const SUFFIX: &str = ".changes";
/// Length of an entry before the packed identifier.
const HEAD_LEN: usize = 8 + 8 + 8 + 8 + 1 + 2;

/// One user's change: entering or leaving a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentChange {
    /// The key of the identifier.
    pub key: MemberKey,
    /// The time that Heap signed, in milliseconds.
    pub signed: i64,
    /// The arrival number of the sync. It decides between syncs that were signed for the same time.
    pub order: u64,
    /// Hash of the sync's id.
    pub sync: u64,
    /// Hash of the sync's id and the page's content, to recognize a page that arrives again.
    pub page: u64,
    /// Whether the user enters or leaves.
    pub op: ChangeOp,
    /// The packed identifier.
    pub packed: Box<[u8]>,
}

impl SegmentChange {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signed.to_le_bytes());
        out.extend_from_slice(&self.order.to_le_bytes());
        out.extend_from_slice(&self.sync.to_le_bytes());
        out.extend_from_slice(&self.page.to_le_bytes());
        out.push(u8::from(self.op == ChangeOp::Remove));
        out.extend_from_slice(&self.packed.len().to_le_bytes()[..2]);
        out.extend_from_slice(&self.packed);
    }

    /// Reads one entry from the start.
    fn read(bytes: &[u8], seed: KeySeed) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let number = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let len = usize::from(u16::from_le_bytes([head[33], head[34]]));
        let (packed, rest) = rest.split_at_checked(len)?;
        Identifier::unpack(packed).ok()?;
        let op = match head[32] {
            0 => ChangeOp::Add,
            1 => ChangeOp::Remove,
            _ => return None,
        };
        let (signed, order, sync, page) = (number(0)?.cast_signed(), number(8)?, number(16)?, number(24)?);
        Some((
            Self { key: MemberKey::of(seed, packed), signed, order, sync, page, op, packed: packed.into() },
            rest,
        ))
    }
}

/// Returns the last change of each user, in key order. Within one sync, a removal wins.
pub(super) fn last_of_each(mut changes: Vec<SegmentChange>) -> Vec<SegmentChange> {
    let is_removal = |change: &SegmentChange| change.op == ChangeOp::Remove;
    changes.sort_by_key(|change| (change.key, change.signed, change.order, is_removal(change)));
    let mut last: Vec<SegmentChange> = Vec::with_capacity(changes.len());
    for change in changes {
        match last.last_mut() {
            Some(before) if before.key == change.key => *before = change,
            _ => last.push(change),
        }
    }
    last
}

impl StateReader {
    /// Reads the changes of a segment as written, oldest file first.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn segment_changes(
        &self,
        connection: &ConnectionName,
        segment: &SegmentTable,
    ) -> Result<Vec<SegmentChange>, StateError> {
        let files = segment.changes.iter().map(|file| self.changes_in(connection, file));
        Ok(files.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Reads the changes in one file.
    pub(in super::super) fn changes_in(
        &self,
        connection: &ConnectionName,
        file: &ImmutableFile,
    ) -> Result<Vec<SegmentChange>, StateError> {
        let path = format!("{}/{}{SUFFIX}", folder_of(PartFolder::Segments(connection)), file.id);
        let damaged =
            |problem: &str| StateError::Damaged { path: self.store.at(&path), problem: problem.to_owned() };
        let bytes = self.store.read(&path)?.ok_or_else(|| damaged("it is missing"))?;
        if xxh3_128(&bytes) != file.checksum {
            return Err(damaged("its checksum does not match"));
        }
        let (mut changes, mut rest) = (Vec::new(), bytes.as_slice());
        while !rest.is_empty() {
            let (change, after) =
                SegmentChange::read(rest, self.seed()).ok_or_else(|| damaged("an entry is malformed"))?;
            changes.push(change);
            rest = after;
        }
        Ok(changes)
    }
}

impl StateWriter {
    /// Writes changes as one file.
    ///
    /// # Errors
    /// When the write fails.
    pub fn write_changes(
        &self,
        connection: &ConnectionName,
        changes: &[SegmentChange],
    ) -> Result<ImmutableFile, StateError> {
        let folder = folder_of(PartFolder::Segments(connection));
        let mut writer = ImmutableWriter::create(&self.reader().store, &folder, SUFFIX)?;
        let mut entry = Vec::new();
        for change in changes {
            entry.clear();
            change.write(&mut entry);
            writer.push(&entry, 1)?;
        }
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::IdentifierKind;

    fn change(value: &str, signed: i64, op: ChangeOp) -> SegmentChange {
        let mut packed = Vec::new();
        Identifier { kind: IdentifierKind::ExternalId, label: "", value }.pack_into(&mut packed);
        SegmentChange {
            key: MemberKey::of(KeySeed(7), &packed),
            signed,
            order: 2,
            sync: 3,
            page: 4,
            op,
            packed: packed.into(),
        }
    }

    #[test]
    fn an_entry_is_read_as_written_and_never_when_truncated() {
        let written = change("user-1", -5, ChangeOp::Remove);
        let mut bytes = Vec::new();
        written.write(&mut bytes);
        assert_eq!(SegmentChange::read(&bytes, KeySeed(7)), Some((written, &[][..])));
        for len in 0..bytes.len() {
            assert_eq!(SegmentChange::read(&bytes[..len], KeySeed(7)), None, "{len}");
        }
    }

    #[test]
    fn the_change_signed_last_wins_and_then_the_one_that_arrived_last() {
        let (add, remove) = (ChangeOp::Add, ChangeOp::Remove);
        let all = [("a", 2, 1, add), ("a", 1, 2, remove), ("b", 1, 1, remove), ("b", 1, 2, add)];
        let one_sync = [("c", 1, 1, remove), ("c", 1, 1, add)];
        let each = all.into_iter().chain(one_sync);
        let each = each.map(|(who, signed, order, op)| SegmentChange { order, ..change(who, signed, op) });
        let last = last_of_each(each.collect());
        let op_of = |who| last.iter().find(|last| last.key == change(who, 0, add).key).unwrap().op;
        assert_eq!((last.len(), op_of("a"), op_of("b"), op_of("c")), (3, add, add, remove));
    }
}
