//! HTTP client of one Braze workspace, with its keys, request slots and rate limiters.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::keys::{BrazeKeyKind, WorkspaceKeySet, key_fingerprint};
use super::reply::{self, BrazeReply};
use super::{rest, wire};
use crate::config::{BrazeConfig, Secret};
use crate::connector::http::{HttpAuth, HttpClient, HttpError, HttpReply};
use crate::connector::rate_limit::RateLimiter;
use crate::model::{Clock, DeliveryMethod, Timestamp};

/// The window of `/users/track` (Braze, "API limits": 3,000 in 3 seconds).
const TRACK_WINDOW: Duration = Duration::from_secs(3);
/// Objects in one request to `/users/track` (Braze, "Track users").
const TRACK_BATCH_LEN_MAX: usize = 75;
const TRACK_REQUESTS_PER_HOUR: u64 = 3_600_000;

/// Limits of a delivery method's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Members in one request.
    pub batch_len_max: usize,
    /// Requests that the rate limit allows in an hour.
    pub requests_per_hour: u64,
}

impl RequestLimits {
    /// The limits of a delivery method. A plan needs them before there is a client.
    #[must_use]
    pub fn of(config: &BrazeConfig, delivery: &DeliveryMethod) -> Self {
        match delivery {
            DeliveryMethod::CohortImport => {
                Self { batch_len_max: config.batch_len_max, requests_per_hour: config.requests_per_hour }
            }
            DeliveryMethod::Array(_) | DeliveryMethod::Boolean(_) => Self {
                batch_len_max: config.batch_len_max.min(TRACK_BATCH_LEN_MAX),
                requests_per_hour: TRACK_REQUESTS_PER_HOUR,
            },
        }
    }
}

/// One Braze workspace.
#[derive(Debug)]
pub struct BrazeClient {
    http: HttpClient,
    cohorts_url: String,
    users_url: String,
    track_url: String,
    base: String,
    pub(super) keys: WorkspaceKeySet,
    clock: Clock,
    pub(super) slots: Semaphore,
    pub(super) import_limiter: RateLimiter,
    pub(super) track_limiter: RateLimiter,
    pub(super) trigger_limiter: RateLimiter,
    rest: Option<rest::BrazeRestClient>,
}

impl BrazeClient {
    /// Connects to the workspace at `base`. Sends nothing yet.
    ///
    /// # Errors
    /// [`HttpError::Client`] when there can be no client.
    pub fn new(
        config: &BrazeConfig,
        base: &str,
        keys: WorkspaceKeySet,
        clock: Clock,
    ) -> Result<Self, HttpError> {
        let agent = format!("partner-{}-Syncline/{}", config.organization, env!("CARGO_PKG_VERSION"));
        let cohorts_url = format!("{base}/partners/{}/cohorts", config.partner);
        let longest_wait = config.retry.longest_wait;
        let rest_client = |key| rest::BrazeRestClient::new(config, base, key, clock, longest_wait);
        let rest = keys.rest.clone().map(rest_client).transpose()?;
        Ok(Self {
            http: HttpClient::new(base, agent, config.timeout)?,
            users_url: format!("{cohorts_url}/users"),
            cohorts_url,
            track_url: format!("{base}/users/track"),
            base: base.to_owned(),
            keys,
            clock,
            slots: Semaphore::new(config.cohorts_at_once),
            import_limiter: RateLimiter::hourly(longest_wait),
            track_limiter: RateLimiter::with_window(longest_wait, TRACK_WINDOW),
            trigger_limiter: RateLimiter::hourly(longest_wait),
            rest,
        })
    }

    /// The fingerprint of a key: see [`key_fingerprint()`]. `None` without such a key.
    #[must_use]
    pub fn key_fingerprint(&self, salt: &str, kind: BrazeKeyKind) -> Option<String> {
        let key = match kind {
            BrazeKeyKind::DataImport => self.keys.import.as_ref().map(|keys| &keys.data_import),
            BrazeKeyKind::Rest => self.keys.rest.as_ref(),
        };
        key.map(|key| key_fingerprint(salt, kind, key))
    }

    /// Whether the keys of the cohort import are set.
    #[must_use]
    pub fn has_import_keys(&self) -> bool {
        self.keys.import.is_some()
    }

    /// The client of the endpoints that read. `None` without a REST key.
    #[must_use]
    pub fn rest(&self) -> Option<&rest::BrazeRestClient> {
        self.rest.as_ref()
    }

    /// Tests a key with an empty change: of a cohort with the keys of the cohort import, of attributes with the REST key.
    /// Returns the reply and the time of Braze's clock. `None` without such a key.
    ///
    /// Source: the credential test of a partner in production; Braze documents none.
    pub async fn test_key(&self, kind: BrazeKeyKind) -> Option<(BrazeReply, Option<Timestamp>)> {
        let result = match kind {
            BrazeKeyKind::DataImport => {
                let keys = self.keys.import.as_ref()?;
                self.http.post_json(&self.users_url, wire::empty_change(keys)).await
            }
            BrazeKeyKind::Rest => {
                let (key, body) = (self.keys.rest.as_ref()?, br#"{"attributes":[]}"#.to_vec());
                self.http.post_as(&self.track_url, &HttpAuth::Bearer(key.expose()), body).await
            }
        };
        let sent_at = result.as_ref().ok().and_then(HttpReply::sent_at);
        Some((reply::read(&result, &wire::ArrayLayout::default(), self.clock.now()), sent_at))
    }

    pub(super) async fn post_cohort(&self, body: Vec<u8>) -> BrazeReply {
        let result = self.http.post_json(&self.cohorts_url, body).await;
        self.read(&result, &wire::ArrayLayout::default(), &self.import_limiter)
    }

    pub(super) async fn post_cohort_users(&self, body: Vec<u8>, layout: &wire::ArrayLayout) -> BrazeReply {
        let result = self.http.post_json(&self.users_url, body).await;
        self.read(&result, layout, &self.import_limiter)
    }

    pub(super) async fn post_attributes(
        &self,
        key: &Secret,
        body: Vec<u8>,
        layout: &wire::ArrayLayout,
    ) -> BrazeReply {
        let result = self.http.post_as(&self.track_url, &HttpAuth::Bearer(key.expose()), body).await;
        self.read(&result, layout, &self.track_limiter)
    }

    /// Also returns the body of the response.
    pub(super) async fn post_trigger(
        &self,
        key: &Secret,
        path: &str,
        body: Vec<u8>,
    ) -> (BrazeReply, Option<Vec<u8>>) {
        let url = format!("{}/{path}", self.base);
        let result = self.http.post_as(&url, &HttpAuth::Bearer(key.expose()), body).await;
        let reply = self.read(&result, &wire::ArrayLayout::default(), &self.trigger_limiter);
        (reply, result.ok().map(|response| response.body))
    }

    fn read(
        &self,
        result: &Result<HttpReply, HttpError>,
        layout: &wire::ArrayLayout,
        limiter: &RateLimiter,
    ) -> BrazeReply {
        let now = self.clock.now();
        let reply = reply::read(result, layout, now);
        reply.report_to(limiter, now);
        reply
    }
}
