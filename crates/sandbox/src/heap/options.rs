//! What no document settles about Heap, and what the sandbox takes for its keys.

use std::time::Duration;

/// What becomes of what is over a rate limit. No source shows Heap's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    /// There are no limits.
    Off,
    /// The request is refused whole with 429. The default: whoever trips over it hears of it.
    Refuse,
    /// What is over is dropped and the request answered as if nothing were.
    Drop,
}

/// How a success is answered: the documents say `{}`, Heap's own clients have seen the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// Each of the others in turn. The default: whoever reads the body finds out.
    Mixed,
    /// 200 with `{}`.
    Object,
    /// 200 with an empty text.
    Empty,
    /// 204.
    NoContent,
}

/// In what the documents' "characters" count. Not settled; JSON Schema counts code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// Unicode code points.
    Characters,
    /// Bytes of UTF-8.
    Bytes,
}

/// How Heap's side behaves.
#[derive(Clone, Debug)]
pub struct HeapOptions {
    /// The environment id that it takes.
    pub app_id: String,
    /// The API key that its deletion API takes.
    pub api_key: String,
    /// What becomes of what is over a rate limit.
    pub over_limit: OverLimit,
    /// How long a minute lasts for the rate limits and for the life of a deletion token.
    pub minute: Duration,
    /// How a success is answered.
    pub success: Success,
    /// In what lengths count.
    pub lengths: Lengths,
    /// Whether values that no document allows (true, null, nested) and unknown fields are taken.
    pub lenient: bool,
    /// Largest body in bytes. Not documented.
    pub body_len_max: usize,
    /// Whether every body is taken unread, and events are only counted.
    pub accept_all: bool,
}

impl Default for HeapOptions {
    fn default() -> Self {
        Self {
            app_id: "11".to_owned(),
            api_key: "sandbox-heap-api-key".to_owned(),
            over_limit: OverLimit::Refuse,
            minute: Duration::from_secs(60),
            success: Success::Mixed,
            lengths: Lengths::Characters,
            lenient: false,
            body_len_max: 10 << 20,
            accept_all: false,
        }
    }
}
