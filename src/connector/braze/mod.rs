//! Braze's partner cohort import: names cohorts, sends members, and says what Braze made of it. What the
//! workspace's own key may ask is in [`rest`].
//!
//! Source: Braze, "Partner cohort import": `POST {base}/partners/{partner}/cohorts` and `…/cohorts/users`,
//! both keys in the body; there is no endpoint that reads anything back. What to do about an answer is
//! decided by `apply`.

mod answer;
mod gate;
mod mark;
pub mod rest;
mod wire;

use tokio::sync::{Semaphore, SemaphorePermit};

pub use answer::{Answer, Left, Reply, RowError};
pub use gate::{Admission, Gate};
pub use mark::{KeyKind, mark};

use super::http::{Http, HttpError};
use crate::config::{Braze as BrazeConfig, Secret};
use crate::model::{Clock, CohortId, Identifier, Op, Timestamp, timestamp_text};

/// The keys of the cohort import.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The customer's data import key, sent as `client_secret`.
    pub data_import: Secret,
    /// The partner's API key.
    pub partner_api: Secret,
}

impl Keys {
    fn all(&self) -> [&Secret; 2] {
        [&self.data_import, &self.partner_api]
    }
}

/// One Braze workspace, to write to.
#[derive(Debug)]
pub struct Braze {
    http: Http,
    cohorts_url: String,
    users_url: String,
    keys: Keys,
    clock: Clock,
    seats: Semaphore,
    /// Holds requests back while the rate limit is used up; shared by all cohorts of the workspace.
    pub gate: Gate,
}

impl Braze {
    /// Connects to the workspace at `base`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`HttpError::Client`] when there can be no client at all.
    pub fn new(config: &BrazeConfig, base: &str, keys: Keys, clock: Clock) -> Result<Self, HttpError> {
        let agent = format!("partner-{}-Syncline/{}", config.organization, env!("CARGO_PKG_VERSION"));
        let http = Http::new(base, agent, config.timeout)?;
        let cohorts_url = format!("{base}/partners/{}/cohorts", config.partner);
        let users_url = format!("{cohorts_url}/users");
        let gate = Gate::new(config.retry.longest_wait);
        let seats = Semaphore::new(config.cohorts_at_once);
        Ok(Self { http, cohorts_url, users_url, keys, clock, seats, gate })
    }

    /// The fingerprint of the workspace: see [`mark()`].
    #[must_use]
    pub fn mark(&self, salt: &str) -> String {
        mark(salt, KeyKind::DataImport, &self.keys.data_import)
    }

    /// A seat for one request. Whoever has waited longest is next, so cohorts take turns.
    pub async fn seat(&self) -> Option<SemaphorePermit<'_>> {
        // A closed semaphore is one that nobody closes: there is nothing to wait for then.
        self.seats.acquire().await.ok()
    }

    /// Creates the cohort, or renames it.
    pub async fn name(&self, cohort: &CohortId, name: &str, created_at: Timestamp) -> Reply {
        let body = wire::name(&self.keys, cohort, name, &timestamp_text(created_at));
        self.post(&self.cohorts_url, body, &wire::Layout::default()).await
    }

    /// Adds or removes members. Errors that Braze names are told by the place in `members`.
    pub async fn change(&self, cohort: &CohortId, op: Op, members: &[Identifier<'_>]) -> Reply {
        let (body, layout) = wire::change(&self.keys, cohort, op, members);
        self.post(&self.users_url, body, &layout).await
    }

    /// Tries the keys by a change of nobody, which Braze answers as it would any other. What it answered, and when
    /// by its own clock.
    ///
    /// Source: the credential test of a partner in production; the documents have none.
    pub async fn greet(&self) -> (Reply, Option<Timestamp>) {
        let result = self.http.post_json(&self.users_url, wire::nobody(&self.keys)).await;
        let sent_at = result.as_ref().ok().and_then(super::http::Answer::sent_at);
        (answer::read(&result, &wire::Layout::default(), &self.keys.all(), self.clock.now()), sent_at)
    }

    async fn post(&self, url: &str, body: Vec<u8>, layout: &wire::Layout) -> Reply {
        let result = self.http.post_json(url, body).await;
        let now = self.clock.now();
        let reply = answer::read(&result, layout, &self.keys.all(), now);
        self.gate.learn(&reply, now);
        reply
    }
}
