//! The doors: which paths there are, and what becomes of what is put through them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper::{Method, StatusCode};
use tokio::sync::Notify;

use super::accept::{EndpointReply, Handler, Receipt};
use super::body::{self, BodyMemory, BodyRefusal};
use super::currents::CurrentsEndpoint;
use super::heap::HeapEndpoint;
use super::{EndpointRequest, json};
use crate::config::EndpointLimits;
use crate::model::{Clock, EndpointName};
use crate::state::{Delivery, Inbox};

/// One door.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name.
    pub name: EndpointName,
    /// Who may speak.
    pub guard: EndpointGuard,
    /// Where it goes.
    pub inbox: Arc<Inbox>,
}

/// Who may speak through a door, and in what manner.
#[derive(Clone, Debug)]
pub enum EndpointGuard {
    /// Heap, by its signature.
    Heap(HeapEndpoint),
    /// Braze, by its token.
    Currents(CurrentsEndpoint),
}

/// Answers by door and status.
pub type ReplyCounts = BTreeMap<(String, u16), u64>;

/// All doors. They can be replaced while requests come.
pub struct Endpoints {
    /// By path. There are none while another process holds the state.
    doors: RwLock<Arc<BTreeMap<String, Endpoint>>>,
    limits: EndpointLimits,
    budget: BodyMemory,
    clock: Clock,
    bell: Arc<Notify>,
    /// Doors that received something since [`Doors::take_received`].
    received: Mutex<BTreeSet<EndpointName>>,
    tally: Mutex<ReplyCounts>,
}

impl Endpoints {
    /// Doors, all of them closed. The bell rings when something was received.
    #[must_use]
    pub fn new(limits: EndpointLimits, clock: Clock, bell: Arc<Notify>) -> Self {
        let budget = BodyMemory::new(limits.memory_max);
        let (doors, received, tally) = (RwLock::default(), Mutex::default(), Mutex::default());
        Self { doors, limits, budget, clock, bell, received, tally }
    }

    /// The doors that received something since the last call.
    #[must_use]
    pub fn take_received(&self) -> BTreeSet<EndpointName> {
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens these doors, by path, and closes all others.
    pub fn open(&self, doors: BTreeMap<String, Endpoint>) {
        *self.doors.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(doors);
    }

    /// What was answered so far.
    #[must_use]
    pub fn tally(&self) -> ReplyCounts {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn answer(&self, request: EndpointRequest) -> EndpointReply {
        let doors = Arc::clone(&self.doors.read().unwrap_or_else(PoisonError::into_inner));
        let door = doors.get(request.uri().path());
        let answer = match door {
            Some(door) => self.received(door, request).await,
            // Somebody else holds the state: whoever comes back may be led to them.
            None if doors.is_empty() => Err(BodyRefusal::NoRoom),
            None => Err(BodyRefusal::NoDoor),
        };
        let answer = answer.map_or_else(BodyRefusal::answer, |()| body::json(StatusCode::OK, "{}"));
        let name = door.map_or("", |door| door.name.as_str()).to_owned();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        *tally.entry((name, answer.status().as_u16())).or_default() += 1;
        answer
    }

    /// Puts what was received where it lasts.
    async fn received(&self, door: &Endpoint, request: EndpointRequest) -> Result<(), BodyRefusal> {
        if request.method() != Method::POST {
            return Err(BodyRefusal::Method);
        }
        let (parts, incoming) = request.into_parts();
        if let EndpointGuard::Currents(guard) = &door.guard {
            guard.check(&parts.headers)?;
        }
        let body = body::read(&parts, incoming, &self.limits, &self.budget).await?;
        let _whole = parts.extensions.get::<Receipt>().map(Receipt::whole);
        let received = self.clock.now();
        let stamp = match &door.guard {
            EndpointGuard::Heap(heap) => heap.check(&parts.headers, &body.bytes, received)?,
            EndpointGuard::Currents(_) => received.as_millisecond(),
        };
        let mut body = body.unpacked(&parts.headers, &self.limits)?;
        match &door.guard {
            EndpointGuard::Heap(_) if json::is_deeper(&body.bytes, self.limits.json_depth_max) => {
                return Err(BodyRefusal::TooDeep);
            }
            // Braze asks whether the token is right.
            EndpointGuard::Currents(guard) if !guard.has_events(&body.bytes)? => return Ok(()),
            _ => {}
        }
        let bytes = std::mem::take(&mut body.bytes);
        let kept = door.inbox.keep(Delivery { received, stamp, body: bytes }).await;
        if let Err(error) = kept {
            tracing::warn!(door = %door.name, "a delivery was not taken: {error}");
            return Err(BodyRefusal::NoRoom);
        }
        self.received.lock().unwrap_or_else(PoisonError::into_inner).insert(door.name.clone());
        self.bell.notify_one();
        Ok(())
    }
}

impl Handler for Endpoints {
    fn handle(&self, request: EndpointRequest) -> Pin<Box<dyn Future<Output = EndpointReply> + Send + '_>> {
        Box::pin(self.answer(request))
    }
}
