//! The record's settled members, without some and with others: who should be there, of whom only the difference was
//! read. It does not know where the difference comes from.

use super::walk::Members;
use super::{DesiredError, SortedSet};
use crate::model::{Key, Standing};
use crate::state::RecordCursor;

/// A walk over (the record's settled members − `drops`) ∪ `adds`, in strictly ascending order of their keys.
#[derive(Debug)]
pub struct Overlay {
    record: RecordCursor,
    /// The record's next member, if the walk has looked for it and not come to it yet.
    kept: Ahead,
    adds: Members,
    added: Ahead,
    drops: Members,
    dropped: Option<Key>,
    has_begun: bool,
    at_record: bool,
    /// Members so far.
    walked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    Unknown,
    Is(Key),
    Nobody,
}

impl Overlay {
    /// Begins the walk. `record` has not been walked yet.
    #[must_use]
    pub fn new(record: RecordCursor, adds: SortedSet, drops: SortedSet) -> Self {
        let (adds, drops) = (adds.into_members(), drops.into_members());
        let (kept, added, dropped) = (Ahead::Unknown, Ahead::Unknown, None);
        Self { record, kept, adds, added, drops, dropped, has_begun: false, at_record: false, walked: 0 }
    }

    /// Moves on to the next member, if there is one.
    ///
    /// # Errors
    /// When the record or a temporary file cannot be read.
    #[inline]
    pub fn advance(&mut self) -> Result<Option<Key>, DesiredError> {
        if self.added == Ahead::Unknown {
            self.added = self.adds.advance()?.map_or(Ahead::Nobody, Ahead::Is);
        }
        if self.kept == Ahead::Unknown {
            self.kept = self.next_kept()?.map_or(Ahead::Nobody, Ahead::Is);
        }
        let next = match (self.kept, self.added) {
            (Ahead::Is(kept), Ahead::Is(added)) if added <= kept => {
                // Of one who is in both, either identifier will do: they are the same.
                if added == kept {
                    self.kept = Ahead::Unknown;
                }
                self.take_added(added)
            }
            (Ahead::Is(kept), _) => {
                (self.kept, self.at_record) = (Ahead::Unknown, true);
                kept
            }
            (_, Ahead::Is(added)) => self.take_added(added),
            _ => return Ok(None),
        };
        self.walked += 1;
        Ok(Some(next))
    }

    fn take_added(&mut self, added: Key) -> Key {
        (self.added, self.at_record) = (Ahead::Unknown, false);
        added
    }

    /// The record's next settled member who stays.
    fn next_kept(&mut self) -> Result<Option<Key>, DesiredError> {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.dropped = self.drops.advance()?;
        }
        loop {
            let Some((key, standing)) = self.record.advance()? else { return Ok(None) };
            while self.dropped.is_some_and(|dropped| dropped < key) {
                self.dropped = self.drops.advance()?;
            }
            if standing == Standing::Member && self.dropped != Some(key) {
                return Ok(Some(key));
            }
        }
    }

    /// Moves on over the members that follow as long as they are these keys, one by one; how many they were.
    pub fn pass(&mut self, keys: &[Key]) -> usize {
        // Only the record's own are in hand, and only up to the next one who comes or goes.
        if !self.at_record || self.kept != Ahead::Unknown {
            return 0;
        }
        let added = if let Ahead::Is(added) = self.added { Some(added) } else { None };
        let is_before = |key: &Key| [added, self.dropped].iter().flatten().all(|limit| key < limit);
        let ours = self.record.ahead().iter();
        let count = ours.zip(keys).take_while(|(ours, key)| ours == key && is_before(ours)).count();
        self.record.skip(count);
        self.walked += count as u64;
        count
    }

    /// The packed identifier of the current member.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn packed(&mut self) -> Result<&[u8], DesiredError> {
        if self.at_record { Ok(self.record.packed()?) } else { Ok(self.adds.packed()) }
    }

    /// Members, as far as the walk has come.
    #[must_use]
    pub fn walked(&self) -> u64 {
        self.walked
    }
}
