//! Admin API of segments and their webhook.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::HeapSegment;
use super::deliver::{SyncError, SyncRequest, run_sync};
use super::webhook::WebhookSettings;
use crate::SandboxHandle;
use crate::admin::{AdminResult, WaitQuery, lines, not_found};

pub(crate) fn routes() -> Router<SandboxHandle> {
    Router::new()
        .route("/_sandbox/heap/webhook", post(webhook))
        .route("/_sandbox/heap/segments", get(list).post(define))
        .route("/_sandbox/heap/segments/{id}/change", post(change))
        .route("/_sandbox/heap/segments/{id}/rename", post(rename))
        .route("/_sandbox/heap/segments/{id}/drain", post(drain))
        .route("/_sandbox/heap/segments/{id}/members", get(members))
        .route("/_sandbox/heap/segments/{id}/delivered", get(delivered))
        .route("/_sandbox/heap/sync", post(sync))
        .route("/_sandbox/heap/deliveries", get(deliveries))
}

async fn webhook(State(shared): State<SandboxHandle>, Json(webhook): Json<WebhookSettings>) -> Response {
    if webhook.url.is_empty() || webhook.secret.is_empty() {
        return (StatusCode::BAD_REQUEST, "a webhook needs a `url` and a `secret`").into_response();
    }
    shared.lock().segments.webhook = Some(Arc::new(webhook));
    StatusCode::NO_CONTENT.into_response()
}

/// Numbered ids, so that requests need not list many ids.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberedIds {
    prefix: String,
    #[serde(default)]
    from: u64,
    count: u64,
}

impl NumberedIds {
    fn ids(&self) -> impl Iterator<Item = String> {
        (self.from..self.from + self.count).map(|n| format!("{}{n}", self.prefix))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefineSegment {
    id: i64,
    name: String,
    #[serde(default)]
    members: Vec<String>,
    numbered: Option<NumberedIds>,
}

async fn define(State(shared): State<SandboxHandle>, Json(body): Json<DefineSegment>) -> StatusCode {
    let DefineSegment { id, name, mut members, numbered } = body;
    members.extend(numbered.iter().flat_map(NumberedIds::ids));
    let mut state = shared.lock();
    let segment = state.segments.segments.entry(id).or_default();
    segment.name = name;
    segment.members.define(members);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeSegment {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
    add_numbered: Option<NumberedIds>,
    remove_numbered: Option<NumberedIds>,
}

async fn change(
    State(shared): State<SandboxHandle>,
    Path(id): Path<i64>,
    Json(body): Json<ChangeSegment>,
) -> AdminResult<StatusCode> {
    let ChangeSegment { mut add, mut remove, add_numbered, remove_numbered } = body;
    add.extend(add_numbered.iter().flat_map(NumberedIds::ids));
    remove.extend(remove_numbered.iter().flat_map(NumberedIds::ids));
    with_segment(&shared, id, |segment| segment.members.change(add, remove))?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenameSegment {
    name: String,
}

async fn rename(
    State(shared): State<SandboxHandle>,
    Path(id): Path<i64>,
    Json(body): Json<RenameSegment>,
) -> AdminResult<StatusCode> {
    with_segment(&shared, id, |segment| segment.name = body.name)?;
    Ok(StatusCode::NO_CONTENT)
}

fn with_segment<T>(
    shared: &SandboxHandle,
    id: i64,
    work: impl FnOnce(&mut HeapSegment) -> T,
) -> AdminResult<T> {
    let mut state = shared.lock();
    state.segments.segments.get_mut(&id).map(work).ok_or_else(|| not_found("segment", &id))
}

async fn list(State(shared): State<SandboxHandle>) -> Json<Value> {
    let state = shared.lock();
    let list = state.segments.segments.iter().map(|(id, segment)| {
        let (size, delivered) = (segment.members.list().count(), segment.members.delivered_list().count());
        json!({ "id": id, "name": segment.name, "size": size, "delivered": delivered })
    });
    Json(list.collect())
}

async fn members(State(shared): State<SandboxHandle>, Path(id): Path<i64>) -> AdminResult<String> {
    with_segment(&shared, id, |segment| lines(segment.members.list()))
}

async fn delivered(State(shared): State<SandboxHandle>, Path(id): Path<i64>) -> AdminResult<String> {
    with_segment(&shared, id, |segment| lines(segment.members.delivered_list()))
}

#[derive(Deserialize)]
struct SegmentQuery {
    segment: Option<i64>,
}

async fn sync(
    State(shared): State<SandboxHandle>,
    Query(query): Query<SegmentQuery>,
    Query(wait): Query<WaitQuery>,
) -> Response {
    start(&shared, SyncRequest::Sync(query.segment), wait).await
}

async fn drain(
    State(shared): State<SandboxHandle>,
    Path(id): Path<i64>,
    Query(wait): Query<WaitQuery>,
) -> Response {
    start(&shared, SyncRequest::Drain(id), wait).await
}

async fn start(shared: &SandboxHandle, request: SyncRequest, wait: WaitQuery) -> Response {
    match wait.start(shared, run_sync(shared.clone(), request)).await {
        Ok(Ok(summary)) => Json(summary).into_response(),
        Ok(Err(SyncError::NoWebhook)) => (StatusCode::CONFLICT, "no webhook is set").into_response(),
        Ok(Err(SyncError::NoSegment(id))) => not_found("segment", &id).into_response(),
        Err(response) => response,
    }
}

async fn deliveries(State(shared): State<SandboxHandle>) -> Json<Value> {
    let state = shared.lock();
    let segments = &state.segments;
    let mut report = json!(segments.counters);
    report["running"] = segments.running.into();
    Json(report)
}
