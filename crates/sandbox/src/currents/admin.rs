//! The admin API of Currents: when events go out, and what came of it.

use std::path::PathBuf;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::generate::Generator;
use super::mix::Mix;
use super::post::{Settings, run};
use super::storage::{Files, write};
use crate::Shared;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/_sandbox/currents/post", post(start))
        .route("/_sandbox/currents/posts", get(posts))
        .route("/_sandbox/currents/acknowledged", get(acknowledged))
        .route("/_sandbox/currents/files", post(files))
}

/// Takes the values of these names out of a body and reads them apart from the rest, so that a name that
/// neither knows is an error.
fn part<T: DeserializeOwned>(body: &mut Map<String, Value>, keys: &[&str]) -> Result<T, String> {
    let own = keys.iter().filter_map(|key| body.remove_entry(*key)).collect();
    serde_json::from_value(Value::Object(own)).map_err(|e| e.to_string())
}

fn bad_request(text: impl Into<String>) -> Response {
    (StatusCode::BAD_REQUEST, text.into()).into_response()
}

#[derive(Deserialize)]
struct Asked {
    wait: Option<bool>,
}

async fn start(
    State(shared): State<Shared>,
    Query(asked): Query<Asked>,
    Json(mut body): Json<Map<String, Value>>,
) -> Response {
    let parts = part::<Settings>(&mut body, &Settings::KEYS).and_then(|settings| {
        Ok((settings, serde_json::from_value::<Mix>(body.into()).map_err(|e| e.to_string())?))
    });
    let (settings, mix) = match parts {
        Ok((settings, _)) if settings.url.is_empty() => return bad_request("a post has a `url`"),
        Ok(parts) => parts,
        Err(error) => return bad_request(error),
    };
    let generator = match Generator::new(mix) {
        Ok(generator) => generator,
        Err(name) => return bad_request(format!("no event type is called {name}")),
    };
    let result = shared.begin(run(shared.clone(), settings, generator));
    if asked.wait == Some(false) {
        return (StatusCode::ACCEPTED, Json(json!({ "started": true }))).into_response();
    }
    match result.await {
        Ok(tally) => Json(tally).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn posts(State(shared): State<Shared>) -> Json<Value> {
    let inner = shared.lock();
    let mut told = json!(inner.currents.tally);
    told["running"] = inner.currents.running.into();
    told["distinct"] = inner.currents.acknowledged.len().into();
    Json(told)
}

async fn acknowledged(State(shared): State<Shared>) -> String {
    let inner = shared.lock();
    let mut ids: Vec<&str> = inner.currents.acknowledged.iter().map(|id| &**id).collect();
    ids.sort_unstable();
    ids.into_iter().flat_map(|id| [id, "\n"]).collect()
}

#[derive(Deserialize)]
struct Out {
    out: PathBuf,
}

async fn files(Json(mut body): Json<Map<String, Value>>) -> Response {
    let keys = ["codec", "prefix", "rows_max", "block_len", "late", "cut", "garbage"];
    let read = |body: &mut Map<String, Value>| {
        let (Out { out }, files) = (part(body, &["out"])?, part::<Files>(body, &keys)?);
        let mix: Mix = serde_json::from_value(std::mem::take(body).into()).map_err(|e| e.to_string())?;
        Ok::<_, String>((out, files, mix))
    };
    let (out, files, mix) = match read(&mut body) {
        Ok(parts) => parts,
        Err(error) => return bad_request(error),
    };
    match tokio::task::spawn_blocking(move || write(&out, &mix, &files)).await {
        Ok(Ok(written)) => Json(written).into_response(),
        Ok(Err(error)) => bad_request(error.to_string()),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
