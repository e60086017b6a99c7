//! Shared parts of the admin API: the list of paths, the fault plan, and helpers for the admin routes of all
//! vendors.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::SandboxHandle;
use super::faults::{Endpoint, Fault};

/// The list of paths, served at the root.
const PATHS: &str = include_str!("admin.txt");

pub(super) fn routes() -> Router<SandboxHandle> {
    Router::new()
        .route("/_sandbox/", get(async || PATHS))
        .route("/_sandbox/{*path}", any(async |Path(path): Path<String>| not_found("path", &path)))
        .route("/_sandbox/faults", post(faults))
        .route("/_sandbox/release", post(release))
}

async fn faults(State(shared): State<SandboxHandle>, Json(faults): Json<Vec<Fault>>) -> StatusCode {
    shared.lock().faults.set(faults);
    StatusCode::NO_CONTENT
}

/// Executes the postponed requests.
async fn release(State(shared): State<SandboxHandle>) -> StatusCode {
    let held = std::mem::take(&mut shared.lock().held.0);
    held.into_iter().for_each(|request| request(&shared));
    StatusCode::NO_CONTENT
}

/// A result of the admin API. An error has a text, because `curl` shows no status.
pub(super) type AdminResult<T> = Result<T, (StatusCode, String)>;

/// The error for an item that does not exist.
pub(super) fn not_found(kind: &str, id: &dyn std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("no {kind} `{id}`. GET /_sandbox/ lists the paths\n"))
}

/// One line per item.
pub(super) fn lines<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().fold(String::new(), |mut text, item| {
        text.push_str(item.as_ref());
        text.push('\n');
        text
    })
}

/// Query of the routes that start background work.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct WaitQuery {
    /// `false`: respond at once, before the work ends.
    wait: Option<bool>,
}

impl WaitQuery {
    /// Starts `work` in the background. Returns its result, or the response that is due without one.
    pub(super) async fn start<T: Send + 'static>(
        self,
        shared: &SandboxHandle,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Response> {
        let result = shared.spawn(work);
        if self.wait == Some(false) {
            return Err((StatusCode::ACCEPTED, Json(json!({ "started": true }))).into_response());
        }
        result.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE.into_response())
    }
}

/// Requests by endpoint and responses by status. A request without a response is in no status.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct RequestCounters {
    endpoints: BTreeMap<Endpoint, u64>,
    statuses: BTreeMap<u16, u64>,
}

impl RequestCounters {
    pub(super) fn request(&mut self, endpoint: Endpoint) {
        *self.endpoints.entry(endpoint).or_default() += 1;
    }

    pub(super) fn response(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }
}
