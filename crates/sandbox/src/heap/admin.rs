//! Admin API of Heap: stored events, users and counters.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::store::{HeapUserId, user_id};
use super::{deletion, ingest};
use crate::SandboxHandle;
use crate::admin::{AdminResult, RequestCounters, lines, not_found};
use crate::faults::Endpoint;

pub(crate) fn routes() -> Router<SandboxHandle> {
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

/// Counters of requests and responses.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct HeapCounters {
    #[serde(flatten)]
    requests: RequestCounters,
    /// Events in well-formed requests, and the most in one.
    events: u64,
    events_max: u64,
    /// Events over a rate limit that were silently dropped.
    pub(super) dropped: u64,
    /// Largest body in bytes.
    body_len_max: u64,
    #[serde(skip)]
    pub(super) successes: u64,
}

impl HeapCounters {
    pub(super) fn request(&mut self, endpoint: Endpoint, body_len: usize) {
        self.requests.request(endpoint);
        self.body_len_max = self.body_len_max.max(body_len as u64);
    }

    pub(super) fn response(&mut self, status: u16) {
        self.requests.response(status);
    }

    pub(super) fn events(&mut self, n: u64) {
        self.events += n;
        self.events_max = self.events_max.max(n);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    identity: Option<String>,
    event: Option<String>,
    limit: Option<usize>,
}

async fn events(State(shared): State<SandboxHandle>, Query(query): Query<EventsQuery>) -> String {
    let state = shared.lock();
    let store = &state.heap.store;
    let matches = |event: &&super::store::StoredEvent| {
        query.event.as_deref().is_none_or(|name| *event.name == *name)
            && query.identity.as_deref().is_none_or(|identity| store.owner(&event.user) == Ok(identity))
    };
    let found = store.events.iter().filter(matches).take(query.limit.unwrap_or(usize::MAX));
    lines(found.map(|event| &event.text))
}

async fn count(State(shared): State<SandboxHandle>) -> Json<Value> {
    let state = shared.lock();
    let (store, counters) = (&state.heap.store, &state.heap.counters);
    let names: BTreeMap<&str, u64> = store.names.iter().map(|(name, n)| (&**name, *n)).collect();
    Json(json!({
        "stored": store.events.len(),
        "duplicates": store.duplicates,
        "received": counters.events,
        "dropped": counters.dropped,
        "by_event": names,
    }))
}

async fn keys(State(shared): State<SandboxHandle>) -> String {
    let state = shared.lock();
    lines(state.heap.store.keys())
}

async fn user(State(shared): State<SandboxHandle>, Path(identity): Path<String>) -> AdminResult<Json<Value>> {
    let state = shared.lock();
    let store = &state.heap.store;
    let user = store.users.get(&identity).ok_or_else(|| not_found("user", &identity))?;
    let events = store.events.iter().filter(|event| store.owner(&event.user) == Ok(&identity)).count();
    Ok(Json(json!({
        "identity": identity,
        "user_id": user_id(&identity),
        "merged_user_ids": user.user_ids.keys().collect::<Vec<_>>(),
        "properties": user.properties,
        "events": events,
    })))
}

async fn account(State(shared): State<SandboxHandle>, Path(id): Path<String>) -> AdminResult<Json<Value>> {
    let state = shared.lock();
    let properties = state.heap.store.accounts.get(&id).ok_or_else(|| not_found("account", &id))?;
    Ok(Json(json!({ "account_id": id, "properties": properties })))
}

async fn requests(State(shared): State<SandboxHandle>) -> Json<Value> {
    let state = shared.lock();
    let mut report = json!(state.heap.counters);
    report["identifies_ignored"] = state.heap.store.identifies_ignored.into();
    Json(report)
}

async fn deletions(State(shared): State<SandboxHandle>) -> Json<Value> {
    let state = shared.lock();
    let list = state.heap.store.deletions.iter().map(|(id, deletion)| {
        let users: Vec<&HeapUserId> = deletion.users.iter().collect();
        json!({ "deletion_request_id": id, "complete": deletion.complete, "users": users })
    });
    Json(list.collect())
}
