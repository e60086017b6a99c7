//! Several parts → one: of each key what the latest part says, if it is kept. It decides neither when nor what.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::known::{Known, MapKey};
use super::run::{Entries, MapRun, MapWriter};
use crate::state::StateError;
use crate::state::sealed::SealedFile;
use crate::state::store::Store;

/// Merges parts, the oldest first. The new part, if anything was kept, and how many entries were not.
pub(super) fn merged(
    store: &Store,
    parts: &[MapRun],
    keeps: &dyn Fn(MapKey, &Known) -> bool,
) -> Result<(Option<SealedFile>, u64), StateError> {
    // Those of a key in several parts count several times.
    let rows_max = parts.iter().map(MapRun::rows).sum();
    let (mut writer, mut rows, mut erased) = (MapWriter::create(store, rows_max)?, 0u64, 0);
    let mut all = Merging::new(parts)?;
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

/// The entries of several parts in the order of their keys, each key once.
pub(super) struct Merging<'a> {
    cursors: Vec<(Entries<'a>, Option<Known>)>,
    /// The next key of each part, and which part that is.
    heads: BinaryHeap<Reverse<(MapKey, usize)>>,
}

impl<'a> Merging<'a> {
    pub(super) fn new(parts: &'a [MapRun]) -> Result<Self, StateError> {
        let cursors = parts.iter().map(|part| (part.entries(), None)).collect();
        let mut merging = Self { cursors, heads: BinaryHeap::new() };
        (0..parts.len()).try_for_each(|at| merging.take(at).map(drop))?;
        Ok(merging)
    }

    /// What a part has said, with its next entry put in line.
    fn take(&mut self, at: usize) -> Result<Option<Known>, StateError> {
        let (entries, head) = &mut self.cursors[at];
        let next = entries.advance()?;
        self.heads.extend(next.as_ref().map(|(key, _)| Reverse((*key, at))));
        Ok(std::mem::replace(head, next.map(|(_, known)| known)))
    }

    pub(super) fn advance(&mut self) -> Result<Option<(MapKey, Known)>, StateError> {
        let Some(Reverse((key, at))) = self.heads.pop() else { return Ok(None) };
        let mut last = self.take(at)?;
        // Of one key, the parts come in their order.
        while let Some(Reverse((_, at))) = self.heads.peek().copied().filter(|Reverse(head)| head.0 == key) {
            self.heads.pop();
            last = self.take(at)?;
        }
        Ok(last.map(|known| (key, known)))
    }
}
