//! The command line's grammar. Its doc comments are the help.

use std::path::PathBuf;

use clap::{Arg, Args, Parser, Subcommand, ValueEnum};

use super::exit;
use super::find_args::{DiscoverArgs, ImportTablesArgs};
use super::identity_args::IdentityArgs;
use super::sandbox_args::SandboxArgs;
use super::state_args::StateArgs;
use crate::model::{CohortId, ExportId, SegmentId, Timestamp, parse_time};
use crate::plan::PlanDigest;

/// The config that is meant when none is named.
pub(super) const DEFAULT_CONFIG: &str = "sync.yaml";

/// Cohorts as code: keeps Braze in sync with Heap from a YAML file in git.
#[derive(Debug, Parser)]
#[command(name = "syncline", version, about, max_term_width = 100, propagate_version = true)]
#[command(after_help = exit::in_short())]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Args)]
pub(super) struct Global {
    /// The config file
    #[arg(short, long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(super) config: PathBuf,
    /// Lay this environment of the config over it
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(super) env: Option<String>,
    /// Refuse a config that alters more than cohorts, segments and exports compared with this one
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) trusted_config: Option<PathBuf>,
    /// Log more to stderr: info, then debug, then trace
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// How log lines are written
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(super) color: Color,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the config and all its environments; needs no network and no secrets
    Validate(FormatArgs),
    /// Show what `reconcile` would do; changes nothing
    Plan(PlanArgs),
    /// Do it: one run over all cohorts and exports
    Reconcile(ReconcileArgs),
    /// Keep everything in sync, on a server, until told to stop
    Watch,
    /// Check that segments, campaigns and Canvases use the cohorts as the config says
    Check(CheckArgs),
    /// Show which tables of a database could be cohorts, as YAML
    Discover(DiscoverArgs),
    /// Write YAML for segments, tables and cohorts that the config does not have
    Import(ImportTablesArgs),
    /// Try every connection without changing anything, and say what is wrong
    Doctor(FormatArgs),
    /// Show what Braze has accepted so far, by the record
    Status(FormatArgs),
    /// Show what earlier runs did
    History(HistoryArgs),
    /// Send engagement events to Heap: one run over all exports
    Export(ExportArgs),
    /// Send rejects once more, or the events of some days; shows them first
    Replay(ReplayArgs),
    /// Who is who: show it, learn it from files
    Identity(IdentityArgs),
    /// Erase a user from every file of the state, and list the files
    Forget(ForgetArgs),
    /// Send a cohort again by its record, adds and removes; shows first what that costs
    Resync(ResyncArgs),
    /// Approve exactly this plan of a cohort, which the guard blocks
    Approve(ApproveArgs),
    /// Look at the state: what is held, whether it is whole, what nobody needs any more
    State(StateArgs),
    /// Run a small Braze and Heap on this machine, to try things out
    #[command(args = without_effect(&["config", "env", "trusted_config"]))]
    Sandbox(Box<SandboxArgs>),
    /// Print the JSON Schema of the config
    #[command(args = without_effect(&["config", "env", "trusted_config", "verbose"]))]
    Schema(SchemaArgs),
    /// Write a config to start from
    #[command(args = without_effect(&["config", "env", "trusted_config", "verbose"]))]
    Init(InitArgs),
    /// Print completions for a shell
    #[command(args = without_effect(&["config", "env", "trusted_config", "verbose"]))]
    Completions(CompletionsArgs),
    /// Print the manual page
    #[command(args = without_effect(&["config", "env", "trusted_config", "verbose"]))]
    Man,
}

impl Command {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Validate(_) => "validate",
            Self::Plan(_) => "plan",
            Self::Reconcile(_) => "reconcile",
            Self::Watch => "watch",
            Self::Check(_) => "check",
            Self::Discover(_) => "discover",
            Self::Import(_) => "import",
            Self::Doctor(_) => "doctor",
            Self::Status(_) => "status",
            Self::History(_) => "history",
            Self::Export(_) => "export",
            Self::Replay(_) => "replay",
            Self::Identity(_) => "identity",
            Self::Forget(_) => "forget",
            Self::Resync(_) => "resync",
            Self::Approve(_) => "approve",
            Self::State(_) => "state",
            Self::Sandbox(_) => "sandbox",
            Self::Schema(_) => "schema",
            Self::Init(_) => "init",
            Self::Completions(_) => "completions",
            Self::Man => "man",
        }
    }

    /// The format of the command's output.
    pub(super) fn format(&self) -> OutputFormat {
        match self {
            Self::Validate(args) | Self::Doctor(args) | Self::Status(args) => args.format,
            Self::Plan(args) if args.format == PlanFormat::Json => OutputFormat::Json,
            Self::Check(args) if args.format == CheckFormat::Json => OutputFormat::Json,
            Self::Discover(args) => args.format,
            Self::Reconcile(args) => args.format,
            Self::History(args) => args.format,
            Self::Export(args) => args.format,
            Self::Replay(args) => args.format,
            Self::Identity(args) => args.command.format(),
            Self::Forget(args) => args.format,
            Self::Resync(args) => args.format,
            Self::Approve(args) => args.format,
            Self::State(args) => args.command.format(),
            _ => OutputFormat::Human,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PlanFormat {
    Human,
    Json,
    Markdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CheckFormat {
    Human,
    Json,
    Markdown,
    /// Annotations on the lines of the config, as GitHub's runners take them
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Args)]
pub(super) struct FormatArgs {
    /// How the result is written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

/// What `plan` and `reconcile` both understand.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Only these cohorts
    #[arg(value_name = "COHORT", value_parser = cohort)]
    pub(super) cohorts: Vec<CohortId>,
    /// Send identifiers again that Braze has rejected before
    #[arg(long)]
    pub(super) retry_rejected: bool,
    /// For this run, let a cohort lose up to so many members, whatever its guard says
    #[arg(long, value_name = "COHORT=N", value_parser = ceiling)]
    pub(super) max_removes: Vec<(CohortId, u64)>,
    /// For this run, let a cohort gain up to so many members, whatever its guard says
    #[arg(long, value_name = "COHORT=N", value_parser = ceiling)]
    pub(super) max_adds: Vec<(CohortId, u64)>,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// How the plan is written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: PlanFormat,
    /// Exit with 2 when changes are pending
    #[arg(long)]
    pub(super) detailed_exitcode: bool,
    /// Show the samples' identifiers in full
    #[arg(long)]
    pub(super) show_identifiers: bool,
    /// Save the plan, for `reconcile --plan`; the file holds people's identifiers
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// How the report is written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
    /// Apply this saved plan instead of planning again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cohorts", "expect", "retry_rejected"])]
    pub(super) plan: Option<PathBuf>,
    /// Apply only if the plan has this digest, as `plan` printed it
    #[arg(long, value_name = "DIGEST")]
    pub(super) expect: Option<PlanDigest>,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Only these segments
    #[arg(value_name = "SEGMENT", value_parser = segment)]
    pub(super) segments: Vec<SegmentId>,
    /// How the verdicts are written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: CheckFormat,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// How many runs, newest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub(super) limit: usize,
    /// How the history is written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// The cohort
    #[arg(value_name = "COHORT", value_parser = cohort)]
    pub(super) cohort: CohortId,
    /// The digest of the plan, from the message that reports the block
    #[arg(long, value_name = "DIGEST")]
    pub(super) plan: PlanDigest,
    /// How the result is written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Only these exports
    #[arg(value_name = "EXPORT", value_parser = export)]
    pub(super) exports: Vec<ExportId>,
    /// Only files of this day and later: `2026-11-01`; the others are left to other runs
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) since: Option<Timestamp>,
    /// Only files of days before this
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) until: Option<Timestamp>,
    /// Only show what would be read and what that costs
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How the report is written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Only these exports
    #[arg(value_name = "EXPORT", value_parser = export)]
    pub(super) exports: Vec<ExportId>,
    /// Only rejects with this reason; may be given again
    #[arg(long = "reason", value_name = "REASON", conflicts_with = "files")]
    pub(super) reasons: Vec<String>,
    /// Only events of types that this glob matches; may be given again
    #[arg(long = "type", value_name = "GLOB", conflicts_with = "files")]
    pub(super) types: Vec<String>,
    /// Only events from this time on: `2026-11-01`, or `2026-11-01T06:00Z`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) since: Option<Timestamp>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) until: Option<Timestamp>,
    /// Instead of rejects, read the files of these days once more
    #[arg(long, requires = "since")]
    pub(super) files: bool,
    /// Only show what would be sent
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
    /// Send it
    #[arg(long)]
    pub(super) yes: bool,
    /// How the result is written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    /// The person's id: yours, Braze's, a device's, or an alias
    #[arg(value_name = "IDENTIFIER")]
    pub(super) identifier: String,
    /// Ask this Heap to delete the user with this identity as well; needs `api_key` and `--yes`
    #[arg(long, value_name = "CONNECTION")]
    pub(super) heap: Option<String>,
    /// Confirm the deletion in Heap, which cannot be undone
    #[arg(long, requires = "heap")]
    pub(super) yes: bool,
    /// How the result is written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ResyncArgs {
    /// The cohort
    #[arg(value_name = "COHORT", value_parser = cohort)]
    pub(super) cohort: CohortId,
    /// Only show what would be sent and what it costs
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How the report is written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The folder to start in
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(super) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Print the schema of files under `include:` instead
    #[arg(long)]
    pub(super) include: bool,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    pub(super) shell: clap_complete::Shell,
}

/// Options of every command that do nothing for this one: taken without a word, and not offered.
pub(super) fn without_effect(names: &[&str]) -> Vec<Arg> {
    let all = Global::augment_args(clap::Command::new("all"));
    let named = all.get_arguments().filter(|arg| names.contains(&arg.get_id().as_str()));
    named.map(|arg| arg.clone().hide(true)).collect()
}

pub(super) fn cohort(text: &str) -> Result<CohortId, String> {
    CohortId::new(text).map_err(|e| e.to_string())
}

fn segment(text: &str) -> Result<SegmentId, String> {
    SegmentId::new(text).map_err(|e| e.to_string())
}

fn export(text: &str) -> Result<ExportId, String> {
    ExportId::new(text).map_err(|e| e.to_string())
}

fn time(text: &str) -> Result<Timestamp, String> {
    parse_time(text).ok_or_else(|| "write it like 2026-11-01 or 2026-11-01T06:00Z".to_owned())
}

fn ceiling(text: &str) -> Result<(CohortId, u64), String> {
    let (id, number) = text.split_once('=').ok_or("write it as COHORT=N, like abandoned_checkout=1200")?;
    let number = number.parse().map_err(|_| format!("`{number}` is not a whole number"))?;
    Ok((cohort(id)?, number))
}
