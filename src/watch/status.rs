//! How things stand, for whoever asks: health, metrics and the dashboard. The loop writes, others read; nothing
//! is decided from it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{CohortConfig, Config, SegmentConfig};
use crate::dashboard::{self, BlockedView, RemedyView};
use crate::model::{Clock, CohortId, ConnectionName, ExportId, Progress, SegmentId, Stage, Timestamp};
use crate::reconcile::OrphanedCohort;
use crate::state::{CheckVerdict, HeapSegments, Holder, SegmentCheck};

/// Runs that are kept, and sizes of a cohort.
const RUNS_KEPT: usize = 50;
const SIZES_KEPT: usize = 200;
/// A loop that has not gone round for so long is stuck.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProcessRole {
    /// It looks whether the state can be had.
    Starting,
    /// It holds the state.
    Leading,
    /// Another one does.
    StandingBy(Holder),
    Stopping,
}

/// How a cohort stands.
#[derive(Clone, Debug)]
pub(super) enum ConditionStatus {
    /// It was not looked at yet.
    New,
    InSync,
    /// Its source has said nothing yet.
    Waiting(String),
    /// A person must approve what the guard withheld.
    Refused(BlockedStatus),
    /// It could not be planned or sent.
    Failing(FailureStatus),
}

/// What the guard withheld.
#[derive(Clone, Debug)]
pub struct BlockedStatus {
    /// What, why, and what can be done.
    pub withheld: Vec<BlockedView>,
    /// The command that lets exactly this plan run, if one can.
    pub approve: Option<String>,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub(super) struct FailureStatus {
    pub(super) why: String,
    pub(super) ways_out: Vec<RemedyView>,
    /// Nothing but a person can help.
    pub(super) needs_person: bool,
}

impl BlockedStatus {
    fn text(&self) -> String {
        let each = self.withheld.iter().map(|one| format!("{} blocked: {}", one.what, one.why));
        let approve = self.approve.iter().map(|command| format!("to approve it: {command}"));
        each.chain(approve).collect::<Vec<_>>().join("; ")
    }
}

impl FailureStatus {
    fn text(&self) -> String {
        let ways = self.ways_out.iter().map(|way| match &way.command {
            Some(command) => format!("; {}: {command}", way.words),
            None => format!("; {}", way.words),
        });
        self.why.clone() + &ways.collect::<String>()
    }
}

impl ConditionStatus {
    /// The condition in a word, as metrics have it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::InSync => "in_sync",
            Self::Waiting(_) => "waiting",
            Self::Refused(_) => "blocked",
            Self::Failing(_) => "failing",
        }
    }

    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::InSync)
    }

    /// What is to be said of it; two conditions that say the same are the same.
    pub(super) fn text(&self) -> String {
        match self {
            Self::New => String::new(),
            Self::InSync => "in sync".to_owned(),
            Self::Waiting(what) => what.clone(),
            Self::Refused(refused) => refused.text(),
            Self::Failing(failing) => failing.text(),
        }
    }
}

/// One cohort.
#[derive(Clone, Debug)]
pub(super) struct CohortStatus {
    /// What the config says of it; none if it is to be emptied.
    pub(super) declared: Option<Arc<CohortConfig>>,
    pub(super) condition: ConditionStatus,
    /// Since when this process has known it.
    pub(super) known_since: Timestamp,
    /// Since when it stands so.
    pub(super) since: Timestamp,
    /// What is being done with it right now, and how far that is.
    pub(super) busy: Option<(Stage, u64)>,
    pub(super) members: Option<u64>,
    pub(super) in_doubt: u64,
    /// Until when requests without an answer may change it.
    pub(super) uncertain_until: Option<Timestamp>,
    pub(super) sizes: VecDeque<(Timestamp, u64)>,
    pub(super) last_good: Option<Timestamp>,
    pub(super) next_look: Option<Timestamp>,
    pub(super) last_plan: Option<dashboard::PlanView>,
    pub(super) rejects: BTreeMap<String, u64>,
    pub(super) rejects_file: Option<String>,
    pub(super) refused: u64,
    pub(super) is_stale: bool,
}

/// One export.
#[derive(Clone, Debug)]
pub(super) struct ExportStatus {
    pub(super) source: String,
    /// Since when this process has known it.
    pub(super) known_since: Timestamp,
    pub(super) is_stale: bool,
    /// Since when something that was received waits.
    pub(super) waiting_since: Option<Timestamp>,
    /// Events that Heap has taken, ever.
    pub(super) events: u64,
    /// Events that wait for their person, or for Heap's limit.
    pub(super) waiting: u64,
    /// Events that could not be used, by this process.
    pub(super) rejected: u64,
    pub(super) last_good: Option<Timestamp>,
    pub(super) next_look: Option<Timestamp>,
    pub(super) trouble: Option<String>,
    /// It is not tried again before somebody changes something.
    pub(super) needs_person: bool,
}

/// What a Heap has told.
#[derive(Clone, Debug, Default)]
pub(super) struct HeapStatus {
    pub(super) waiting_bytes: u64,
    /// Since when the oldest delivery waits.
    pub(super) waiting_since: Option<Timestamp>,
    pub(super) told: HeapSegments,
}

/// Everything.
#[derive(Clone, Debug)]
pub(super) struct StatusInner {
    pub(super) started: Timestamp,
    pub(super) role: ProcessRole,
    pub(super) role_since: Timestamp,
    pub(super) state: String,
    pub(super) config_digest: String,
    pub(super) config_loaded: Timestamp,
    /// What is wrong with the config on disk, while the last good one is in use.
    pub(super) config_error: Option<(Timestamp, String)>,
    pub(super) needs_restart: Vec<&'static str>,
    pub(super) stale_after: Duration,
    pub(super) cohorts: BTreeMap<CohortId, CohortStatus>,
    /// The order of the config.
    pub(super) order: Vec<CohortId>,
    pub(super) heaps: BTreeMap<ConnectionName, HeapStatus>,
    /// The segments in the order of the config, each with its last check.
    pub(super) segments: Vec<(SegmentConfig, Option<SegmentCheck>)>,
    pub(super) exports: BTreeMap<ExportId, ExportStatus>,
    pub(super) runs: VecDeque<dashboard::HistoryView>,
    pub(super) orphaned: Vec<OrphanedCohort>,
    pub(super) queue_depth: usize,
    beat: Instant,
}

/// The board.
pub(super) struct WatchStatus {
    inner: Mutex<StatusInner>,
    pub(super) metrics: super::metrics::Metrics,
    pub(super) clock: Clock,
}

impl WatchStatus {
    pub(super) fn new(config: &Config, clock: Clock) -> Self {
        let now = clock.now();
        let inner = StatusInner {
            started: now,
            role: ProcessRole::Starting,
            role_since: now,
            state: String::new(),
            config_digest: String::new(),
            config_loaded: now,
            config_error: None,
            needs_restart: Vec::new(),
            stale_after: config.watch.stale_after,
            cohorts: BTreeMap::new(),
            order: Vec::new(),
            heaps: BTreeMap::new(),
            segments: Vec::new(),
            exports: BTreeMap::new(),
            runs: VecDeque::new(),
            orphaned: Vec::new(),
            queue_depth: 0,
            beat: Instant::now(),
        };
        let board = Self { inner: Mutex::new(inner), metrics: super::metrics::Metrics::new(), clock };
        board.configured(config);
        board
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, StatusInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop has gone round.
    pub(super) fn beat(&self) {
        self.lock().beat = Instant::now();
    }

    /// Whether the loop goes round.
    pub(super) fn is_alive(&self) -> bool {
        self.lock().beat.elapsed() < STUCK_AFTER
    }

    pub(super) fn standing_by(&self, holder: Holder) {
        let mut inner = self.lock();
        if !matches!(inner.role, ProcessRole::StandingBy(_)) {
            inner.role_since = self.clock.now();
        }
        inner.role = ProcessRole::StandingBy(holder);
    }

    pub(super) fn leading(&self, state: String) {
        let mut inner = self.lock();
        (inner.role, inner.role_since, inner.state) = (ProcessRole::Leading, self.clock.now(), state);
    }

    /// This process does not hold the state any more.
    pub(super) fn let_go(&self) {
        let mut inner = self.lock();
        (inner.role, inner.role_since) = (ProcessRole::Starting, self.clock.now());
    }

    pub(super) fn stopping(&self) {
        self.lock().role = ProcessRole::Stopping;
    }

    /// Another config is in use.
    pub(super) fn configured(&self, config: &Config) {
        let mut inner = self.lock();
        inner.config_digest.clone_from(&config.digest);
        let now = self.clock.now();
        inner.config_loaded = now;
        inner.config_error = None;
        inner.stale_after = config.watch.stale_after;
        inner.order = super::settings::cohorts(config).cloned().collect();
        let StatusInner { order, cohorts, .. } = &mut *inner;
        cohorts.retain(|id, _| order.contains(id));
        for cohort in &config.cohorts {
            let status = inner.cohorts.entry(cohort.id.clone()).or_insert_with(|| CohortStatus::new(now));
            status.declared = Some(Arc::new(cohort.clone()));
        }
        for id in &config.removed {
            let status = inner.cohorts.entry(id.clone()).or_insert_with(|| CohortStatus::new(now));
            status.declared = None;
        }
        let known = std::mem::take(&mut inner.segments);
        let last = |id: &SegmentId| known.iter().find(|(segment, _)| segment.id == *id)?.1.clone();
        inner.segments = config.segments.iter().map(|segment| (segment.clone(), last(&segment.id))).collect();
        inner.heaps.retain(|name, _| config.has_webhook_endpoint(name));
        for name in config.heap.keys().filter(|name| config.has_webhook_endpoint(name)) {
            inner.heaps.entry(name.clone()).or_default();
        }
        inner.exports.retain(|id, _| config.exports.iter().any(|export| export.id == *id));
        for export in &config.exports {
            let status = inner.exports.entry(export.id.clone()).or_insert_with(|| ExportStatus::new(now));
            status.source = export.source.name();
        }
    }

    /// Changes what is known of a cohort.
    pub(super) fn cohort(&self, id: &CohortId, change: impl FnOnce(&mut CohortStatus)) {
        if let Some(status) = self.lock().cohorts.get_mut(id) {
            change(status);
        }
    }

    /// A segment was checked.
    pub(super) fn checked(&self, id: &SegmentId, check: SegmentCheck) {
        if let Some((_, last)) = self.lock().segments.iter_mut().find(|(segment, _)| segment.id == *id) {
            *last = Some(check);
        }
    }

    /// What the last check of a segment came to.
    pub(super) fn verdict_of(&self, id: &SegmentId) -> Option<CheckVerdict> {
        let inner = self.lock();
        let (_, check) = inner.segments.iter().find(|(segment, _)| segment.id == *id)?;
        check.as_ref().map(|check| check.verdict)
    }

    /// Changes what is known of an export.
    pub(super) fn export(&self, id: &ExportId, change: impl FnOnce(&mut ExportStatus)) {
        if let Some(status) = self.lock().exports.get_mut(id) {
            change(status);
        }
    }

    /// Whether a cohort stands so already.
    pub(super) fn stands(&self, id: &CohortId, condition: &ConditionStatus) -> bool {
        let inner = self.lock();
        inner.cohorts.get(id).is_some_and(|status| {
            status.condition.word() == condition.word() && status.condition.text() == condition.text()
        })
    }

    /// A run has done something.
    pub(super) fn passed(&self, line: dashboard::HistoryView) {
        let mut inner = self.lock();
        inner.runs.push_front(line);
        inner.runs.truncate(RUNS_KEPT);
    }
}

impl ExportStatus {
    fn new(now: Timestamp) -> Self {
        Self {
            source: String::new(),
            known_since: now,
            is_stale: false,
            waiting_since: None,
            events: 0,
            waiting: 0,
            rejected: 0,
            last_good: None,
            next_look: None,
            trouble: None,
            needs_person: false,
        }
    }
}

impl CohortStatus {
    fn new(now: Timestamp) -> Self {
        Self {
            declared: None,
            condition: ConditionStatus::New,
            known_since: now,
            since: now,
            busy: None,
            members: None,
            in_doubt: 0,
            uncertain_until: None,
            sizes: VecDeque::new(),
            last_good: None,
            next_look: None,
            last_plan: None,
            rejects: BTreeMap::new(),
            rejects_file: None,
            refused: 0,
            is_stale: false,
        }
    }

    /// It stands so from now on, if it stood otherwise. Whether it did.
    pub(super) fn turn(&mut self, condition: &ConditionStatus, now: Timestamp) -> bool {
        let is_other = self.condition.word() != condition.word();
        let is_new = is_other || self.condition.text() != condition.text();
        if is_other {
            self.since = now;
        }
        self.condition = condition.clone();
        if condition.is_good() {
            self.last_good = Some(now);
        }
        is_new
    }

    /// The cohort has so many members now.
    pub(super) fn has(&mut self, members: u64, at: Timestamp) {
        self.members = Some(members);
        // What stays the same is told by its first and its last time.
        let same = |(_, before): &(Timestamp, u64)| *before == members;
        if self.sizes.len() >= 2 && self.sizes.iter().rev().take(2).all(same) {
            self.sizes.pop_back();
        }
        self.sizes.push_back((at, members));
        if self.sizes.len() > SIZES_KEPT {
            self.sizes.pop_front();
        }
    }
}

/// Watches runs for the board.
impl Progress for WatchStatus {
    fn at(&self, cohort: &CohortId, stage: Stage, done: u64) {
        self.cohort(cohort, |status| status.busy = Some((stage, done)));
    }

    fn finished(&self, cohort: &CohortId) {
        self.cohort(cohort, |status| status.busy = None);
    }
}
