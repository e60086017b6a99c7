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
use crate::blocking;
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

    /// Makes every segment due.
    pub(super) fn begin(&mut self, context: &LeaderContext) {
        for segment in context.config.checked_segments() {
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
        for segment in context.config.checked_segments() {
            let before = old.segments.iter().find(|before| before.id == segment.id);
            // Its line in the file does not count.
            let is_same = before.is_some_and(|before| {
                SegmentConfig {
                    declared_at: segment.declared_at.clone(),
                    key_lines: segment.key_lines.clone(),
                    ..before.clone()
                } == *segment
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
        for segment in context.config.checked_segments().filter(|segment| due.contains(&segment.id)) {
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
        let (now, retry, jitter) = (context.clock.monotonic(), context.retry(), context.jitter());
        self.queue.finish(id, end, now, next, retry, jitter);
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
            blocking::in_place(|| segment_check::remember(&segment, &checked, config, state, &evidence))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::contained::contained;
    use crate::model::Timestamp;
    use crate::segment_check::{EvidenceGap, ExpectedSegment, SegmentFinding};
    use crate::state::{CheckTime, SegmentCheck};
    use crate::watch::environment::ClientAccess;
    use crate::watch::recorded::RecordedStatus;
    use crate::watch::watch_fixture::{WatchFixture, advance};

    /// Two segments of one workspace, one of them with its own schedule, and one segment of another workspace.
    const CONFIG: &str = "version: 1
connections:
  braze: { kind: braze, instance: US-01, rest_api_key: { env: A } }
  other: { kind: braze, instance: US-02, rest_api_key: { env: B } }
cohorts:
  - { id: carts, name: A, to: braze, deliver: attribute, source: { kind: file, path: a.csv }, match: [ { external_id: a } ] }
  - { id: vip, name: B, to: other, deliver: attribute, source: { kind: file, path: b.csv }, match: [ { external_id: a } ] }
segments:
  - { id: loyal, connection: braze, segment: { name: L }, include: [carts], check: { every: 10m } }
  - { id: lost, connection: braze, segment: { name: O }, include: [carts] }
  - { id: rich, connection: other, segment: { name: R }, include: [vip] }
";

    fn id(text: &str) -> SegmentId {
        SegmentId::new(text).unwrap()
    }

    /// Access to both workspaces with these keys. No request is sent.
    fn access(keys: [&str; 2]) -> Arc<ClientAccess> {
        let rest = ["braze", "other"].into_iter().zip(keys).map(|(name, key)| {
            let (base, key) = ("http://127.0.0.1:9".to_owned(), Secret::new(key.to_owned()));
            (ConnectionName::new(name).unwrap(), RestAccess { base, key })
        });
        Arc::new(ClientAccess { braze_rest: rest.collect(), ..ClientAccess::default() })
    }

    /// All segments are due, with access to both workspaces.
    fn begun() -> (SegmentChecks, WatchFixture) {
        let (mut checks, mut fixture) = (SegmentChecks::new(), WatchFixture::of(CONFIG));
        fixture.context.access = access(["1", "2"]);
        assert_eq!(checks.connect(&fixture.context).unwrap().len(), 2);
        checks.begin(&fixture.context);
        (checks, fixture)
    }

    /// The segments of each task.
    fn taken(checks: &mut SegmentChecks, fixture: &WatchFixture) -> Vec<Vec<String>> {
        let tasks = checks.take_due(&fixture.context).into_iter();
        tasks.map(|(ids, _)| ids.iter().map(SegmentId::to_string).collect()).collect()
    }

    fn check_at(verdict: CheckVerdict, at: Timestamp) -> SegmentCheck {
        SegmentCheck {
            number: 1,
            at: CheckTime(at),
            verdict,
            since: CheckTime(at),
            in_sync_at: None,
            findings: Vec::new(),
            unverified: Vec::new(),
            seen: BTreeMap::new(),
            segment: None,
            size: None,
            expectations: Vec::new(),
            uses: Vec::new(),
        }
    }

    /// Ends the check of a segment with this verdict and finding.
    fn finish(
        checks: &mut SegmentChecks,
        segment: &str,
        (verdict, what): (CheckVerdict, Option<CheckedObject>),
        fixture: &mut WatchFixture,
    ) {
        let now = fixture.context.clock.now();
        let findings = what.into_iter().map(|what| SegmentFinding { what, since: now, absent_at: None });
        let checked = CheckedSegment {
            check: check_at(verdict, now),
            findings: findings.collect(),
            expected: ExpectedSegment::default(),
        };
        let ends = vec![CheckEnd { segment: id(segment), result: Ok(checked) }];
        assert!(!checks.finish(ends, &fixture.context, &mut fixture.notifications));
    }

    const IN_SYNC: (CheckVerdict, Option<CheckedObject>) = (CheckVerdict::InSync, None);

    fn not_reported(is_passing: bool) -> (CheckVerdict, Option<CheckedObject>) {
        let why = EvidenceGap { text: "down".to_owned(), is_key: !is_passing, is_other: false, is_passing };
        (CheckVerdict::Unknown, Some(CheckedObject::NotReported { about: "segment".to_owned(), why }))
    }

    fn problem(fixture: &WatchFixture, segment: &str) -> Option<Notable> {
        fixture.notifications.problem_of(&NotificationSubject::Segment(id(segment)))
    }

    #[test]
    fn due_segments_of_a_workspace_share_a_task_and_each_follows_its_schedule() {
        let (mut checks, mut fixture) = begun();
        assert_eq!(taken(&mut checks, &fixture), [vec!["loyal", "lost"], vec!["rich"]]);
        assert_eq!(taken(&mut checks, &fixture), Vec::<Vec<String>>::new());
        for segment in ["loyal", "lost", "rich"] {
            finish(&mut checks, segment, IN_SYNC, &mut fixture);
        }
        assert_eq!(fixture.until(checks.next_due()), Some(600), "the schedule of `loyal`");
        advance(600);
        assert_eq!(taken(&mut checks, &fixture), [vec!["loyal"]]);
        finish(&mut checks, "loyal", IN_SYNC, &mut fixture);
        advance(3000);
        assert_eq!(taken(&mut checks, &fixture), [vec!["loyal", "lost"], vec!["rich"]], "once an hour");
    }

    #[test]
    fn a_segment_without_access_is_retried_later() {
        let (mut checks, fixture) = (SegmentChecks::new(), WatchFixture::of(CONFIG));
        checks.begin(&fixture.context);
        assert_eq!(taken(&mut checks, &fixture), Vec::<Vec<String>>::new());
        let wait = fixture.until(checks.next_due()).unwrap();
        assert!(wait > 0);
        advance(wait + 1);
        assert_eq!(taken(&mut checks, &fixture), Vec::<Vec<String>>::new());
        assert!(fixture.until(checks.next_due()).unwrap() > wait, "the waits grow");
    }

    #[test]
    fn drift_is_a_problem_until_the_segment_is_in_sync() {
        let (mut checks, mut fixture) = begun();
        taken(&mut checks, &fixture);
        let drifted = (CheckVerdict::Drifted, Some(CheckedObject::FilterHas(vec!["x".to_owned()])));
        finish(&mut checks, "lost", drifted, &mut fixture);
        assert_eq!(problem(&fixture, "lost"), Some(Notable::Drift));
        assert_eq!(fixture.context.status.verdict(&id("lost")), Some(CheckVerdict::Drifted));
        assert_eq!(problem(&fixture, "loyal"), None);
        advance(3600);
        taken(&mut checks, &fixture);
        finish(&mut checks, "lost", IN_SYNC, &mut fixture);
        assert_eq!(problem(&fixture, "lost"), None);
        assert_eq!(fixture.context.status.verdict(&id("lost")), Some(CheckVerdict::InSync));
    }

    #[test]
    fn missing_evidence_is_a_problem_at_once_or_when_it_lasts() {
        let (mut checks, mut fixture) = begun();
        taken(&mut checks, &fixture);
        finish(&mut checks, "lost", IN_SYNC, &mut fixture);
        finish(&mut checks, "loyal", not_reported(false), &mut fixture);
        assert_eq!(problem(&fixture, "loyal"), Some(Notable::Failure), "no retry helps");
        assert_eq!(fixture.until(checks.queue.due(&id("loyal"))), Some(600), "its schedule");
        for attempt in 1..=FAILURES_NOTIFIED {
            finish(&mut checks, "rich", not_reported(true), &mut fixture);
            let expected = (attempt == FAILURES_NOTIFIED).then_some(Notable::Failure);
            assert_eq!(problem(&fixture, "rich"), expected, "attempt {attempt}");
            let wait = fixture.until(checks.queue.due(&id("rich"))).unwrap();
            assert!(wait < 600, "it is retried before its schedule: {wait}");
            advance(wait + 1);
            assert!(taken(&mut checks, &fixture).contains(&vec!["rich".to_owned()]));
        }
        assert_eq!(fixture.context.status.verdict(&id("rich")), Some(CheckVerdict::Unknown));
    }

    #[test]
    fn a_panic_fails_the_segments_of_its_task_only() {
        let (mut checks, mut fixture) = begun();
        taken(&mut checks, &fixture);
        let panicked = contained::<()>(|| panic!("a bug")).unwrap_err();
        checks.panicked(&[id("loyal"), id("lost")], &panicked, &fixture.context, &mut fixture.notifications);
        let problems = ["loyal", "lost", "rich"].map(|segment| problem(&fixture, segment));
        assert_eq!(problems, [Some(Notable::Failure), Some(Notable::Failure), None]);
        advance(fixture.until(checks.next_due()).unwrap() + 1);
        assert_eq!(taken(&mut checks, &fixture), [vec!["loyal", "lost"]], "`rich` still runs");
    }

    #[test]
    fn a_lost_lease_is_returned_and_an_error_of_the_state_is_retried() {
        let (mut checks, mut fixture) = begun();
        taken(&mut checks, &fixture);
        let lost = vec![CheckEnd { segment: id("lost"), result: Err(StateError::LeaseLost) }];
        assert!(checks.finish(lost, &fixture.context, &mut fixture.notifications));
        assert!(fixture.until(checks.queue.due(&id("lost"))).unwrap() < 600);
        assert_eq!(fixture.context.status.verdict(&id("lost")), None, "no check was made");
    }

    #[test]
    fn a_segment_that_leaves_the_config_during_its_check_does_not_run_again() {
        let (mut checks, mut fixture) = begun();
        taken(&mut checks, &fixture);
        let old = Config::clone(&fixture.context.config);
        fixture.change_config(|config| config.segments.retain(|segment| segment.id != id("rich")));
        checks.set_config(&fixture.context, &old);
        finish(&mut checks, "rich", IN_SYNC, &mut fixture);
        for segment in ["loyal", "lost"] {
            finish(&mut checks, segment, IN_SYNC, &mut fixture);
        }
        advance(3600);
        assert_eq!(taken(&mut checks, &fixture), [vec!["loyal", "lost"]]);
    }

    #[test]
    fn another_config_wakes_changed_segments_and_those_of_a_workspace_with_another_key() {
        let (mut checks, mut fixture) = begun();
        taken(&mut checks, &fixture);
        for segment in ["loyal", "lost", "rich"] {
            finish(&mut checks, segment, IN_SYNC, &mut fixture);
        }
        let old = Config::clone(&fixture.context.config);
        fixture.change_config(|config| {
            config.segments[0].declared_at = "sync.yaml:99".to_owned();
            config.segments[1].tag = Some("growth".to_owned());
        });
        fixture.context.access = access(["1", "3"]);
        checks.set_config(&fixture.context, &old);
        let due = taken(&mut checks, &fixture);
        assert_eq!(due, [vec!["lost"], vec!["rich"]], "the line of `loyal` in the file does not count");
    }

    #[test]
    fn the_last_check_of_the_state_is_shown_before_the_first_one() {
        let (mut checks, fixture) = (SegmentChecks::new(), WatchFixture::of(CONFIG));
        let last = check_at(CheckVerdict::Drifted, fixture.context.clock.now());
        fixture.context.state.commit_check(&id("lost"), &last).unwrap();
        let context = &fixture.context;
        RecordedStatus::read(&context.config, context.state.reader(), &*context.environment)
            .show(&context.status);
        checks.begin(&fixture.context);
        let verdicts = ["lost", "rich"].map(|segment| fixture.context.status.verdict(&id(segment)));
        assert_eq!(verdicts, [Some(CheckVerdict::Drifted), None]);
        assert_eq!(checks.depth(fixture.context.clock.monotonic()), 3);
    }
}
