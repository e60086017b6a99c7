//! Command-line arguments of `sandbox`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::global_args::without_effect;
use syncline_sandbox::RestGroup;

/// The users with a Braze profile in the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProfilesArg {
    /// Every identifier has a profile
    Any,
    /// Only users created by the admin API or REST have one
    Created,
}

/// How events over Heap's rate limits are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OverLimitArg {
    /// No rate limits
    Off,
    /// The request is rejected with 429
    #[value(name = "429")]
    Reject,
    /// The events are dropped without an error
    SilentDrop,
}

/// Heap's response to a successful request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SuccessArg {
    /// All of the following in turn
    Mixed,
    /// 200 with {}
    Object,
    /// 200 with an empty body
    Empty,
    /// 204
    NoContent,
}

/// The unit of Heap's length limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LengthsArg {
    /// Unicode code points
    Characters,
    /// Bytes of UTF-8
    Bytes,
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "--help describes its keys, its admin API under /_sandbox/ and its fault plan.",
    after_long_help = include_str!("commands/sandbox.txt")
)]
pub(super) struct SandboxArgs {
    #[command(subcommand)]
    pub(super) command: Option<SandboxCommand>,
    /// The port on loopback; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 4010)]
    pub(super) port: u16,
    /// Store users, membership and events in this folder
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
    /// Users who have a profile
    #[arg(long, value_name = "USERS", default_value = "any")]
    pub(super) profiles: ProfilesArg,
    /// The partner's name in the path
    #[arg(long, value_name = "NAME", default_value = "heap")]
    pub(super) partner: String,
    /// Requests allowed in a window
    #[arg(long, value_name = "N", default_value_t = 250_000)]
    pub(super) rate_limit: u64,
    /// The window's length in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rate_window: u64,
    /// Send `retry-after` with a 429
    #[arg(long)]
    pub(super) retry_after: bool,
    /// Duration of a request in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(super) latency: u64,
    /// Reject members of a cohort that has no name yet
    #[arg(long)]
    pub(super) strict_naming: bool,
    /// Requests allowed in a window of a group of REST endpoints: shared, track, export_ids, identity or
    /// broadcast; may be repeated
    #[arg(long, value_name = "GROUP=N/SECONDS", value_parser = rest_limit)]
    pub(super) rest_limit: Vec<(RestGroup, u64, u64)>,
    /// Report the rate limit of /users/track in seconds, as for customers billed by active users
    #[arg(long)]
    pub(super) track_in_seconds: bool,
    /// Keep the cohort membership of a profile that is merged into another
    #[arg(long)]
    pub(super) merge_keeps_membership: bool,
    /// The status for an unknown segment, campaign or Canvas
    #[arg(long, value_name = "STATUS", default_value_t = 400, value_parser = clap::value_parser!(u16).range(400..500))]
    pub(super) unknown_id: u16,
    /// Duration of a segment export in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(super) export_takes: u64,
}

fn rest_limit(text: &str) -> Result<(RestGroup, u64, u64), String> {
    let parts = text.split_once('=').and_then(|(group, rest)| Some((group, rest.split_once('/')?)));
    let (group, (limit, seconds)) = parts.ok_or("write it as GROUP=N/SECONDS")?;
    let group = match group {
        "shared" => RestGroup::Shared,
        "track" => RestGroup::Track,
        "export_ids" => RestGroup::ExportIds,
        "identity" => RestGroup::Identity,
        "broadcast" => RestGroup::Broadcast,
        _ => return Err("the group is shared, track, export_ids, identity or broadcast".to_owned()),
    };
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
    Ok((group, number(limit)?, number(seconds)?.max(1)))
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Heap")]
pub(super) struct HeapArgs {
    /// The environment id that it accepts
    #[arg(long = "heap-app-id", value_name = "ID", default_value = "11")]
    pub(super) app_id: String,
    /// How events over a rate limit are handled
    #[arg(long = "heap-limits", value_name = "HOW", default_value = "429")]
    pub(super) limits: OverLimitArg,
    /// Duration of a minute of the rate limits in milliseconds
    #[arg(long = "heap-minute", value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) minute: u64,
    /// The response to a successful request
    #[arg(long = "heap-responses", value_name = "HOW", default_value = "mixed")]
    pub(super) responses: SuccessArg,
    /// The unit of length limits
    #[arg(long = "heap-lengths", value_name = "IN", default_value = "characters")]
    pub(super) lengths: LengthsArg,
    /// Accept values and fields that the documentation does not allow
    #[arg(long = "heap-lenient")]
    pub(super) lenient: bool,
    /// Largest body in bytes
    #[arg(long = "heap-body-max", value_name = "BYTES", default_value_t = 10 << 20)]
    pub(super) body_max: usize,
    /// Accept and count every body of events without reading it, to measure a client
    #[arg(long = "heap-accept-all")]
    pub(super) accept_all: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum SandboxCommand {
    /// Write Braze Currents events as Avro files in a bucket's layout
    #[command(args = without_effect(&["config", "env", "verbose"]))]
    Currents(CurrentsArgs),
}

/// How blocks of Avro files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CodecArg {
    /// No compression
    Null,
    /// Deflate
    Deflate,
    /// Snappy
    Snappy,
    /// Zstandard
    Zstd,
}

/// Shares are of events, 0.0 to 1.0.
#[derive(Debug, Args)]
pub(super) struct CurrentsArgs {
    /// The folder that represents the bucket
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: PathBuf,
    /// Number of events
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(super) events: u64,
    /// The number of the first event; each number is a different event
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) from: u64,
    /// Seed of the events; files and HTTP give the same events for the same seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    /// How blocks are compressed
    #[arg(long, value_name = "CODEC", default_value = "snappy")]
    pub(super) codec: CodecArg,
    /// Path prefix of the export's folder
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub(super) prefix: String,
    /// Maximum number of events in a file
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    pub(super) rows_max: usize,
    /// Only this event type; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) types: Vec<String>,
    /// Number of users
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(super) users: u64,
    /// Hours over which the events are spread
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(super) hours: u64,
    /// Events that occur twice
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) duplicates: f64,
    /// Write the events in random order
    #[arg(long)]
    pub(super) shuffle: bool,
    /// Write some events into the folder of a later hour
    #[arg(long)]
    pub(super) late: bool,
    /// Add a truncated file
    #[arg(long)]
    pub(super) cut: bool,
    /// Add files that are not Avro
    #[arg(long)]
    pub(super) garbage: bool,
    /// Include event types that Braze never sends over HTTP
    #[arg(long)]
    pub(super) one_way: bool,
    /// Events of users without an external id
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub(super) anonymous: f64,
    /// Events of one single user
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) hot: f64,
    /// Events with a value replaced by `[REDACTED]`
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    pub(super) redacted: f64,
    /// Events of unknown types
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub(super) unknown_types: f64,
    /// Events with an unknown field
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    pub(super) unknown_fields: f64,
    /// Events from the far future or past
    #[arg(long, value_name = "SHARE", default_value_t = 0.002)]
    pub(super) odd_times: f64,
    /// Events without the required time
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) broken: f64,
    /// Custom events and purchases with 890 KB of properties
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) large: f64,
    /// Write the events' ids into this file, one per line
    #[arg(long, value_name = "FILE")]
    pub(super) ids: Option<PathBuf>,
}
