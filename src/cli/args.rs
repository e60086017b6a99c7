//! The command line. Doc comments are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;

use super::completion;
use super::exit;
use super::find_args::{DiscoverArgs, ImportTablesArgs};
use super::global_args::{FormatArgs, Global, OutputFormat, cohort, without_effect};
use super::identity_args::IdentityArgs;
use super::sandbox_args::SandboxArgs;
use super::state_args::StateArgs;
use super::who_args::{EXIT_CODES, WhoArgs};
use crate::model::{CohortId, ExportId, SegmentId, Timestamp, parse_time};
use crate::plan::PlanDigest;

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

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the config and all its environments; needs no network and no secrets
    Validate(FormatArgs),
    /// Show what `reconcile` would do; changes nothing
    Plan(PlanArgs),
    /// Apply the changes: one run over all cohorts and exports; also `apply`
    #[command(alias = "apply")]
    Reconcile(ReconcileArgs),
    /// Run as a server that keeps everything in sync, until it is stopped
    Watch,
    /// Compare segments, campaigns and Canvases in Braze with the config
    Check(CheckArgs),
    /// Show which tables of a database could be cohorts, as YAML
    Discover(DiscoverArgs),
    /// Write YAML for segments, tables and cohorts that are not in the config
    Import(ImportTablesArgs),
    /// Check all connections, without changing anything, and suggest remedies
    Doctor(FormatArgs),
    /// Show the recorded membership: what Braze has accepted
    Status(FormatArgs),
    /// Show earlier runs
    History(HistoryArgs),
    /// Look up a user: in which cohorts, since which run, and why not in the others
    #[command(after_help = EXIT_CODES)]
    Who(WhoArgs),
    /// Send engagement events to Heap: one run over all exports
    Export(ExportArgs),
    /// Send rejects, or the events of some days, again; shows them first
    Replay(ReplayArgs),
    /// Show and import identities: external ids, devices, aliases
    Identity(IdentityArgs),
    /// Erase a user from all files of the state, and list the files
    Forget(ForgetArgs),
    /// Send all recorded adds and removes of a cohort again; shows the cost first
    Resync(ResyncArgs),
    /// Approve exactly this plan of a cohort, which the guard blocks
    Approve(ApproveArgs),
    /// Inspect and maintain the state: content, integrity, garbage
    State(StateArgs),
    /// Run a local simulation of Braze and Heap
    #[command(args = without_effect(&["config", "env", "trusted_config"]))]
    Sandbox(Box<SandboxArgs>),
    /// Print the JSON Schema of config files
    #[command(args = without_effect(&["config", "env", "trusted_config", "verbose"]))]
    Schema(SchemaArgs),
    /// Create a first config
    #[command(args = without_effect(&["config", "env", "trusted_config", "verbose"]))]
    Init(InitArgs),
    /// Print shell completions
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
            Self::Who(_) => "who",
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
            Self::Who(args) => args.format,
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
    /// GitHub workflow annotations on the lines of the config
    Github,
}

/// Options of both `plan` and `reconcile`.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    /// Only these cohorts
    #[arg(value_name = "COHORT", value_parser = cohort, add = ArgValueCandidates::new(completion::cohorts))]
    pub(super) cohorts: Vec<CohortId>,
    /// For this run, allow up to N removals of a cohort, in spite of its guard
    #[arg(long, value_name = "COHORT=N", value_parser = ceiling)]
    pub(super) max_removes: Vec<(CohortId, u64)>,
    /// For this run, allow up to N additions to a cohort, in spite of its guard
    #[arg(long, value_name = "COHORT=N", value_parser = ceiling)]
    pub(super) max_adds: Vec<(CohortId, u64)>,
    /// Send identifiers again that Braze has rejected before
    #[arg(long)]
    pub(super) retry_rejected: bool,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: PlanFormat,
    /// Save the plan for `reconcile --plan`; the file contains identifiers of users
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Exit with code 2 if changes are pending
    #[arg(long)]
    pub(super) detailed_exitcode: bool,
    /// Show identifiers of samples in full
    #[arg(long)]
    pub(super) show_identifiers: bool,
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// A plan never changes anything: the option has no effect
    #[arg(long, hide = true)]
    pub(super) dry_run: bool,
}

impl PlanArgs {
    /// The plan of `reconcile --dry-run`.
    pub(super) fn of_dry_run(args: &ReconcileArgs) -> Self {
        let format = match args.format {
            OutputFormat::Human => PlanFormat::Human,
            OutputFormat::Json => PlanFormat::Json,
        };
        let run = args.run.clone();
        Self { format, out: None, detailed_exitcode: false, show_identifiers: false, run, dry_run: true }
    }
}

#[derive(Debug, Args)]
pub(super) struct ReconcileArgs {
    /// Only show what the run would do, as `plan` does
    #[arg(long, conflicts_with_all = ["plan", "expect"])]
    pub(super) dry_run: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
    /// Apply this saved plan instead of planning again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cohorts", "expect", "retry_rejected"])]
    pub(super) plan: Option<PathBuf>,
    /// Apply only if the plan has this digest, printed by `plan`
    #[arg(long, value_name = "DIGEST")]
    pub(super) expect: Option<PlanDigest>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Only these segments
    #[arg(value_name = "SEGMENT", value_parser = segment, add = ArgValueCandidates::new(completion::segments))]
    pub(super) segments: Vec<SegmentId>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: CheckFormat,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Number of runs, newest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub(super) limit: usize,
    /// Only runs that changed, blocked or failed this cohort; repeatable
    #[arg(long = "cohort", value_name = "COHORT", value_parser = cohort, add = ArgValueCandidates::new(completion::cohorts))]
    pub(super) cohorts: Vec<CohortId>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// The cohort
    #[arg(value_name = "COHORT", value_parser = cohort, add = ArgValueCandidates::new(completion::cohorts))]
    pub(super) cohort: CohortId,
    /// The digest of the plan, from the message that reports the block
    #[arg(long, value_name = "DIGEST")]
    pub(super) plan: PlanDigest,
    /// Why, for the history of runs
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Only these exports
    #[arg(value_name = "EXPORT", value_parser = export, add = ArgValueCandidates::new(completion::exports))]
    pub(super) exports: Vec<ExportId>,
    /// Only files of this day and later, for example `2026-11-01`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) since: Option<Timestamp>,
    /// Only files of days before this day
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) until: Option<Timestamp>,
    /// Show what would be read and its cost, without sending
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Only these exports
    #[arg(value_name = "EXPORT", value_parser = export, add = ArgValueCandidates::new(completion::exports))]
    pub(super) exports: Vec<ExportId>,
    /// Only rejects with this reason; repeatable
    #[arg(long = "reason", value_name = "REASON", conflicts_with = "files")]
    pub(super) reasons: Vec<String>,
    /// Only events of types that match this glob; repeatable
    #[arg(long = "type", value_name = "GLOB", conflicts_with = "files")]
    pub(super) types: Vec<String>,
    /// Only events from this time on, for example `2026-11-01` or `2026-11-01T06:00Z`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) since: Option<Timestamp>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) until: Option<Timestamp>,
    /// Read the files of these days again, instead of rejects
    #[arg(long, requires = "since")]
    pub(super) files: bool,
    /// Show what would be sent, without sending
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
    /// Send the events
    #[arg(long)]
    pub(super) yes: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    /// The user's external id, Braze id, device id or alias
    #[arg(value_name = "IDENTIFIER")]
    pub(super) identifier: String,
    /// Also delete the user with this identity in this Heap connection; needs `api_key` and `--yes`
    #[arg(long, value_name = "CONNECTION")]
    pub(super) heap: Option<String>,
    /// Confirm the deletion in Heap, which cannot be undone
    #[arg(long, requires = "heap")]
    pub(super) yes: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ResyncArgs {
    /// The cohort
    #[arg(value_name = "COHORT", value_parser = cohort, add = ArgValueCandidates::new(completion::cohorts))]
    pub(super) cohort: CohortId,
    /// Show what would be sent and its cost, without sending
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
    /// Send it
    #[arg(long)]
    pub(super) yes: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Folder for the config
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(super) folder: PathBuf,
    /// Makes a cohort from this CSV file, with match rules guessed from the names of its columns
    #[arg(long, value_name = "FILE")]
    pub(super) from_csv: Option<PathBuf>,
    /// The column of that file with Braze's external id, if its name does not show it
    #[arg(long, value_name = "NAME", requires = "from_csv")]
    pub(super) column: Option<String>,
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

fn segment(text: &str) -> Result<SegmentId, String> {
    SegmentId::new(text).map_err(|e| e.to_string())
}

fn export(text: &str) -> Result<ExportId, String> {
    ExportId::new(text).map_err(|e| e.to_string())
}

fn time(text: &str) -> Result<Timestamp, String> {
    parse_time(text).ok_or_else(|| "expected a time, for example 2026-11-01 or 2026-11-01T06:00Z".to_owned())
}

fn ceiling(text: &str) -> Result<(CohortId, u64), String> {
    let (id, number) =
        text.split_once('=').ok_or("expected COHORT=N, for example abandoned_checkout=1200")?;
    let number = number.parse().map_err(|_| format!("expected an integer, found `{number}`"))?;
    Ok((cohort(id)?, number))
}
