//! Delivery to Braze: names cohorts, sends members, and says what Braze made of it. By the partner's cohort
//! import, or as attributes of profiles. What the workspace's own key may ask is in [`rest`].
//!
//! Source: Braze, "Partner cohort import": `POST {base}/partners/{partner}/cohorts` and `…/cohorts/users`,
//! both keys in the body; there is no endpoint that reads anything back. "Track users": `POST
//! {base}/users/track`, the key in `Authorization`. What to do about an answer is
//! decided by `apply`.

mod answer;
mod key_fingerprint;
mod rate_limit;
pub mod rest;
mod trigger;
mod wire;

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

pub use answer::{BrazeReply, RemainingQuota, ReplyDetails, RowError};
pub use key_fingerprint::{BrazeKeyKind, mark};
pub use rate_limit::{Admission, RateLimiter};
pub use trigger::{RECIPIENTS_MAX, Recipient};

use super::http::{Auth, HttpClient, HttpError};
use crate::config::{BrazeConfig, Secret};
use crate::model::{ChangeOp, Clock, CohortId, DeliveryMethod, Identifier, Timestamp, timestamp_text};

/// The keys of a workspace, as far as they are there.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceKeySet {
    /// Those of the cohort import.
    pub import: Option<ImportKeys>,
    /// That of the REST side, for what is delivered by attribute.
    pub rest: Option<Secret>,
}

/// The keys of the cohort import.
#[derive(Clone, Debug)]
pub struct ImportKeys {
    /// The customer's data import key, sent as `client_secret`.
    pub data_import: Secret,
    /// The partner's API key.
    pub partner_api: Secret,
}

/// One Braze workspace, to write to.
#[derive(Debug)]
pub struct BrazeClient {
    http: HttpClient,
    cohorts_url: String,
    users_url: String,
    track_url: String,
    base: String,
    keys: WorkspaceKeySet,
    clock: Clock,
    seats: Semaphore,
    /// Hold requests back while a rate limit is used up; shared by all cohorts of the workspace.
    import_gate: RateLimiter,
    track_gate: RateLimiter,
    trigger_gate: RateLimiter,
    /// The side that can be asked, if there is a key.
    rest: Option<rest::BrazeRestClient>,
}

/// The window of `/users/track` (Braze, "API limits": 3,000 in 3 seconds).
const TRACK_WINDOW: Duration = Duration::from_secs(3);

impl BrazeClient {
    /// Connects to the workspace at `base`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`HttpError::Client`] when there can be no client at all.
    pub fn new(
        config: &BrazeConfig,
        base: &str,
        keys: WorkspaceKeySet,
        clock: Clock,
    ) -> Result<Self, HttpError> {
        let agent = format!("partner-{}-Syncline/{}", config.organization, env!("CARGO_PKG_VERSION"));
        let http = HttpClient::new(base, agent, config.timeout)?;
        let cohorts_url = format!("{base}/partners/{}/cohorts", config.partner);
        let users_url = format!("{cohorts_url}/users");
        let track_url = format!("{base}/users/track");
        let import_gate = RateLimiter::new(config.retry.longest_wait);
        let rest = keys
            .rest
            .clone()
            .map(|key| rest::BrazeRestClient::new(config, base, key, clock, config.retry.longest_wait));
        let (rest, base) = (rest.transpose()?, base.to_owned());
        let trigger_gate = RateLimiter::new(config.retry.longest_wait);
        let track_gate = RateLimiter::of_windows(config.retry.longest_wait, TRACK_WINDOW);
        let seats = Semaphore::new(config.cohorts_at_once);
        Ok(Self {
            http,
            cohorts_url,
            users_url,
            track_url,
            base,
            keys,
            clock,
            seats,
            import_gate,
            track_gate,
            trigger_gate,
            rest,
        })
    }

    /// The fingerprint of a key: see [`mark()`]. None: there is no such key.
    #[must_use]
    pub fn mark(&self, salt: &str, kind: BrazeKeyKind) -> Option<String> {
        let key = match kind {
            BrazeKeyKind::DataImport => self.keys.import.as_ref().map(|keys| &keys.data_import),
            BrazeKeyKind::Rest => self.keys.rest.as_ref(),
        };
        key.map(|key| mark(salt, kind, key))
    }

    /// Whether there are the keys that this way needs.
    #[must_use]
    pub fn can_deliver(&self, delivery: &DeliveryMethod) -> bool {
        match BrazeKeyKind::of(delivery) {
            BrazeKeyKind::DataImport => self.keys.import.is_some(),
            BrazeKeyKind::Rest => self.keys.rest.is_some(),
        }
    }

    /// Whether there are the keys of the cohort import.
    #[must_use]
    pub fn has_import_keys(&self) -> bool {
        self.keys.import.is_some()
    }

    /// What holds requests of this way back.
    #[must_use]
    pub fn gate(&self, delivery: &DeliveryMethod) -> &RateLimiter {
        match delivery {
            DeliveryMethod::CohortImport => &self.import_gate,
            DeliveryMethod::Array(_) | DeliveryMethod::Boolean(_) => &self.track_gate,
        }
    }

    /// The side that can be asked, if there is a key.
    #[must_use]
    pub fn rest(&self) -> Option<&rest::BrazeRestClient> {
        self.rest.as_ref()
    }

    /// What holds triggers back.
    #[must_use]
    pub fn trigger_gate(&self) -> &RateLimiter {
        &self.trigger_gate
    }

    /// A seat for one request. Whoever has waited longest is next, so cohorts take turns.
    pub async fn seat(&self) -> Option<SemaphorePermit<'_>> {
        // A closed semaphore is one that nobody closes: there is nothing to wait for then.
        self.seats.acquire().await.ok()
    }

    /// Creates the cohort, or renames it.
    pub async fn name(&self, cohort: &CohortId, name: &str, created_at: Timestamp) -> ReplyDetails {
        let Some(keys) = &self.keys.import else { return self.no_key(&self.import_gate) };
        let body = wire::name(keys, cohort, name, &timestamp_text(created_at));
        self.import(&self.cohorts_url, body, &wire::ArrayLayout::default()).await
    }

    /// Adds or removes members. Errors that Braze names are told by the place in `members`.
    pub async fn change(
        &self,
        delivery: &DeliveryMethod,
        cohort: &CohortId,
        op: ChangeOp,
        members: &[Identifier<'_>],
    ) -> ReplyDetails {
        match delivery {
            DeliveryMethod::CohortImport => {
                let Some(keys) = &self.keys.import else { return self.no_key(&self.import_gate) };
                let (body, layout) = wire::change(keys, cohort, op, members);
                self.import(&self.users_url, body, &layout).await
            }
            DeliveryMethod::Array(_) | DeliveryMethod::Boolean(_) => {
                let (body, layout) = wire::attributes(delivery, cohort, op, members);
                self.track(body, &layout).await
            }
        }
    }

    /// Tries a key by an empty change, which Braze answers like any other: of a cohort with the keys of the cohort
    /// import, of attributes with the REST key. Returns the answer, and when it was sent by Braze's clock. None: there
    /// is no such key.
    ///
    /// Source: the credential test of a partner in production; the documents have none.
    pub async fn greet(&self, kind: BrazeKeyKind) -> Option<(ReplyDetails, Option<Timestamp>)> {
        let result = match kind {
            BrazeKeyKind::DataImport => {
                let keys = self.keys.import.as_ref()?;
                self.http.post_json(&self.users_url, wire::nobody(keys)).await
            }
            BrazeKeyKind::Rest => {
                let (key, nobody) = (self.keys.rest.as_ref()?, br#"{"attributes":[]}"#.to_vec());
                self.http.post_as(&self.track_url, &Auth::Bearer(key.expose()), nobody).await
            }
        };
        let sent_at = result.as_ref().ok().and_then(super::http::HttpReply::sent_at);
        Some((answer::read(&result, &wire::ArrayLayout::default(), self.clock.now()), sent_at))
    }

    async fn import(&self, url: &str, body: Vec<u8>, layout: &wire::ArrayLayout) -> ReplyDetails {
        let result = self.http.post_json(url, body).await;
        let now = self.clock.now();
        let reply = answer::read(&result, layout, now);
        self.import_gate.learn(&reply, now);
        reply
    }

    async fn track(&self, body: Vec<u8>, layout: &wire::ArrayLayout) -> ReplyDetails {
        let Some(key) = &self.keys.rest else { return self.no_key(&self.track_gate) };
        let result = self.http.post_as(&self.track_url, &Auth::Bearer(key.expose()), body).await;
        let now = self.clock.now();
        let reply = answer::read(&result, layout, now);
        self.track_gate.learn(&reply, now);
        reply
    }

    /// Nothing is asked without a key.
    fn no_key(&self, gate: &RateLimiter) -> ReplyDetails {
        let reply = ReplyDetails {
            answer: BrazeReply::Unauthorized("there is no key for this".to_owned()),
            left: None,
        };
        gate.learn(&reply, self.clock.now());
        reply
    }
}
