//! Ingestion: what each call does with a body that may be right.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::Value;

use super::check::{Checks, Wrong};
use super::options::OverLimit;
use super::serve::{Answer, is_json, serve};
use super::store::{Event, Fact, Who};
use super::{Heap, bodies};
use crate::faults::Endpoint;
use crate::{Shared, clock};

pub(super) async fn track(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    serve(shared, Endpoint::Track, body, |shared, body| {
        if shared.options.heap.accept_all {
            return Ok(count(shared, body));
        }
        let body = parse(&headers, body)?;
        let events = Checks(&shared.options.heap).track(&body).map_err(refused)?;
        shared.lock().heap.track(events)
    })
    .await
}

pub(super) async fn identify(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    serve(shared, Endpoint::Identify, body, |shared, body| {
        let body = parse(&headers, body)?;
        let (user_id, identity) = Checks(&shared.options.heap).identify(&body).map_err(refused)?;
        let at = u64::try_from(clock::now().as_millis()).unwrap_or(u64::MAX);
        shared.lock().heap.done(vec![Fact::Identified { user_id, identity, at }])
    })
    .await
}

pub(super) async fn user_properties(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    serve(shared, Endpoint::UserProperties, body, |shared, body| {
        let body = parse(&headers, body)?;
        let users = Checks(&shared.options.heap).users(&body).map_err(refused)?;
        let mut inner = shared.lock();
        // No limit of the bulk call is documented.
        if let [(identity, _)] = &users.items[..]
            && !users.bulk
            && !inner.heap.single("user_properties", identity)?
        {
            return Ok(inner.heap.success());
        }
        let fact = |(identity, properties)| Fact::Described { identity, properties };
        inner.heap.done(users.items.into_iter().map(fact).collect())
    })
    .await
}

pub(super) async fn account_properties(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    serve(shared, Endpoint::AccountProperties, body, |shared, body| {
        let body = parse(&headers, body)?;
        let accounts = Checks(&shared.options.heap).accounts(&body).map_err(refused)?;
        let fact = |(account_id, properties)| Fact::Account { account_id, properties };
        shared.lock().heap.done(accounts.items.into_iter().map(fact).collect())?;
        // This call says so, by its documents.
        Ok(Answer::text(StatusCode::OK, "OK"))
    })
    .await
}

fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Value, Answer> {
    is_json(headers)?;
    serde_json::from_slice(body).map_err(|_| Answer::bad_request("the body is not valid JSON"))
}

#[allow(clippy::needless_pass_by_value, reason = "what an error is mapped by")]
fn refused(wrong: Wrong) -> Answer {
    Answer::bad_request(wrong.text())
}

/// Takes a body as it is. Events are counted by the text that begins their name; a property of the name
/// `event` would count as well.
fn count(shared: &Shared, body: &[u8]) -> Answer {
    let events = memchr::memmem::find_iter(body, br#""event":"#).count() as u64;
    let mut inner = shared.lock();
    inner.heap.counters.events(events);
    inner.heap.success()
}

/// By whom the limits count.
fn whose(event: &Event) -> String {
    match &event.who {
        Who::Identity(identity) => format!("identity {identity}"),
        Who::UserId(id) => format!("user_id {id}"),
    }
}

impl Heap {
    fn success(&mut self) -> Answer {
        self.counters.successes += 1;
        Answer::success(self.options.success, self.counters.successes)
    }

    fn done(&mut self, facts: Vec<Fact>) -> Result<Answer, Answer> {
        let full = |_| Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the sandbox cannot write its memory");
        self.keep(facts).map_err(full)?;
        Ok(self.success())
    }

    fn track(&mut self, events: bodies::Items<Event>) -> Result<Answer, Answer> {
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
                facts.push(Fact::Tracked(event));
            }
        }
        self.done(facts)
    }

    fn within_limits(&mut self, events: &bodies::Items<Event>) -> Result<Vec<bool>, Answer> {
        if self.options.over_limit == OverLimit::Off {
            return Ok(vec![true; events.items.len()]);
        }
        let whose: Vec<String> = events.items.iter().map(whose).collect();
        if let ([only], false) = (&whose[..], events.bulk) {
            return Ok(vec![self.single("track", only)?]);
        }
        let all = self.options.over_limit == OverLimit::Refuse;
        let within = self.rates.bulk(&whose, all, clock::now(), self.options.minute);
        if all && within.contains(&false) { Err(over_limit()) } else { Ok(within) }
    }

    /// Whether a single call is within its limit; one that is not is refused, or nothing comes of it.
    fn single(&mut self, call: &str, who: &str) -> Result<bool, Answer> {
        let fits = self.options.over_limit == OverLimit::Off
            || self.rates.single(call, who, clock::now(), self.options.minute);
        if !fits && self.options.over_limit == OverLimit::Refuse {
            return Err(over_limit());
        }
        Ok(fits)
    }
}

fn over_limit() -> Answer {
    Answer::text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
}

/// The time of arrival, which an event without a timestamp gets.
fn arrived() -> String {
    let millis = i64::try_from(clock::now().as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|at| at.to_string()).unwrap_or_default()
}
