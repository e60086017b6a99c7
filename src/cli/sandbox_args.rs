//! What `sandbox` can be told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Whom the sandbox knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum People {
    /// Whoever is named is taken for somebody who exists
    Any,
    /// Only those whom the private door has introduced
    Known,
}

/// What becomes of events over Heap's rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Limits {
    /// There are none
    Off,
    /// The request is refused with 429
    #[value(name = "429")]
    Refuse,
    /// They are dropped in silence
    SilentDrop,
}

/// How Heap answers a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Answers {
    /// The others in turn
    Mixed,
    /// 200 with {}
    Object,
    /// 200 with an empty text
    Empty,
    /// 204
    NoContent,
}

/// In what Heap's lengths count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Lengths {
    /// Unicode code points
    Characters,
    /// Bytes of UTF-8
    Bytes,
}

#[derive(Debug, Args)]
#[command(
    after_help = "--help tells of its keys, its private door under /_sandbox/ and its fault plan.",
    after_long_help = include_str!("commands/sandbox.txt")
)]
pub(super) struct SandboxArgs {
    /// The port on loopback; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 4010)]
    pub(super) port: u16,
    /// Remember people, membership and events in this folder
    #[arg(long, value_name = "FOLDER")]
    pub(super) memory: Option<PathBuf>,
    #[command(flatten)]
    pub(super) braze: BrazeArgs,
    #[command(flatten)]
    pub(super) heap: HeapArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Braze")]
pub(super) struct BrazeArgs {
    /// Whom it knows
    #[arg(long, value_name = "WHOM", default_value = "any")]
    pub(super) people: People,
    /// The partner's name in the path
    #[arg(long, value_name = "NAME", default_value = "heap")]
    pub(super) partner: String,
    /// Requests allowed in a window
    #[arg(long, value_name = "N", default_value_t = 250_000)]
    pub(super) rate_limit: u64,
    /// The window's length in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rate_window: u64,
    /// Say in a 429 how long to wait
    #[arg(long)]
    pub(super) retry_after: bool,
    /// Milliseconds that a request takes
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(super) latency: u64,
    /// Refuse members of a cohort that has no name yet
    #[arg(long)]
    pub(super) strict_naming: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Heap")]
pub(super) struct HeapArgs {
    /// The environment id that it takes
    #[arg(long = "heap-app-id", value_name = "ID", default_value = "11")]
    pub(super) app_id: String,
    /// What becomes of events over a rate limit
    #[arg(long = "heap-limits", value_name = "HOW", default_value = "429")]
    pub(super) limits: Limits,
    /// Milliseconds that a minute lasts for the rate limits
    #[arg(long = "heap-minute", value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) minute: u64,
    /// How a success is answered
    #[arg(long = "heap-answers", value_name = "HOW", default_value = "mixed")]
    pub(super) answers: Answers,
    /// In what lengths count
    #[arg(long = "heap-lengths", value_name = "IN", default_value = "characters")]
    pub(super) lengths: Lengths,
    /// Take values and fields that no document allows
    #[arg(long = "heap-lenient")]
    pub(super) lenient: bool,
    /// Largest body in bytes
    #[arg(long = "heap-body-max", value_name = "BYTES", default_value_t = 10 << 20)]
    pub(super) body_max: usize,
    /// Take every body of events unread and only count, to measure a client
    #[arg(long = "heap-accept-all")]
    pub(super) accept_all: bool,
}
