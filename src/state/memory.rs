//! The memory budget of the process (`memory:`), shared by plans, saved plans and spools.
//!
//! # Expected flow
//! Planning a cohort takes a [`MemoryPermit`] when its rows arrive, and waits while too many cohorts have one. Beyond the
//! permit, data takes [`MemoryGrowth`], and goes to temporary files when that is denied. Spools live as long as a plan and
//! have a share of their own.
//!
//! # Guarantees
//! Permits are granted in the order of the requests. Growth leaves memory for further permits, so one large source does
//! not block others.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tempfile::SpooledTempFile;

/// Minimum memory for planning one cohort: its sorted sets and batches.
const PERMIT_LEN: usize = 16 << 20;
/// 1/PERMITS_SHARE of the budget is reserved for permits.
const PERMITS_SHARE: usize = 4;
/// 1/SPOOLS_SHARE of the budget is for spools.
const SPOOLS_SHARE: usize = 8;
/// Maximum bytes of a spool in memory, and bytes that it may always hold.
const SPOOL_MAX: usize = 1 << 20;
const SPOOL_FREE: usize = 4 << 10;

/// A budget of memory.
#[derive(Debug)]
pub struct MemoryBudget {
    inner: Mutex<Inner>,
    freed: Condvar,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: usize,
    spooled: usize,
    permits: usize,
    next_ticket: u64,
    waiting: VecDeque<u64>,
}

static PROCESS: MemoryBudget = MemoryBudget::new(usize::MAX);

impl MemoryBudget {
    const fn new(limit: usize) -> Self {
        let inner =
            Inner { limit, used: 0, spooled: 0, permits: 0, next_ticket: 0, waiting: VecDeque::new() };
        Self { inner: Mutex::new(inner), freed: Condvar::new() }
    }

    /// The budget of this process. It has no limit before [`MemoryBudget::set_limit`].
    #[must_use]
    pub fn of_process() -> &'static Self {
        &PROCESS
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the limit. Memory in use stays in use.
    pub fn set_limit(&self, limit: usize) {
        self.lock().limit = limit;
        self.freed.notify_all();
    }

    /// Waits for the memory to plan one cohort. A single permit is granted regardless of the limit.
    pub fn permit(&self) -> MemoryPermit<'_> {
        let mut inner = self.lock();
        let ticket = inner.next_ticket;
        inner.next_ticket += 1;
        inner.waiting.push_back(ticket);
        while inner.waiting.front() != Some(&ticket) || !inner.has_room_for_permit() {
            inner = self.freed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.waiting.pop_front();
        inner.permits += 1;
        inner.used = inner.used.saturating_add(PERMIT_LEN);
        drop(inner);
        self.freed.notify_all(); // the next in the queue may fit as well
        MemoryPermit { memory: self }
    }

    /// Takes more memory if enough is free beside the reserve for permits.
    fn try_grow(&self, bytes: usize) -> bool {
        let mut inner = self.lock();
        let may_use = inner.limit - inner.limit / PERMITS_SHARE;
        let is_granted = inner.waiting.is_empty() && inner.used.saturating_add(bytes) <= may_use;
        if is_granted {
            inner.used += bytes;
        }
        is_granted
    }

    fn release(&self, bytes: usize) {
        let mut inner = self.lock();
        inner.used = inner.used.saturating_sub(bytes);
        drop(inner);
        self.freed.notify_all();
    }

    fn try_spool(&self, bytes: usize) -> bool {
        let mut inner = self.lock();
        let is_granted = inner.spooled.saturating_add(bytes) <= inner.limit / SPOOLS_SHARE;
        if is_granted {
            inner.spooled += bytes;
            inner.used = inner.used.saturating_add(bytes);
        }
        is_granted
    }

    fn release_spool(&self, bytes: usize) {
        self.lock().spooled -= bytes;
        self.release(bytes);
    }
}

impl Inner {
    fn has_room_for_permit(&self) -> bool {
        self.permits == 0 || self.used.saturating_add(PERMIT_LEN) <= self.limit
    }
}

/// Memory taken from the process's budget beyond a permit. Dropping it releases it.
#[derive(Debug, Default)]
pub struct MemoryGrowth(usize);

impl MemoryGrowth {
    /// Takes more memory if available.
    #[must_use]
    pub fn try_more(&mut self, bytes: usize) -> bool {
        let is_granted = PROCESS.try_grow(bytes);
        self.0 += if is_granted { bytes } else { 0 };
        is_granted
    }

    /// Releases some of it.
    pub fn less(&mut self, bytes: usize) {
        let bytes = bytes.min(self.0);
        self.0 -= bytes;
        PROCESS.release(bytes);
    }
}

impl Drop for MemoryGrowth {
    fn drop(&mut self) {
        self.less(self.0);
    }
}

/// The memory for planning one cohort. Dropping it releases it.
#[derive(Debug)]
pub struct MemoryPermit<'a> {
    memory: &'a MemoryBudget,
}

impl Drop for MemoryPermit<'_> {
    fn drop(&mut self) {
        self.memory.lock().permits -= 1;
        self.memory.release(PERMIT_LEN);
    }
}

/// A temporary file that stays in memory while it is small and the budget allows it.
#[derive(Debug)]
pub struct SpoolFile {
    file: SpooledTempFile,
    /// Bytes taken from the budget.
    held: usize,
    len: usize,
}

impl Default for SpoolFile {
    fn default() -> Self {
        Self { file: tempfile::spooled_tempfile(SPOOL_MAX), held: 0, len: 0 }
    }
}

impl SpoolFile {
    /// Reserves memory for more bytes, or moves the content to disk.
    fn grow(&mut self, more: usize) -> io::Result<()> {
        if self.file.is_rolled() {
            return Ok(());
        }
        self.len += more;
        let missing = self.len.saturating_sub(self.held);
        if self.len <= SPOOL_FREE || missing == 0 {
            return Ok(());
        }
        let step = missing.next_multiple_of(SPOOL_FREE);
        if self.len <= SPOOL_MAX && PROCESS.try_spool(step) {
            self.held += step;
            return Ok(());
        }
        self.file.roll()?;
        PROCESS.release_spool(std::mem::take(&mut self.held));
        Ok(())
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        PROCESS.release_spool(self.held);
    }
}

impl Write for SpoolFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.grow(bytes.len())?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for SpoolFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for SpoolFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_leaves_memory_for_permits_and_permits_are_queued() {
        let memory = MemoryBudget::new(64 << 20);
        let first = memory.permit();
        assert!(memory.try_grow(32 << 20), "three quarters may be used");
        assert!(!memory.try_grow(1 << 20));
        let second = memory.permit();
        std::thread::scope(|scope| {
            let third = scope.spawn(|| memory.permit());
            while memory.lock().waiting.is_empty() {
                std::thread::yield_now();
            }
            assert!(!memory.try_grow(0), "waiting permits come first");
            drop(first);
            drop(third.join().unwrap());
        });
        drop(second);
        memory.release(32 << 20);
        let inner = memory.lock();
        assert_eq!((inner.used, inner.permits), (0, 0));
    }

    #[test]
    fn a_single_permit_is_always_granted() {
        let memory = MemoryBudget::new(1);
        drop(memory.permit());
        assert_eq!(memory.lock().used, 0);
    }

    #[test]
    fn spools_have_a_share_and_continue_on_disk_beyond_it() {
        let memory = MemoryBudget::new(8 << 20);
        assert!(memory.try_spool(1 << 20));
        assert!(!memory.try_spool(1), "an eighth");
        memory.release_spool(1 << 20);
        let mut file = SpoolFile::default();
        let written = vec![7; SPOOL_MAX + 1];
        written.chunks(1000).for_each(|some| file.write_all(some).unwrap());
        assert!(file.file.is_rolled());
        assert_eq!(file.held, 0);
        let mut read = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut read).unwrap();
        assert!(read == written);
    }
}
