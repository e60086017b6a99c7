//! The inbox of each endpoint: deliveries on disk before the sender gets its answer, until they are processed.
//!
//! ```text
//! inbox/<endpoint>/<began>-<random>.log    deliveries in order of arrival
//! ```
//!
//! A separate thread writes many deliveries with one sync: those that arrive during a sync form the next batch. The
//! inbox does not interpret deliveries.

mod delivery;
mod quota;

pub use delivery::{Delivery, DeliveryContents};
pub use quota::InboxQuota;

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use delivery::HEAD_LEN;
use quota::QuotaShare;

use super::store::{GrowingFile, Store};
use super::{StateError, StateReader, StateWriter};
use crate::model::{Clock, EndpointName, Timestamp};
use crate::random;

/// A file is closed at this length.
const FILE_LEN: u64 = 4 << 20;
/// Maximum length of a batch that is written with one sync.
const BATCH_LEN: usize = 1 << 20;
/// How many deliveries may wait for the disk.
const WAITING_MAX: usize = 4096;

/// Why a delivery was not stored.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The quota is used up.
    #[error("the inbox is full")]
    Full,
    /// The write failed, or another process holds the state.
    #[error("{0}")]
    State(Arc<StateError>),
    /// The inbox is closed because the process is ending.
    #[error("the inbox is closed")]
    Closed,
}

/// An inbox file that is no longer appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedFile {
    /// Its path in the state.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
}

impl ClosedFile {
    /// When the file began. No delivery in it is older.
    #[must_use]
    pub fn began(&self) -> Option<Timestamp> {
        let (began, _) = self.path.rsplit('/').next()?.split_once('-')?;
        Timestamp::from_millisecond(began.parse().ok()?).ok()
    }
}

enum InboxOrder {
    Keep(Delivery, oneshot::Sender<Result<(), InboxError>>),
    Close(oneshot::Sender<Result<Vec<ClosedFile>, InboxError>>),
}

/// The inbox of one endpoint, for writing. Dropping it closes it.
#[derive(Debug)]
pub struct Inbox {
    orders: Option<mpsc::Sender<InboxOrder>>,
    quota: InboxQuota,
    share: Arc<QuotaShare>,
    thread: Option<JoinHandle<()>>,
}

impl Inbox {
    /// Opens an endpoint's inbox. Files of earlier processes stay in it.
    ///
    /// # Errors
    /// When it cannot be listed, or the thread cannot be started.
    pub fn open(
        state: &Arc<StateWriter>,
        endpoint: &EndpointName,
        quota: InboxQuota,
        clock: Clock,
    ) -> Result<Self, StateError> {
        let closed = files(&state.reader().store, endpoint)?;
        let share = Arc::new(quota.share(bytes_of(&closed)));
        let (orders, incoming) = mpsc::channel(WAITING_MAX);
        let folder = folder_of(endpoint);
        let (state, writes) = (Arc::clone(state), Arc::clone(&share));
        let writer = InboxWriter { state, folder, clock, open: None, closed, share: writes };
        let thread = std::thread::Builder::new().name(format!("inbox {endpoint}"));
        let thread = thread.spawn(move || writer.run(incoming))?;
        Ok(Self { orders: Some(orders), quota, share, thread: Some(thread) })
    }

    /// Stores a delivery. It is on disk when this returns.
    ///
    /// # Errors
    /// [`InboxError`]. Then it may or may not be stored.
    pub async fn keep(&self, delivery: Delivery) -> Result<(), InboxError> {
        let bytes = (HEAD_LEN + delivery.body.len()) as u64;
        if self.quota.is_full(bytes) {
            return Err(InboxError::Full);
        }
        let (reply, answer) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or(InboxError::Closed)?;
        match orders.try_send(InboxOrder::Keep(delivery, reply)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(InboxError::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(InboxError::Closed),
        }
        answer.await.unwrap_or(Err(InboxError::Closed))
    }

    /// Closes the current file, and returns all closed files, which can be processed.
    ///
    /// # Errors
    /// [`InboxError`] when the inbox is closed.
    pub async fn close_file(&self) -> Result<Vec<ClosedFile>, InboxError> {
        let (reply, answer) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or(InboxError::Closed)?;
        orders.send(InboxOrder::Close(reply)).await.map_err(|_| InboxError::Closed)?;
        answer.await.unwrap_or(Err(InboxError::Closed))
    }

    /// Releases the quota of files that were processed and removed.
    pub fn used(&self, files: &[ClosedFile]) {
        self.share.release(bytes_of(files));
    }

    /// Bytes stored in it.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.share.bytes()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The inbox thread: executes orders, one batch after the other.
struct InboxWriter {
    state: Arc<StateWriter>,
    folder: String,
    clock: Clock,
    open: Option<OpenFile>,
    /// Closed files that may still exist. Removed ones are dropped at the next listing.
    closed: Vec<ClosedFile>,
    share: Arc<QuotaShare>,
}

struct OpenFile {
    file: GrowingFile,
    path: String,
    bytes: u64,
}

impl InboxWriter {
    fn run(mut self, mut incoming: mpsc::Receiver<InboxOrder>) {
        let mut next = incoming.blocking_recv();
        while let Some(order) = next.take() {
            match order {
                InboxOrder::Close(reply) => drop(reply.send(self.closed_files())),
                InboxOrder::Keep(delivery, reply) => {
                    let mut batch = FsyncBatch::default();
                    batch.add(&delivery, reply);
                    while batch.bytes.len() < BATCH_LEN && next.is_none() {
                        match incoming.try_recv() {
                            Ok(InboxOrder::Keep(delivery, reply)) => batch.add(&delivery, reply),
                            Ok(close) => next = Some(close),
                            Err(_) => break,
                        }
                    }
                    let kept = self.keep(&batch.bytes).map_err(Arc::new);
                    for reply in batch.replies {
                        let _ = reply.send(kept.clone().map_err(InboxError::State));
                    }
                }
            }
            next = next.or_else(|| incoming.blocking_recv());
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        self.state.check_lease()?;
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(OpenFile::create(&self.state.reader().store, &self.folder, self.clock)?),
        };
        let kept = open.file.append(bytes).and_then(|()| open.file.sync());
        open.bytes += bytes.len() as u64;
        self.share.add(bytes.len() as u64);
        if kept.is_err() || open.bytes >= FILE_LEN {
            // After a failure as well: deliveries after a partial batch could not be found again.
            self.close();
        }
        kept?;
        // A process that took the lease meanwhile has listed the inbox before this delivery was in it.
        self.state.check_lease()
    }

    fn close(&mut self) {
        if let Some(OpenFile { path, bytes, .. }) = self.open.take() {
            self.closed.push(ClosedFile { path, bytes });
        }
    }

    fn closed_files(&mut self) -> Result<Vec<ClosedFile>, InboxError> {
        self.close();
        let store = &self.state.reader().store;
        let there = list(store, &self.folder).map_err(|error| InboxError::State(Arc::new(error)))?;
        self.share.set(bytes_of(&there));
        self.closed.retain(|file| there.iter().any(|found| belongs(&found.path, &file.path)));
        let is_closed = |found: &ClosedFile| self.closed.iter().any(|file| belongs(&found.path, &file.path));
        Ok(there.into_iter().filter(is_closed).collect())
    }
}

#[derive(Default)]
struct FsyncBatch {
    bytes: Vec<u8>,
    replies: Vec<oneshot::Sender<Result<(), InboxError>>>,
}

impl FsyncBatch {
    fn add(&mut self, delivery: &Delivery, reply: oneshot::Sender<Result<(), InboxError>>) {
        delivery.write(&mut self.bytes);
        self.replies.push(reply);
    }
}

impl OpenFile {
    fn create(store: &Store, folder: &str, clock: Clock) -> Result<Self, StateError> {
        let random = random::unique_number();
        let path = format!("{folder}/{:013}-{random:016x}.log", clock.now().as_millisecond());
        Ok(Self { file: store.growing(&path)?, path, bytes: 0 })
    }
}

fn bytes_of(files: &[ClosedFile]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
}

fn folder_of(endpoint: &EndpointName) -> String {
    format!("inbox/{endpoint}")
}

/// Whether a file is `file`, or in a bucket a continuation of it.
fn belongs(found: &str, file: &str) -> bool {
    found == file || found.strip_prefix(file.trim_end_matches("log")).is_some()
}

fn files(store: &Store, endpoint: &EndpointName) -> Result<Vec<ClosedFile>, StateError> {
    list(store, &folder_of(endpoint))
}

/// Lists the files of a folder, oldest first, with continuations in order.
fn list(store: &Store, folder: &str) -> Result<Vec<ClosedFile>, StateError> {
    let mut found = store.files(folder)?;
    found.retain(|file| file.name.ends_with(".log"));
    found.sort_by_cached_key(|file| {
        let mut parts = file.name.split('.');
        let began = parts.next().unwrap_or_default().to_owned();
        (began, parts.next().and_then(|part| part.parse::<u32>().ok()).unwrap_or(1))
    });
    let file = |found: super::store::StoredFile| ClosedFile {
        path: format!("{folder}/{}", found.name),
        bytes: found.bytes,
    };
    Ok(found.into_iter().map(file).collect())
}

impl StateReader {
    /// Lists the files of an endpoint's inbox, oldest first. If another process has the inbox open, it may be appending
    /// to the newest.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn inbox(&self, endpoint: &EndpointName) -> Result<Vec<ClosedFile>, StateError> {
        files(&self.store, endpoint)
    }

    /// Lists the files of all inboxes, by endpoint.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn inboxes(&self) -> Result<Vec<(String, Vec<ClosedFile>)>, StateError> {
        let endpoints = self.store.list("inbox")?;
        let of =
            |endpoint: String| list(&self.store, &format!("inbox/{endpoint}")).map(|files| (endpoint, files));
        endpoints.into_iter().map(of).collect()
    }

    /// Reads the content of an inbox file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn deliveries(&self, file: &ClosedFile) -> Result<DeliveryContents, StateError> {
        Ok(DeliveryContents::read(&self.store.read(&file.path)?.unwrap_or_default()))
    }
}

impl StateWriter {
    /// Removes an inbox file that was processed.
    ///
    /// # Errors
    /// When it cannot be removed. Then it is processed again, which must be harmless.
    pub fn remove_used(&self, file: &ClosedFile) -> Result<(), StateError> {
        self.check_lease()?;
        Ok(self.reader().store.remove(&file.path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConnectionName, Timestamp};

    fn delivery(body: &str) -> Delivery {
        let received = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        Delivery { received, stamp: -7, body: body.as_bytes().to_vec() }
    }

    #[tokio::test]
    async fn the_quota_counts_existing_files_even_after_failures() {
        let home = tempfile::tempdir().unwrap();
        let since = Timestamp::UNIX_EPOCH;
        let holder = super::super::Holder { host: String::new(), process: 1, since, renewal: None };
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let location = super::super::Location::Folder(home.path().to_owned());
        let state = Arc::new(StateWriter::open(&location, &holder, clock, 7).unwrap());
        let (quota, endpoint) =
            (InboxQuota::new(1 << 20), EndpointName::of_heap(&ConnectionName::new("heap").unwrap()));
        let open = || Inbox::open(&state, &endpoint, quota.clone(), clock).unwrap();
        let inbox = open();
        inbox.keep(delivery("body")).await.unwrap();
        let one = (HEAD_LEN + 4) as u64;
        assert_eq!((quota.held(), inbox.held()), (one, one));
        let files = inbox.close_file().await.unwrap();
        // The file was removed, and then the ingest failed, so `used` was not called.
        state.remove_used(&files[0]).unwrap();
        inbox.keep(delivery("body")).await.unwrap();
        assert_eq!(quota.held(), 2 * one);
        let files = inbox.close_file().await.unwrap();
        assert_eq!((files.len(), quota.held()), (1, one));
        // After closing and opening again, it is not counted twice.
        drop(inbox);
        assert_eq!(quota.held(), 0);
        let inbox = open();
        assert_eq!(quota.held(), one);
        let files = inbox.close_file().await.unwrap();
        state.remove_used(&files[0]).unwrap();
        inbox.used(&files);
        inbox.used(&files);
        assert_eq!((quota.held(), inbox.held()), (0, 0));
    }

    #[test]
    fn continuations_of_a_file_are_in_order() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        for name in ["2-b.log", "1-a.10.log", "1-a.2.log", "1-a.log", "x.tmp"] {
            store.growing(&format!("inbox/heap/{name}")).unwrap();
        }
        let endpoint = EndpointName::of_heap(&ConnectionName::new("heap").unwrap());
        let names: Vec<String> =
            files(&store, &endpoint).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(
            names,
            ["1-a.log", "1-a.2.log", "1-a.10.log", "2-b.log"].map(|n| format!("inbox/heap/{n}"))
        );
        assert!(belongs("inbox/heap/1-a.2.log", "inbox/heap/1-a.log"));
        assert!(!belongs("inbox/heap/1-ab.log", "inbox/heap/1-a.log"));
    }
}
