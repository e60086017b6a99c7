//! Options and argument types that several commands share. Doc comments are the help texts.

use std::path::PathBuf;

use clap::{Arg, Args, ValueEnum};
use clap_complete::ArgValueCandidates;

use super::completion;
use crate::config::DEFAULT_FILE;
use crate::model::CohortId;

/// Options of all commands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// The config file
    #[arg(short, long, global = true, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub(super) config: PathBuf,
    /// Merge this environment of the config into it
    #[arg(short, long, global = true, value_name = "NAME", add = ArgValueCandidates::new(completion::environments))]
    pub(super) env: Option<String>,
    /// Reject a config that differs from this one in more than cohorts, segments and exports
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) trusted_config: Option<PathBuf>,
    /// Log more to stderr: -v runs and cohorts, -vv requests, source and state, -vvv all
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Format of log lines
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(super) color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    Human,
    Json,
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
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

/// Global options without effect on a command: accepted, but hidden in its help.
pub(super) fn without_effect(names: &[&str]) -> Vec<Arg> {
    let all = Global::augment_args(clap::Command::new("all"));
    let named = all.get_arguments().filter(|arg| names.contains(&arg.get_id().as_str()));
    named.map(|arg| arg.clone().hide(true)).collect()
}

pub(super) fn cohort(text: &str) -> Result<CohortId, String> {
    CohortId::new(text).map_err(|e| e.to_string())
}
