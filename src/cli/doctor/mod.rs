//! What `doctor` looks at, part by part. It only reads: nothing is sent that anybody could be changed by, and
//! nothing is written. Each part goes on when another fails.

mod databases;
mod machine;
mod sources;
mod state;
mod tables;
mod vendors;

pub(super) use machine::enough_open_files;

use super::environment;
use super::error::CommandError;
use crate::config::Config;
use crate::foreign::escaped;
use crate::model::Timestamp;

/// Larger differences of clocks are told. Answers carry whole seconds and take their time.
const SKEW_MAX_SECONDS: i64 = 5;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckStatus {
    /// As it should be.
    Fine,
    /// It works; somebody should know.
    Note,
    /// It does not work, or will not.
    Wrong,
}

impl CheckStatus {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Wrong => "wrong",
        }
    }
}

/// One thing that was looked at.
pub(super) struct DoctorFinding {
    /// Whose it is: a connection, the state, a cohort.
    pub(super) about: String,
    /// What was looked at, in a stable word.
    pub(super) check: &'static str,
    pub(super) verdict: CheckStatus,
    pub(super) says: String,
    /// What to do about it.
    pub(super) remedies: Vec<String>,
}

/// Everything that was found, in order.
#[derive(Default)]
pub(super) struct DoctorFindings {
    about: String,
    pub(super) list: Vec<DoctorFinding>,
}

impl DoctorFindings {
    /// What follows is about this.
    fn about(&mut self, about: impl Into<String>) {
        self.about = about.into();
    }

    fn push(&mut self, check: &'static str, verdict: CheckStatus, says: String, remedies: Vec<String>) {
        let plain = |text: String| escaped(&text).into_owned();
        let remedies = remedies.into_iter().map(plain).collect();
        self.list.push(DoctorFinding {
            about: self.about.clone(),
            check,
            verdict,
            says: plain(says),
            remedies,
        });
    }

    fn fine(&mut self, check: &'static str, says: impl Into<String>) {
        self.push(check, CheckStatus::Fine, says.into(), Vec::new());
    }

    fn note(&mut self, check: &'static str, says: impl Into<String>, remedy: impl Into<String>) {
        self.push(check, CheckStatus::Note, says.into(), vec![remedy.into()]);
    }

    fn wrong(&mut self, check: &'static str, says: impl Into<String>, remedy: impl Into<String>) {
        self.push(check, CheckStatus::Wrong, says.into(), vec![remedy.into()]);
    }

    /// The error that any other command would end with.
    fn failed(&mut self, check: &'static str, error: &CommandError) {
        self.push(check, CheckStatus::Wrong, error.message().to_owned(), error.hints().to_vec());
    }

    /// What is there, or the error that any other command would end with.
    fn kept<T>(&mut self, check: &'static str, result: Result<T, CommandError>) -> Option<T> {
        result.map_err(|error| self.failed(check, &error)).ok()
    }

    /// Compares this machine's clock with another's.
    fn clock(&mut self, theirs: Option<Timestamp>) {
        let Some(theirs) = theirs else { return };
        let ahead = environment::clock().now().as_second() - theirs.as_second();
        if ahead.abs() <= SKEW_MAX_SECONDS {
            self.fine("clock", "the clocks agree");
            return;
        }
        let side = if ahead > 0 { "ahead" } else { "behind" };
        self.wrong(
            "clock",
            format!("this machine's clock is {} s {side}", ahead.abs()),
            "let NTP set the clock: leases, Heap's signatures and rate limits go by it",
        );
    }
}

/// Looks at everything that the config names.
pub(super) async fn examine(config: &Config) -> DoctorFindings {
    let mut findings = DoctorFindings::default();
    let members_max = state::look(config, &mut findings);
    machine::look(config, members_max, &mut findings);
    vendors::look(config, &mut findings).await;
    databases::look(config, &mut findings).await;
    sources::look(config, &mut findings).await;
    findings
}
