//! Byte quota of all inboxes together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The byte quota of all inboxes, and its use.
#[derive(Clone, Debug)]
pub struct InboxQuota {
    held: Arc<AtomicU64>,
    len_max: u64,
}

impl InboxQuota {
    /// Creates a quota of so many bytes.
    #[must_use]
    pub fn new(len_max: u64) -> Self {
        Self { held: Arc::default(), len_max }
    }

    /// Bytes in use.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Returns the same quota with another limit.
    #[must_use]
    pub fn resized(&self, len_max: u64) -> Self {
        Self { held: Arc::clone(&self.held), len_max }
    }

    /// Takes a share of the quota that uses these bytes.
    pub(super) fn share(&self, bytes: u64) -> QuotaShare {
        let share = QuotaShare { held: Arc::clone(&self.held), bytes: AtomicU64::new(0) };
        share.set(bytes);
        share
    }

    pub(super) fn is_full(&self, more: u64) -> bool {
        self.held() + more > self.len_max
    }
}

/// The share of one inbox. Dropping it releases it. Each listing of the files sets it anew, so that a miscount after a
/// failure does not last.
#[derive(Debug)]
pub(super) struct QuotaShare {
    held: Arc<AtomicU64>,
    bytes: AtomicU64,
}

impl QuotaShare {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn release(&self, bytes: u64) {
        let less = |had: u64| Some(had.saturating_sub(bytes));
        let had = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or(0);
        self.held.fetch_sub(bytes.min(had), Ordering::Relaxed);
    }

    pub(super) fn set(&self, bytes: u64) {
        let had = self.bytes.swap(bytes, Ordering::Relaxed);
        // The difference may be negative; the sum of all shares is not.
        self.held.fetch_add(bytes.wrapping_sub(had), Ordering::Relaxed);
    }
}

impl Drop for QuotaShare {
    fn drop(&mut self) {
        self.set(0);
    }
}
