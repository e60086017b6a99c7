//! Live status of the process, for health checks, metrics and the dashboard. The leader writes it; no decision is made
//! from it, except to avoid repeated messages.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::blocked::BlockedStatus;
use super::environment::InvalidConfig;
use super::metrics::Metrics;
use super::notify::NotificationSubject;
use super::schedule;
use crate::config::{CohortConfig, Config, SegmentConfig, WebhookSender};
use crate::dashboard::{HistoryView, PlanView, RemedyView};
use crate::model::{Clock, CohortId, ConnectionName, ExportId, Progress, SegmentId, Stage, Timestamp};
use crate::reconcile::OrphanedCohort;
use crate::state::{CheckVerdict, HeapSegments, Holder, LastOutcome, OutcomeResult, SegmentCheck};

/// The number of runs in the history.
const RUNS_KEPT: usize = 50;
/// The number of runs of a cohort.
const COHORT_RUNS_KEPT: usize = 20;
/// The number of sizes of a cohort.
const SIZES_KEPT: usize = 200;
/// The time of the first runs after the start. Before its end, nothing is stale.
const FIRST_RUNS: Duration = Duration::from_secs(5 * 60);
/// A loop without a heartbeat for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// The role of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProcessRole {
    /// It tries to take the lease.
    Starting,
    /// It holds the lease.
    Leader,
    /// Another process holds the lease.
    Standby(Holder),
    Stopping,
}

/// The condition of a cohort.
#[derive(Clone, Debug)]
pub(super) enum ConditionStatus {
    /// No run has ended yet.
    New,
    InSync,
    /// The source has no data yet.
    Waiting(String),
    /// The guard blocked changes, and an operator must approve them.
    Blocked(BlockedStatus),
    /// Plan or apply failed.
    Failing(FailureStatus),
    /// The operator stopped the run.
    Stopped(String),
}

/// A failure of a cohort run.
#[derive(Clone, Debug)]
pub(super) struct FailureStatus {
    pub(super) reason: String,
    pub(super) remedies: Vec<RemedyView>,
    /// A retry alone does not help.
    pub(super) needs_operator: bool,
}

impl FailureStatus {
    fn text(&self) -> String {
        std::iter::once(self.reason.clone()).chain(self.hints()).collect::<Vec<_>>().join("; ")
    }

    /// What to do.
    pub(super) fn hints(&self) -> Vec<String> {
        self.remedies.iter().map(ToString::to_string).collect()
    }
}

impl ConditionStatus {
    /// The code in metrics and in `/readyz`.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::InSync => "in_sync",
            Self::Waiting(_) => "waiting",
            Self::Blocked(_) => "blocked",
            Self::Failing(_) => "failing",
            Self::Stopped(_) => "stopped",
        }
    }

    pub(super) fn is_in_sync(&self) -> bool {
        matches!(self, Self::InSync)
    }

    /// The condition in words. Conditions with the same code and text are the same.
    pub(super) fn text(&self) -> String {
        match self {
            Self::New => String::new(),
            Self::InSync => "in sync".to_owned(),
            Self::Waiting(reason) | Self::Stopped(reason) => reason.clone(),
            Self::Blocked(blocked) => blocked.text(),
            Self::Failing(failure) => failure.text(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.code() == other.code() && self.text() == other.text()
    }
}

/// The last outcome of a cohort that the state records.
#[derive(Clone, Debug)]
pub(super) struct RecordedOutcome {
    pub(super) last: LastOutcome,
    /// The command that approves the blocked plan, if one can.
    pub(super) approve_command: Option<String>,
}

/// The status of a cohort.
#[derive(Clone, Debug)]
pub(super) struct CohortStatus {
    /// Its config. None: it is listed under `removed:`.
    pub(super) declared: Option<Arc<CohortConfig>>,
    pub(super) condition: ConditionStatus,
    /// The last outcome in the state, from the time before this process was the leader.
    pub(super) recorded: Option<RecordedOutcome>,
    /// When this process first saw it in the config.
    pub(super) first_seen: Timestamp,
    /// Since when it has this condition.
    pub(super) since: Timestamp,
    /// The stage of the current run, and its progress.
    pub(super) progress: Option<(Stage, u64)>,
    pub(super) members: Option<u64>,
    pub(super) in_doubt: u64,
    /// Until when Braze may still process requests without a reply.
    pub(super) uncertain_until: Option<Timestamp>,
    pub(super) sizes: VecDeque<(Timestamp, u64)>,
    pub(super) last_success: Option<Timestamp>,
    pub(super) next_run: Option<Timestamp>,
    pub(super) last_plan: Option<PlanView>,
    pub(super) rejects: BTreeMap<String, u64>,
    pub(super) rejects_file: Option<String>,
    /// Identifiers that Braze has rejected.
    pub(super) rejected: u64,
    /// Its last runs, the newest first.
    pub(super) runs: VecDeque<HistoryView>,
    pub(super) is_stale: bool,
}

/// The status of an export.
#[derive(Clone, Debug)]
pub(super) struct ExportStatus {
    pub(super) source: String,
    /// The URL of its endpoint, if it has one.
    pub(super) url: Option<String>,
    /// When this process first saw it in the config.
    pub(super) first_seen: Timestamp,
    pub(super) is_stale: bool,
    /// Since when a received event waits.
    pub(super) waiting_since: Option<Timestamp>,
    /// Events that Heap has accepted, over all runs.
    pub(super) events: u64,
    /// Events that wait for a user's identity or for Heap's rate limit.
    pub(super) waiting: u64,
    pub(super) last_success: Option<Timestamp>,
    pub(super) next_run: Option<Timestamp>,
    pub(super) failure: Option<String>,
    /// A retry alone does not help.
    pub(super) needs_operator: bool,
}

/// The status of a Heap connection.
#[derive(Clone, Debug, Default)]
pub(super) struct HeapStatus {
    /// The URL of its webhook.
    pub(super) url: String,
    pub(super) waiting_bytes: u64,
    /// Since when the oldest delivery waits.
    pub(super) waiting_since: Option<Timestamp>,
    pub(super) segments: HeapSegments,
}

/// All values of the status.
#[derive(Clone, Debug)]
pub(super) struct StatusData {
    pub(super) started: Timestamp,
    pub(super) role: ProcessRole,
    pub(super) role_since: Timestamp,
    pub(super) config_digest: String,
    /// What this process works on, each part with its label.
    pub(super) target: Vec<(&'static str, String)>,
    pub(super) config_loaded: Timestamp,
    /// Why the config on disk is not in use, and since when.
    pub(super) config_error: Option<(Timestamp, InvalidConfig)>,
    /// Changed config keys that need a restart.
    pub(super) needs_restart: Vec<&'static str>,
    pub(super) stale_after: Duration,
    pub(super) cohorts: BTreeMap<CohortId, CohortStatus>,
    /// The cohorts in the order of the config.
    pub(super) order: Vec<CohortId>,
    pub(super) heaps: BTreeMap<ConnectionName, HeapStatus>,
    /// The segments in the order of the config, each with its last check.
    pub(super) segments: Vec<(SegmentConfig, Option<SegmentCheck>)>,
    pub(super) exports: BTreeMap<ExportId, ExportStatus>,
    pub(super) history: VecDeque<HistoryView>,
    pub(super) orphaned: Vec<OrphanedCohort>,
    /// When the state was last read for the status.
    pub(super) recorded_at: Option<Timestamp>,
    pub(super) queue_depth: usize,
    /// The address of the endpoints.
    listening: Option<SocketAddr>,
    last_heartbeat: Instant,
}

/// The status, shared between the leader and the admin endpoints.
pub(super) struct WatchStatus {
    data: Mutex<StatusData>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl WatchStatus {
    /// `listening` is the address of the endpoints, if the config has any.
    pub(super) fn new(config: &Config, listening: Option<SocketAddr>, clock: Clock) -> Self {
        let now = clock.now();
        let data = StatusData {
            started: now,
            role: ProcessRole::Starting,
            role_since: now,
            config_digest: String::new(),
            target: Vec::new(),
            config_loaded: now,
            config_error: None,
            needs_restart: Vec::new(),
            stale_after: config.watch.stale_after,
            cohorts: BTreeMap::new(),
            order: Vec::new(),
            heaps: BTreeMap::new(),
            segments: Vec::new(),
            exports: BTreeMap::new(),
            history: VecDeque::new(),
            orphaned: Vec::new(),
            recorded_at: None,
            queue_depth: 0,
            listening,
            last_heartbeat: clock.monotonic(),
        };
        let status = Self { data: Mutex::new(data), metrics: Arc::new(Metrics::new()), clock };
        status.set_config(config);
        status
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, StatusData> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// Records that the event loop makes progress.
    pub(super) fn heartbeat(&self) {
        self.lock().last_heartbeat = self.clock.monotonic();
    }

    /// Whether the event loop makes progress.
    pub(super) fn is_alive(&self) -> bool {
        self.clock.monotonic().saturating_duration_since(self.lock().last_heartbeat) < STUCK_AFTER
    }

    pub(super) fn standby(&self, holder: Holder) {
        let mut data = self.lock();
        if !matches!(data.role, ProcessRole::Standby(_)) {
            data.role_since = self.clock.now();
        }
        data.role = ProcessRole::Standby(holder);
    }

    pub(super) fn leader(&self) {
        let mut data = self.lock();
        (data.role, data.role_since) = (ProcessRole::Leader, self.clock.now());
    }

    /// This process no longer holds the lease, so it no longer knows the conditions of cohorts.
    pub(super) fn lease_released(&self) {
        let mut data = self.lock();
        for status in data.cohorts.values_mut() {
            (status.condition, status.recorded, status.progress) = (ConditionStatus::New, None, None);
            (status.next_run, status.is_stale) = (None, false);
        }
        (data.role, data.role_since) = (ProcessRole::Starting, self.clock.now());
    }

    pub(super) fn stopping(&self) {
        self.lock().role = ProcessRole::Stopping;
    }

    /// Uses another config: adds new entries, removes those that left.
    pub(super) fn set_config(&self, config: &Config) {
        let mut data = self.lock();
        data.config_digest.clone_from(&config.digest);
        let now = self.clock.now();
        data.config_loaded = now;
        data.config_error = None;
        data.stale_after = config.watch.stale_after;
        data.order = config.cohort_ids().cloned().collect();
        let StatusData { order, cohorts, .. } = &mut *data;
        cohorts.retain(|id, _| order.contains(id));
        for cohort in &config.cohorts {
            let status = data.cohorts.entry(cohort.id.clone()).or_insert_with(|| CohortStatus::new(now));
            status.declared = Some(Arc::new(cohort.clone()));
        }
        for id in &config.removed {
            let status = data.cohorts.entry(id.clone()).or_insert_with(|| CohortStatus::new(now));
            status.declared = None;
        }
        let before = std::mem::take(&mut data.segments);
        let last = |id: &SegmentId| before.iter().find(|(segment, _)| segment.id == *id)?.1.clone();
        let checked = config.checked_segments();
        data.segments = checked.map(|segment| (segment.clone(), last(&segment.id))).collect();
        data.heaps.retain(|name, _| config.has_webhook_endpoint(name));
        data.exports.retain(|id, _| config.exports.iter().any(|export| export.id == *id));
        for export in &config.exports {
            let status = data.exports.entry(export.id.clone()).or_insert_with(|| ExportStatus::new(now));
            status.source = export.source.name();
            status.url = None;
        }
        let listening = data.listening.unwrap_or(config.watch.listen);
        for (sender, url) in config.webhook_urls(listening) {
            match sender {
                WebhookSender::Heap(name) => data.heaps.entry(name).or_default().url = url,
                WebhookSender::Currents(id) => {
                    if let Some(status) = data.exports.get_mut(&id) {
                        status.url = Some(url);
                    }
                }
            }
        }
    }

    /// Changes the status of a cohort.
    pub(super) fn update_cohort(&self, id: &CohortId, change: impl FnOnce(&mut CohortStatus)) {
        if let Some(status) = self.lock().cohorts.get_mut(id) {
            change(status);
        }
    }

    /// Changes the status of an export.
    pub(super) fn update_export(&self, id: &ExportId, change: impl FnOnce(&mut ExportStatus)) {
        if let Some(status) = self.lock().exports.get_mut(id) {
            change(status);
        }
    }

    /// Sets the last check of a segment.
    pub(super) fn set_check(&self, id: &SegmentId, check: SegmentCheck) {
        if let Some((_, last)) = self.lock().segments.iter_mut().find(|(segment, _)| segment.id == *id) {
            *last = Some(check);
        }
    }

    /// The verdict of the last check of a segment.
    pub(super) fn verdict(&self, id: &SegmentId) -> Option<CheckVerdict> {
        let data = self.lock();
        let (_, check) = data.segments.iter().find(|(segment, _)| segment.id == *id)?;
        check.as_ref().map(|check| check.verdict)
    }

    /// Sets the segments of a Heap connection, and the size of its inbox.
    pub(super) fn set_heap_segments(
        &self,
        heap: &ConnectionName,
        segments: HeapSegments,
        waiting_bytes: u64,
    ) {
        let mut data = self.lock();
        let status = data.heaps.entry(heap.clone()).or_default();
        (status.segments, status.waiting_bytes) = (segments, waiting_bytes);
    }

    /// Sets the size of the inbox of a Heap connection. The lag counts from the first call with a size above zero.
    pub(super) fn set_inbox(&self, heap: &ConnectionName, waiting_bytes: u64, now: Timestamp) {
        if let Some(status) = self.lock().heaps.get_mut(heap) {
            status.waiting_bytes = waiting_bytes;
            status.waiting_since = (waiting_bytes > 0).then(|| status.waiting_since.unwrap_or(now));
        }
    }

    /// Records that an ingest has used all deliveries.
    pub(super) fn inbox_ingested(&self, heap: &ConnectionName) {
        if let Some(status) = self.lock().heaps.get_mut(heap) {
            status.waiting_since = None;
        }
    }

    /// Whether a cohort has this condition already.
    pub(super) fn has_condition(&self, id: &CohortId, condition: &ConditionStatus) -> bool {
        self.lock().cohorts.get(id).is_some_and(|status| status.condition.is_same(condition))
    }

    /// The cohorts that the guard blocks.
    pub(super) fn blocked_cohorts(&self) -> Vec<CohortId> {
        let data = self.lock();
        let is_blocked = |status: &CohortStatus| matches!(status.condition, ConditionStatus::Blocked(_));
        data.cohorts.iter().filter(|(_, status)| is_blocked(status)).map(|(id, _)| id.clone()).collect()
    }

    /// Marks the cohorts and exports without a successful run in `after`. Returns them, each with the age of its last
    /// success.
    pub(super) fn mark_stale(&self, after: Duration) -> Vec<(NotificationSubject, Duration)> {
        let (mut stale, mut data, now) = (Vec::new(), self.lock(), self.clock.now());
        // After a long break, the first runs get some time.
        let is_started = |first_seen| schedule::until(now, first_seen) > FIRST_RUNS.min(after);
        for (id, status) in &mut data.cohorts {
            let age = schedule::until(now, status.last_success_or_start());
            status.is_stale = age > after && is_started(status.first_seen);
            stale.extend(status.is_stale.then(|| (NotificationSubject::Cohort(id.clone()), age)));
        }
        for (id, status) in &mut data.exports {
            let age = schedule::until(now, status.last_success_or_start());
            status.is_stale = age > after && is_started(status.first_seen);
            stale.extend(status.is_stale.then(|| (NotificationSubject::Export(id.clone()), age)));
        }
        stale
    }

    /// Adds a run to the history.
    pub(super) fn add_history(&self, run: HistoryView) {
        let mut data = self.lock();
        if let Some(status) = run.cohort.as_ref().and_then(|id| data.cohorts.get_mut(id)) {
            status.runs.push_front(run.clone());
            status.runs.truncate(COHORT_RUNS_KEPT);
        }
        data.history.push_front(run);
        data.history.truncate(RUNS_KEPT);
    }
}

impl StatusData {
    /// Replaces the history.
    pub(super) fn set_history(&mut self, newest_first: Vec<HistoryView>) {
        self.history = newest_first.into_iter().take(RUNS_KEPT).collect();
    }
}

impl ExportStatus {
    fn new(now: Timestamp) -> Self {
        Self {
            source: String::new(),
            url: None,
            first_seen: now,
            is_stale: false,
            waiting_since: None,
            events: 0,
            waiting: 0,
            last_success: None,
            next_run: None,
            failure: None,
            needs_operator: false,
        }
    }

    /// The last success, or the time from which its absence counts.
    pub(super) fn last_success_or_start(&self) -> Timestamp {
        self.last_success.unwrap_or(self.first_seen)
    }
}

impl CohortStatus {
    fn new(now: Timestamp) -> Self {
        Self {
            declared: None,
            condition: ConditionStatus::New,
            recorded: None,
            first_seen: now,
            since: now,
            progress: None,
            members: None,
            in_doubt: 0,
            uncertain_until: None,
            sizes: VecDeque::new(),
            last_success: None,
            next_run: None,
            last_plan: None,
            rejects: BTreeMap::new(),
            rejects_file: None,
            rejected: 0,
            runs: VecDeque::new(),
            is_stale: false,
        }
    }

    /// The last success, or the time from which its absence counts.
    pub(super) fn last_success_or_start(&self) -> Timestamp {
        self.last_success.unwrap_or(self.first_seen)
    }

    /// Sets the outcome that the state records.
    pub(super) fn set_recorded(&mut self, recorded: Option<RecordedOutcome>) {
        let good =
            recorded.as_ref().and_then(|recorded| recorded.last.good_run.as_ref()).map(|good| good.at.0);
        self.last_success = self.last_success.max(good);
        self.recorded = recorded;
    }

    /// Replaces the last runs.
    pub(super) fn set_runs(&mut self, newest_first: impl Iterator<Item = HistoryView>) {
        self.runs = newest_first.take(COHORT_RUNS_KEPT).collect();
    }

    /// Since when the state records this condition. None: the last outcome was another one.
    fn recorded_since(&self, condition: &ConditionStatus) -> Option<Timestamp> {
        let last = &self.recorded.as_ref().filter(|_| matches!(self.condition, ConditionStatus::New))?.last;
        match (condition, last.result) {
            (ConditionStatus::Blocked(_), _) => last.blocked_since().map(|since| since.0),
            (ConditionStatus::InSync, OutcomeResult::InSync)
            | (ConditionStatus::Waiting(_), OutcomeResult::Waiting)
            | (ConditionStatus::Failing(_), OutcomeResult::Failed) => Some(last.since.0),
            _ => None,
        }
    }

    /// Sets the condition. Returns whether it is another one.
    pub(super) fn set_condition(&mut self, condition: &ConditionStatus, now: Timestamp) -> bool {
        let is_new = !self.condition.is_same(condition);
        if self.condition.code() != condition.code() {
            self.since = self.recorded_since(condition).unwrap_or(now);
        }
        self.condition = condition.clone();
        if condition.is_in_sync() {
            self.last_success = Some(now);
        }
        is_new
    }

    /// Sets the number of members.
    pub(super) fn set_members(&mut self, members: u64, at: Timestamp) {
        self.members = Some(members);
        // A constant size needs only its first and its last point.
        let is_same = |(_, before): &(Timestamp, u64)| *before == members;
        if self.sizes.len() >= 2 && self.sizes.iter().rev().take(2).all(is_same) {
            self.sizes.pop_back();
        }
        self.sizes.push_back((at, members));
        if self.sizes.len() > SIZES_KEPT {
            self.sizes.pop_front();
        }
    }
}

/// Shows the progress of runs.
impl Progress for WatchStatus {
    fn at(&self, cohort: &CohortId, stage: Stage, done: u64) {
        self.update_cohort(cohort, |status| status.progress = Some((stage, done)));
    }

    fn finished(&self, cohort: &CohortId) {
        self.update_cohort(cohort, |status| status.progress = None);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const HOUR: u64 = 3600;

    thread_local! {
        static SECONDS: Cell<u64> = const { Cell::new(0) };
        static START: Instant = Instant::now();
    }

    /// A clock that only the test moves.
    fn clock() -> Clock {
        Clock::with_monotonic(
            || Timestamp::UNIX_EPOCH + Duration::from_secs(SECONDS.get()),
            || START.with(|start| *start) + Duration::from_secs(SECONDS.get()),
        )
    }

    fn advance(seconds: u64) {
        SECONDS.set(SECONDS.get() + seconds);
    }

    fn config() -> Config {
        const TEXT: &str = "version: 1
connections:
  braze: { kind: braze, instance: sandbox }
cohorts:
  - { id: carts, name: A, to: braze, source: { kind: file, path: a.csv }, match: [ { external_id: a } ] }
  - { id: vip, name: B, to: braze, source: { kind: file, path: b.csv }, match: [ { external_id: a } ] }
";
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("sync.yaml");
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), TEXT.as_bytes()).unwrap();
        crate::config::load(&path, None, None).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn id(id: &str) -> CohortId {
        CohortId::new(id).unwrap()
    }

    #[test]
    fn a_cohort_without_success_for_too_long_is_stale_until_it_is_in_sync() {
        let (status, after) = (WatchStatus::new(&config(), None, clock()), Duration::from_secs(24 * HOUR));
        advance(20 * HOUR);
        let in_sync = |status: &WatchStatus, id: &CohortId| {
            let now = status.clock().now();
            status.update_cohort(id, |cohort| assert!(cohort.set_condition(&ConditionStatus::InSync, now)));
        };
        in_sync(&status, &id("carts"));
        assert_eq!(status.mark_stale(after), []);
        advance(5 * HOUR);
        let vip = (NotificationSubject::Cohort(id("vip")), Duration::from_secs(25 * HOUR));
        assert_eq!(status.mark_stale(after), [vip], "it was never in sync");
        advance(20 * HOUR);
        in_sync(&status, &id("vip"));
        let carts = (NotificationSubject::Cohort(id("carts")), Duration::from_secs(25 * HOUR));
        assert_eq!(status.mark_stale(after), [carts]);
        assert!(!status.lock().cohorts[&id("vip")].is_stale);
    }

    #[test]
    fn a_loop_without_heartbeat_is_stuck() {
        let status = WatchStatus::new(&config(), None, clock());
        advance(59);
        assert!(status.is_alive());
        advance(1);
        assert!(!status.is_alive());
        status.heartbeat();
        assert!(status.is_alive());
    }

    #[test]
    fn a_condition_with_another_text_is_new_and_keeps_its_start() {
        let status = WatchStatus::new(&config(), None, clock());
        let failing = |reason: &str| {
            ConditionStatus::Failing(FailureStatus {
                reason: reason.to_owned(),
                remedies: Vec::new(),
                needs_operator: false,
            })
        };
        let set = |condition: &ConditionStatus| {
            let (mut is_new, now) = (false, status.clock().now());
            status.update_cohort(&id("vip"), |cohort| is_new = cohort.set_condition(condition, now));
            is_new
        };
        assert!(set(&failing("a")));
        let since = status.lock().cohorts[&id("vip")].since;
        advance(60);
        assert!(!set(&failing("a")) && set(&failing("b")));
        assert_eq!(status.lock().cohorts[&id("vip")].since, since);
        assert!(set(&ConditionStatus::InSync));
        assert_ne!(status.lock().cohorts[&id("vip")].since, since);
    }
}
