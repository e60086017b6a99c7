//! Merge of map parts: for each key the entry of the latest part.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::known::{KnownIdentity, MapKey};
use super::map_part::{MapEntries, MapPart, MapWriter};
use crate::state::StateError;
use crate::state::immutable_file::ImmutableFile;
use crate::state::store::Store;

/// Merges parts, oldest first. Returns the new part, unless it is empty, and how many entries were dropped.
pub(super) fn merged(
    store: &Store,
    parts: &[MapPart],
    keeps: &dyn Fn(MapKey, &KnownIdentity) -> bool,
) -> Result<(Option<ImmutableFile>, u64), StateError> {
    // Keys in several parts count several times.
    let rows_max = parts.iter().map(MapPart::rows).sum();
    let (mut writer, mut rows, mut erased) = (MapWriter::create(store, rows_max)?, 0u64, 0);
    let mut all = MapMerge::new(parts)?;
    while let Some((key, known)) = all.advance()? {
        if keeps(key, &known) {
            writer.push(key, &known)?;
            rows += 1;
        } else {
            erased += 1;
        }
    }
    let file = if rows == 0 { None } else { Some(writer.finish()?) };
    Ok((file, erased))
}

/// A cursor over the entries of several parts in key order, each key once.
pub(super) struct MapMerge<'a> {
    cursors: Vec<(MapEntries<'a>, Option<KnownIdentity>)>,
    /// The next key of each part, with the part's index.
    heads: BinaryHeap<Reverse<(MapKey, usize)>>,
}

impl<'a> MapMerge<'a> {
    pub(super) fn new(parts: &'a [MapPart]) -> Result<Self, StateError> {
        let cursors = parts.iter().map(|part| (part.entries(), None)).collect();
        let mut merging = Self { cursors, heads: BinaryHeap::new() };
        (0..parts.len()).try_for_each(|at| merging.take(at).map(drop))?;
        Ok(merging)
    }

    /// Returns the current entry of a part and queues its next one.
    fn take(&mut self, at: usize) -> Result<Option<KnownIdentity>, StateError> {
        let (entries, head) = &mut self.cursors[at];
        let next = entries.advance()?;
        self.heads.extend(next.as_ref().map(|(key, _)| Reverse((*key, at))));
        Ok(std::mem::replace(head, next.map(|(_, known)| known)))
    }

    pub(super) fn advance(&mut self) -> Result<Option<(MapKey, KnownIdentity)>, StateError> {
        let Some(Reverse((key, at))) = self.heads.pop() else { return Ok(None) };
        let mut last = self.take(at)?;
        // Entries of one key are popped in the order of the parts.
        while let Some(Reverse((_, at))) = self.heads.peek().copied().filter(|Reverse(head)| head.0 == key) {
            self.heads.pop();
            last = self.take(at)?;
        }
        Ok(last.map(|known| (key, known)))
    }
}
