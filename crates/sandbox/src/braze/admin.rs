//! The admin API of Braze: real membership, counters of requests, and users to create or identify.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::people::Person;
use super::rest;
use super::store::{Change, Fact, label};
use crate::Shared;
use crate::faults::Endpoint;

/// What was asked and answered so far. Nothing of this exists in Braze.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Counters {
    /// Requests by endpoint.
    names: u64,
    users: u64,
    /// Answers by status; a request without an answer is in none.
    statuses: BTreeMap<u16, u64>,
    /// Identifiers that were added and removed, and the most in one request.
    added: u64,
    removed: u64,
    identifiers_max: u64,
    /// Requests that both add and remove.
    mixed: u64,
    /// Largest body in bytes.
    body_len_max: u64,
    /// Most cohorts that were written to at once.
    at_once_max: u64,
    /// Identifiers that Braze would ignore in silence.
    ignored: u64,
    /// What the REST side was asked.
    rest: rest::Counters,
    #[serde(skip)]
    busy: BTreeSet<String>,
}

impl Counters {
    pub(super) fn request(&mut self, endpoint: Endpoint, body_len: usize) {
        match endpoint {
            Endpoint::Cohorts => self.names += 1,
            _ => self.users += 1,
        }
        self.body_len_max = self.body_len_max.max(body_len as u64);
    }

    pub(super) fn answered(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    pub(super) fn changed(&mut self, changes: &[Change]) {
        let sum = |remove: bool| {
            changes.iter().filter(|change| change.should_remove == remove).map(Change::len).sum::<usize>()
                as u64
        };
        let (added, removed) = (sum(false), sum(true));
        self.added += added;
        self.removed += removed;
        self.identifiers_max = self.identifiers_max.max(added + removed);
        self.mixed += u64::from(added > 0 && removed > 0);
    }

    /// Marks a cohort as being written to. `false` if it is already.
    pub(super) fn begin(&mut self, cohort_id: &str) -> bool {
        let free = self.busy.insert(cohort_id.to_owned());
        self.at_once_max = self.at_once_max.max(self.busy.len() as u64);
        free
    }

    pub(super) fn end(&mut self, cohort_id: &str) {
        self.busy.remove(cohort_id);
    }
}

/// Endpoints of Braze and their admin API.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/partners/{partner}/cohorts", post(super::cohorts))
        .route("/partners/{partner}/cohorts/users", post(super::users))
        .route("/_sandbox/cohorts", get(cohorts))
        .route("/_sandbox/cohorts/{id}/members", get(members))
        .route("/_sandbox/attributes/{name}/{value}", get(with_attribute))
        .route("/_sandbox/requests", get(requests))
        .route("/_sandbox/people", post(people))
        .route("/_sandbox/identify", post(identify))
        .merge(rest::routes())
        .merge(rest::admin())
}

async fn cohorts(State(shared): State<Shared>) -> Json<Value> {
    let inner = shared.lock();
    let list = inner.braze.store.cohorts.iter().map(|(id, cohort)| {
        let (name, created_at) = (&cohort.name, &cohort.created_at);
        json!({ "cohort_id": id, "name": name, "created_at": created_at, "size": inner.braze.store.size(id) })
    });
    Json(list.collect())
}

async fn members(State(shared): State<Shared>, Path(id): Path<String>) -> Result<String, StatusCode> {
    let members = shared.lock().braze.store.members(&id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(members.into_iter().map(|member| member + "\n").collect())
}

async fn with_attribute(State(shared): State<Shared>, Path((name, value)): Path<(String, String)>) -> String {
    let inner = shared.lock();
    let store = &inner.braze.store;
    let labels: BTreeSet<String> =
        store.with_attribute(&name, &value).map(|at| label(store.profiles.get(at))).collect();
    labels.into_iter().map(|member| member + "\n").collect()
}

async fn requests(State(shared): State<Shared>) -> Json<Counters> {
    let inner = shared.lock();
    let (ignored, rest) = (inner.braze.store.ignored, inner.braze.rest.counters.clone());
    Json(Counters { ignored, rest, ..inner.braze.counters.clone() })
}

async fn people(State(shared): State<Shared>, Json(people): Json<Vec<Person>>) -> StatusCode {
    learn(&shared, people.into_iter().map(Fact::Person))
}

#[derive(Deserialize)]
struct Identify {
    device_id: String,
    external_id: String,
}

async fn identify(State(shared): State<Shared>, Json(body): Json<Identify>) -> StatusCode {
    let Identify { device_id, external_id } = body;
    learn(&shared, [Fact::Identified { device_id, external_id }])
}

fn learn(shared: &Shared, facts: impl IntoIterator<Item = Fact>) -> StatusCode {
    match shared.lock().braze.keep_all(facts.into_iter().collect()) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
