//! The admin API of segments and their webhook.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Segment;
use super::deliver::{Order, Refusal, run};
use super::webhook::Webhook;
use crate::Shared;

pub(crate) fn routes() -> Router<Shared> {
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

async fn webhook(State(shared): State<Shared>, Json(webhook): Json<Webhook>) -> Response {
    if webhook.url.is_empty() || webhook.secret.is_empty() {
        return (StatusCode::BAD_REQUEST, "a webhook has a `url` and a `secret`").into_response();
    }
    shared.lock().segments.webhook = Some(Arc::new(webhook));
    StatusCode::NO_CONTENT.into_response()
}

/// People by number: so many texts need not be sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbered {
    prefix: String,
    #[serde(default)]
    from: u64,
    count: u64,
}

impl Numbered {
    fn ids(&self) -> impl Iterator<Item = String> {
        (self.from..self.from + self.count).map(|n| format!("{}{n}", self.prefix))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Define {
    id: i64,
    name: String,
    #[serde(default)]
    members: Vec<String>,
    numbered: Option<Numbered>,
}

async fn define(State(shared): State<Shared>, Json(body): Json<Define>) -> StatusCode {
    let Define { id, name, mut members, numbered } = body;
    members.extend(numbered.iter().flat_map(Numbered::ids));
    let mut inner = shared.lock();
    let segment = inner.segments.segments.entry(id).or_default();
    segment.name = name;
    segment.members.define(members);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
    add_numbered: Option<Numbered>,
    remove_numbered: Option<Numbered>,
}

async fn change(State(shared): State<Shared>, Path(id): Path<i64>, Json(body): Json<Change>) -> StatusCode {
    let Change { mut add, mut remove, add_numbered, remove_numbered } = body;
    add.extend(add_numbered.iter().flat_map(Numbered::ids));
    remove.extend(remove_numbered.iter().flat_map(Numbered::ids));
    with(&shared, id, |segment| segment.members.change(add, remove))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    name: String,
}

async fn rename(State(shared): State<Shared>, Path(id): Path<i64>, Json(body): Json<Rename>) -> StatusCode {
    with(&shared, id, |segment| segment.name = body.name)
}

fn with(shared: &Shared, id: i64, change: impl FnOnce(&mut Segment)) -> StatusCode {
    match shared.lock().segments.segments.get_mut(&id) {
        Some(segment) => {
            change(segment);
            StatusCode::NO_CONTENT
        }
        None => StatusCode::NOT_FOUND,
    }
}

async fn list(State(shared): State<Shared>) -> Json<Value> {
    let inner = shared.lock();
    let list = inner.segments.segments.iter().map(|(id, segment)| {
        let (size, delivered) = (segment.members.list().count(), segment.members.delivered_list().count());
        json!({ "id": id, "name": segment.name, "size": size, "delivered": delivered })
    });
    Json(list.collect())
}

async fn members(State(shared): State<Shared>, Path(id): Path<i64>) -> Result<String, StatusCode> {
    let inner = shared.lock();
    let segment = inner.segments.segments.get(&id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(lines(segment.members.list()))
}

async fn delivered(State(shared): State<Shared>, Path(id): Path<i64>) -> Result<String, StatusCode> {
    let inner = shared.lock();
    let segment = inner.segments.segments.get(&id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(lines(segment.members.delivered_list()))
}

fn lines<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    ids.fold(String::new(), |mut text, id| {
        text.push_str(id);
        text.push('\n');
        text
    })
}

#[derive(Deserialize)]
struct Asked {
    segment: Option<i64>,
    wait: Option<bool>,
}

async fn sync(State(shared): State<Shared>, Query(asked): Query<Asked>) -> Response {
    start(&shared, Order::Sync(asked.segment), asked.wait).await
}

async fn drain(State(shared): State<Shared>, Path(id): Path<i64>, Query(asked): Query<Asked>) -> Response {
    start(&shared, Order::Drain(id), asked.wait).await
}

async fn start(shared: &Shared, order: Order, wait: Option<bool>) -> Response {
    let result = shared.begin(run(shared.clone(), order));
    if wait == Some(false) {
        return (StatusCode::ACCEPTED, Json(json!({ "started": true }))).into_response();
    }
    match result.await {
        Ok(Ok(summary)) => Json(summary).into_response(),
        Ok(Err(Refusal::NoWebhook)) => (StatusCode::CONFLICT, "no webhook is set").into_response(),
        Ok(Err(Refusal::NoSegment)) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn deliveries(State(shared): State<Shared>) -> Json<Value> {
    let inner = shared.lock();
    let segments = &inner.segments;
    let mut tally = json!(segments.tally);
    tally["running"] = segments.running.into();
    Json(tally)
}
