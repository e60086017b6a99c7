//! The private door: what no vendor tells. Only on loopback, like everything here. Each part brings its
//! own paths; those for all of them are here.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::Shared;
use super::faults::Fault;

/// What the door has, for whoever knocks.
const PATHS: &str = include_str!("door.txt");

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/_sandbox/", get(async || PATHS)).route("/_sandbox/faults", post(faults))
}

async fn faults(State(shared): State<Shared>, Json(faults): Json<Vec<Fault>>) -> StatusCode {
    shared.lock().faults.set(faults);
    StatusCode::NO_CONTENT
}
