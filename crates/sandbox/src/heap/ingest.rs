//! Ingestion endpoints: track, identify, user properties, account properties.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::Value;

use super::check::{CheckError, HeapChecks};
use super::options::OverLimit;
use super::serve::{HeapResponse, is_json, serve};
use super::store::{HeapEvent, HeapFact, HeapUserId};
use super::{Heap, parse};
use crate::faults::Endpoint;
use crate::{SandboxHandle, clock};

pub(super) async fn track(State(shared): State<SandboxHandle>, headers: HeaderMap, body: Body) -> Response {
    serve(shared, Endpoint::Track, body, |shared, body| {
        if shared.options.heap.accept_all {
            return Ok(count(shared, body));
        }
        let body = parse(&headers, body)?;
        let events = HeapChecks(&shared.options.heap).track(&body).map_err(bad_request)?;
        shared.lock().heap.track(events)
    })
    .await
}

pub(super) async fn identify(
    State(shared): State<SandboxHandle>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    serve(shared, Endpoint::Identify, body, |shared, body| {
        let body = parse(&headers, body)?;
        let (user_id, identity) = HeapChecks(&shared.options.heap).identify(&body).map_err(bad_request)?;
        let at = u64::try_from(clock::now().as_millis()).unwrap_or(u64::MAX);
        shared.lock().heap.record_and_succeed(vec![HeapFact::Identified { user_id, identity, at }])
    })
    .await
}

pub(super) async fn user_properties(
    State(shared): State<SandboxHandle>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    serve(shared, Endpoint::UserProperties, body, |shared, body| {
        let body = parse(&headers, body)?;
        let users = HeapChecks(&shared.options.heap).users(&body).map_err(bad_request)?;
        let mut state = shared.lock();
        // The bulk call has no documented limit.
        if let [(identity, _)] = &users.items[..]
            && !users.bulk
            && !state.heap.single("user_properties", identity)?
        {
            return Ok(state.heap.success());
        }
        let fact = |(identity, properties)| HeapFact::WithProperties { identity, properties };
        state.heap.record_and_succeed(users.items.into_iter().map(fact).collect())
    })
    .await
}

pub(super) async fn account_properties(
    State(shared): State<SandboxHandle>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    serve(shared, Endpoint::AccountProperties, body, |shared, body| {
        let body = parse(&headers, body)?;
        let accounts = HeapChecks(&shared.options.heap).accounts(&body).map_err(bad_request)?;
        let fact = |(account_id, properties)| HeapFact::Account { account_id, properties };
        shared.lock().heap.record_and_succeed(accounts.items.into_iter().map(fact).collect())?;
        // Documented body of this call.
        Ok(HeapResponse::text(StatusCode::OK, "OK"))
    })
    .await
}

fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Value, HeapResponse> {
    is_json(headers)?;
    serde_json::from_slice(body).map_err(|_| HeapResponse::bad_request("the body is not valid JSON"))
}

#[allow(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn bad_request(error: CheckError) -> HeapResponse {
    HeapResponse::bad_request(error.text())
}

/// Accepts a body unparsed. Events are counted by the text before their name; a property named `event` would
/// count too.
fn count(shared: &SandboxHandle, body: &[u8]) -> HeapResponse {
    let events = memchr::memmem::find_iter(body, br#""event":"#).count() as u64;
    let mut state = shared.lock();
    state.heap.counters.events(events);
    state.heap.success()
}

/// The key of the rate limits.
fn limit_key(event: &HeapEvent) -> String {
    match &event.user {
        HeapUserId::Identity(identity) => format!("identity {identity}"),
        HeapUserId::UserId(id) => format!("user_id {id}"),
    }
}

impl Heap {
    fn success(&mut self) -> HeapResponse {
        self.counters.successes += 1;
        HeapResponse::success(self.options.success, self.counters.successes)
    }

    fn record_and_succeed(&mut self, facts: Vec<HeapFact>) -> Result<HeapResponse, HeapResponse> {
        let failed =
            |_| HeapResponse::text(StatusCode::SERVICE_UNAVAILABLE, "the sandbox cannot write its memory");
        self.record(facts).map_err(failed)?;
        Ok(self.success())
    }

    fn track(&mut self, events: parse::ParsedItems<HeapEvent>) -> Result<HeapResponse, HeapResponse> {
        self.counters.events(events.items.len() as u64);
        let within = self.within_limits(&events)?;
        let arrived = arrived();
        let mut facts = Vec::with_capacity(events.items.len());
        for (mut event, within) in events.items.into_iter().zip(within) {
            if !within {
                self.counters.dropped += 1;
            } else if event.idempotency_key.as_deref().is_some_and(|key| self.store.has(key)) {
                self.store.duplicates += 1;
            } else {
                event.timestamp.get_or_insert_with(|| arrived.clone());
                facts.push(HeapFact::Tracked(event));
            }
        }
        self.record_and_succeed(facts)
    }

    fn within_limits(&mut self, events: &parse::ParsedItems<HeapEvent>) -> Result<Vec<bool>, HeapResponse> {
        if self.options.over_limit == OverLimit::Off {
            return Ok(vec![true; events.items.len()]);
        }
        let limit_keys: Vec<String> = events.items.iter().map(limit_key).collect();
        if let ([only], false) = (&limit_keys[..], events.bulk) {
            return Ok(vec![self.single("track", only)?]);
        }
        let all = self.options.over_limit == OverLimit::Reject;
        let within = self.limits.bulk(&limit_keys, all, clock::now(), self.options.minute);
        if all && within.contains(&false) { Err(over_limit()) } else { Ok(within) }
    }

    /// Whether a single call is within its limit. Otherwise it is rejected, or silently dropped.
    fn single(&mut self, call: &str, user: &str) -> Result<bool, HeapResponse> {
        let fits = self.options.over_limit == OverLimit::Off
            || self.limits.single(call, user, clock::now(), self.options.minute);
        if !fits && self.options.over_limit == OverLimit::Reject {
            return Err(over_limit());
        }
        Ok(fits)
    }
}

fn over_limit() -> HeapResponse {
    HeapResponse::text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
}

/// The time of arrival, for events without a timestamp.
fn arrived() -> String {
    let millis = i64::try_from(clock::now().as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|at| at.to_string()).unwrap_or_default()
}
