//! The checks of `doctor`: machine, state, vendors, databases and sources. They send Braze only empty changes and write
//! nothing. A failed check does not stop the others.

mod databases;
mod machine;
mod sources;
mod sql_errors;
mod state;
mod tables;
mod vendors;

pub(super) use machine::enough_open_files;

use super::environment;
use super::error::CommandError;
use super::suggested_command::SuggestedCommand;
use crate::config::Config;
use crate::foreign::escaped;
use crate::model::Timestamp;

/// Clocks that differ by more fail the check. Responses carry whole seconds and are delayed.
const SKEW_MAX_SECONDS: i64 = 5;

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckStatus {
    Passed,
    /// It works, with a limitation that you should know.
    Note,
    Failed,
}

impl CheckStatus {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Note => "note",
            Self::Failed => "failed",
        }
    }
}

/// One check with its result.
pub(super) struct DoctorFinding {
    /// The checked connection, state, source or machine.
    pub(super) about: String,
    /// Stable name of the check.
    pub(super) check: &'static str,
    pub(super) status: CheckStatus,
    pub(super) message: String,
    pub(super) remedies: Vec<String>,
}

/// All findings, in the order of the checks.
#[derive(Default)]
pub(super) struct DoctorFindings {
    about: String,
    pub(super) list: Vec<DoctorFinding>,
}

impl DoctorFindings {
    /// Sets the subject of the findings that follow.
    fn about(&mut self, about: impl Into<String>) {
        self.about = about.into();
    }

    fn push(&mut self, check: &'static str, status: CheckStatus, message: String, remedies: Vec<String>) {
        let plain = |text: String| escaped(&text).into_owned();
        let remedies = remedies.into_iter().map(plain).collect();
        self.list.push(DoctorFinding {
            about: self.about.clone(),
            check,
            status,
            message: plain(message),
            remedies,
        });
    }

    fn passed(&mut self, check: &'static str, message: impl Into<String>) {
        self.push(check, CheckStatus::Passed, message.into(), Vec::new());
    }

    fn note(&mut self, check: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(check, CheckStatus::Note, message.into(), vec![remedy.into()]);
    }

    fn failed(&mut self, check: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(check, CheckStatus::Failed, message.into(), vec![remedy.into()]);
    }

    /// Records the error that any other command would end with.
    fn command_failed(&mut self, check: &'static str, error: &CommandError) {
        self.push(check, CheckStatus::Failed, error.message().to_owned(), error.hints().to_vec());
    }

    /// Returns the value, or records the error that any other command would end with.
    fn check<T>(&mut self, check: &'static str, result: Result<T, CommandError>) -> Option<T> {
        result.map_err(|error| self.command_failed(check, &error)).ok()
    }

    /// Compares this machine's clock with a server's.
    fn clock(&mut self, theirs: Option<Timestamp>) {
        let Some(theirs) = theirs else { return };
        let ahead = environment::clock().now().as_second() - theirs.as_second();
        if ahead.abs() <= SKEW_MAX_SECONDS {
            self.passed("clock", "the clocks agree");
            return;
        }
        let side = if ahead > 0 { "ahead" } else { "behind" };
        self.failed(
            "clock",
            format!("this machine's clock is {} s {side}", ahead.abs()),
            "let NTP set the clock: leases, Heap's signatures and rate limits depend on it",
        );
    }
}

/// Runs all checks of the config.
pub(super) async fn examine(config: &Config, again: &SuggestedCommand) -> DoctorFindings {
    let mut findings = DoctorFindings::default();
    let members_max = state::check(config, again, &mut findings);
    machine::check(config, members_max, &mut findings);
    vendors::check(config, &mut findings).await;
    databases::check(config, &mut findings).await;
    sources::check(config, &mut findings).await;
    findings
}
