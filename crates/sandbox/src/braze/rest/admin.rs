//! Admin API of Braze's REST API: segments, campaigns, Canvases, profiles, sends and keys.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::catalog::{CampaignOrCanvas, CatalogItem, CatalogList, TriggeredSend};
use super::super::profiles::ProfileIdentifier;
use super::super::store::{BrazeFact, BrazeStore, label};
use super::track::TrackReject;
use crate::admin::{AdminResult, RequestCounters, lines, not_found};
use crate::{SandboxHandle, SandboxState, clock};

/// Counters of the REST API.
#[derive(Clone, Debug, Default, Serialize)]
pub(in super::super) struct RestCounters {
    #[serde(flatten)]
    pub(super) requests: RequestCounters,
    /// Objects tracked, the most in one request, and their data points.
    tracked: u64,
    tracked_max: u64,
    data_points: u64,
}

impl RestCounters {
    pub(super) fn tracked(&mut self, objects: usize, data_points: u64) {
        self.tracked += objects as u64;
        self.tracked_max = self.tracked_max.max(objects as u64);
        self.data_points += data_points;
    }
}

pub(in super::super) fn routes() -> Router<SandboxHandle> {
    Router::new()
        .route("/_sandbox/keys", post(keys))
        .route("/_sandbox/rejects", post(rejects))
        .route("/_sandbox/profiles/{external_id}", get(profile))
        .route("/_sandbox/segments", post(create_segments).get(segments))
        .route("/_sandbox/segments/{id}/members", get(members))
        .route("/_sandbox/campaigns", post(create_campaigns).get(campaigns))
        .route("/_sandbox/canvases", post(create_canvases).get(canvases))
        .route("/_sandbox/sends", get(sends))
}

#[derive(Deserialize)]
struct NewRestKey {
    key: String,
    permissions: BTreeSet<String>,
}

async fn keys(State(shared): State<SandboxHandle>, Json(keys): Json<Vec<NewRestKey>>) -> StatusCode {
    let keys = keys.into_iter().map(|key| (key.key, Some(key.permissions)));
    shared.lock().braze.rest.keys.extend(keys);
    StatusCode::NO_CONTENT
}

async fn rejects(State(shared): State<SandboxHandle>, Json(rejects): Json<Vec<TrackReject>>) -> StatusCode {
    shared.lock().braze.rest.rejects = rejects;
    StatusCode::NO_CONTENT
}

async fn profile(
    State(shared): State<SandboxHandle>,
    Path(external_id): Path<String>,
) -> AdminResult<Json<Value>> {
    let state = shared.lock();
    let profiles = &state.braze.store.profiles;
    let at = profiles
        .find(&ProfileIdentifier::ExternalId(external_id.clone()))
        .first()
        .copied()
        .ok_or_else(|| not_found("profile", &external_id))?;
    Ok(Json(json!(profiles.get(at))))
}

/// Creates items, or replaces the given fields of existing items.
fn create_items<T: CatalogItem>(
    shared: &SandboxHandle,
    kind: &str,
    given: &[Map<String, Value>],
    list: impl Fn(&SandboxState) -> &CatalogList<T>,
    check: impl Fn(&BrazeStore, &T) -> Result<(), String>,
    fact: impl Fn(T) -> BrazeFact,
) -> AdminResult<StatusCode> {
    let mut state = shared.lock();
    for fields in given {
        let item = list(&state).merged_with(kind, fields, &now_text());
        let item = item.and_then(|item| check(&state.braze.store, &item).map(|()| item));
        let item = item.map_err(|why| (StatusCode::BAD_REQUEST, why))?;
        let recorded = state.braze.record_all(vec![fact(item)]);
        recorded.map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The time in Braze's format.
fn now_text() -> String {
    let second = i64::try_from(clock::now().as_secs()).unwrap_or_default();
    let now = Timestamp::from_second(second).unwrap_or_default();
    now.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

async fn create_segments(
    State(shared): State<SandboxHandle>,
    Json(given): Json<Vec<Map<String, Value>>>,
) -> AdminResult<StatusCode> {
    create_items(
        &shared,
        "segment",
        &given,
        |state| &state.braze.store.catalog.segments,
        BrazeStore::check_filters,
        BrazeFact::Segment,
    )
}

async fn create_campaigns(
    State(shared): State<SandboxHandle>,
    Json(given): Json<Vec<Map<String, Value>>>,
) -> AdminResult<StatusCode> {
    create_items(
        &shared,
        "campaign",
        &given,
        |state| &state.braze.store.catalog.campaigns,
        |_, _| Ok(()),
        BrazeFact::Campaign,
    )
}

async fn create_canvases(
    State(shared): State<SandboxHandle>,
    Json(given): Json<Vec<Map<String, Value>>>,
) -> AdminResult<StatusCode> {
    create_items(
        &shared,
        "canvas",
        &given,
        |state| &state.braze.store.catalog.canvases,
        |_, _| Ok(()),
        BrazeFact::Canvas,
    )
}

async fn segments(State(shared): State<SandboxHandle>) -> Json<Value> {
    let state = shared.lock();
    let store = &state.braze.store;
    let entry = |segment| {
        let mut entry = json!(segment);
        entry["size"] = store.in_segment(segment).len().into();
        entry
    };
    Json(store.catalog.segments.iter().map(entry).collect())
}

async fn campaigns(State(shared): State<SandboxHandle>) -> Json<Vec<CampaignOrCanvas>> {
    Json(shared.lock().braze.store.catalog.campaigns.iter().cloned().collect())
}

async fn canvases(State(shared): State<SandboxHandle>) -> Json<Vec<CampaignOrCanvas>> {
    Json(shared.lock().braze.store.catalog.canvases.iter().cloned().collect())
}

async fn members(State(shared): State<SandboxHandle>, Path(id): Path<String>) -> AdminResult<String> {
    let state = shared.lock();
    let store = &state.braze.store;
    let segment = store.catalog.segments.get(&id).ok_or_else(|| not_found("segment", &id))?;
    let members: BTreeSet<String> =
        store.in_segment(segment).into_iter().map(|at| label(store.profiles.get(at))).collect();
    Ok(lines(members))
}

async fn sends(State(shared): State<SandboxHandle>) -> Json<Vec<TriggeredSend>> {
    Json(shared.lock().braze.store.catalog.sends.clone())
}
