//! The admin API of Braze's REST side: segments, campaigns, Canvases, profiles, sends and keys.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::catalog::{Item, Sent, Shelf};
use super::super::people::Who;
use super::super::store::{Fact, label};
use super::track::Reject;
use crate::faults::Endpoint;
use crate::{Inner, Shared, clock};

/// What was asked of the REST side and answered so far.
#[derive(Clone, Debug, Default, Serialize)]
pub(in super::super) struct Counters {
    /// Requests by endpoint.
    endpoints: BTreeMap<Endpoint, u64>,
    /// Answers by status; a request without an answer is in none.
    statuses: BTreeMap<u16, u64>,
    /// Objects tracked, the most in one request, and what they cost.
    tracked: u64,
    tracked_max: u64,
    data_points: u64,
}

impl Counters {
    pub(super) fn request(&mut self, endpoint: Endpoint) {
        *self.endpoints.entry(endpoint).or_default() += 1;
    }

    pub(super) fn answered(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    pub(super) fn tracked(&mut self, objects: usize, data_points: u64) {
        self.tracked += objects as u64;
        self.tracked_max = self.tracked_max.max(objects as u64);
        self.data_points += data_points;
    }
}

pub(in super::super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/_sandbox/keys", post(keys))
        .route("/_sandbox/rejects", post(rejects))
        .route("/_sandbox/profiles/{external_id}", get(profile))
        .route("/_sandbox/segments", post(make_segments).get(segments))
        .route("/_sandbox/segments/{id}/members", get(members))
        .route("/_sandbox/campaigns", post(make_campaigns).get(campaigns))
        .route("/_sandbox/canvases", post(make_canvases).get(canvases))
        .route("/_sandbox/sends", get(sends))
}

#[derive(Deserialize)]
struct Key {
    key: String,
    permissions: BTreeSet<String>,
}

async fn keys(State(shared): State<Shared>, Json(keys): Json<Vec<Key>>) -> StatusCode {
    let keys = keys.into_iter().map(|key| (key.key, Some(key.permissions)));
    shared.lock().braze.rest.keys.extend(keys);
    StatusCode::NO_CONTENT
}

async fn rejects(State(shared): State<Shared>, Json(rejects): Json<Vec<Reject>>) -> StatusCode {
    shared.lock().braze.rest.rejects = rejects;
    StatusCode::NO_CONTENT
}

async fn profile(
    State(shared): State<Shared>,
    Path(external_id): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    let inner = shared.lock();
    let profiles = &inner.braze.store.profiles;
    let at = profiles.find(&Who::ExternalId(external_id)).first().copied().ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(json!(profiles.get(at))))
}

/// Makes items, or changes the given fields of those that are there.
fn make<T: Item>(
    shared: &Shared,
    kind: &str,
    given: &[Map<String, Value>],
    shelf: impl Fn(&Inner) -> &Shelf<T>,
    fact: impl Fn(T) -> Fact,
) -> Result<StatusCode, (StatusCode, String)> {
    let mut inner = shared.lock();
    for fields in given {
        let item = shelf(&inner).wanted(kind, fields, &now_text());
        let item = item.map_err(|why| (StatusCode::BAD_REQUEST, why))?;
        let kept = inner.braze.keep_all(vec![fact(item)]);
        kept.map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The time as Braze writes it.
fn now_text() -> String {
    let second = i64::try_from(clock::now().as_secs()).unwrap_or_default();
    let now = Timestamp::from_second(second).unwrap_or_default();
    now.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

type Made = Result<StatusCode, (StatusCode, String)>;

async fn make_segments(State(shared): State<Shared>, Json(given): Json<Vec<Map<String, Value>>>) -> Made {
    make(&shared, "segment", &given, |inner| &inner.braze.store.catalog.segments, Fact::Segment)
}

async fn make_campaigns(State(shared): State<Shared>, Json(given): Json<Vec<Map<String, Value>>>) -> Made {
    make(&shared, "campaign", &given, |inner| &inner.braze.store.catalog.campaigns, Fact::Campaign)
}

async fn make_canvases(State(shared): State<Shared>, Json(given): Json<Vec<Map<String, Value>>>) -> Made {
    make(&shared, "canvas", &given, |inner| &inner.braze.store.catalog.canvases, Fact::Canvas)
}

async fn segments(State(shared): State<Shared>) -> Json<Value> {
    let inner = shared.lock();
    let store = &inner.braze.store;
    let entry = |segment| {
        let mut told = json!(segment);
        told["size"] = store.in_segment(segment).len().into();
        told
    };
    Json(store.catalog.segments.iter().map(entry).collect())
}

async fn campaigns(State(shared): State<Shared>) -> Json<Value> {
    Json(shared.lock().braze.store.catalog.campaigns.iter().map(|item| json!(item)).collect())
}

async fn canvases(State(shared): State<Shared>) -> Json<Value> {
    Json(shared.lock().braze.store.catalog.canvases.iter().map(|item| json!(item)).collect())
}

async fn members(State(shared): State<Shared>, Path(id): Path<String>) -> Result<String, StatusCode> {
    let inner = shared.lock();
    let store = &inner.braze.store;
    let segment = store.catalog.segments.get(&id).ok_or(StatusCode::NOT_FOUND)?;
    let people: BTreeSet<String> =
        store.in_segment(segment).into_iter().map(|at| label(store.profiles.get(at)) + "\n").collect();
    Ok(people.into_iter().collect())
}

async fn sends(State(shared): State<Shared>) -> Json<Vec<Sent>> {
    Json(shared.lock().braze.store.catalog.sent.clone())
}
