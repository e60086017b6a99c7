//! Segment checks of the leader. Segments of one workspace that are due together share one task, which reads each list
//! of objects once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::context::LeaderContext;
use super::environment::RestAccess;
use super::notify::{FAILURES_NOTIFIED, NotificationSubject, Notifications};
use super::queue::{RunEnd, WorkQueue};
use super::schedule;
use crate::config::{BrazeConfig, Config, Notable, ScheduleConfig, SegmentConfig};
use crate::connector::braze::rest::BrazeRestClient;
use crate::connector::http::HttpError;
use crate::contained::Panicked;
use crate::model::{Clock, ConnectionName, SegmentId};
use crate::segment_check::{self, CheckedObject, CheckedSegment, EvidenceRequest};
use crate::state::{CheckLevel, CheckVerdict, StateError, StateWriter};

/// The queue of segment checks, and the REST clients that they use.
pub(super) struct SegmentChecks {
    queue: WorkQueue<SegmentId>,
    workspaces: BTreeMap<ConnectionName, CheckedWorkspace>,
}

/// The REST client of a workspace, which knows its rate limits, and the settings that it was created with.
struct CheckedWorkspace {
    client: Arc<BrazeRestClient>,
    settings: BrazeConfig,
    access: RestAccess,
}

impl CheckedWorkspace {
    fn has_access(&self, settings: &BrazeConfig, access: &RestAccess) -> bool {
        let own = &self.access;
        self.settings == *settings && own.base == access.base && own.key.expose() == access.key.expose()
    }
}

/// The result of one check.
pub(super) struct CheckEnd {
    segment: SegmentId,
    result: Result<CheckedSegment, StateError>,
}

impl SegmentChecks {
    pub(super) fn new() -> Self {
        Self { queue: WorkQueue::new(), workspaces: BTreeMap::new() }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    pub(super) fn depth(&self, now: Instant) -> usize {
        self.queue.depth(now)
    }

    /// Connects to every workspace with segments. Returns the workspaces that are new or have changed access.
    pub(super) fn connect(&mut self, context: &LeaderContext) -> Result<Vec<ConnectionName>, HttpError> {
        let mut changed = Vec::new();
        let rest = &context.access.braze_rest;
        self.workspaces.retain(|name, _| rest.contains_key(name));
        for (name, access) in rest {
            let Some(settings) = context.config.braze.get(name) else { continue };
            if self.workspaces.get(name).is_some_and(|workspace| workspace.has_access(settings, access)) {
                continue;
            }
            let (key, patience) = (access.key.clone(), settings.retry.longest_wait);
            let client = BrazeRestClient::new(settings, &access.base, key, context.clock, patience)?;
            let (client, settings, access) = (Arc::new(client), settings.clone(), access.clone());
            self.workspaces.insert(name.clone(), CheckedWorkspace { client, settings, access });
            changed.push(name.clone());
        }
        Ok(changed)
    }

    /// Makes every segment due, and shows its last check.
    pub(super) fn begin(&mut self, context: &LeaderContext) {
        for segment in &context.config.segments {
            match context.state.reader().check_of(&segment.id) {
                Ok(Some(check)) => context.status.set_check(&segment.id, check),
                Ok(None) => {}
                Err(error) => tracing::warn!(segment = %segment.id, "cannot read the last check: {error}"),
            }
            self.queue.wake(segment.id.clone(), context.clock.monotonic());
        }
    }

    /// Follows another config: removes the segments that left, and wakes the changed ones.
    pub(super) fn set_config(&mut self, context: &LeaderContext, old: &Config) {
        self.queue.retain(|id| context.segment(id).is_some());
        let changed_workspaces = self.connect(context).unwrap_or_else(|error| {
            tracing::error!("{error}");
            Vec::new()
        });
        for segment in &context.config.segments {
            let before = old.segments.iter().find(|before| before.id == segment.id);
            // Its line in the file does not count.
            let is_same = before.is_some_and(|before| {
                SegmentConfig { declared_at: segment.declared_at.clone(), ..before.clone() } == *segment
            });
            if !is_same || changed_workspaces.contains(&segment.connection) {
                self.queue.wake(segment.id.clone(), context.clock.monotonic());
            }
        }
    }

    /// Takes the segments that are due, one task for each workspace.
    pub(super) fn take_due(
        &mut self,
        context: &LeaderContext,
    ) -> Vec<(Vec<SegmentId>, impl Future<Output = Vec<CheckEnd>> + Send + use<>)> {
        let due = self.queue.take_due(context.clock.monotonic());
        due.iter().filter(|id| context.segment(id).is_none()).for_each(|id| self.queue.remove(id));
        let mut by_connection: BTreeMap<ConnectionName, Vec<SegmentConfig>> = BTreeMap::new();
        for segment in context.config.segments.iter().filter(|segment| due.contains(&segment.id)) {
            by_connection.entry(segment.connection.clone()).or_default().push(segment.clone());
        }
        let mut tasks = Vec::new();
        for (connection, segments) in by_connection {
            let Some(client) =
                self.workspaces.get(&connection).map(|workspace| Arc::clone(&workspace.client))
            else {
                segments
                    .iter()
                    .for_each(|segment| self.reschedule(&segment.id, RunEnd::Failed, None, context));
                continue;
            };
            let (config, state) = (Arc::clone(&context.config), Arc::clone(&context.state));
            let (clock, interrupt) = (context.clock, context.interrupt.clone());
            let ids = segments.iter().map(|segment| segment.id.clone()).collect();
            let checks = async move {
                tokio::select! {
                    ends = check_all(segments, &config, &state, &client, clock) => ends,
                    // The next leader checks the rest.
                    () = interrupt.requested() => Vec::new(),
                }
            };
            tasks.push((ids, checks));
        }
        tasks
    }

    /// Schedules the next checks, updates the status and notifies changes. Returns whether the lease is lost.
    pub(super) fn finish(
        &mut self,
        ends: Vec<CheckEnd>,
        context: &LeaderContext,
        notifications: &mut Notifications,
    ) -> bool {
        let mut is_lease_lost = false;
        for CheckEnd { segment: id, result } in ends {
            let Some(segment) = context.segment(&id) else {
                self.reschedule(&id, RunEnd::Settled, None, context); // it left the config during the check
                continue;
            };
            let end = match &result {
                Ok(checked) if !is_transient(checked) => RunEnd::Settled,
                _ => RunEnd::Failed,
            };
            let schedule: &ScheduleConfig = segment.check.as_ref().unwrap_or(&context.config.watch.schedule);
            let next = schedule::next_run(schedule, None, context.clock.read());
            self.reschedule(&id, end, next, context);
            match result {
                Ok(checked) => self.show_check(&id, checked, context, notifications),
                Err(error) => {
                    is_lease_lost |= matches!(error, StateError::LeaseLost);
                    tracing::warn!(segment = %id, "the check failed: {error}");
                }
            }
        }
        is_lease_lost
    }

    /// The task of these segments panicked.
    pub(super) fn panicked(
        &mut self,
        ids: &[SegmentId],
        panicked: &Panicked,
        context: &LeaderContext,
        notifications: &mut Notifications,
    ) {
        for id in ids {
            tracing::warn!(segment = %id, "the check failed: {panicked}");
            notifications.problem(
                NotificationSubject::Segment(id.clone()),
                Notable::Failure,
                &panicked.to_string(),
            );
            self.reschedule(id, RunEnd::Failed, None, context);
        }
    }

    fn reschedule(&mut self, id: &SegmentId, end: RunEnd, next: Option<Instant>, context: &LeaderContext) {
        let (now, backoff, jitter) = (context.clock.monotonic(), context.backoff(), context.jitter());
        self.queue.finish(id, end, now, next, backoff, jitter);
    }

    fn show_check(
        &self,
        id: &SegmentId,
        checked: CheckedSegment,
        context: &LeaderContext,
        notifications: &mut Notifications,
    ) {
        let (subject, text) = (NotificationSubject::Segment(id.clone()), problems(&checked));
        let is_new = context.status.verdict(id) != Some(checked.verdict());
        match checked.verdict() {
            CheckVerdict::InSync => notifications.recovered(subject, "in sync again"),
            CheckVerdict::Drifted => notifications.problem(subject, Notable::Drift, &text),
            CheckVerdict::Unknown => {
                // A temporary failure is notified when it lasts, others at once.
                let needs_operator = is_incomplete(&checked) && !is_transient(&checked);
                if needs_operator || self.queue.failures(id) >= FAILURES_NOTIFIED {
                    notifications.problem(subject, Notable::Failure, &text);
                }
            }
        }
        match checked.verdict() {
            CheckVerdict::InSync if is_new => tracing::info!(segment = %id, "in sync"),
            CheckVerdict::Drifted if is_new => tracing::warn!(segment = %id, "drifted: {text}"),
            CheckVerdict::Unknown if is_new => tracing::warn!(segment = %id, "unknown: {text}"),
            _ => {}
        }
        context.status.set_check(id, checked.check);
    }
}

/// Checks the segments of one workspace in sequence, and records the results.
async fn check_all(
    segments: Vec<SegmentConfig>,
    config: &Config,
    state: &StateWriter,
    client: &BrazeRestClient,
    clock: Clock,
) -> Vec<CheckEnd> {
    let evidence = EvidenceRequest::new(client);
    let mut ends = Vec::new();
    for segment in segments {
        let checked = segment_check::check(&segment, config, state.reader(), &evidence, clock.now()).await;
        let result = checked.and_then(|checked| {
            tokio::task::block_in_place(|| {
                segment_check::remember(&segment, &checked, config, state, &evidence)
            })?;
            Ok(checked)
        });
        ends.push(CheckEnd { segment: segment.id, result });
    }
    ends
}

/// The text of findings above the level of a note.
fn problems(checked: &CheckedSegment) -> String {
    let problems = checked.findings.iter().filter(|finding| finding.what.level() > CheckLevel::Note);
    problems.map(|finding| finding.what.to_string()).collect::<Vec<_>>().join("; ")
}

/// Whether Braze did not return all evidence.
fn is_incomplete(checked: &CheckedSegment) -> bool {
    checked.findings.iter().any(|finding| matches!(finding.what, CheckedObject::NotReported { .. }))
}

/// Whether evidence is missing for a reason that a retry may solve.
fn is_transient(checked: &CheckedSegment) -> bool {
    checked.findings.iter().any(|finding| match &finding.what {
        CheckedObject::NotReported { why, .. } => why.is_passing,
        _ => false,
    })
}
