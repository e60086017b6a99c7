//! Webhook endpoints by path: a request is authenticated, checked and stored in the endpoint's inbox.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper::{Method, StatusCode};
use tokio::sync::Notify;

use super::accept::{RequestHandler, RequestReceipt};
use super::body::{self, BodyMemory};
use super::currents::CurrentsEndpoint;
use super::heap::HeapEndpoint;
use super::reply::{self, EndpointReply, RequestError};
use super::request_log::{RejectedRequests, ReplyCounts, RequestLog};
use super::{EndpointRequest, json};
use crate::config::EndpointLimits;
use crate::model::{Clock, EndpointName};
use crate::state::{Delivery, Inbox};

/// The target of the lines of single deliveries, which only `-vv` logs.
const DELIVERIES: &str = "syncline::deliveries";
/// The targets of warnings, by kind. Their prefix is [`super::LOG_TARGET`]: they are limited in number.
const REJECTED: &str = "syncline::webhooks::rejected";
const UNKNOWN_PATHS: &str = "syncline::webhooks::unknown_paths";

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name.
    pub name: EndpointName,
    /// Its authentication.
    pub guard: EndpointGuard,
    /// The inbox for its deliveries.
    pub inbox: Arc<Inbox>,
}

/// The authentication of an endpoint.
#[derive(Clone, Debug)]
pub enum EndpointGuard {
    /// Heap, by its signature.
    Heap(HeapEndpoint),
    /// Braze, by its token.
    Currents(CurrentsEndpoint),
}

/// All endpoints. They can be replaced while requests arrive.
pub struct Endpoints {
    /// By path. A standby has none.
    by_path: RwLock<Arc<BTreeMap<String, Endpoint>>>,
    limits: EndpointLimits,
    memory: BodyMemory,
    clock: Clock,
    wakeup: Arc<Notify>,
    /// Endpoints that received a delivery since [`Self::take_received`].
    received: Mutex<BTreeSet<EndpointName>>,
    requests: Mutex<RequestLog>,
}

impl Endpoints {
    /// A server without endpoints. `wakeup` is notified of each delivery.
    #[must_use]
    pub fn new(limits: EndpointLimits, clock: Clock, wakeup: Arc<Notify>) -> Self {
        let memory = BodyMemory::new(limits.memory_max);
        let (by_path, received, requests) = (RwLock::default(), Mutex::default(), Mutex::default());
        Self { by_path, limits, memory, clock, wakeup, received, requests }
    }

    /// The endpoints that received a delivery since the last call.
    #[must_use]
    pub fn take_received(&self) -> BTreeSet<EndpointName> {
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces all endpoints, by path.
    pub fn set(&self, endpoints: BTreeMap<String, Endpoint>) {
        *self.by_path.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(endpoints);
    }

    /// The number of responses so far.
    #[must_use]
    pub fn reply_counts(&self) -> ReplyCounts {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).replies()
    }

    /// The requests that were rejected so far, by endpoint and reason.
    #[must_use]
    pub fn rejected_requests(&self) -> Vec<RejectedRequests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).rejected()
    }

    async fn respond(&self, request: EndpointRequest) -> EndpointReply {
        let endpoints = Arc::clone(&self.by_path.read().unwrap_or_else(PoisonError::into_inner));
        let endpoint = endpoints.get(request.uri().path());
        let result = match endpoint {
            Some(endpoint) => self.receive(endpoint, request).await,
            // This process is a standby: a repeated request may reach the leader.
            None if endpoints.is_empty() => Err(RequestError::Unavailable),
            None => Err(RequestError::NotFound),
        };
        let name = endpoint.map_or("", |endpoint| endpoint.name.as_str()).to_owned();
        log_reply(&name, result);
        let response = result.map_or_else(RequestError::response, |()| reply::json(StatusCode::OK, "{}"));
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.add(&name, result, response.status().as_u16(), self.clock.now());
        response
    }

    /// Authenticates a delivery and stores it in the inbox.
    async fn receive(&self, endpoint: &Endpoint, request: EndpointRequest) -> Result<(), RequestError> {
        if request.method() != Method::POST {
            return Err(RequestError::Method);
        }
        let (parts, incoming) = request.into_parts();
        if let EndpointGuard::Currents(guard) = &endpoint.guard {
            guard.check(&parts.headers)?;
        }
        let body = body::read(&parts, incoming, &self.limits, &self.memory).await?;
        let _in_flight = parts.extensions.get::<RequestReceipt>().map(RequestReceipt::complete);
        let received = self.clock.now();
        let stamp = match &endpoint.guard {
            EndpointGuard::Heap(heap) => heap.check(&parts.headers, &body.bytes, received)?,
            EndpointGuard::Currents(_) => received.as_millisecond(),
        };
        let mut body = body.decompressed(&parts.headers, &self.limits)?;
        match &endpoint.guard {
            EndpointGuard::Heap(_) if json::is_deeper(&body.bytes, self.limits.json_depth_max) => {
                return Err(RequestError::TooDeep);
            }
            // Braze tests the token.
            EndpointGuard::Currents(guard) if !guard.has_events(&body.bytes)? => return Ok(()),
            _ => {}
        }
        let bytes = std::mem::take(&mut body.bytes);
        let stored = endpoint.inbox.keep(Delivery { received, stamp, body: bytes }).await;
        if let Err(error) = stored {
            tracing::warn!(endpoint = %endpoint.name, "a delivery was not stored: {error}");
            return Err(RequestError::Unavailable);
        }
        self.received.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.name.clone());
        self.wakeup.notify_one();
        Ok(())
    }
}

/// Logs a response. Any client can cause the warnings, so each kind is limited in number. The path is not logged, because
/// a client may put anything there.
fn log_reply(endpoint: &str, result: Result<(), RequestError>) {
    let Err(error) = result else {
        return tracing::debug!(target: DELIVERIES, endpoint, status = 200, "delivery");
    };
    let (status, text) = error.parts();
    let status = status.as_u16();
    match (error, error.likely_cause()) {
        (RequestError::NotFound, Some(hints)) => {
            tracing::warn!(target: UNKNOWN_PATHS, status, hints, "a request for an unknown path was rejected");
        }
        (_, Some(hints)) => {
            tracing::warn!(target: REJECTED, endpoint, status, hints, "a delivery was rejected: {text}");
        }
        (_, None) => tracing::debug!(target: DELIVERIES, endpoint, status, "delivery: {text}"),
    }
}

impl RequestHandler for Endpoints {
    fn handle(&self, request: EndpointRequest) -> Pin<Box<dyn Future<Output = EndpointReply> + Send + '_>> {
        Box::pin(self.respond(request))
    }
}
