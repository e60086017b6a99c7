//! The admin API of Heap's side: events and users as they really are.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::store::{Who, user_id};
use super::{deletion, ingest};
use crate::Shared;
use crate::faults::Endpoint;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/track", post(ingest::track))
        .route("/api/v1/identify", post(ingest::identify))
        .route("/api/add_user_properties", post(ingest::user_properties))
        .route("/api/add_account_properties", post(ingest::account_properties))
        .route("/api/public/v0/auth_token", post(deletion::auth_token))
        .route("/api/public/v0/user_deletion", post(deletion::user_deletion))
        .route("/api/public/v0/deletion_status/{id}", get(deletion::deletion_status))
        .route("/_sandbox/heap/events", get(events))
        .route("/_sandbox/heap/events/count", get(count))
        .route("/_sandbox/heap/events/keys", get(keys))
        .route("/_sandbox/heap/users/{identity}", get(user))
        .route("/_sandbox/heap/accounts/{account_id}", get(account))
        .route("/_sandbox/heap/requests", get(requests))
        .route("/_sandbox/heap/deletions", get(deletions))
}

/// What was asked and answered so far.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Counters {
    /// Requests by endpoint.
    endpoints: BTreeMap<Endpoint, u64>,
    /// Answers by status; a request without an answer is in none.
    statuses: BTreeMap<u16, u64>,
    /// Events in requests that were well formed, and the most in one.
    events: u64,
    events_max: u64,
    /// Events over a rate limit that were dropped in silence.
    pub(super) dropped: u64,
    /// Largest body in bytes.
    body_len_max: u64,
    #[serde(skip)]
    pub(super) successes: u64,
}

impl Counters {
    pub(super) fn request(&mut self, endpoint: Endpoint, body_len: usize) {
        *self.endpoints.entry(endpoint).or_default() += 1;
        self.body_len_max = self.body_len_max.max(body_len as u64);
    }

    pub(super) fn answered(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    pub(super) fn events(&mut self, n: u64) {
        self.events += n;
        self.events_max = self.events_max.max(n);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    identity: Option<String>,
    event: Option<String>,
    limit: Option<usize>,
}

async fn events(State(shared): State<Shared>, Query(wanted): Query<Wanted>) -> String {
    let inner = shared.lock();
    let store = &inner.heap.store;
    let fits = |stored: &&super::store::Stored| {
        wanted.event.as_deref().is_none_or(|name| *stored.name == *name)
            && wanted.identity.as_deref().is_none_or(|identity| store.owner(&stored.who) == Ok(identity))
    };
    let mut lines = String::new();
    for stored in store.events.iter().filter(fits).take(wanted.limit.unwrap_or(usize::MAX)) {
        lines.push_str(&stored.text);
        lines.push('\n');
    }
    lines
}

async fn count(State(shared): State<Shared>) -> Json<Value> {
    let inner = shared.lock();
    let (store, counters) = (&inner.heap.store, &inner.heap.counters);
    let names: BTreeMap<&str, u64> = store.names.iter().map(|(name, n)| (&**name, *n)).collect();
    Json(json!({
        "stored": store.events.len(),
        "duplicates": store.duplicates,
        "received": counters.events,
        "dropped": counters.dropped,
        "by_event": names,
    }))
}

async fn keys(State(shared): State<Shared>) -> String {
    let inner = shared.lock();
    inner.heap.store.keys().into_iter().fold(String::new(), |mut lines, key| {
        lines.push_str(key);
        lines.push('\n');
        lines
    })
}

async fn user(State(shared): State<Shared>, Path(identity): Path<String>) -> Result<Json<Value>, StatusCode> {
    let inner = shared.lock();
    let store = &inner.heap.store;
    let user = store.users.get(&identity).ok_or(StatusCode::NOT_FOUND)?;
    let events = store.events.iter().filter(|stored| store.owner(&stored.who) == Ok(&identity)).count();
    Ok(Json(json!({
        "identity": identity,
        "user_id": user_id(&identity),
        "was": user.user_ids.keys().collect::<Vec<_>>(),
        "properties": user.properties,
        "events": events,
    })))
}

async fn account(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, StatusCode> {
    let inner = shared.lock();
    let properties = inner.heap.store.accounts.get(&id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(json!({ "account_id": id, "properties": properties })))
}

async fn requests(State(shared): State<Shared>) -> Json<Value> {
    let inner = shared.lock();
    let mut told = json!(inner.heap.counters);
    told["identifies_ignored"] = inner.heap.store.identifies_ignored.into();
    Json(told)
}

async fn deletions(State(shared): State<Shared>) -> Json<Value> {
    let inner = shared.lock();
    let list = inner.heap.store.deletions.iter().map(|(id, deletion)| {
        let users: Vec<&Who> = deletion.users.iter().collect();
        json!({ "deletion_request_id": id, "complete": deletion.complete, "users": users })
    });
    Json(list.collect())
}
