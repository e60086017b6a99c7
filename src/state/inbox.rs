//! What a door has received and nobody has used yet: appended to a file, on disk before the sender is told so.
//!
//! ```text
//! inbox/<door>/<began>-<random>.log    one delivery after the other
//! ```
//!
//! A delivery is its length (4 bytes, little end first), the XXH3-64 of the rest (8), when it was received
//! (8, milliseconds), the door's stamp (8), and its body. A file that was not closed may end in the middle of
//! one: nobody was told that it is safe.
//!
//! Many deliveries are put on disk at once, by a thread of their own: whoever comes while the disk is busy
//! is in the next batch. Nothing here knows what a delivery means.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::xxh3_64;

use super::store::{Growing, Store};
use super::{StateError, StateReader, StateWriter};
use crate::model::{Clock, DoorName, Timestamp};

/// Bytes before a body.
const HEAD_LEN: usize = 4 + 8 + 8 + 8;
/// A file is closed when it has grown to this.
const FILE_LEN: u64 = 16 << 20;
/// Bytes that are put on disk at once.
const BATCH_LEN: usize = 8 << 20;
/// Deliveries that may wait for the disk.
const WAITING_MAX: usize = 4096;

/// Something that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When.
    pub received: Timestamp,
    /// A number of the door's own: of Heap's webhook, the milliseconds that it is signed for.
    pub stamp: i64,
    /// The bytes.
    pub body: Vec<u8>,
}

/// Why a delivery was not kept.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// There are as many as there may be.
    #[error("the inbox is full")]
    Full,
    /// The disk or the bucket did not take it, or the state is somebody else's by now.
    #[error("{0}")]
    State(Arc<StateError>),
    /// The inbox is closed: the process is about to end.
    #[error("the inbox is closed")]
    Closed,
}

/// How much all inboxes may hold, and do.
#[derive(Clone, Debug)]
pub struct Room {
    held: Arc<AtomicU64>,
    len_max: u64,
}

impl Room {
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

    fn is_full(&self, more: u64) -> bool {
        self.held() + more > self.len_max
    }

    fn take(&self, bytes: u64) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give(&self, bytes: u64) {
        let less = |held: u64| Some(held.saturating_sub(bytes));
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// A file of an inbox that nobody appends to any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedFile {
    /// Its path in the state.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
}

enum Order {
    Keep(Delivery, oneshot::Sender<Result<(), InboxError>>),
    Close(oneshot::Sender<Result<Vec<ClosedFile>, InboxError>>),
}

/// The inbox of one door, to put things into. Dropped, it is closed.
#[derive(Debug)]
pub struct Inbox {
    orders: Option<mpsc::Sender<Order>>,
    room: Room,
    thread: Option<JoinHandle<()>>,
}

impl Inbox {
    /// Opens a door's inbox. What earlier processes have left in it is there.
    ///
    /// # Errors
    /// When it cannot be listed, or there can be no thread.
    pub fn open(
        state: &Arc<StateWriter>,
        door: &DoorName,
        room: Room,
        clock: Clock,
    ) -> Result<Self, StateError> {
        let closed = files(&state.reader().store, door)?;
        room.take(closed.iter().map(|file| file.bytes).sum());
        let (orders, incoming) = mpsc::channel(WAITING_MAX);
        let folder = folder_of(door);
        let writer = Writer { state: Arc::clone(state), folder, clock, open: None, closed };
        let thread = std::thread::Builder::new().name(format!("inbox {door}"));
        let thread = thread.spawn(move || writer.run(incoming))?;
        Ok(Self { orders: Some(orders), room, thread: Some(thread) })
    }

    /// Keeps a delivery. It is on disk once this returns.
    ///
    /// # Errors
    /// [`InboxError`]; then it may or may not be there.
    pub async fn keep(&self, delivery: Delivery) -> Result<(), InboxError> {
        let bytes = (HEAD_LEN + delivery.body.len()) as u64;
        if self.room.is_full(bytes) {
            return Err(InboxError::Full);
        }
        let (tell, told) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or(InboxError::Closed)?;
        match orders.try_send(Order::Keep(delivery, tell)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(InboxError::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(InboxError::Closed),
        }
        told.await.unwrap_or(Err(InboxError::Closed))?;
        self.room.take(bytes);
        Ok(())
    }

    /// Closes the file that is being written to, and names all that are closed: they can be used.
    ///
    /// # Errors
    /// [`InboxError`] when the inbox is closed.
    pub async fn close_file(&self) -> Result<Vec<ClosedFile>, InboxError> {
        let (tell, told) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or(InboxError::Closed)?;
        orders.send(Order::Close(tell)).await.map_err(|_| InboxError::Closed)?;
        told.await.unwrap_or(Err(InboxError::Closed))
    }

    /// Files were used and removed.
    pub fn used(&self, files: &[ClosedFile]) {
        self.room.give(files.iter().map(|file| file.bytes).sum());
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

/// Does what is ordered, one batch after the other.
struct Writer {
    state: Arc<StateWriter>,
    folder: String,
    clock: Clock,
    open: Option<OpenFile>,
    /// Files that may be there still; those that were used are taken out when the next are named.
    closed: Vec<ClosedFile>,
}

struct OpenFile {
    file: Growing,
    path: String,
    bytes: u64,
}

impl Writer {
    fn run(mut self, mut incoming: mpsc::Receiver<Order>) {
        let mut next = incoming.blocking_recv();
        while let Some(order) = next.take() {
            match order {
                Order::Close(tell) => drop(tell.send(self.closed_files())),
                Order::Keep(delivery, tell) => {
                    let mut batch = Batch::default();
                    batch.add(&delivery, tell);
                    while batch.bytes.len() < BATCH_LEN && next.is_none() {
                        match incoming.try_recv() {
                            Ok(Order::Keep(delivery, tell)) => batch.add(&delivery, tell),
                            Ok(close) => next = Some(close),
                            Err(_) => break,
                        }
                    }
                    let kept = self.keep(&batch.bytes).map_err(Arc::new);
                    for tell in batch.tell {
                        let _ = tell.send(kept.clone().map_err(InboxError::State));
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
        if kept.is_err() || open.bytes >= FILE_LEN {
            // After a failure as well: what follows half of a batch would not be found again.
            self.close();
        }
        Ok(kept?)
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
        self.closed.retain(|file| there.iter().any(|found| belongs(&found.path, &file.path)));
        let is_closed = |found: &ClosedFile| self.closed.iter().any(|file| belongs(&found.path, &file.path));
        Ok(there.into_iter().filter(is_closed).collect())
    }
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    tell: Vec<oneshot::Sender<Result<(), InboxError>>>,
}

impl Batch {
    fn add(&mut self, delivery: &Delivery, tell: oneshot::Sender<Result<(), InboxError>>) {
        delivery.write(&mut self.bytes);
        self.tell.push(tell);
    }
}

impl OpenFile {
    fn create(store: &Store, folder: &str, clock: Clock) -> Result<Self, StateError> {
        let random = uuid::Uuid::new_v4().as_u64_pair().0;
        let path = format!("{folder}/{:013}-{random:016x}.log", clock.now().as_millisecond());
        Ok(Self { file: store.growing(&path)?, path, bytes: 0 })
    }
}

impl Delivery {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let len = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.received.as_millisecond().to_le_bytes());
        out.extend_from_slice(&self.stamp.to_le_bytes());
        out.extend_from_slice(&self.body);
        let hash = xxh3_64(&out[start + 12..]);
        out[start + 4..start + 12].copy_from_slice(&hash.to_le_bytes());
    }

    /// Reads one delivery off the front; none if it is not whole.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let number = |at: usize| Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let end = HEAD_LEN.checked_add(len)?;
        let rest = bytes.get(12..end)?;
        if number(4)?.cast_unsigned() != xxh3_64(rest) {
            return None;
        }
        let received = Timestamp::from_millisecond(number(12)?).ok()?;
        Some((Self { received, stamp: number(20)?, body: bytes[HEAD_LEN..end].to_vec() }, end))
    }
}

fn folder_of(door: &DoorName) -> String {
    format!("inbox/{door}")
}

/// Whether a file is the one, or in a bucket a further part of it.
fn belongs(found: &str, file: &str) -> bool {
    found == file || found.strip_prefix(file.trim_end_matches("log")).is_some()
}

fn files(store: &Store, door: &DoorName) -> Result<Vec<ClosedFile>, StateError> {
    list(store, &folder_of(door))
}

/// The files of a folder, the oldest first, and the parts of one in their order.
fn list(store: &Store, folder: &str) -> Result<Vec<ClosedFile>, StateError> {
    let mut found = store.files(folder)?;
    found.retain(|file| file.name.ends_with(".log"));
    found.sort_by_cached_key(|file| {
        let mut parts = file.name.split('.');
        let began = parts.next().unwrap_or_default().to_owned();
        (began, parts.next().and_then(|part| part.parse::<u32>().ok()).unwrap_or(1))
    });
    let file = |found: super::store::Found| ClosedFile {
        path: format!("{folder}/{}", found.name),
        bytes: found.bytes,
    };
    Ok(found.into_iter().map(file).collect())
}

impl StateReader {
    /// The files of a door's inbox, the oldest first. While another process has the inbox open, it may be
    /// appending to the newest.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn inbox(&self, door: &DoorName) -> Result<Vec<ClosedFile>, StateError> {
        files(&self.store, door)
    }

    /// What is in a file of an inbox, and how many bytes at its end belong to no whole delivery.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn deliveries(&self, file: &ClosedFile) -> Result<(Vec<Delivery>, usize), StateError> {
        let bytes = self.store.read(&file.path)?.unwrap_or_default();
        let (mut deliveries, mut at) = (Vec::new(), 0);
        while let Some((delivery, len)) = Delivery::read(&bytes[at..]) {
            deliveries.push(delivery);
            at += len;
        }
        Ok((deliveries, bytes.len() - at))
    }
}

impl StateWriter {
    /// Removes a file of an inbox whose deliveries have been used.
    ///
    /// # Errors
    /// When it cannot be removed; it will be used once more, which must be harmless.
    pub fn remove_used(&self, file: &ClosedFile) -> Result<(), StateError> {
        self.check_lease()?;
        Ok(self.reader().store.remove(&file.path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(body: &str) -> Delivery {
        let received = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        Delivery { received, stamp: -7, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_delivery_that_was_cut_is_not_there_and_spoils_nothing_before_it() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let reader = StateReader { store: store.clone(), format: None };
        let (mut bytes, all) = (Vec::new(), [delivery("one"), delivery(""), delivery("three")]);
        all.iter().for_each(|delivery| delivery.write(&mut bytes));
        for cut in 0..=bytes.len() {
            let path = format!("inbox/heap/{cut:013}-0.log");
            let mut file = store.growing(&path).unwrap();
            file.append(&bytes[..cut]).unwrap();
            let (found, rest) = reader.deliveries(&ClosedFile { path, bytes: cut as u64 }).unwrap();
            let whole = [HEAD_LEN + 3, HEAD_LEN, HEAD_LEN + 5];
            let mut sum = 0;
            let count = whole
                .iter()
                .take_while(|len| {
                    sum += **len;
                    sum <= cut
                })
                .count();
            assert_eq!(found, all[..count]);
            assert_eq!(rest, cut - whole[..count].iter().sum::<usize>());
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut bytes = Vec::new();
        delivery("body").write(&mut bytes);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Delivery::read(&bad).is_none_or(|(read, _)| read != delivery("body")), "{at}");
        }
    }

    #[test]
    fn parts_of_one_file_come_in_their_order() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        for name in ["2-b.log", "1-a.10.log", "1-a.2.log", "1-a.log", "x.tmp"] {
            store.growing(&format!("inbox/heap/{name}")).unwrap();
        }
        let door = DoorName::of_heap(&crate::model::ConnectionName::new("heap").unwrap());
        let names: Vec<String> = files(&store, &door).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(
            names,
            ["1-a.log", "1-a.2.log", "1-a.10.log", "2-b.log"].map(|n| format!("inbox/heap/{n}"))
        );
        assert!(belongs("inbox/heap/1-a.2.log", "inbox/heap/1-a.log"));
        assert!(!belongs("inbox/heap/1-ab.log", "inbox/heap/1-a.log"));
    }
}
