//! Who holds the state: one process at a time.
//!
//! In a folder it is a lock on `lease.json` that the system lets go of when its holder dies; the file's text
//! only says who that is. In a bucket it is the text itself: renewed again and again by its holder, changed only
//! by conditional put, and open to whoever comes once it is not renewed any more. A holder that was away for
//! too long finds that out by its own clock, before it sends or commits anything, and by the store, which does
//! not take a renewal of what somebody else has replaced. Clocks of two machines are never compared: how old a
//! lease is, the store's own clock tells.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::store::{BucketStore, FolderStore, Store, StoreError, Tag, private};
use super::{StateError, checked};
use crate::model::{Clock, Timestamp, timestamp_text};

const FILE: &str = "lease.json";
/// How often somebody who only looks may be in the way, and for how long.
const LOOKS: u32 = 4;
const LOOK: Duration = Duration::from_millis(25);
/// Renewals in the time that a lease lasts.
const BEATS: u32 = 3;
/// Longest time that one renewal may take, and that is waited after one that failed, as parts of the lease.
const BEAT_LIMIT: u32 = 6;
const BEAT_AGAIN: u32 = 12;
/// A store's clock is told in whole seconds.
const TICK: Duration = Duration::from_secs(1);
/// How long whoever only looks believes in a holder that is not heard of, by a clock that may be wrong.
const LOOK_SLACK: Duration = Duration::from_secs(60);
/// Longest time that letting go may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// A process that holds a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The machine.
    pub host: String,
    /// The process on it.
    pub process: u32,
    /// Since when.
    pub since: Timestamp,
    /// When it was last heard of, and until when it keeps the state without being heard of; in a bucket.
    pub heard: Option<(Timestamp, Timestamp)>,
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
        let Some((seen, until)) = self.heard else { return Ok(()) };
        write!(f, ", last heard of at {}; it is free at {}", timestamp_text(seen), timestamp_text(until))?;
        f.write_str(" if it is not heard of again")
    }
}

/// The file, letter by letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LeaseJson {
    format: u64,
    host: String,
    process: u32,
    since: String,
    /// The rest is for buckets. Counts the holders.
    #[serde(default)]
    epoch: u64,
    /// Tells this holder from any other.
    #[serde(default)]
    id: String,
    #[serde(default)]
    renewed: Option<String>,
    #[serde(default)]
    lasts_ms: u64,
    #[serde(default)]
    released: bool,
    /// The number of the newest `heads` file.
    #[serde(default)]
    heads: u64,
}

impl LeaseJson {
    fn new(holder: &Holder) -> Self {
        Self {
            format: super::format::KNOWN,
            host: holder.host.clone(),
            process: holder.process,
            since: timestamp_text(holder.since),
            epoch: 0,
            id: uuid::Uuid::new_v4().to_string(),
            renewed: None,
            lasts_ms: 0,
            released: false,
            heads: 0,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        checked::seal(FILE, &serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads the file's text.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        if !checked::is_whole(FILE, bytes) {
            return Err("its checksum does not match: it was changed or cut off".to_owned());
        }
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }

    fn holder(self) -> Option<Holder> {
        let renewed = self.renewed.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        let heard =
            renewed.and_then(|at| Some((at, at.checked_add(Duration::from_millis(self.lasts_ms)).ok()?)));
        Some(Holder { host: self.host, process: self.process, since: self.since.parse().ok()?, heard })
    }
}

/// The right to write. Dropped, it is free.
#[derive(Debug)]
pub(super) enum Lease {
    /// The lock is the open file.
    Lock(Lock),
    /// Renewed in a bucket.
    Renewed(Renewed),
}

impl Lease {
    /// Takes the state; `lasts` is how long a lease in a bucket is good without being renewed.
    pub(super) fn take(
        store: &Store,
        holder: &Holder,
        lasts: Duration,
        clock: Clock,
    ) -> Result<Self, StateError> {
        match store {
            Store::Folder(folder) => lock(folder, holder).map(Self::Lock),
            Store::Bucket(bucket) => Renewed::take(bucket, holder, lasts, clock).map(Self::Renewed),
        }
    }

    /// Notes the number of the newest `heads` file. In a bucket it is written when the lease is renewed or released.
    pub(super) fn note_heads(&self, number: u64) {
        match self {
            Self::Lock(lock) => {
                let mut text = lock.text.lock().unwrap_or_else(PoisonError::into_inner);
                text.heads = number;
                // If this fails, the `heads` file and the journal still know.
                let _ = lock.write(&text);
            }
            Self::Renewed(renewed) => {
                let mut now = renewed.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
                now.shape.heads = number;
            }
        }
    }

    /// Fails once it is not certain any more that nobody else writes.
    pub(super) fn check(&self) -> Result<(), StateError> {
        match self {
            Self::Lock(_) => Ok(()),
            Self::Renewed(renewed) => renewed.check(),
        }
    }
}

/// A lock on an open file, and its text.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    text: Mutex<LeaseJson>,
}

impl Lock {
    fn write(&self, shape: &LeaseJson) -> std::io::Result<()> {
        let mut file = &self.file;
        file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(&shape.bytes()))
    }
}

/// The number of the newest `heads` file, as far as the lease knows it.
pub(super) fn heads_of(store: &Store) -> Result<u64, StateError> {
    let text = store.read(FILE)?.unwrap_or_default();
    Ok(LeaseJson::read(&text).map_or(0, |shape| shape.heads))
}

impl Lease {
    /// How long it is certain that no other process writes. None: as long as this process lives.
    pub(super) fn left(&self) -> Option<Duration> {
        match self {
            Self::Lock(_) => None,
            Self::Renewed(renewed) => Some(renewed.left()),
        }
    }
}

/// Who holds the state now, if anybody does.
pub(super) fn look(store: &Store, now: Timestamp) -> Result<Option<Holder>, StateError> {
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
            let is_heard = |holder: &Holder| {
                holder
                    .heard
                    .is_none_or(|(_, until)| until.checked_add(LOOK_SLACK).is_ok_and(|late| now < late))
            };
            let released = shape.released;
            Ok(shape.holder().filter(|holder| !released && is_heard(holder)))
        }
    }
}

/// Whether the file's text is what was written.
pub(super) fn is_whole(store: &Store) -> Result<bool, StateError> {
    Ok(store.read(FILE)?.is_some_and(|text| LeaseJson::read(&text).is_ok()))
}

fn lock(folder: &FolderStore, holder: &Holder) -> Result<Lock, StateError> {
    let path = folder.at(FILE);
    let failed = |action, e| StateError::Store(StoreError::new(action, &path, e));
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    private(&mut options);
    let mut file = options.open(&path).map_err(|e| failed("open", e))?;
    for look in 0.. {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if look < LOOKS => std::thread::sleep(LOOK),
            Err(TryLockError::WouldBlock) => {
                let mut text = Vec::new();
                let _ = file.read_to_end(&mut text);
                let shape = LeaseJson::read(&text).ok();
                return Err(StateError::Held(shape.and_then(LeaseJson::holder).unwrap_or_else(unknown)));
            }
            Err(TryLockError::Error(e)) => return Err(failed("lock", e)),
        }
    }
    let mut before = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut before)).map_err(|e| failed("read", e))?;
    let heads = LeaseJson::read(&before).map_or(0, |shape| shape.heads);
    let text = LeaseJson { heads, ..LeaseJson::new(holder) };
    let lock = Lock { file, text: Mutex::new(text.clone()) };
    lock.write(&text).map_err(|e| failed("write", e))?;
    Ok(lock)
}

fn unknown() -> Holder {
    Holder { host: "this machine".to_owned(), process: 0, since: Timestamp::UNIX_EPOCH, heard: None }
}

/// Whether whoever wrote the lease may still be at work: by the store's clock alone.
fn is_alive(bucket: &BucketStore, shape: &LeaseJson, written: Option<Timestamp>) -> Result<bool, StateError> {
    let Some(written) = written.filter(|_| !shape.released) else { return Ok(!shape.released) };
    let age = Duration::try_from(bucket.time()?.duration_since(written)).unwrap_or(Duration::ZERO);
    Ok(age <= Duration::from_millis(shape.lasts_ms) + TICK)
}

/// A lease in a bucket, renewed by a thread of its own.
#[derive(Debug)]
pub(super) struct Renewed {
    bucket: BucketStore,
    clock: Clock,
    shared: Arc<LeaseShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct LeaseShared {
    now: Mutex<Now>,
    wake: Condvar,
}

#[derive(Debug)]
struct Now {
    shape: LeaseJson,
    tag: Tag,
    /// Until when nobody else can have taken it, by both of our clocks: one of them stands still while the
    /// machine sleeps, the other may be set.
    good_until: (Instant, Timestamp),
    /// Somebody has taken it.
    lost: bool,
    stop: bool,
}

impl Renewed {
    fn take(
        bucket: &BucketStore,
        holder: &Holder,
        lasts: Duration,
        clock: Clock,
    ) -> Result<Self, StateError> {
        let mut shape = LeaseJson::new(holder);
        shape.lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        for _ in 0..LOOKS {
            let (began, now) = (Instant::now(), clock.now());
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
                    let damaged = |what| StateError::Damaged { path, what };
                    let other = LeaseJson::read(&bytes).map_err(damaged)?;
                    if is_alive(bucket, &other, tag.written)? {
                        return Err(StateError::Held(other.holder().unwrap_or_else(unknown)));
                    }
                    (shape.epoch, shape.heads) = (other.epoch + 1, other.heads);
                    bucket.replace(FILE, &shape.bytes(), &tag)?
                }
            };
            if let Some(tag) = tag {
                let good_until = good_until(began, now, lasts);
                let now = Now { shape, tag, good_until, lost: false, stop: false };
                return Ok(Self::start(bucket.clone(), clock, now, lasts));
            }
        }
        Err(StateError::Held(unknown())) // others took it again and again while we tried
    }

    fn start(bucket: BucketStore, clock: Clock, now: Now, lasts: Duration) -> Self {
        let shared = Arc::new(LeaseShared { now: Mutex::new(now), wake: Condvar::new() });
        let (at, ours) = (bucket.clone(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || beat(&at, clock, &ours, lasts));
        Self { bucket, clock, shared, thread: Some(thread) }
    }

    fn left(&self) -> Duration {
        let now = self.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (instant, time) = now.good_until;
        let by_clock = Duration::try_from(time.duration_since(self.clock.now())).unwrap_or(Duration::ZERO);
        let left = instant.saturating_duration_since(Instant::now()).min(by_clock);
        if now.lost { Duration::ZERO } else { left }
    }

    fn check(&self) -> Result<(), StateError> {
        let now = self.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (instant, time) = now.good_until;
        if now.lost || Instant::now() >= instant || self.clock.now() >= time {
            return Err(StateError::Lost);
        }
        Ok(())
    }
}

#[cfg(test)]
mod left_tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let since = Timestamp::UNIX_EPOCH;
        let first = Holder { host: "pod".to_owned(), process: 1, since, heard: None };
        let heard = Holder { heard: Some((since, since)), ..first.clone() };
        assert!(first.is_same_process(&heard));
        let later = since.checked_add(Duration::from_secs(1)).unwrap();
        for other in
            [Holder { since: later, ..first.clone() }, Holder { host: "other".to_owned(), ..first.clone() }]
        {
            assert!(!first.is_same_process(&other));
        }
    }
}

/// A little earlier than others may take it.
fn good_until(began: Instant, now: Timestamp, lasts: Duration) -> (Instant, Timestamp) {
    let good = lasts - lasts / 6;
    (began + good, now.checked_add(good).unwrap_or(now))
}

/// Renews the lease until it is to stop, or somebody else has it.
fn beat(bucket: &BucketStore, clock: Clock, shared: &LeaseShared, lasts: Duration) {
    let mut now = shared.now.lock().unwrap_or_else(PoisonError::into_inner);
    let (id, mut pause) = (now.shape.id.clone(), lasts / BEATS);
    while !now.stop && !now.lost {
        let waited = shared.wake.wait_timeout(now, pause).unwrap_or_else(PoisonError::into_inner);
        now = waited.0;
        if now.stop {
            return;
        }
        let (began, time) = (Instant::now(), clock.now());
        now.shape.renewed = Some(timestamp_text(time));
        let (bytes, tag) = (now.shape.bytes(), now.tag.clone());
        drop(now);
        let renewed = renew(bucket, &bytes, &tag, &id, lasts / BEAT_LIMIT);
        now = shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        pause = lasts / BEATS;
        match renewed {
            Ok(LeaseRenewal::Renewed(tag)) => {
                (now.tag, now.good_until) = (tag, good_until(began, time, lasts))
            }
            Ok(LeaseRenewal::WasRenewed(tag)) => (now.tag, pause) = (tag, Duration::ZERO),
            Ok(LeaseRenewal::Lost) => now.lost = true,
            Err(error) => {
                tracing::warn!("the lease on the state is not renewed yet: {error}");
                pause = lasts / BEAT_AGAIN;
            }
        }
    }
}

/// What became of a renewal.
enum LeaseRenewal {
    Renewed(Tag),
    /// An earlier one was done after all, and its answer was lost.
    WasRenewed(Tag),
    /// Somebody else has it.
    Lost,
}

fn renew(
    bucket: &BucketStore,
    bytes: &[u8],
    tag: &Tag,
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

impl Drop for Renewed {
    fn drop(&mut self) {
        self.shared.now.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let mut now = self.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        if !now.lost {
            now.shape.released = true;
            // If this fails, the lease runs out by itself.
            let _ = self.bucket.replace_within(RELEASE_LIMIT, FILE, &now.shape.bytes(), &now.tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_the_second_learns_its_name() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let holder =
            |process| Holder { host: "ci-7".to_owned(), process, since: Timestamp::UNIX_EPOCH, heard: None };
        let take = |process| Lease::take(&store, &holder(process), Duration::ZERO, clock);
        let first = take(41).unwrap();
        assert_eq!(look(&store, Timestamp::UNIX_EPOCH).unwrap(), Some(holder(41)));
        match take(42) {
            Err(StateError::Held(who)) => assert_eq!(who, holder(41)),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert_eq!(look(&store, Timestamp::UNIX_EPOCH).unwrap(), None);
        take(42).unwrap();
    }
}
