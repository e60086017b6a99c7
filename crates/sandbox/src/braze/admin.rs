//! Admin API of Braze: real membership, counters of requests, and users to create or identify.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::profiles::UserProfile;
use super::rest;
use super::store::{BrazeFact, CohortChange, label, no_cohort};
use crate::SandboxHandle;
use crate::admin::{AdminResult, lines};
use crate::faults::Endpoint;

/// Counters of requests and responses. Braze has no such endpoint.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct BrazeCounters {
    /// Requests by endpoint.
    names: u64,
    users: u64,
    /// Responses by status. A request without a response is in none.
    statuses: BTreeMap<u16, u64>,
    /// Identifiers added and removed, and the most in one request.
    added: u64,
    removed: u64,
    identifiers_max: u64,
    /// Requests that both add and remove.
    mixed: u64,
    /// Largest body in bytes.
    body_len_max: u64,
    /// Most cohorts written at the same time.
    at_once_max: u64,
    /// Identifiers that were silently ignored.
    ignored: u64,
    /// Counters of the REST API.
    rest: rest::RestCounters,
    #[serde(skip)]
    locked: BTreeSet<String>,
}

impl BrazeCounters {
    pub(super) fn request(&mut self, endpoint: Endpoint, body_len: usize) {
        match endpoint {
            Endpoint::Cohorts => self.names += 1,
            _ => self.users += 1,
        }
        self.body_len_max = self.body_len_max.max(body_len as u64);
    }

    pub(super) fn response(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    pub(super) fn count_changes(&mut self, changes: &[CohortChange]) {
        let sum = |remove: bool| {
            changes
                .iter()
                .filter(|change| change.should_remove == remove)
                .map(CohortChange::len)
                .sum::<usize>() as u64
        };
        let (added, removed) = (sum(false), sum(true));
        self.added += added;
        self.removed += removed;
        self.identifiers_max = self.identifiers_max.max(added + removed);
        self.mixed += u64::from(added > 0 && removed > 0);
    }

    /// Marks a cohort as being written. `false` if it already is.
    pub(super) fn lock_cohort(&mut self, cohort_id: &str) -> bool {
        let is_free = self.locked.insert(cohort_id.to_owned());
        self.at_once_max = self.at_once_max.max(self.locked.len() as u64);
        is_free
    }

    pub(super) fn unlock_cohort(&mut self, cohort_id: &str) {
        self.locked.remove(cohort_id);
    }
}

/// Endpoints of Braze and their admin API.
pub(crate) fn routes() -> Router<SandboxHandle> {
    Router::new()
        .route("/partners/{partner}/cohorts", post(super::cohorts))
        .route("/partners/{partner}/cohorts/users", post(super::users))
        .route("/_sandbox/cohorts", get(cohorts))
        .route("/_sandbox/cohorts/{id}/members", get(members))
        .route("/_sandbox/attributes/{name}/{value}", get(with_attribute))
        .route("/_sandbox/requests", get(requests))
        .route("/_sandbox/users", post(create_users))
        .route("/_sandbox/identify", post(identify))
        .merge(rest::routes())
        .merge(rest::admin())
}

async fn cohorts(State(shared): State<SandboxHandle>) -> Json<Value> {
    let state = shared.lock();
    let list = state.braze.store.cohorts.iter().map(|(id, cohort)| {
        let (name, created_at) = (&cohort.name, &cohort.created_at);
        json!({ "cohort_id": id, "name": name, "created_at": created_at, "size": state.braze.store.size(id) })
    });
    Json(list.collect())
}

async fn members(State(shared): State<SandboxHandle>, Path(id): Path<String>) -> AdminResult<String> {
    let members = shared.lock().braze.store.members(&id);
    let by_attribute = || format!("GET /_sandbox/attributes/syncline_cohorts/{id}");
    Ok(lines(members.ok_or_else(|| (StatusCode::NOT_FOUND, no_cohort(&id, &by_attribute())))?))
}

async fn with_attribute(
    State(shared): State<SandboxHandle>,
    Path((name, value)): Path<(String, String)>,
) -> String {
    let state = shared.lock();
    let store = &state.braze.store;
    let labels: BTreeSet<String> =
        store.with_attribute(&name, &value).map(|at| label(store.profiles.get(at))).collect();
    lines(labels)
}

async fn requests(State(shared): State<SandboxHandle>) -> Json<BrazeCounters> {
    let state = shared.lock();
    let (ignored, rest) = (state.braze.store.ignored, state.braze.rest.counters.clone());
    Json(BrazeCounters { ignored, rest, ..state.braze.counters.clone() })
}

async fn create_users(
    State(shared): State<SandboxHandle>,
    Json(users): Json<Vec<UserProfile>>,
) -> StatusCode {
    record(&shared, users.into_iter().map(BrazeFact::User))
}

#[derive(Deserialize)]
struct IdentifyUser {
    device_id: String,
    external_id: String,
}

async fn identify(State(shared): State<SandboxHandle>, Json(body): Json<IdentifyUser>) -> StatusCode {
    let IdentifyUser { device_id, external_id } = body;
    record(&shared, [BrazeFact::Identified { device_id, external_id }])
}

fn record(shared: &SandboxHandle, facts: impl IntoIterator<Item = BrazeFact>) -> StatusCode {
    match shared.lock().braze.record_all(facts.into_iter().collect()) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
