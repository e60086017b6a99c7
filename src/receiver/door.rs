//! The doors: which paths there are, and what becomes of what is put through them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper::{Method, StatusCode};
use tokio::sync::Notify;

use super::accept::{Answer, Handler, Receipt};
use super::body::{self, Budget, Refusal};
use super::currents::CurrentsDoor;
use super::heap::HeapDoor;
use super::{Request, json};
use crate::config::Limits;
use crate::model::{Clock, DoorName};
use crate::state::{Delivery, Inbox};

/// One door.
#[derive(Clone, Debug)]
pub struct Door {
    /// Its name.
    pub name: DoorName,
    /// Who may speak.
    pub guard: Guard,
    /// Where it goes.
    pub inbox: Arc<Inbox>,
}

/// Who may speak through a door, and in what manner.
#[derive(Clone, Debug)]
pub enum Guard {
    /// Heap, by its signature.
    Heap(HeapDoor),
    /// Braze, by its token.
    Currents(CurrentsDoor),
}

/// Answers by door and status.
pub type Tally = BTreeMap<(String, u16), u64>;

/// All doors. They can be replaced while requests come.
pub struct Doors {
    /// By path. There are none while another process holds the state.
    doors: RwLock<Arc<BTreeMap<String, Door>>>,
    limits: Limits,
    budget: Budget,
    clock: Clock,
    bell: Arc<Notify>,
    /// Doors that received something since [`Doors::take_received`].
    received: Mutex<BTreeSet<DoorName>>,
    tally: Mutex<Tally>,
}

impl Doors {
    /// Doors, all of them closed. The bell rings when something was received.
    #[must_use]
    pub fn new(limits: Limits, clock: Clock, bell: Arc<Notify>) -> Self {
        let budget = Budget::new(limits.memory_max);
        let (doors, received, tally) = (RwLock::default(), Mutex::default(), Mutex::default());
        Self { doors, limits, budget, clock, bell, received, tally }
    }

    /// The doors that received something since the last call.
    #[must_use]
    pub fn take_received(&self) -> BTreeSet<DoorName> {
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens these doors, by path, and closes all others.
    pub fn open(&self, doors: BTreeMap<String, Door>) {
        *self.doors.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(doors);
    }

    /// What was answered so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn answer(&self, request: Request) -> Answer {
        let doors = Arc::clone(&self.doors.read().unwrap_or_else(PoisonError::into_inner));
        let door = doors.get(request.uri().path());
        let answer = match door {
            Some(door) => self.received(door, request).await,
            // Somebody else holds the state: whoever comes back may be led to them.
            None if doors.is_empty() => Err(Refusal::NoRoom),
            None => Err(Refusal::NoDoor),
        };
        let answer = answer.map_or_else(Refusal::answer, |()| body::json(StatusCode::OK, "{}"));
        let name = door.map_or("", |door| door.name.as_str()).to_owned();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        *tally.entry((name, answer.status().as_u16())).or_default() += 1;
        answer
    }

    /// Puts what was received where it lasts.
    async fn received(&self, door: &Door, request: Request) -> Result<(), Refusal> {
        if request.method() != Method::POST {
            return Err(Refusal::Method);
        }
        let (parts, incoming) = request.into_parts();
        if let Guard::Currents(guard) = &door.guard {
            guard.check(&parts.headers)?;
        }
        let body = body::read(&parts, incoming, &self.limits, &self.budget).await?;
        let _whole = parts.extensions.get::<Receipt>().map(Receipt::whole);
        let received = self.clock.now();
        let stamp = match &door.guard {
            Guard::Heap(heap) => heap.check(&parts.headers, &body.bytes, received)?,
            Guard::Currents(_) => received.as_millisecond(),
        };
        let mut body = body.unpacked(&parts.headers, &self.limits)?;
        match &door.guard {
            Guard::Heap(_) if json::is_deeper(&body.bytes, self.limits.json_depth_max) => {
                return Err(Refusal::TooDeep);
            }
            // Braze asks whether the token is right.
            Guard::Currents(guard) if !guard.has_events(&body.bytes)? => return Ok(()),
            _ => {}
        }
        let bytes = std::mem::take(&mut body.bytes);
        let kept = door.inbox.keep(Delivery { received, stamp, body: bytes }).await;
        if let Err(error) = kept {
            tracing::warn!(door = %door.name, "a delivery was not taken: {error}");
            return Err(Refusal::NoRoom);
        }
        self.received.lock().unwrap_or_else(PoisonError::into_inner).insert(door.name.clone());
        self.bell.notify_one();
        Ok(())
    }
}

impl Handler for Doors {
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(self.answer(request))
    }
}
