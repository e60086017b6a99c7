//! Braze's REST side, to ask only: segments, campaigns, Canvases, and which people Braze knows.
//!
//! Source: Braze, "Export segments list", "Export segment details", "Export segment analytics", the same pages
//! for campaigns and Canvases, "Export user profile by identifier", "API limits". Everything here reads, so
//! whatever has no answer is asked again.
//!
//! # Guarantees
//! A list is read to its end: until a page has nothing new, since no document says that a short page is the last.
//! An answer that is not understood is an error and never an empty list. Errors hold no key.

mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::answer::{self, BrazeReply, RemainingQuota};
use super::key_fingerprint::{BrazeKeyKind, mark};
use super::rate_limit::{Admission, RateLimiter};
use super::wire::ArrayLayout;
use crate::config::{BrazeConfig, RetryPolicy, Secret};
use crate::connector::backoff;
use crate::connector::headers::shown;
use crate::connector::http::{Auth, HttpClient, HttpError};
use crate::model::{Clock, Identifier, IdentifierKind, Timestamp};

pub use wire::{ListEntry, MessagingDetails, SegmentDetails, SizeOfDay};

/// Pages of a list that are read: a hundred thousand items.
const PAGES_MAX: usize = 1_000;
/// External ids in a request (Braze, "Export user profile by identifier").
pub const IDS_MAX: usize = 50;

/// Why Braze did not tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// 401: the key is not one of this workspace.
    #[error("the REST key is refused: {0}")]
    Unauthorized(String),
    /// The key is not the one that the state knows, so what Braze tells would be of another workspace.
    #[error("the REST key is not the one that this state knows")]
    OtherWorkspace,
    /// 403: the key may not ask this.
    #[error("the REST key lacks the permission `{permission}`: {message}")]
    Forbidden {
        /// What it would need.
        permission: &'static str,
        /// What Braze says.
        message: String,
    },
    /// The retries are spent.
    #[error("Braze does not answer: {0}")]
    Unavailable(String),
    /// The limit resets later than anybody wants to wait.
    #[error("the rate limit of `{0}` is used up")]
    RateLimited(&'static str),
    /// An answer that makes no sense here.
    #[error("`{path}` was answered with {status}: {message}")]
    Unexpected {
        /// What was asked.
        path: &'static str,
        /// The status.
        status: u16,
        /// What Braze says, or what is wrong with its answer.
        message: String,
    },
}

/// What is asked.
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

/// Campaigns and Canvases are asked for alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessagingKind {
    /// Campaigns.
    Campaign,
    /// Canvases.
    Canvas,
}

/// One Braze workspace, to ask.
#[derive(Debug)]
pub struct BrazeRestClient {
    http: HttpClient,
    base: String,
    key: Secret,
    clock: Clock,
    retry: RetryPolicy,
    /// Lists, details and sizes share a limit; exports of people have their own.
    shared: RateLimiter,
    exports: RateLimiter,
}

impl BrazeRestClient {
    /// Connects to the workspace at `base`. Nothing is asked yet. No single wait is longer than `patience`.
    ///
    /// # Errors
    /// [`HttpError::Client`] when there can be no client at all.
    pub fn new(
        config: &BrazeConfig,
        base: &str,
        key: Secret,
        clock: Clock,
        patience: Duration,
    ) -> Result<Self, HttpError> {
        let agent = format!("Syncline/{}", env!("CARGO_PKG_VERSION"));
        let longest_wait = config.retry.longest_wait.min(patience);
        Ok(Self {
            http: HttpClient::new(base, agent, config.timeout)?,
            base: base.to_owned(),
            key,
            clock,
            retry: RetryPolicy { longest_wait, ..config.retry },
            shared: RateLimiter::new(longest_wait),
            exports: RateLimiter::new(longest_wait),
        })
    }

    /// The fingerprint of the workspace: see [`mark()`].
    #[must_use]
    pub fn mark(&self, salt: &str) -> String {
        mark(salt, BrazeKeyKind::Rest, &self.key)
    }

    /// What is left of each rate limit, as far as answers reported it: of the endpoints that share one, and of the
    /// endpoint that has its own.
    #[must_use]
    pub fn limits(&self) -> Vec<(&'static str, RemainingQuota)> {
        let limits =
            [("segments, campaigns and Canvases", &self.shared), ("`/users/export/ids`", &self.exports)];
        limits.into_iter().filter_map(|(of, gate)| Some((of, gate.left()?))).collect()
    }

    /// Every segment that is not archived: archived ones are in no list.
    ///
    /// # Errors
    /// [`RestError`] when the list cannot be read to its end.
    pub async fn segments(&self) -> Result<Vec<ListEntry>, RestError> {
        self.all(SEGMENTS, &[], |page: wire::SegmentsPage| page.segments).await
    }

    /// A segment, also one that is archived. None: Braze knows none by this id.
    ///
    /// # Errors
    /// [`RestError`] when Braze does not tell.
    pub async fn segment(&self, id: &str) -> Result<Option<SegmentDetails>, RestError> {
        self.one(SEGMENT, &[("segment_id", id)]).await
    }

    /// The sizes of the last days, as Braze estimates them.
    ///
    /// # Errors
    /// [`RestError`] when Braze does not tell.
    pub async fn sizes(&self, id: &str, days: u32) -> Result<Vec<SizeOfDay>, RestError> {
        let days = days.to_string();
        let series: wire::SizeSeries = self.get(SIZES, &[("segment_id", id), ("length", &days)]).await?;
        Ok(series.data)
    }

    /// Every campaign or Canvas, archived ones too.
    ///
    /// # Errors
    /// [`RestError`] when the list cannot be read to its end.
    pub async fn list(&self, of: MessagingKind) -> Result<Vec<ListEntry>, RestError> {
        const ARCHIVED: [(&str, &str); 1] = [("include_archived", "true")];
        match of {
            MessagingKind::Campaign => {
                self.all(CAMPAIGNS, &ARCHIVED, |page: wire::CampaignsPage| page.campaigns).await
            }
            MessagingKind::Canvas => {
                self.all(CANVASES, &ARCHIVED, |page: wire::CanvasPage| page.canvases).await
            }
        }
    }

    /// A campaign or a Canvas. None: Braze knows none by this id.
    ///
    /// # Errors
    /// [`RestError`] when Braze does not tell.
    pub async fn details(&self, of: MessagingKind, id: &str) -> Result<Option<MessagingDetails>, RestError> {
        match of {
            MessagingKind::Campaign => self.one(CAMPAIGN, &[("campaign_id", id)]).await,
            MessagingKind::Canvas => self.one(CANVAS, &[("canvas_id", id)]).await,
        }
    }

    /// Which of these external ids Braze does not know.
    ///
    /// # Errors
    /// [`RestError`] when Braze does not tell.
    pub async fn unknown(&self, external_ids: &[String]) -> Result<Vec<String>, RestError> {
        let mut unknown = Vec::new();
        for some in external_ids.chunks(IDS_MAX) {
            let body = wire::export_body(some);
            let exported: wire::ExportedUsers =
                self.understood(EXPORT, &self.ask(EXPORT, "", Some(&body)).await?)?;
            let known: BTreeSet<String> =
                exported.users.into_iter().filter_map(|user| user.external_id).collect();
            unknown.extend(some.iter().filter(|id| !known.contains(*id)).cloned());
        }
        Ok(unknown)
    }

    /// Which of these people Braze does not know. They are of one kind and at most [`IDS_MAX`]. A device is not asked
    /// for: of those Braze takes one in a request.
    ///
    /// # Errors
    /// [`RestError`] when Braze does not tell.
    pub async fn strangers<'a>(
        &self,
        kind: IdentifierKind,
        people: &[Identifier<'a>],
    ) -> Result<Vec<Identifier<'a>>, RestError> {
        let body = wire::people_body(kind, people);
        let exported: wire::ExportedUsers =
            self.understood(EXPORT, &self.ask(EXPORT, "", Some(&body)).await?)?;
        Ok(people.iter().filter(|who| !exported.knows(who)).copied().collect())
    }

    /// Reads a list to its end: until a page brings nothing new. A server that knows no pages sends the first
    /// one for ever, and that is its end as well.
    async fn all<P: DeserializeOwned>(
        &self,
        what: RestEndpoint,
        query: &[(&str, &str)],
        items: impl Fn(P) -> Vec<ListEntry>,
    ) -> Result<Vec<ListEntry>, RestError> {
        let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
        for page in 0..PAGES_MAX {
            let page = page.to_string();
            let query = [query, &[("page", page.as_str())]].concat();
            let found = items(self.get(what, &query).await?);
            let before = all.len();
            all.extend(found.into_iter().filter(|item| seen.insert(item.id.clone())));
            if all.len() == before {
                return Ok(all);
            }
        }
        let message = format!("its list has no end: {PAGES_MAX} pages were read");
        Err(RestError::Unexpected { path: what.path, status: 200, message })
    }

    /// Asks for one thing. What is answered with 400 or 404 is not there: the request itself is well formed.
    async fn one<T: DeserializeOwned>(
        &self,
        what: RestEndpoint,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, RestError> {
        match self.get(what, query).await {
            Ok(found) => Ok(Some(found)),
            Err(RestError::Unexpected { status: 400 | 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        what: RestEndpoint,
        query: &[(&str, &str)],
    ) -> Result<T, RestError> {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        self.understood(what, &self.ask(what, &query, None).await?)
    }

    fn understood<T: DeserializeOwned>(&self, what: RestEndpoint, body: &[u8]) -> Result<T, RestError> {
        serde_json::from_slice(body).map_err(|error| {
            let message = shown(&format!("the body is not as documented: {error}"));
            RestError::Unexpected { path: what.path, status: 200, message }
        })
    }

    /// Asks until there is an answer, or the retries are spent.
    async fn ask(&self, what: RestEndpoint, query: &str, body: Option<&[u8]>) -> Result<Vec<u8>, RestError> {
        let gate = if body.is_some() { &self.exports } else { &self.shared };
        let mut trouble = RestError::Unavailable("no attempt was made".to_owned());
        for attempt in 1..=self.retry.attempts.max(1) {
            self.admitted(gate, what).await?;
            match self.once(gate, what, query, body).await {
                Ok(body) => return Ok(body),
                Err((error, false)) => return Err(error),
                Err((error, true)) => trouble = error,
            }
            if attempt < self.retry.attempts && !gate.is_closed(self.clock.now()) {
                let wait = backoff(self.retry, attempt);
                tracing::info!(path = what.path, "braze: {trouble}, again in {:.1} s", wait.as_secs_f64());
                tokio::time::sleep(wait).await;
            }
        }
        Err(trouble)
    }

    async fn admitted(&self, gate: &RateLimiter, what: RestEndpoint) -> Result<(), RestError> {
        loop {
            match gate.admit(self.clock.now()) {
                Admission::Go => return Ok(()),
                Admission::Wait(wait) => tokio::time::sleep(wait).await,
                Admission::TooLong(_) => return Err(RestError::RateLimited(what.path)),
            }
        }
    }

    /// Asks once. With an error: whether asking again may help.
    async fn once(
        &self,
        gate: &RateLimiter,
        what: RestEndpoint,
        query: &str,
        body: Option<&[u8]>,
    ) -> Result<Vec<u8>, (RestError, bool)> {
        let url = format!("{}{}", self.base, what.path);
        let auth = Auth::Bearer(self.key.expose());
        let result = match body {
            Some(body) => self.http.post_as(&url, &auth, body.to_vec()).await,
            None => self.http.get_as(&format!("{url}?{query}"), &auth).await,
        };
        let now: Timestamp = self.clock.now();
        let reply = answer::read(&result, &ArrayLayout::default(), now);
        gate.learn(&reply, now);
        let status = result.as_ref().map_or(0, |answer| answer.status);
        let unexpected = |status, message| RestError::Unexpected { path: what.path, status, message };
        let error = match reply.answer {
            BrazeReply::Accepted => return Ok(result.map(|answer| answer.body).unwrap_or_default()),
            BrazeReply::AcceptedWithErrors { other, .. } => {
                (unexpected(status, other.unwrap_or_else(|| "it complains".to_owned())), false)
            }
            BrazeReply::Unauthorized(message) if status == 403 => {
                (RestError::Forbidden { permission: what.permission, message }, false)
            }
            BrazeReply::Unauthorized(message) => (RestError::Unauthorized(message), false),
            BrazeReply::BadRequest(message) => (unexpected(400, message), false),
            BrazeReply::Unexpected(status, message) => (unexpected(status, message), false),
            BrazeReply::Foreign(status, what) => {
                (unexpected(status, format!("{what}; check `endpoint:` and proxies")), false)
            }
            BrazeReply::TooLarge => (unexpected(413, "too large".to_owned()), false),
            BrazeReply::RateLimited(_) => (RestError::RateLimited(what.path), true),
            BrazeReply::Locked => (RestError::Unavailable("status 423".to_owned()), true),
            BrazeReply::Unavailable(status) => (RestError::Unavailable(format!("status {status}")), true),
            BrazeReply::NoAnswer(why) => (RestError::Unavailable(format!("no answer ({why})")), true),
            BrazeReply::NotReached(why) => (RestError::Unavailable(format!("not reached ({why})")), true),
        };
        Err(error)
    }
}
