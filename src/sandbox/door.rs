//! The private door: what no real Braze tells. Only on loopback, like everything here.
//!
//! | | |
//! |---|---|
//! | `GET /_sandbox/` | this list |
//! | `GET /_sandbox/cohorts` | every cohort with its name and size |
//! | `GET /_sandbox/cohorts/{id}/members` | its members, one a line, sorted |
//! | `GET /_sandbox/requests` | what was asked and answered so far |
//! | `POST /_sandbox/faults` | replaces the fault plan |
//! | `POST /_sandbox/people` | introduces people: `[{"external_id", "aliases", "device_ids"}]` |
//! | `POST /_sandbox/identify` | an anonymous person becomes known: `{"device_id", "external_id"}` |

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Shared;
use super::faults::{Endpoint, Fault};
use super::world::{Change, Fact, Person};

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
    #[serde(skip)]
    busy: BTreeSet<String>,
}

impl Counters {
    pub(super) fn request(&mut self, endpoint: Endpoint, body_len: usize) {
        match endpoint {
            Endpoint::Cohorts => self.names += 1,
            Endpoint::Users => self.users += 1,
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

/// What the door has, for whoever knocks.
const PATHS: &str = "\
GET  /_sandbox/                       this list
GET  /_sandbox/cohorts                every cohort with its name and size
GET  /_sandbox/cohorts/{id}/members   its members, one a line, sorted
GET  /_sandbox/requests               what was asked and answered so far
POST /_sandbox/faults                 replaces the fault plan: [{\"on\": \"users\", \"times\": 2, \"do\": {\"status\": 503}}]
POST /_sandbox/people                 introduces people: [{\"external_id\", \"aliases\", \"device_ids\"}]
POST /_sandbox/identify               an anonymous person becomes known: {\"device_id\", \"external_id\"}
";

pub(super) async fn paths() -> &'static str {
    PATHS
}

pub(super) async fn cohorts(State(shared): State<Shared>) -> Json<Value> {
    let inner = shared.lock();
    let list = inner.world.cohorts.iter().map(|(id, cohort)| {
        let (name, created_at) = (&cohort.name, &cohort.created_at);
        json!({ "cohort_id": id, "name": name, "created_at": created_at, "size": inner.world.size(id) })
    });
    Json(list.collect())
}

pub(super) async fn members(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<String, StatusCode> {
    let members = shared.lock().world.members(&id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(members.into_iter().map(|member| member + "\n").collect())
}

pub(super) async fn requests(State(shared): State<Shared>) -> Json<Counters> {
    let inner = shared.lock();
    Json(Counters { ignored: inner.world.ignored, ..inner.counters.clone() })
}

pub(super) async fn faults(State(shared): State<Shared>, Json(faults): Json<Vec<Fault>>) -> StatusCode {
    shared.lock().faults.set(faults);
    StatusCode::NO_CONTENT
}

pub(super) async fn people(State(shared): State<Shared>, Json(people): Json<Vec<Person>>) -> StatusCode {
    learn(&shared, people.into_iter().map(Fact::Person))
}

#[derive(Deserialize)]
pub(super) struct Identify {
    device_id: String,
    external_id: String,
}

pub(super) async fn identify(State(shared): State<Shared>, Json(body): Json<Identify>) -> StatusCode {
    let Identify { device_id, external_id } = body;
    learn(&shared, [Fact::Identified { device_id, external_id }])
}

fn learn(shared: &Shared, facts: impl IntoIterator<Item = Fact>) -> StatusCode {
    let mut inner = shared.lock();
    for fact in facts {
        if let Some(memory) = &mut inner.memory
            && memory.keep(&fact).is_err()
        {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        inner.world.learn(fact);
    }
    StatusCode::NO_CONTENT
}
