//! The command line of `state`. Doc comments are the help texts.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

use super::completion;
use super::global_args::{FormatArgs, OutputFormat, cohort};
use crate::model::{CohortId, ConnectionName};

#[derive(Debug, Args)]
pub(super) struct StateArgs {
    #[command(subcommand)]
    pub(super) command: StateCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum StateCommand {
    /// List the cohorts in the state and the holder of its lease
    Ls(FormatArgs),
    /// Show the recorded membership of a cohort: its version and parts
    Show {
        /// The cohort
        #[arg(value_name = "COHORT", value_parser = cohort, add = ArgValueCandidates::new(completion::cohorts))]
        cohort: CohortId,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Record the keys of a connection in the state, after a key of the same workspace was replaced
    Adopt {
        /// The connection
        #[arg(value_name = "CONNECTION", value_parser = connection)]
        connection: ConnectionName,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Create an empty state, as `must_exist: true` requires
    Create(FormatArgs),
    /// Accept a part of the state that is older than the last commit: `state verify` names it
    Accept {
        /// The part, such as `cohorts/<id>` or `segments/<connection>`
        #[arg(value_name = "PART")]
        part: String,
        /// Of segments: accept the deliveries in the inbox as complete segments, even without a drain
        #[arg(long)]
        full_sync: bool,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Read every file and verify its checksum
    Verify(FormatArgs),
    /// Remove replaced versions and the remains of crashes
    Gc {
        /// Only show what would be removed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        format: FormatArgs,
    },
}

impl StateCommand {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ls(_) => "ls",
            Self::Show { .. } => "show",
            Self::Adopt { .. } => "adopt",
            Self::Verify(_) => "verify",
            Self::Create(_) => "create",
            Self::Accept { .. } => "accept",
            Self::Gc { .. } => "gc",
        }
    }

    pub(super) fn format(&self) -> OutputFormat {
        match self {
            Self::Ls(args) | Self::Verify(args) | Self::Create(args) => args.format,
            Self::Accept { format, .. }
            | Self::Show { format, .. }
            | Self::Adopt { format, .. }
            | Self::Gc { format, .. } => format.format,
        }
    }
}

fn connection(text: &str) -> Result<ConnectionName, String> {
    ConnectionName::new(text).map_err(|e| e.to_string())
}
