//! The lease: at most one process writes to a state.
//!
//! In a folder the lease is a file lock on `lease.json`, which the system releases when the process ends; the text only
//! describes the holder. In a bucket the lease is the content: the holder renews it by conditional puts, and another
//! process may take it once it has expired.
//!
//! A holder that was suspended too long notices it by its own clock before it sends or commits anything, and by the
//! store, which rejects the renewal of a lease that was taken. Clocks of two machines are never compared: the age of a
//! lease is measured by the store's clock.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::as_text::count;
use super::store::{BucketStore, FolderStore, ObjectTag, Store, StoreError, private};
#[cfg(test)]
use super::store::{MemoryLock, MemoryStore};
use super::{StateError, checked};
use crate::foreign::json_error;
use crate::model::{Clock, Timestamp, timestamp_text};
use crate::random;
use crate::retry::{Retry, RetryPolicy};

const FILE: &str = "lease.json";
/// How often taking the lock waits for a reader that holds it briefly.
const LOCK_RETRY: RetryPolicy = RetryPolicy {
    attempts: 5,
    first_wait: Duration::from_millis(50),
    longest_wait: Duration::from_millis(50),
};
/// How often the lease of a bucket is taken when other processes write to it at the same time.
const TAKES_MAX: u32 = 4;
/// Renewals per lease duration.
const RENEWALS: u32 = 3;
/// The longest duration of one renewal, and the pause after a failed one, as fractions of the lease.
const RENEWAL_LIMIT: u32 = 6;
const RETRY_PAUSE: u32 = 12;
/// Resolution of a store's clock.
const TICK: Duration = Duration::from_secs(1);
/// How long a reader still considers an expired holder alive, because its clock may be wrong.
const CLOCK_SLACK: Duration = Duration::from_secs(60);
/// The longest duration of releasing the lease.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// The process that holds a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The machine.
    pub host: String,
    /// The process on it.
    pub process: u32,
    /// Since when.
    pub since: Timestamp,
    /// In a bucket: when the lease was last renewed, and when it expires.
    pub renewal: Option<(Timestamp, Timestamp)>,
}

impl Holder {
    /// Whether both are the same process. A process id alone is not enough: in containers it is always 1.
    #[must_use]
    pub fn is_same_process(&self, other: &Self) -> bool {
        (&self.host, self.process, self.since) == (&other.host, other.process, other.since)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {} since {}", self.process, self.host, timestamp_text(self.since))?;
        let Some((seen, until)) = self.renewal else { return Ok(()) };
        write!(f, ", renewed at {}, expires at {}", timestamp_text(seen), timestamp_text(until))?;
        f.write_str(" unless it is renewed again")
    }
}

/// The file format.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LeaseJson {
    format: u64,
    host: String,
    process: u32,
    since: String,
    /// The remaining fields are for buckets. Counts the holders.
    #[serde(default, with = "count")]
    epoch: u64,
    /// Distinguishes this holder from all others.
    #[serde(default)]
    id: String,
    #[serde(default)]
    renewed: Option<String>,
    #[serde(default)]
    lasts_ms: u64,
    #[serde(default)]
    released: bool,
    /// The number of the newest `heads` file.
    #[serde(default, with = "count")]
    heads: u64,
}

impl LeaseJson {
    fn new(holder: &Holder) -> Self {
        Self {
            format: super::format_number::SUPPORTED,
            host: holder.host.clone(),
            process: holder.process,
            since: timestamp_text(holder.since),
            epoch: 0,
            id: random::unique_id().to_string(),
            renewed: None,
            lasts_ms: 0,
            released: false,
            heads: 0,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        checked::seal(FILE, &serde_json::to_vec(self).unwrap_or_default())
    }

    /// Parses the file.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        if !checked::is_whole(FILE, bytes) {
            return Err("its checksum does not match: it was changed or truncated".to_owned());
        }
        serde_json::from_slice(bytes).map_err(|e| json_error(&e))
    }

    fn holder(self) -> Option<Holder> {
        let renewed = self.renewed.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        let renewal =
            renewed.and_then(|at| Some((at, at.checked_add(Duration::from_millis(self.lasts_ms)).ok()?)));
        Some(Holder { host: self.host, process: self.process, since: self.since.parse().ok()?, renewal })
    }
}

/// The right to write. Dropping it releases it.
#[derive(Debug)]
pub(super) enum Lease {
    /// A file lock in a folder.
    Lock(LockedFile),
    /// A renewed lease in a bucket.
    Renewed(RenewedLease),
    /// A lock on a state in memory.
    #[cfg(test)]
    Memory(MemoryLease),
}

impl Lease {
    /// Takes the lease. `lasts` is how long a lease in a bucket is valid without renewal.
    pub(super) fn take(
        store: &Store,
        holder: &Holder,
        lasts: Duration,
        clock: Clock,
    ) -> Result<Self, StateError> {
        match store {
            Store::Folder(folder) => lock(folder, holder).map(Self::Lock),
            Store::Bucket(bucket) => RenewedLease::take(bucket, holder, lasts, clock).map(Self::Renewed),
            #[cfg(test)]
            Store::Memory(memory) => {
                let Some(lock) = memory.try_lock() else { return Err(StateError::Held(unknown())) };
                let text = LeaseJson { heads: heads_of(store)?, ..LeaseJson::new(holder) };
                memory.overwrite(FILE, &text.bytes())?;
                Ok(Self::Memory(MemoryLease { store: memory.clone(), text: Mutex::new(text), _lock: lock }))
            }
        }
    }

    /// Records the number of the newest `heads` file. In a bucket, the next renewal or the release writes it.
    pub(super) fn note_heads(&self, number: u64) {
        match self {
            Self::Lock(lock) => {
                let mut text = lock.text.lock().unwrap_or_else(PoisonError::into_inner);
                text.heads = number;
                // If this fails, the `heads` file and the journal still have the number.
                let _ = lock.write(&text);
            }
            Self::Renewed(renewed) => {
                let mut now = renewed.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
                now.shape.heads = number;
            }
            #[cfg(test)]
            Self::Memory(lease) => {
                let mut text = lease.text.lock().unwrap_or_else(PoisonError::into_inner);
                text.heads = number;
                let _ = lease.store.overwrite(FILE, &text.bytes());
            }
        }
    }

    /// Fails once another process may have taken the lease.
    pub(super) fn check(&self) -> Result<(), StateError> {
        match self {
            Self::Lock(_) => Ok(()),
            Self::Renewed(renewed) => renewed.check(),
            #[cfg(test)]
            Self::Memory(..) => Ok(()),
        }
    }
}

/// A lock on a state in memory, and the content of its file.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct MemoryLease {
    store: MemoryStore,
    text: Mutex<LeaseJson>,
    _lock: MemoryLock,
}

/// A lock on an open file, and the file's content.
#[derive(Debug)]
pub(super) struct LockedFile {
    file: File,
    text: Mutex<LeaseJson>,
}

impl LockedFile {
    fn write(&self, shape: &LeaseJson) -> std::io::Result<()> {
        let mut file = &self.file;
        file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(&shape.bytes()))
    }
}

/// The number of the newest `heads` file that the lease records.
pub(super) fn heads_of(store: &Store) -> Result<u64, StateError> {
    let text = store.read(FILE)?.unwrap_or_default();
    Ok(LeaseJson::read(&text).map_or(0, |shape| shape.heads))
}

impl Lease {
    /// How long it is certain that no other process writes. `None`: as long as this process lives.
    pub(super) fn remaining(&self) -> Option<Duration> {
        match self {
            Self::Lock(_) => None,
            Self::Renewed(renewed) => Some(renewed.remaining()),
            #[cfg(test)]
            Self::Memory(..) => None,
        }
    }
}

/// Returns the current holder.
pub(super) fn current_holder(store: &Store, now: Timestamp) -> Result<Option<Holder>, StateError> {
    let text = store.read(FILE)?.unwrap_or_default();
    let Ok(shape) = LeaseJson::read(&text) else { return Ok(None) };
    match store {
        Store::Folder(folder) => {
            let held = match File::open(folder.at(FILE)) {
                Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
                Err(_) => false,
            };
            Ok(shape.holder().filter(|_| held))
        }
        Store::Bucket(_) => {
            let is_valid = |holder: &Holder| {
                holder
                    .renewal
                    .is_none_or(|(_, until)| until.checked_add(CLOCK_SLACK).is_ok_and(|late| now < late))
            };
            let released = shape.released;
            Ok(shape.holder().filter(|holder| !released && is_valid(holder)))
        }
        #[cfg(test)]
        Store::Memory(memory) => Ok(shape.holder().filter(|_| memory.is_locked())),
    }
}

/// Whether the file is intact.
pub(super) fn is_whole(store: &Store) -> Result<bool, StateError> {
    Ok(store.read(FILE)?.is_some_and(|text| LeaseJson::read(&text).is_ok()))
}

fn lock(folder: &FolderStore, holder: &Holder) -> Result<LockedFile, StateError> {
    let path = folder.at(FILE);
    let failed = |action, e| StateError::Store(StoreError::new(action, &path, e));
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    private(&mut options);
    let mut file = options.open(&path).map_err(|e| failed("open", e))?;
    let mut retry = Retry::new(LOCK_RETRY);
    while let Err(error) = file.try_lock() {
        if let TryLockError::Error(e) = error {
            return Err(failed("lock", e));
        }
        let Some(wait) = retry.next_wait() else {
            let mut text = Vec::new();
            let _ = file.read_to_end(&mut text);
            let shape = LeaseJson::read(&text).ok();
            return Err(StateError::Held(shape.and_then(LeaseJson::holder).unwrap_or_else(unknown)));
        };
        std::thread::sleep(wait);
    }
    let mut before = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut before)).map_err(|e| failed("read", e))?;
    let heads = LeaseJson::read(&before).map_or(0, |shape| shape.heads);
    let text = LeaseJson { heads, ..LeaseJson::new(holder) };
    let lock = LockedFile { file, text: Mutex::new(text.clone()) };
    lock.write(&text).map_err(|e| failed("write", e))?;
    Ok(lock)
}

fn unknown() -> Holder {
    Holder { host: "this machine".to_owned(), process: 0, since: Timestamp::UNIX_EPOCH, renewal: None }
}

/// Whether the holder may still be alive, by the store's clock alone.
fn is_alive(bucket: &BucketStore, shape: &LeaseJson, written: Option<Timestamp>) -> Result<bool, StateError> {
    let Some(written) = written.filter(|_| !shape.released) else { return Ok(!shape.released) };
    let age = Duration::try_from(bucket.time()?.duration_since(written)).unwrap_or(Duration::ZERO);
    Ok(age <= Duration::from_millis(shape.lasts_ms) + TICK)
}

/// A lease in a bucket that a background thread renews.
#[derive(Debug)]
pub(super) struct RenewedLease {
    bucket: BucketStore,
    clock: Clock,
    shared: Arc<LeaseShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct LeaseShared {
    now: Mutex<LeaseState>,
    wake: Condvar,
}

#[derive(Debug)]
struct LeaseState {
    shape: LeaseJson,
    tag: ObjectTag,
    /// Until when the lease is certainly ours. Both clocks count: the monotonic clock stops while the machine sleeps, and
    /// the wall clock may be set.
    valid_until: (Instant, Timestamp),
    /// Another process has taken it.
    lost: bool,
    stop: bool,
}

impl RenewedLease {
    fn take(
        bucket: &BucketStore,
        holder: &Holder,
        lasts: Duration,
        clock: Clock,
    ) -> Result<Self, StateError> {
        let mut shape = LeaseJson::new(holder);
        shape.lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        for _ in 0..TAKES_MAX {
            let (began, now) = (clock.monotonic(), clock.now());
            shape.renewed = Some(timestamp_text(now));
            let tag = match bucket.read(FILE)? {
                None => {
                    shape.epoch = 1;
                    let bytes = shape.bytes();
                    bucket.put_new(FILE, &bytes)?;
                    bucket.read(FILE)?.filter(|(found, _)| *found == bytes).map(|(_, tag)| tag)
                }
                Some((bytes, tag)) => {
                    let path = bucket.at(FILE);
                    let damaged = |problem| StateError::Damaged { path, problem };
                    let other = LeaseJson::read(&bytes).map_err(damaged)?;
                    if is_alive(bucket, &other, tag.written)? {
                        return Err(StateError::Held(other.holder().unwrap_or_else(unknown)));
                    }
                    (shape.epoch, shape.heads) = (other.epoch + 1, other.heads);
                    bucket.replace(FILE, &shape.bytes(), &tag)?
                }
            };
            if let Some(tag) = tag {
                let valid_until = valid_until(began, now, lasts);
                let now = LeaseState { shape, tag, valid_until, lost: false, stop: false };
                return Ok(Self::start(bucket.clone(), clock, now, lasts));
            }
        }
        Err(StateError::Held(unknown())) // other processes took it repeatedly
    }

    fn start(bucket: BucketStore, clock: Clock, now: LeaseState, lasts: Duration) -> Self {
        let shared = Arc::new(LeaseShared { now: Mutex::new(now), wake: Condvar::new() });
        let (at, ours) = (bucket.clone(), Arc::clone(&shared));
        #[cfg(test)]
        if crate::blocking::is_single_threaded() {
            #[allow(
                clippy::disallowed_methods,
                reason = "it ends with the runtime of the simulated process"
            )]
            tokio::spawn(renew_in_task(at, clock, ours, lasts));
            return Self { bucket, clock, shared, thread: None };
        }
        let thread = std::thread::spawn(move || renew_periodically(&at, clock, &ours, lasts));
        Self { bucket, clock, shared, thread: Some(thread) }
    }

    fn remaining(&self) -> Duration {
        let now = self.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (instant, time) = now.valid_until;
        let by_clock = Duration::try_from(time.duration_since(self.clock.now())).unwrap_or(Duration::ZERO);
        let left = instant.saturating_duration_since(self.clock.monotonic()).min(by_clock);
        if now.lost { Duration::ZERO } else { left }
    }

    fn check(&self) -> Result<(), StateError> {
        let now = self.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (instant, time) = now.valid_until;
        if now.lost || self.clock.monotonic() >= instant || self.clock.now() >= time {
            return Err(StateError::LeaseLost);
        }
        Ok(())
    }
}

#[cfg(test)]
mod holder_tests {
    use super::*;

    #[test]
    fn a_process_is_identified_by_host_id_and_start() {
        let since = Timestamp::UNIX_EPOCH;
        let first = Holder { host: "pod".to_owned(), process: 1, since, renewal: None };
        let renewal = Holder { renewal: Some((since, since)), ..first.clone() };
        assert!(first.is_same_process(&renewal));
        let later = since.checked_add(Duration::from_secs(1)).unwrap();
        for other in
            [Holder { since: later, ..first.clone() }, Holder { host: "other".to_owned(), ..first.clone() }]
        {
            assert!(!first.is_same_process(&other));
        }
    }
}

/// The end of our validity, shortly before other processes may take the lease.
fn valid_until(began: Instant, now: Timestamp, lasts: Duration) -> (Instant, Timestamp) {
    let validity = lasts - lasts / 6;
    (began + validity, now.checked_add(validity).unwrap_or(now))
}

/// Renews the lease until it is stopped or lost.
fn renew_periodically(bucket: &BucketStore, clock: Clock, shared: &LeaseShared, lasts: Duration) {
    let mut pause = lasts / RENEWALS;
    loop {
        let now = shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.stop || now.lost {
            return;
        }
        let (now, _) = shared.wake.wait_timeout(now, pause).unwrap_or_else(PoisonError::into_inner);
        if now.stop {
            return;
        }
        drop(now);
        pause = shared.renew(bucket, clock, lasts);
    }
}

/// As [`renew_periodically`], as a task of a runtime with one thread.
#[cfg(test)]
async fn renew_in_task(bucket: BucketStore, clock: Clock, shared: Arc<LeaseShared>, lasts: Duration) {
    let mut pause = lasts / RENEWALS;
    loop {
        tokio::time::sleep(pause).await;
        let now = shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.stop || now.lost {
            return;
        }
        drop(now);
        pause = shared.renew(&bucket, clock, lasts);
    }
}

impl LeaseShared {
    /// Renews the lease once. Returns the pause before the next renewal.
    fn renew(&self, bucket: &BucketStore, clock: Clock, lasts: Duration) -> Duration {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, time) = (clock.monotonic(), clock.now());
        now.shape.renewed = Some(timestamp_text(time));
        let (bytes, tag, id) = (now.shape.bytes(), now.tag.clone(), now.shape.id.clone());
        drop(now);
        let renewed = renew(bucket, &bytes, &tag, &id, lasts / RENEWAL_LIMIT);
        now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        match renewed {
            Ok(LeaseRenewal::Renewed(tag)) => {
                (now.tag, now.valid_until) = (tag, valid_until(began, time, lasts));
                lasts / RENEWALS
            }
            Ok(LeaseRenewal::WasRenewed(tag)) => {
                now.tag = tag;
                Duration::ZERO
            }
            Ok(LeaseRenewal::Lost) => {
                now.lost = true;
                Duration::ZERO
            }
            Err(error) => {
                tracing::warn!("the lease on the state is not renewed yet: {error}");
                lasts / RETRY_PAUSE
            }
        }
    }
}

/// The result of a renewal.
enum LeaseRenewal {
    Renewed(ObjectTag),
    /// An earlier renewal succeeded, and its answer was lost.
    WasRenewed(ObjectTag),
    /// Another process has taken the lease.
    Lost,
}

fn renew(
    bucket: &BucketStore,
    bytes: &[u8],
    tag: &ObjectTag,
    id: &str,
    limit: Duration,
) -> Result<LeaseRenewal, StoreError> {
    if let Some(tag) = bucket.replace_within(limit, FILE, bytes, tag)? {
        return Ok(LeaseRenewal::Renewed(tag));
    }
    let Some((bytes, tag)) = bucket.read(FILE)? else { return Ok(LeaseRenewal::Lost) };
    let is_ours = LeaseJson::read(&bytes).is_ok_and(|shape| shape.id == id);
    Ok(if is_ours { LeaseRenewal::WasRenewed(tag) } else { LeaseRenewal::Lost })
}

impl Drop for RenewedLease {
    fn drop(&mut self) {
        self.shared.now.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let mut now = self.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        if !now.lost {
            now.shape.released = true;
            // If this fails, the lease expires by itself.
            let _ = self.bucket.replace_within(RELEASE_LIMIT, FILE, &now.shape.bytes(), &now.tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_process_gets_an_error_that_names_the_holder() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let holder = |process| Holder {
            host: "ci-7".to_owned(),
            process,
            since: Timestamp::UNIX_EPOCH,
            renewal: None,
        };
        let take = |process| Lease::take(&store, &holder(process), Duration::ZERO, clock);
        let first = take(41).unwrap();
        assert_eq!(current_holder(&store, Timestamp::UNIX_EPOCH).unwrap(), Some(holder(41)));
        match take(42) {
            Err(StateError::Held(other)) => assert_eq!(other, holder(41)),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert_eq!(current_holder(&store, Timestamp::UNIX_EPOCH).unwrap(), None);
        take(42).unwrap();
    }
}
