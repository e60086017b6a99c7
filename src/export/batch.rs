//! Batches for Heap: the body of one request, and the origin of each of its elements.

use std::ops::Range;

use bytes::Bytes;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use crate::blocking;
use crate::connector::heap::{BODY_END, HeapCall, HeapClient, UserKey};
use crate::event_mapping::{EventKind, EventUser};

/// Where an event came from. The origin is settled once Heap has the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchOrigin {
    /// A block of the input, by its number.
    Block(u64),
    /// A row of a file of held events. `list` is the file's position in the export's progress.
    Waiting {
        list: usize,
        row: u64,
        /// Whether the event waits for its user to be identified; otherwise it waits for Heap's limit.
        is_unidentified: bool,
    },
    /// A row of a file of rejects that are replayed.
    Reject { list: usize, row: u64 },
}

/// One element of a batch's body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchItem {
    start: u32,
    end: u32,
    /// The user that the element counts for in Heap's limits.
    pub(super) user: UserKey,
    pub(super) origin: BatchOrigin,
}

/// The finished body of a request with its elements.
#[derive(Clone, Debug)]
pub(super) struct EventBatch {
    pub(super) call: HeapCall,
    body: Bytes,
    opening_len: usize,
    pub(super) items: Vec<BatchItem>,
}

impl EventBatch {
    /// The body with all elements.
    pub(super) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// A body with the elements in `range`.
    pub(super) fn body_of(&self, range: Range<usize>) -> Bytes {
        let (Some(first), Some(last)) = (self.items.get(range.start), self.items.get(range.end - 1)) else {
            return Bytes::new();
        };
        let elements = &self.body[first.start as usize..last.end as usize];
        [&self.body[..self.opening_len], elements, BODY_END].concat().into()
    }

    /// The JSON of one element.
    pub(super) fn element(&self, at: usize) -> &[u8] {
        let item = &self.items[at];
        &self.body[item.start as usize..item.end as usize]
    }

    /// A batch of the elements that `pick` selects, or `None` if it selects none.
    pub(super) fn only(&self, pick: impl Fn(usize) -> bool) -> Option<Self> {
        let mut filling = OpenBatch::new(self.call, &self.body[..self.opening_len], self.body.len());
        for at in (0..self.items.len()).filter(|at| pick(*at)) {
            filling.begin();
            filling.body.extend_from_slice(self.element(at));
            filling.end(self.items[at].user, self.items[at].origin);
        }
        (!filling.items.is_empty()).then(|| filling.seal())
    }
}

/// A batch that still takes elements.
#[derive(Debug)]
struct OpenBatch {
    call: HeapCall,
    opening_len: usize,
    body: Vec<u8>,
    items: Vec<BatchItem>,
    /// The body's length before the element that is being written.
    before: usize,
}

impl OpenBatch {
    fn new(call: HeapCall, opening: &[u8], capacity: usize) -> Self {
        let mut body = Vec::with_capacity(capacity);
        body.extend_from_slice(opening);
        Self { call, opening_len: opening.len(), before: body.len(), body, items: Vec::new() }
    }

    fn begin(&mut self) {
        self.before = self.body.len();
        if !self.items.is_empty() {
            self.body.push(b',');
        }
    }

    fn start(&self) -> usize {
        self.before + usize::from(!self.items.is_empty())
    }

    fn cancel(&mut self) {
        self.body.truncate(self.before);
    }

    fn end(&mut self, user: UserKey, origin: BatchOrigin) {
        let to_u32 = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let (start, end) = (to_u32(self.start()), to_u32(self.body.len()));
        self.items.push(BatchItem { start, end, user, origin });
    }

    fn seal(mut self) -> EventBatch {
        self.body.extend_from_slice(BODY_END);
        EventBatch {
            call: self.call,
            body: self.body.into(),
            opening_len: self.opening_len,
            items: self.items,
        }
    }
}

/// The receiver of the batches is gone.
#[derive(Debug)]
pub(super) struct ClosedBatch;

/// Fills batches of events and of users, and sends each full one to the delivery.
pub(super) struct BatchOutput {
    batches: mpsc::Sender<EventBatch>,
    opening: [Vec<u8>; 2],
    filling: [OpenBatch; 2],
    batch_len_max: usize,
    body_len_max: usize,
    /// Heap limits requests by user, so elements carry the user's key.
    has_limits: bool,
}

impl BatchOutput {
    pub(super) fn new(
        heap: &HeapClient,
        batches: mpsc::Sender<EventBatch>,
        batch_len_max: usize,
        body_len_max: usize,
    ) -> Self {
        let opening = [HeapCall::Track, HeapCall::SetUserProperties].map(|call| heap.body_start(call));
        let filling = [
            OpenBatch::new(HeapCall::Track, &opening[0], 0),
            OpenBatch::new(HeapCall::SetUserProperties, &opening[1], 0),
        ];
        let has_limits = !heap.limiter.is_unlimited();
        Self { batches, opening, filling, batch_len_max, body_len_max, has_limits }
    }

    /// Fails when the receiver is gone. A reader that produces no batches calls it now and then.
    pub(super) fn check(&self) -> Result<(), ClosedBatch> {
        if self.batches.is_closed() { Err(ClosedBatch) } else { Ok(()) }
    }

    /// The buffer for the next event. [`BatchOutput::push`], [`BatchOutput::withdraw`] or [`BatchOutput::discard`] must follow.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        self.filling[0].begin();
        &mut self.filling[0].body
    }

    /// Removes the written event from the batch and returns it.
    pub(super) fn withdraw(&mut self) -> Vec<u8> {
        let event = self.filling[0].body[self.filling[0].start()..].to_vec();
        self.filling[0].cancel();
        event
    }

    /// Removes the written event from the batch.
    pub(super) fn discard(&mut self) {
        self.filling[0].cancel();
    }

    /// Adds the written event to the batch, and sends the batch when it is full.
    pub(super) fn push(
        &mut self,
        what: EventKind,
        who: &EventUser<'_>,
        origin: BatchOrigin,
    ) -> Result<(), ClosedBatch> {
        let user = if self.has_limits { user_key(who) } else { 0 };
        let at = match what {
            EventKind::Event => 0,
            EventKind::Profile => {
                let [track, users] = &mut self.filling;
                users.begin();
                users.body.extend_from_slice(&track.body[track.start()..]);
                track.cancel();
                1
            }
        };
        self.ended(at, user, origin)
    }

    fn ended(&mut self, at: usize, user: UserKey, origin: BatchOrigin) -> Result<(), ClosedBatch> {
        self.filling[at].end(user, origin);
        let filling = &self.filling[at];
        let is_full =
            filling.items.len() >= self.batch_len_max || filling.body.len() + 2 >= self.body_len_max;
        if is_full { self.hand_over(at) } else { Ok(()) }
    }

    fn hand_over(&mut self, at: usize) -> Result<(), ClosedBatch> {
        let filling = &self.filling[at];
        if filling.items.is_empty() {
            return Ok(());
        }
        // Batches have similar sizes, so the next buffer gets this one's capacity.
        let next = OpenBatch::new(filling.call, &self.opening[at], filling.body.len() + 4096);
        let filled = std::mem::replace(&mut self.filling[at], next);
        if blocking::send(&self.batches, filled.seal()) { Ok(()) } else { Err(ClosedBatch) }
    }

    /// Sends the incomplete batches.
    pub(super) fn finish(mut self) -> Result<(), ClosedBatch> {
        self.hand_over(0)?;
        self.hand_over(1)
    }
}

/// The rate-limit key of a user.
pub(super) fn user_key(who: &EventUser<'_>) -> UserKey {
    match who {
        EventUser::Identity(identity) => user_key_of_text(identity),
        EventUser::UserId(number) => user_key_of_text(&number.to_string()),
    }
}

/// The rate-limit key of an identity or a user id. Equal texts share one limit.
pub(super) fn user_key_of_text(who: &str) -> UserKey {
    xxh3_64(who.as_bytes())
}

/// The identity or user id in an element's JSON, or an empty text.
#[must_use]
pub fn user_in(element: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct BatchUser {
        identity: Option<String>,
        user_id: Option<String>,
    }
    let named = serde_json::from_slice::<BatchUser>(element).ok();
    named.and_then(|named| named.identity.or(named.user_id)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_notices_that_the_receiver_is_gone() {
        let (batches, taken) = mpsc::channel(1);
        let filling = [HeapCall::Track, HeapCall::SetUserProperties].map(|call| OpenBatch::new(call, b"", 0));
        let opening = [Vec::new(), Vec::new()];
        let out =
            BatchOutput { batches, opening, filling, batch_len_max: 1, body_len_max: 1, has_limits: false };
        assert!(out.check().is_ok());
        drop(taken);
        assert!(out.check().is_err());
    }
}
