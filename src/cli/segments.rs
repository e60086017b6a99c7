//! Segment checks against Braze, for all commands that report them.

use std::time::Duration;

use super::access::Sandboxes;
use super::environment;
use super::error::CommandError;
use super::exit::Exit;
use super::resources::runtime;
use crate::config::{BrazeObject, Config, SegmentConfig};
use crate::connector::braze::rest::BrazeRestClient;
use crate::model::{CohortId, ConnectionName};
use crate::segment_check::{self, CheckedObject, CheckedSegment, EvidenceRequest, SegmentFinding};
use crate::state::{CheckVerdict, StateReader, StateWriter};

/// Timeout of all segment checks beside another command, and of one wait for Braze.
const LIMIT: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);

/// The word instead of a verdict for a segment that Braze was not asked about.
pub(super) const NOT_CHECKED: &str = "not_checked";

/// The result of one segment check.
pub(super) struct SegmentLookup<'a> {
    pub(super) segment: &'a SegmentConfig,
    /// The findings, or why Braze could not be asked.
    pub(super) outcome: Result<CheckedSegment, SegmentNotChecked>,
}

/// Why Braze could not be asked.
#[derive(Clone, Debug)]
pub(super) struct SegmentNotChecked {
    exit: Exit,
    pub(super) why: String,
}

impl<'a> SegmentLookup<'a> {
    /// A segment of the sandbox inside the program. It is no part of any verdict.
    pub(super) fn in_sandbox(segment: &'a SegmentConfig) -> Self {
        let why = "the sandbox inside the program has no dashboard to create it in; use `syncline sandbox`";
        Self { segment, outcome: Err(SegmentNotChecked { exit: Exit::Done, why: why.to_owned() }) }
    }

    /// The word for the verdict.
    pub(super) fn word(&self) -> &'static str {
        match &self.outcome {
            Ok(checked) => checked.verdict().word(),
            Err(_) => NOT_CHECKED,
        }
    }

    /// Whether the segment could not be checked, which is a problem. In the sandbox inside the program it is none.
    pub(super) fn could_not_be_checked(&self) -> bool {
        self.outcome.as_ref().is_err_and(|not_checked| not_checked.exit != Exit::Done)
    }

    /// Whether no check has found the segment: it was not created yet, or archived before the first check.
    pub(super) fn is_not_found_yet(&self) -> bool {
        let Ok(checked) = &self.outcome else { return false };
        let is_missing = |finding: &SegmentFinding| {
            matches!(finding.what, CheckedObject::SegmentMissing(BrazeObject::Name(_)))
        };
        checked.check.segment.is_none() && checked.findings.iter().any(is_missing)
    }

    /// The exit code of a command for this segment alone.
    pub(super) fn exit(&self) -> Exit {
        let checked = match &self.outcome {
            Ok(checked) => checked,
            Err(not_checked) => return not_checked.exit,
        };
        let mut failures = checked.findings.iter().filter_map(|finding| match &finding.what {
            CheckedObject::NotReported { why, .. } => Some(why),
            _ => None,
        });
        match checked.verdict() {
            CheckVerdict::InSync => Exit::Done,
            CheckVerdict::Drifted => Exit::Drifted,
            CheckVerdict::Unknown if failures.clone().any(|why| why.is_key) => Exit::Credentials,
            CheckVerdict::Unknown if failures.any(|why| why.is_passing) => Exit::Unavailable,
            CheckVerdict::Unknown => Exit::Failed,
        }
    }
}

/// Checks these segments, one workspace after the other, and records the findings if the state is writable. No single
/// wait exceeds the given time.
///
/// # Errors
/// If the state cannot be read.
pub(super) async fn look<'a>(
    segments: impl Iterator<Item = &'a SegmentConfig>,
    config: &Config,
    state: &StateReader,
    memory: Option<&StateWriter>,
    reach: (&Sandboxes, Duration),
) -> Result<Vec<SegmentLookup<'a>>, CommandError> {
    let (sandboxes, patience) = reach;
    let segments: Vec<&SegmentConfig> = segments.collect();
    let mut looked = Vec::new();
    for name in config.braze.keys() {
        let here: Vec<&SegmentConfig> =
            segments.iter().copied().filter(|segment| segment.connection == *name).collect();
        if here.is_empty() {
            continue;
        }
        let rest = match connect(config, name, sandboxes, patience).await {
            Ok(rest) => rest,
            Err(error) => {
                let not_checked = SegmentNotChecked { exit: error.exit, why: error.in_one_line() };
                let outcome = |segment| SegmentLookup { segment, outcome: Err(not_checked.clone()) };
                looked.extend(here.into_iter().map(outcome));
                continue;
            }
        };
        let asking = EvidenceRequest::new(&rest);
        for segment in here {
            let now = environment::clock().now();
            let checked = segment_check::check(segment, config, state, &asking, now).await?;
            if let Some(memory) = memory {
                segment_check::remember(segment, &checked, config, memory, &asking)?;
            }
            looked.push(SegmentLookup { segment, outcome: Ok(checked) });
        }
    }
    let position =
        |looked: &SegmentLookup<'_>| segments.iter().position(|segment| segment.id == looked.segment.id);
    looked.sort_by_key(position);
    Ok(looked)
}

/// Checks the segments that use these cohorts, or all segments if `only` is empty. Failures become part of the results,
/// so they never end the command.
///
/// # Errors
/// If the runtime cannot be created.
pub(super) fn look_along<'a>(
    config: &'a Config,
    state: &StateReader,
    only: &[CohortId],
) -> Result<Vec<SegmentLookup<'a>>, CommandError> {
    let uses = |segment: &&SegmentConfig| only.is_empty() || segment.cohorts().any(|id| only.contains(id));
    let wanted: Vec<&SegmentConfig> = config.checked_segments().filter(uses).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let looked = runtime()?.block_on(async {
        let sandboxes = Sandboxes::default();
        let looking = look(wanted.iter().copied(), config, state, None, (&sandboxes, PATIENCE));
        tokio::time::timeout(LIMIT, looking).await
    });
    let not_checked = match looked {
        Ok(Ok(looked)) => return Ok(looked),
        Ok(Err(error)) => SegmentNotChecked { exit: error.exit, why: error.in_one_line() },
        Err(_) => {
            let why = format!("the checks did not finish within {} seconds", LIMIT.as_secs());
            SegmentNotChecked { exit: Exit::Unavailable, why }
        }
    };
    let outcome = |segment| SegmentLookup { segment, outcome: Err(not_checked.clone()) };
    Ok(wanted.into_iter().map(outcome).collect())
}

async fn connect(
    config: &Config,
    name: &ConnectionName,
    sandboxes: &Sandboxes,
    patience: Duration,
) -> Result<BrazeRestClient, CommandError> {
    let (base, key) = sandboxes.rest(config, name).await?;
    let settings = config.braze.get(name);
    let settings = settings.ok_or_else(|| CommandError::new(Exit::Bug, format!("no connection `{name}`")))?;
    BrazeRestClient::new(settings, &base, key, environment::clock(), patience)
        .map_err(|error| CommandError::new(Exit::Failed, error.to_string()))
}
