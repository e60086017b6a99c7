//! Heap's server-side API: takes events and properties of users, and deletes users.
//!
//! Source: Heap, "Bulk Track", "Bulk Add User Properties" and "User Deletion". Ingestion is authenticated by
//! the environment id in the body alone; any 2xx is a yes, unless its body is a page of HTML. What to do about an answer is
//! decided by `export`.

mod answer;
mod deletion;
mod rate_limit;

use bytes::Bytes;

pub use answer::HeapReply;
pub use deletion::{Deletion, DeletionError};
pub use rate_limit::{Fit, HeapRateLimiter, PersonKey};

use super::http::{HttpClient, HttpError};
use crate::config::{HeapConfig, Secret};
use crate::model::{Clock, Timestamp};

/// Events, or users, in one request at most.
pub const BATCH_LEN_MAX: usize = 1_000;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeapCall {
    /// Events.
    Track,
    /// Properties of users.
    Describe,
}

impl HeapCall {
    /// The call in a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Describe => "user_properties",
        }
    }

    /// The path, and the key of the list in the body.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Track => ("/api/track", "events"),
            Self::Describe => ("/api/add_user_properties", "users"),
        }
    }
}

/// One environment of Heap's, to write to.
#[derive(Debug)]
pub struct HeapClient {
    http: HttpClient,
    base: String,
    app_id: String,
    clock: Clock,
    /// What may go now; shared by all that is sent to it.
    pub budget: HeapRateLimiter,
}

impl HeapClient {
    /// Connects to the environment `app_id` at `base`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`HttpError::Client`] when there can be no client at all.
    pub fn new(config: &HeapConfig, base: &str, app_id: &str, clock: Clock) -> Result<Self, HttpError> {
        let agent = format!("Syncline/{}", env!("CARGO_PKG_VERSION"));
        let http = HttpClient::new(base, agent, config.timeout)?;
        let budget = HeapRateLimiter::new(config.identity_events_max, config.app_events_max, config.window);
        Ok(Self { http, base: base.to_owned(), app_id: app_id.to_owned(), clock, budget })
    }

    /// What stands in a body before its first element. Elements follow, with commas between them, and then
    /// [`CLOSING`].
    #[must_use]
    pub fn opening(&self, call: HeapCall) -> Vec<u8> {
        let app_id = serde_json::Value::from(self.app_id.as_str());
        format!("{{\"app_id\":{app_id},\"{}\":[", call.words().1).into_bytes()
    }

    /// Sends a whole body.
    pub async fn send(&self, call: HeapCall, body: Bytes) -> HeapReply {
        let result = self.http.post_json(&format!("{}{}", self.base, call.words().0), body).await;
        answer::read(result, self.clock.now())
    }

    /// Asks for something that sends nothing. When Heap answered by its own clock, if it says so.
    ///
    /// # Errors
    /// [`HttpError`] when there is no answer. Any answer will do: whether an environment is right, Heap does not say.
    pub async fn greet(&self) -> Result<Option<Timestamp>, HttpError> {
        Ok(self.http.get(&format!("{}/api/track", self.base)).await?.sent_at())
    }

    /// The deletion API of the same environment.
    #[must_use]
    pub fn deletion<'a>(&'a self, api_key: &'a Secret) -> Deletion<'a> {
        Deletion { http: &self.http, base: &self.base, app_id: &self.app_id, api_key }
    }
}

/// What stands in a body behind its last element.
pub const CLOSING: &[u8] = b"]}";
