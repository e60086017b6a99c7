//! Checks of segments: those of one workspace that are due together are made by one task, which reads each list
//! once. What they come to is remembered, shown and told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::leader::{Leader, Task, WorkDone};
use super::on_done::{FAILURES_TOLD, chance};
use super::queue::{Backoff, WorkEnd, WorkKey};
use super::{ClientAccess, RestAccess, schedule};
use crate::config::{BrazeConfig, Config, Notable, ScheduleConfig, SegmentConfig};
use crate::connector::braze::rest::BrazeRestClient;
use crate::connector::http::HttpError;
use crate::contained::Panicked;
use crate::model::{Clock, ConnectionName, SegmentId};
use crate::segment_check::{self, CheckedObject, CheckedSegment, EvidenceRequest};
use crate::state::{CheckLevel, CheckVerdict, StateError, StateWriter};

/// A workspace that can be asked, with what is known of its rate limits, and how it is reached.
pub(super) struct CheckedWorkspace {
    rest: Arc<BrazeRestClient>,
    settings: BrazeConfig,
    access: RestAccess,
}

impl CheckedWorkspace {
    fn is_reached_by(&self, settings: &BrazeConfig, access: &RestAccess) -> bool {
        let (had, has) = (&self.access, access);
        self.settings == *settings && had.base == has.base && had.key.expose() == has.key.expose()
    }
}

/// The workspaces that can be asked.
pub(super) type WorkspacePause = BTreeMap<ConnectionName, CheckedWorkspace>;

/// How one check ended.
pub(super) struct CheckEnd {
    segment: SegmentId,
    outcome: Result<CheckedSegment, StateError>,
}

/// Connects to every workspace that has segments and is not reached in this way already. Says which it was.
pub(super) fn connect(
    rests: &mut WorkspacePause,
    config: &Config,
    reach: &ClientAccess,
    clock: Clock,
) -> Result<Vec<ConnectionName>, HttpError> {
    let mut renewed = Vec::new();
    rests.retain(|name, _| reach.rest.contains_key(name));
    for (name, access) in &reach.rest {
        let Some(settings) = config.braze.get(name) else { continue };
        if rests.get(name).is_some_and(|asked| asked.is_reached_by(settings, access)) {
            continue;
        }
        let patience = settings.retry.longest_wait;
        let rest =
            Arc::new(BrazeRestClient::new(settings, &access.base, access.key.clone(), clock, patience)?);
        rests.insert(
            name.clone(),
            CheckedWorkspace { rest, settings: settings.clone(), access: access.clone() },
        );
        renewed.push(name.clone());
    }
    Ok(renewed)
}

/// How notices call a segment.
pub(super) fn of_segment(id: &SegmentId) -> String {
    format!("segment {id}")
}

impl Leader {
    /// Every segment is due, and what was known of it before this process is shown.
    pub(super) fn begin_segments(&mut self) {
        let config = Arc::clone(&self.config);
        for segment in &config.segments {
            match self.state.reader().check_of(&segment.id) {
                Ok(Some(check)) => self.shared.board.checked(&segment.id, check),
                Ok(None) => {}
                Err(error) => tracing::warn!(segment = %segment.id, "its last check cannot be read: {error}"),
            }
            self.queue.wake(segment.id.clone(), Instant::now());
        }
    }

    /// Another config is in use: segments that are others now are due.
    pub(super) fn renew_segments(&mut self, old: &Config) {
        let config = Arc::clone(&self.config);
        let renewed = connect(&mut self.rests, &config, &self.reach, self.at.clock());
        let renewed = renewed.unwrap_or_else(|error| {
            tracing::error!("{error}");
            Vec::new()
        });
        for segment in &config.segments {
            let before = old.segments.iter().find(|before| before.id == segment.id);
            // Where it stands in the file does not matter.
            let is_same = before.is_some_and(|before| {
                SegmentConfig { declared_at: segment.declared_at.clone(), ..before.clone() } == *segment
            });
            if !is_same || renewed.contains(&segment.connection) {
                self.queue.wake(segment.id.clone(), Instant::now());
            }
        }
    }

    /// Starts the checks of these segments, a task for each workspace.
    pub(super) fn start_checks(&mut self, due: &[SegmentId]) {
        for id in due.iter().filter(|id| self.config.segments.iter().all(|segment| segment.id != **id)) {
            self.queue.remove(&WorkKey::Segment((*id).clone())); // it is not in the config
        }
        let mut by_connection: BTreeMap<ConnectionName, Vec<SegmentConfig>> = BTreeMap::new();
        for segment in self.config.segments.iter().filter(|segment| due.contains(&segment.id)) {
            by_connection.entry(segment.connection.clone()).or_default().push(segment.clone());
        }
        for (connection, segments) in by_connection {
            let Some(rest) = self.rests.get(&connection).map(|asked| Arc::clone(&asked.rest)) else {
                segments.iter().for_each(|segment| self.check_is_over(&segment.id, WorkEnd::Failed, None));
                continue;
            };
            let (config, state) = (Arc::clone(&self.config), Arc::clone(&self.state));
            let (clock, interrupt) = (self.at.clock(), self.interrupt.1.clone());
            let of = Task::Segments(segments.iter().map(|segment| segment.id.clone()).collect());
            self.spawn(of, async move {
                let checking = check_all(segments, &config, &state, &rest, clock);
                tokio::select! {
                    ended = checking => WorkDone::Checked(ended),
                    // What was not asked is asked by whoever watches next.
                    () = interrupt.requested() => WorkDone::Checked(Vec::new()),
                }
            });
        }
    }

    /// Checks have ended.
    pub(super) fn checked(&mut self, ends: Vec<CheckEnd>) {
        for end in ends {
            self.check_ended(end);
        }
    }

    fn check_ended(&mut self, CheckEnd { segment: id, outcome }: CheckEnd) {
        let Some(segment) = self.config.segments.iter().find(|segment| segment.id == id).cloned() else {
            return self.check_is_over(&id, WorkEnd::Settled, None); // it left the config meanwhile
        };
        let ended = match &outcome {
            Ok(checked) if !is_passing(checked) => WorkEnd::Settled,
            _ => WorkEnd::Failed,
        };
        let now = self.at.clock().now();
        let next = schedule::next(self.schedule_of_segment(&segment), now);
        let until = next.map(|next| Instant::now() + schedule::until(next, now));
        self.check_is_over(&id, ended, until);
        let about = of_segment(&id);
        match outcome {
            Ok(checked) => self.note_check(&id, &about, checked),
            Err(error) => {
                self.is_lost |= matches!(error, StateError::Lost);
                tracing::warn!(segment = %id, "it could not be checked: {error}");
            }
        }
    }

    /// The checks of a workspace ended by a panic.
    pub(super) fn check_panicked(&mut self, id: &SegmentId, panicked: &Panicked) {
        tracing::warn!(segment = %id, "it could not be checked: {panicked}");
        self.tell(&of_segment(id), Some(Notable::Failure), &panicked.to_string());
        self.check_is_over(id, WorkEnd::Failed, None);
    }

    fn check_is_over(&mut self, id: &SegmentId, ended: WorkEnd, next: Option<Instant>) {
        let watch = &self.config.watch;
        let backoff = Backoff { first: watch.first_wait, longest: watch.longest_wait };
        let (key, chance) = (WorkKey::Segment(id.clone()), chance(self.at.random()));
        self.queue.ended(&key, ended, Instant::now(), next, backoff, chance);
    }

    fn note_check(&mut self, id: &SegmentId, about: &str, checked: CheckedSegment) {
        let text = amiss(&checked);
        let is_new = self.shared.board.verdict_of(id) != Some(checked.verdict());
        match checked.verdict() {
            CheckVerdict::InSync => self.tell(about, None, "in sync again"),
            CheckVerdict::Drifted => self.tell(about, Some(Notable::Drift), &text),
            CheckVerdict::Unknown => {
                let failures = self.queue.failures(&WorkKey::Segment(id.clone()));
                // What may run is told when it does not, and what a person must do is told at once.
                if failures >= FAILURES_TOLD || (is_unreported(&checked) && !is_passing(&checked)) {
                    self.tell(about, Some(Notable::Failure), &text);
                }
            }
        }
        match checked.verdict() {
            CheckVerdict::InSync if is_new => tracing::info!(segment = %id, "in sync"),
            CheckVerdict::Drifted if is_new => tracing::warn!(segment = %id, "drifted: {text}"),
            CheckVerdict::Unknown if is_new => tracing::warn!(segment = %id, "cannot be known: {text}"),
            _ => {}
        }
        self.shared.board.checked(id, checked.check);
    }

    fn schedule_of_segment<'a>(&'a self, segment: &'a SegmentConfig) -> &'a ScheduleConfig {
        segment.check.as_ref().unwrap_or(&self.config.watch.schedule)
    }
}

/// Checks segments of one workspace, one after the other, and remembers what was found.
async fn check_all(
    segments: Vec<SegmentConfig>,
    config: &Config,
    state: &StateWriter,
    rest: &BrazeRestClient,
    clock: Clock,
) -> Vec<CheckEnd> {
    let asking = EvidenceRequest::new(rest);
    let mut ends = Vec::new();
    for segment in segments {
        let checked = segment_check::check(&segment, config, state.reader(), &asking, clock.now()).await;
        let outcome = checked.and_then(|checked| {
            tokio::task::block_in_place(|| {
                segment_check::remember(&segment, &checked, config, state, &asking)
            })?;
            Ok(checked)
        });
        ends.push(CheckEnd { segment: segment.id, outcome });
    }
    ends
}

/// What is not as it should be, in words.
fn amiss(checked: &CheckedSegment) -> String {
    let amiss = checked.findings.iter().filter(|finding| finding.what.level() > CheckLevel::Note);
    amiss.map(|finding| finding.what.to_string()).collect::<Vec<_>>().join("; ")
}

fn is_unreported(checked: &CheckedSegment) -> bool {
    checked.findings.iter().any(|finding| matches!(finding.what, CheckedObject::NotReported { .. }))
}

/// Whether asking again soon may help.
fn is_passing(checked: &CheckedSegment) -> bool {
    checked.findings.iter().any(|finding| match &finding.what {
        CheckedObject::NotReported { why, .. } => why.is_passing,
        _ => false,
    })
}
