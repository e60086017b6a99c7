//! Client for Heap's server-side API: sends events and user properties, and deletes users.
//!
//! Source: Heap, "Bulk Track", "Bulk Add User Properties" and "User Deletion". The environment id in the body is the only
//! authentication of ingestion. Any 2xx means accepted, unless its body is an HTML page. `export` decides how to react to
//! a response.

mod deletion;
mod event_limit;
mod reply;

use bytes::Bytes;

pub use deletion::{DeletionClient, DeletionError};
pub use event_limit::{EventAdmission, EventRateLimiter, UserKey};

use super::destination::RequestFailure;
use super::http::{HttpClient, HttpError};
use crate::config::{HeapConfig, Secret};
use crate::model::{Clock, Timestamp};

/// Events, or users, in one request.
pub const BATCH_LEN_MAX: usize = 1_000;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeapCall {
    /// Sends events.
    Track,
    /// Sets user properties.
    SetUserProperties,
}

impl HeapCall {
    /// The name in the journal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::SetUserProperties => "user_properties",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Track => "/api/track",
            Self::SetUserProperties => "/api/add_user_properties",
        }
    }

    /// The key of the list in the body.
    fn list_key(self) -> &'static str {
        match self {
            Self::Track => "events",
            Self::SetUserProperties => "users",
        }
    }
}

/// One Heap environment.
#[derive(Debug)]
pub struct HeapClient {
    http: HttpClient,
    base: String,
    app_id: String,
    clock: Clock,
    /// The rate limiter of the environment.
    pub limiter: EventRateLimiter,
}

impl HeapClient {
    /// Connects to the environment `app_id` at `base`. Sends nothing yet.
    ///
    /// # Errors
    /// [`HttpError::Client`] when there can be no client.
    pub fn new(config: &HeapConfig, base: &str, app_id: &str, clock: Clock) -> Result<Self, HttpError> {
        let agent = format!("Syncline/{}", env!("CARGO_PKG_VERSION"));
        let http = HttpClient::new(base, agent, config.timeout)?;
        let limiter = EventRateLimiter::new(config.identity_events_max, config.app_events_max, config.window);
        Ok(Self { http, base: base.to_owned(), app_id: app_id.to_owned(), clock, limiter })
    }

    /// The start of a body, before its first element. The elements follow, separated by commas, and then [`BODY_END`].
    #[must_use]
    pub fn body_start(&self, call: HeapCall) -> Vec<u8> {
        let app_id = serde_json::Value::from(self.app_id.as_str());
        format!("{{\"app_id\":{app_id},\"{}\":[", call.list_key()).into_bytes()
    }

    /// Sends a whole body.
    ///
    /// # Errors
    /// [`RequestFailure`] when Heap has not accepted it, or may not have.
    pub async fn send(&self, call: HeapCall, body: Bytes) -> Result<(), RequestFailure> {
        let result = self.http.post_json(&format!("{}{}", self.base, call.path()), body).await;
        reply::read(&result, self.clock.now())
    }

    /// Checks that Heap responds, with a request that sends no data. Returns the time of Heap's clock, if reported.
    ///
    /// # Errors
    /// [`HttpError`] when there is no response. Heap does not report whether the environment id is valid.
    pub async fn test_connection(&self) -> Result<Option<Timestamp>, HttpError> {
        Ok(self.http.get(&format!("{}/api/track", self.base)).await?.sent_at())
    }

    /// The deletion API of the same environment.
    #[must_use]
    pub fn deletion<'a>(&'a self, api_key: &'a Secret) -> DeletionClient<'a> {
        DeletionClient { http: &self.http, base: &self.base, app_id: &self.app_id, api_key }
    }
}

/// The end of a body, after its last element.
pub const BODY_END: &[u8] = b"]}";
