//! Admin API of Currents: post events, write files, and read the results.

use std::path::PathBuf;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::files::{FileOptions, write};
use super::generate::Generator;
use super::mix::EventMix;
use super::post::{PostSettings, post_events};
use crate::SandboxHandle;
use crate::admin::{WaitQuery, lines};

pub(crate) fn routes() -> Router<SandboxHandle> {
    Router::new()
        .route("/_sandbox/currents/post", post(start))
        .route("/_sandbox/currents/posts", get(posts))
        .route("/_sandbox/currents/acknowledged", get(acknowledged))
        .route("/_sandbox/currents/files", post(files))
}

/// Removes these keys from a body and parses them apart from the rest, so that unknown keys are errors.
fn take_keys<T: DeserializeOwned>(body: &mut Map<String, Value>, keys: &[&str]) -> Result<T, String> {
    let own = keys.iter().filter_map(|key| body.remove_entry(*key)).collect();
    serde_json::from_value(Value::Object(own)).map_err(|e| e.to_string())
}

fn bad_request(text: impl Into<String>) -> Response {
    (StatusCode::BAD_REQUEST, text.into()).into_response()
}

async fn start(
    State(shared): State<SandboxHandle>,
    Query(wait): Query<WaitQuery>,
    Json(mut body): Json<Map<String, Value>>,
) -> Response {
    let parts = take_keys::<PostSettings>(&mut body, &PostSettings::KEYS).and_then(|settings| {
        Ok((settings, serde_json::from_value::<EventMix>(body.into()).map_err(|e| e.to_string())?))
    });
    let (settings, mix) = match parts {
        Ok((settings, _)) if settings.url.is_empty() => return bad_request("a post needs a `url`"),
        Ok(parts) => parts,
        Err(error) => return bad_request(error),
    };
    let generator = match Generator::new(mix) {
        Ok(generator) => generator,
        Err(name) => return bad_request(format!("unknown event type {name}")),
    };
    match wait.start(&shared, post_events(shared.clone(), settings, generator)).await {
        Ok(counters) => Json(counters).into_response(),
        Err(response) => response,
    }
}

async fn posts(State(shared): State<SandboxHandle>) -> Json<Value> {
    let state = shared.lock();
    let mut report = json!(state.currents.counters);
    report["running"] = state.currents.running.into();
    report["distinct"] = state.currents.acknowledged.len().into();
    Json(report)
}

async fn acknowledged(State(shared): State<SandboxHandle>) -> String {
    let state = shared.lock();
    let mut ids: Vec<&str> = state.currents.acknowledged.iter().map(|id| &**id).collect();
    ids.sort_unstable();
    lines(ids)
}

#[derive(Deserialize)]
struct OutputFolder {
    out: PathBuf,
}

async fn files(Json(mut body): Json<Map<String, Value>>) -> Response {
    let keys = ["codec", "prefix", "rows_max", "block_len", "late", "cut", "garbage"];
    let read = |body: &mut Map<String, Value>| {
        let (OutputFolder { out }, files) =
            (take_keys(body, &["out"])?, take_keys::<FileOptions>(body, &keys)?);
        let mix: EventMix = serde_json::from_value(std::mem::take(body).into()).map_err(|e| e.to_string())?;
        Ok::<_, String>((out, files, mix))
    };
    let (out, files, mix) = match read(&mut body) {
        Ok(parts) => parts,
        Err(error) => return bad_request(error),
    };
    #[allow(clippy::disallowed_methods, reason = "the sandbox does not share code with the program")]
    let written = tokio::task::spawn_blocking(move || write(&out, &mix, &files)).await;
    match written {
        Ok(Ok(written)) => Json(written).into_response(),
        Ok(Err(error)) => bad_request(error.to_string()),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
