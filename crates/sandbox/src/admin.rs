//! The admin API: real state, counters and faults. It listens on loopback only, like the whole sandbox. Each vendor's
//! module has its own admin paths; this file has the shared ones.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::Shared;
use super::faults::Fault;

/// The list of paths, served at the root.
const PATHS: &str = include_str!("admin.txt");

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/_sandbox/", get(async || PATHS))
        .route("/_sandbox/faults", post(faults))
        .route("/_sandbox/release", post(release))
}

async fn faults(State(shared): State<Shared>, Json(faults): Json<Vec<Fault>>) -> StatusCode {
    shared.lock().faults.set(faults);
    StatusCode::NO_CONTENT
}

/// Does what the fault plan has held back.
async fn release(State(shared): State<Shared>) -> StatusCode {
    let held = std::mem::take(&mut shared.lock().held.0);
    held.into_iter().for_each(|request| request(&shared));
    StatusCode::NO_CONTENT
}
