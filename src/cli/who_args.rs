//! The command line of `who`. Doc comments are the help texts.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;

use super::completion;
use super::global_args::{OutputFormat, cohort};
use crate::lookup::IdKind;
use crate::model::CohortId;

/// The end of the help.
pub(super) const EXIT_CODES: &str = "\
With `--file -`, the identifier is not in the list of processes.
Exit code 0: every cohort was answered, member or not. 1: a cohort or a source could not be read.";

#[derive(Debug, Args)]
pub(super) struct WhoArgs {
    /// An external id, `label:name` or name of an alias, device id, Braze id or Heap user id
    #[arg(value_name = "IDENTIFIER", required_unless_present = "file")]
    pub(super) identifiers: Vec<String>,
    /// Read identifiers from this file, one per line, with `--source` at most 10,000; `-` reads from stdin
    #[arg(long, value_name = "FILE", conflicts_with = "identifiers")]
    pub(super) file: Option<PathBuf>,
    /// Look the identifiers up as this kind only
    #[arg(long, value_name = "KIND")]
    pub(super) kind: Option<IdKindArg>,
    /// Only in this cohort; repeatable
    #[arg(
        long = "cohort",
        value_name = "COHORT",
        value_parser = cohort,
        add = ArgValueCandidates::new(completion::cohorts)
    )]
    pub(super) cohorts: Vec<CohortId>,
    /// Also read the sources of the cohorts, to find the user's rows
    #[arg(long)]
    pub(super) source: bool,
    /// Show the user's other identifiers and rejected values in full
    #[arg(long)]
    pub(super) show_identifiers: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum IdKindArg {
    ExternalId,
    /// An alias; Heap's user ids are aliases
    Alias,
    DeviceId,
    BrazeId,
}

impl From<IdKindArg> for IdKind {
    fn from(kind: IdKindArg) -> Self {
        match kind {
            IdKindArg::ExternalId => Self::ExternalId,
            IdKindArg::Alias => Self::Alias,
            IdKindArg::DeviceId => Self::DeviceId,
            IdKindArg::BrazeId => Self::BrazeId,
        }
    }
}
