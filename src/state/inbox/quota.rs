//! How much room the inboxes have, and how much of it they take. It knows no file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much all inboxes may hold, and do.
#[derive(Clone, Debug)]
pub struct InboxQuota {
    held: Arc<AtomicU64>,
    len_max: u64,
}

impl InboxQuota {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(len_max: u64) -> Self {
        Self { held: Arc::default(), len_max }
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// The same room with another bound.
    #[must_use]
    pub fn resized(&self, len_max: u64) -> Self {
        Self { held: Arc::clone(&self.held), len_max }
    }

    /// A part of it, which has these bytes.
    pub(super) fn part(&self, bytes: u64) -> QuotaShare {
        let part = QuotaShare { held: Arc::clone(&self.held), bytes: AtomicU64::new(0) };
        part.is(bytes);
        part
    }

    pub(super) fn is_full(&self, more: u64) -> bool {
        self.held() + more > self.len_max
    }
}

/// What one inbox has of the room; given back when it is dropped. It is told anew whenever the files are listed,
/// so that nothing that goes wrong is counted for ever.
#[derive(Debug)]
pub(super) struct QuotaShare {
    held: Arc<AtomicU64>,
    bytes: AtomicU64,
}

impl QuotaShare {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn more(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn less(&self, bytes: u64) {
        let less = |had: u64| Some(had.saturating_sub(bytes));
        let had = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or(0);
        self.held.fetch_sub(bytes.min(had), Ordering::Relaxed);
    }

    pub(super) fn is(&self, bytes: u64) {
        let had = self.bytes.swap(bytes, Ordering::Relaxed);
        // The difference may be below nothing; the sum of all parts is not.
        self.held.fetch_add(bytes.wrapping_sub(had), Ordering::Relaxed);
    }
}

impl Drop for QuotaShare {
    fn drop(&mut self) {
        self.is(0);
    }
}
