//! Options of the simulated Heap: undocumented behavior and the accepted keys.

use std::time::Duration;

/// Behavior over a rate limit. No source documents Heap's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    /// No limits.
    Off,
    /// Rejects the whole request with 429. The default, because clients notice it.
    Reject,
    /// Drops the excess and responds with success.
    Drop,
}

/// Body of a success. The documents say `{}`; Heap's own clients have seen the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// Each of the others in turn. The default, because it exposes clients that read the body.
    Mixed,
    /// 200 with `{}`.
    Object,
    /// 200 with an empty text.
    Empty,
    /// 204.
    NoContent,
}

/// Unit of the documents' "characters". Not settled; JSON Schema counts code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// Unicode code points.
    Characters,
    /// Bytes of UTF-8.
    Bytes,
}

/// How the simulated Heap behaves.
#[derive(Clone, Debug)]
pub struct HeapOptions {
    /// The accepted environment id.
    pub app_id: String,
    /// The API key of the deletion API.
    pub api_key: String,
    /// Behavior over a rate limit.
    pub over_limit: OverLimit,
    /// Length of a minute for the rate limits and the lifetime of a deletion token.
    pub minute: Duration,
    /// Body of a success.
    pub success: Success,
    /// Unit of lengths.
    pub lengths: Lengths,
    /// Whether undocumented values (true, null, nested) and unknown fields are accepted.
    pub lenient: bool,
    /// Largest body in bytes. Not documented.
    pub body_len_max: usize,
    /// Whether every body is accepted unparsed, and events are only counted.
    pub accept_all: bool,
}

impl Default for HeapOptions {
    fn default() -> Self {
        Self {
            app_id: "11".to_owned(),
            api_key: "sandbox-heap-api-key".to_owned(),
            over_limit: OverLimit::Reject,
            minute: Duration::from_secs(60),
            success: Success::Mixed,
            lengths: Lengths::Characters,
            lenient: false,
            body_len_max: 10 << 20,
            accept_all: false,
        }
    }
}
