//! Client of Braze's REST endpoints that read: segments, campaigns, Canvases, and user profiles.
//!
//! Source: Braze, "Export segments list", "Export segment details", "Export segment analytics", the same pages
//! for campaigns and Canvases, "Export user profile by identifier", "API limits". All requests only read, so a request
//! without a response is sent again.
//!
//! # Guarantees
//! A list is complete: it is read until a page has no new items, because no document says that a short page is the last.
//! A response that cannot be parsed is an error and never an empty list. Errors contain no key.

mod bodies;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

use super::keys::{BrazeKeyKind, key_fingerprint};
use super::reply;
use super::wire::ArrayLayout;
use crate::config::{BrazeConfig, Secret};
use crate::connector::destination::{LOOKUP_MAX, ProfileLookup, RequestFailure, RequestOutcome};
use crate::connector::headers::display_text;
use crate::connector::http::{HttpAuth, HttpClient, HttpError};
use crate::connector::rate_limit::{Admission, RateLimiter, RemainingQuota};
use crate::foreign::{json_error, without_users};
use crate::model::{Clock, Identifier, IdentifierKind};
use crate::retry::{Retry, RetryPolicy};
use crate::wait_log;

pub use bodies::{ListEntry, MessagingDetails, SegmentDetails, SizeOfDay};

/// Most pages of a list: a hundred thousand items.
const PAGES_MAX: usize = 1_000;
/// Users in one export request (Braze, "Export user profile by identifier").
const IDS_MAX: usize = LOOKUP_MAX;

/// Why Braze gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// 401: the key does not belong to this workspace.
    #[error("the REST key is rejected: {0}")]
    Unauthorized(String),
    /// The key is not the recorded one, so the response would be about another workspace.
    #[error("the REST key is not the one recorded in this state")]
    OtherWorkspace,
    /// 403: the key lacks a permission.
    #[error("the REST key lacks the permission `{permission}`: {message}")]
    Forbidden {
        /// The missing permission.
        permission: &'static str,
        /// Braze's message.
        message: String,
    },
    /// All attempts failed.
    #[error("Braze does not respond: {0}")]
    Unavailable(String),
    /// The limit resets after the longest wait.
    #[error("the rate limit of `{0}` is used up")]
    RateLimited(&'static str),
    /// A response that is not an expected one.
    #[error("`{path}` returned status {status}: {message}")]
    Unexpected {
        /// The path of the request.
        path: &'static str,
        /// The status.
        status: u16,
        /// Braze's message, or the fault in its response.
        message: String,
    },
}

/// An endpoint with the permission that it needs.
#[derive(Clone, Copy, Debug)]
struct RestEndpoint {
    path: &'static str,
    permission: &'static str,
}

const fn endpoint(path: &'static str, permission: &'static str) -> RestEndpoint {
    RestEndpoint { path, permission }
}

const SEGMENTS: RestEndpoint = endpoint("/segments/list", "segments.list");
const SEGMENT: RestEndpoint = endpoint("/segments/details", "segments.details");
const SIZES: RestEndpoint = endpoint("/segments/data_series", "segments.data_series");
const CAMPAIGNS: RestEndpoint = endpoint("/campaigns/list", "campaigns.list");
const CAMPAIGN: RestEndpoint = endpoint("/campaigns/details", "campaigns.details");
const CANVASES: RestEndpoint = endpoint("/canvas/list", "canvas.list");
const CANVAS: RestEndpoint = endpoint("/canvas/details", "canvas.details");
const EXPORT: RestEndpoint = endpoint("/users/export/ids", "users.export.ids");

/// The kind of a message that targets segments. Both kinds have the same endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessagingKind {
    /// Campaigns.
    Campaign,
    /// Canvases.
    Canvas,
}

impl ProfileLookup for BrazeRestClient {
    fn unknown_users<'a>(
        &'a self,
        kind: IdentifierKind,
        users: &'a [Identifier<'a>],
    ) -> BoxFuture<'a, Result<Vec<Identifier<'a>>, String>> {
        Box::pin(async move {
            let body = bodies::users_body(kind, users);
            let reply = self.request(EXPORT, "", Some(&body)).await;
            let exported = reply.and_then(|reply| parse::<bodies::ExportedUsers>(EXPORT, &reply));
            let values = users.iter().map(|user| user.value);
            let exported = exported.map_err(|error| without_users(&error.to_string(), values))?;
            Ok(users.iter().filter(|user| !exported.contains(user)).copied().collect())
        })
    }
}

/// The read-only client of one Braze workspace.
#[derive(Debug)]
pub struct BrazeRestClient {
    http: HttpClient,
    base: String,
    key: Secret,
    clock: Clock,
    retry: RetryPolicy,
    /// Lists, details and sizes share one limit.
    list_limiter: RateLimiter,
    /// Exports of users have their own limit.
    export_limiter: RateLimiter,
}

impl BrazeRestClient {
    /// Connects to the workspace at `base`. Sends nothing yet. No single wait is longer than `longest_wait`.
    ///
    /// # Errors
    /// [`HttpError::Client`] when there can be no client.
    pub fn new(
        config: &BrazeConfig,
        base: &str,
        key: Secret,
        clock: Clock,
        longest_wait: Duration,
    ) -> Result<Self, HttpError> {
        let agent = format!("Syncline/{}", env!("CARGO_PKG_VERSION"));
        let longest_wait = config.retry.longest_wait.min(longest_wait);
        Ok(Self {
            http: HttpClient::new(base, agent, config.timeout)?,
            base: base.to_owned(),
            key,
            clock,
            retry: RetryPolicy { longest_wait, ..config.retry },
            list_limiter: RateLimiter::hourly(longest_wait),
            export_limiter: RateLimiter::hourly(longest_wait),
        })
    }

    /// The fingerprint of the REST key: see [`key_fingerprint()`].
    #[must_use]
    pub fn key_fingerprint(&self, salt: &str) -> String {
        key_fingerprint(salt, BrazeKeyKind::Rest, &self.key)
    }

    /// The remaining quota of each rate limit that a response has reported.
    #[must_use]
    pub fn remaining_quotas(&self) -> Vec<(&'static str, RemainingQuota)> {
        let limits = [
            ("segments, campaigns and Canvases", &self.list_limiter),
            ("`/users/export/ids`", &self.export_limiter),
        ];
        limits.into_iter().filter_map(|(name, limiter)| Some((name, limiter.remaining()?))).collect()
    }

    /// All segments that are not archived. Braze lists no archived segments.
    ///
    /// # Errors
    /// [`RestError`] when the list cannot be read to its end.
    pub async fn segments(&self) -> Result<Vec<ListEntry>, RestError> {
        self.all(SEGMENTS, &[], |page: bodies::SegmentsPage| page.segments).await
    }

    /// A segment, also an archived one. `None` if Braze has no segment with this id.
    ///
    /// # Errors
    /// [`RestError`] when there is no result.
    pub async fn segment(&self, id: &str) -> Result<Option<SegmentDetails>, RestError> {
        self.get_optional(SEGMENT, &[("segment_id", id)]).await
    }

    /// Braze's estimated sizes of the last days.
    ///
    /// # Errors
    /// [`RestError`] when there is no result.
    pub async fn sizes(&self, id: &str, days: u32) -> Result<Vec<SizeOfDay>, RestError> {
        let days = days.to_string();
        let series: bodies::SizeSeries = self.get(SIZES, &[("segment_id", id), ("length", &days)]).await?;
        Ok(series.data)
    }

    /// All campaigns or Canvases, with archived ones.
    ///
    /// # Errors
    /// [`RestError`] when the list cannot be read to its end.
    pub async fn list(&self, kind: MessagingKind) -> Result<Vec<ListEntry>, RestError> {
        const ARCHIVED: [(&str, &str); 1] = [("include_archived", "true")];
        match kind {
            MessagingKind::Campaign => {
                self.all(CAMPAIGNS, &ARCHIVED, |page: bodies::CampaignsPage| page.campaigns).await
            }
            MessagingKind::Canvas => {
                self.all(CANVASES, &ARCHIVED, |page: bodies::CanvasPage| page.canvases).await
            }
        }
    }

    /// A campaign or a Canvas. `None` if Braze has none with this id.
    ///
    /// # Errors
    /// [`RestError`] when there is no result.
    pub async fn details(
        &self,
        kind: MessagingKind,
        id: &str,
    ) -> Result<Option<MessagingDetails>, RestError> {
        match kind {
            MessagingKind::Campaign => self.get_optional(CAMPAIGN, &[("campaign_id", id)]).await,
            MessagingKind::Canvas => self.get_optional(CANVAS, &[("canvas_id", id)]).await,
        }
    }

    /// The external ids among these without a Braze profile.
    ///
    /// # Errors
    /// [`RestError`] when there is no result.
    pub async fn unknown_external_ids(&self, external_ids: &[String]) -> Result<Vec<String>, RestError> {
        let mut unknown = Vec::new();
        for chunk in external_ids.chunks(IDS_MAX) {
            let body = bodies::export_body(chunk);
            let exported: bodies::ExportedUsers = {
                let span = tracing::debug_span!("batch", members = chunk.len());
                parse(EXPORT, &self.request(EXPORT, "", Some(&body)).instrument(span).await?)?
            };
            let known: BTreeSet<String> =
                exported.users.into_iter().filter_map(|user| user.external_id).collect();
            unknown.extend(chunk.iter().filter(|id| !known.contains(*id)).cloned());
        }
        Ok(unknown)
    }

    /// Reads a list until a page has no new items. A server without pages repeats the first page, which has none.
    async fn all<P: DeserializeOwned>(
        &self,
        endpoint: RestEndpoint,
        query: &[(&str, &str)],
        items: impl Fn(P) -> Vec<ListEntry>,
    ) -> Result<Vec<ListEntry>, RestError> {
        let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
        for page in 0..PAGES_MAX {
            let page = page.to_string();
            let query = [query, &[("page", page.as_str())]].concat();
            let found = items(self.get(endpoint, &query).await?);
            let before = all.len();
            all.extend(found.into_iter().filter(|item| seen.insert(item.id.clone())));
            if all.len() == before {
                return Ok(all);
            }
        }
        let message = format!("the list has more than {PAGES_MAX} pages");
        Err(RestError::Unexpected { path: endpoint.path, status: 200, message })
    }

    /// Requests one object. 400 and 404 mean that it does not exist, because the request itself is well formed.
    async fn get_optional<T: DeserializeOwned>(
        &self,
        endpoint: RestEndpoint,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, RestError> {
        match self.get(endpoint, query).await {
            Ok(found) => Ok(Some(found)),
            Err(RestError::Unexpected { status: 400 | 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        endpoint: RestEndpoint,
        query: &[(&str, &str)],
    ) -> Result<T, RestError> {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        parse(endpoint, &self.request(endpoint, &query, None).await?)
    }

    /// Sends a request until there is a response, or all attempts have failed.
    async fn request(
        &self,
        endpoint: RestEndpoint,
        query: &str,
        body: Option<&[u8]>,
    ) -> Result<Vec<u8>, RestError> {
        let limiter = if body.is_some() { &self.export_limiter } else { &self.list_limiter };
        let mut retry = Retry::new(self.retry);
        loop {
            self.admission(limiter, endpoint).await?;
            let (error, cause) = match self.request_once(limiter, endpoint, query, body).await {
                Ok(body) => return Ok(body),
                Err(failed) => failed,
            };
            let Some(cause) = cause else { return Err(error) };
            let Some(backoff) = retry.next_wait() else { return Err(error) };
            let wait = match limiter.reopening(self.clock.now()) {
                Admission::Go => backoff,
                Admission::Wait(wait) => wait,
                Admission::TooLong(_) => continue, // `admission` ends the attempts
            };
            retry.log_wait("braze", &cause, wait);
            tokio::time::sleep(wait).await;
        }
    }

    async fn admission(&self, limiter: &RateLimiter, endpoint: RestEndpoint) -> Result<(), RestError> {
        loop {
            match limiter.admit(self.clock.now()) {
                Admission::Go => return Ok(()),
                Admission::Wait(wait) => {
                    wait_log::log_rate_limit("braze", "Braze's rate limit is used up", wait);
                    tokio::time::sleep(wait).await;
                }
                Admission::TooLong(_) => return Err(RestError::RateLimited(endpoint.path)),
            }
        }
    }

    /// Sends a request once. An error has the cause of another attempt, if it may succeed.
    async fn request_once(
        &self,
        limiter: &RateLimiter,
        endpoint: RestEndpoint,
        query: &str,
        body: Option<&[u8]>,
    ) -> Result<Vec<u8>, (RestError, Option<String>)> {
        let url = format!("{}{}", self.base, endpoint.path);
        let auth = HttpAuth::Bearer(self.key.expose());
        let result = match body {
            Some(body) => self.http.post_as(&url, &auth, body.to_vec()).await,
            None => self.http.get_as(&format!("{url}?{query}"), &auth).await,
        };
        let now = self.clock.now();
        let reply = reply::read(&result, &ArrayLayout::default(), now);
        reply.report_to(limiter, now);
        let status = result.as_ref().map_or(0, |response| response.status);
        match reply.outcome {
            RequestOutcome::Accepted => Ok(result.map(|response| response.body).unwrap_or_default()),
            other => {
                let cause = other.retry_cause("Braze");
                Err((endpoint.error(status, other), cause))
            }
        }
    }
}

impl RestEndpoint {
    /// The error for a request that was not accepted.
    fn error(self, status: u16, outcome: RequestOutcome) -> RestError {
        let unexpected = |status, message| RestError::Unexpected { path: self.path, status, message };
        let failure = match outcome {
            RequestOutcome::Accepted => return unexpected(status, "accepted".to_owned()),
            RequestOutcome::AcceptedWithErrors { other, .. } => {
                let other = other.unwrap_or_else(|| "the response contains errors".to_owned());
                return unexpected(status, other);
            }
            RequestOutcome::Foreign(status, body) => {
                return unexpected(status, format!("{body}; check `endpoint:` and proxies"));
            }
            RequestOutcome::Locked => return RestError::Unavailable("status 423".to_owned()),
            RequestOutcome::Failed(failure) => failure,
        };
        match failure {
            RequestFailure::Unauthorized(message) if status == 403 => {
                RestError::Forbidden { permission: self.permission, message }
            }
            RequestFailure::Unauthorized(message) => RestError::Unauthorized(message),
            RequestFailure::BadRequest(message) => unexpected(400, message),
            RequestFailure::Unexpected(status, message) => unexpected(status, message),
            RequestFailure::TooLarge => unexpected(413, "too large".to_owned()),
            RequestFailure::RateLimited(_) => RestError::RateLimited(self.path),
            RequestFailure::Unavailable(_) | RequestFailure::NoAnswer(_) | RequestFailure::NotReached(_) => {
                RestError::Unavailable(failure.to_string())
            }
        }
    }
}

fn parse<T: DeserializeOwned>(endpoint: RestEndpoint, body: &[u8]) -> Result<T, RestError> {
    serde_json::from_slice(body).map_err(|error| {
        let message = display_text(&format!("the body is not as documented: {}", json_error(&error)));
        RestError::Unexpected { path: endpoint.path, status: 200, message }
    })
}
