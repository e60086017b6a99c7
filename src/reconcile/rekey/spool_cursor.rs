//! Cursor over spooled changes that yields their keys.

use crate::model::{KeySeed, MemberKey};
use crate::state::{Spool, SpoolBatch, SpoolBatches, StateError};

/// Changes that are read at once.
pub(super) const BATCH_LEN: usize = 1_000;

/// Cursor over spooled changes, in the order of their keys.
pub(in crate::reconcile) struct SpoolCursor<'a> {
    batches: SpoolBatches<'a>,
    batch: Option<SpoolBatch>,
    at: usize,
    seed: KeySeed,
}

impl<'a> SpoolCursor<'a> {
    /// A cursor at the first change.
    pub(in crate::reconcile) fn new(spool: &'a mut Spool, seed: KeySeed) -> Result<Self, StateError> {
        let mut batches = spool.batches(BATCH_LEN)?;
        let batch = batches.next_batch()?;
        Ok(Self { batches, batch, at: 0, seed })
    }

    pub(in crate::reconcile) fn packed(&self) -> &[u8] {
        self.batch.as_ref().map_or(&[], |batch| batch.packed(self.at))
    }

    /// The key of the current change; `None` at the end.
    pub(in crate::reconcile) fn key(&self) -> Option<MemberKey> {
        self.batch.as_ref().map(|batch| MemberKey::of(self.seed, batch.packed(self.at)))
    }

    pub(in crate::reconcile) fn advance(&mut self) -> Result<(), StateError> {
        self.at += 1;
        if self.batch.as_ref().is_some_and(|batch| self.at == batch.len()) {
            (self.batch, self.at) = (self.batches.next_batch()?, 0);
        }
        Ok(())
    }

    /// Whether a change has this key. Calls must come in ascending order of the keys.
    pub(super) fn contains(&mut self, key: MemberKey) -> Result<bool, StateError> {
        while self.key().is_some_and(|own| own < key) {
            self.advance()?;
        }
        Ok(self.key() == Some(key))
    }
}
