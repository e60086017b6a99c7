//! How things stand, for whoever asks: health, metrics and the dashboard. The loop writes, others read; nothing
//! is decided from it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::model::{Clock, CohortId, ConnectionName, Progress, Stage, Timestamp};
use crate::state::Holder;

/// Passes that are kept, and sizes of a cohort.
const PASSES_KEPT: usize = 50;
const SIZES_KEPT: usize = 200;
/// A loop that has not gone round for so long is stuck.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Starting,
    /// It holds the state.
    Leading,
    /// Another one does.
    StandingBy(Holder),
    Stopping,
}

/// How a cohort stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It was not looked at yet.
    New,
    InStep,
    /// Its source has said nothing yet.
    Waiting(String),
    /// A person must approve what the guard withheld: why, and the plan.
    Refused(Vec<String>, String),
    Failing(String),
}

impl Condition {
    /// The condition in a word, as metrics have it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::InStep => "in_step",
            Self::Waiting(_) => "waiting",
            Self::Refused(..) => "refused",
            Self::Failing(_) => "failing",
        }
    }

    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::InStep)
    }
}

/// One cohort.
#[derive(Clone, Debug)]
pub(super) struct CohortStatus {
    pub(super) name: String,
    pub(super) connection: String,
    pub(super) source: String,
    pub(super) condition: Condition,
    /// What is being done with it right now, and how far that is.
    pub(super) busy: Option<(Stage, u64)>,
    pub(super) members: Option<u64>,
    pub(super) in_doubt: u64,
    pub(super) sizes: VecDeque<(Timestamp, u64)>,
    pub(super) last_good: Option<Timestamp>,
    pub(super) next_look: Option<Timestamp>,
    pub(super) last_plan: Option<LastPlan>,
    pub(super) rejects: BTreeMap<String, u64>,
    pub(super) is_stale: bool,
}

/// What the last pass found.
#[derive(Clone, Debug)]
pub(super) struct LastPlan {
    pub(super) at: Timestamp,
    pub(super) adds: u64,
    pub(super) removes: u64,
    pub(super) unchanged: u64,
    pub(super) requests: u64,
}

/// A pass that did something.
#[derive(Clone, Debug)]
pub(super) struct PassLine {
    pub(super) at: Timestamp,
    pub(super) cohort: String,
    pub(super) added: u64,
    pub(super) removed: u64,
    pub(super) result: String,
}

/// What a Heap has told.
#[derive(Clone, Debug, Default)]
pub(super) struct HeapStatus {
    pub(super) waiting_bytes: u64,
    /// Since when the oldest delivery waits.
    pub(super) waiting_since: Option<Timestamp>,
    pub(super) deliveries: u64,
    pub(super) duplicates: u64,
    pub(super) put_aside: u64,
    pub(super) segments: Vec<SegmentStatus>,
}

/// One segment that a Heap has told of.
#[derive(Clone, Debug)]
pub(super) struct SegmentStatus {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) told_at: Timestamp,
    /// The cohort that it is the source of, if there is one.
    pub(super) cohort: Option<CohortId>,
    /// Syncs of which pages are missing that are still waited for, in words.
    pub(super) missing: Vec<String>,
    /// Syncs of which pages never came, in words.
    pub(super) gaps: Vec<String>,
}

/// Everything.
#[derive(Clone, Debug)]
pub(super) struct Inner {
    pub(super) started: Timestamp,
    pub(super) role: Role,
    pub(super) state: String,
    pub(super) config_digest: String,
    pub(super) config_loaded: Timestamp,
    /// What is wrong with the config on disk, while the last good one is in use.
    pub(super) config_error: Option<String>,
    /// What is wrong with keys and secrets, while the last good ones are in use.
    pub(super) reach_error: Option<String>,
    pub(super) needs_restart: Vec<&'static str>,
    pub(super) stale_after: Duration,
    pub(super) cohorts: BTreeMap<CohortId, CohortStatus>,
    /// The order of the config.
    pub(super) order: Vec<CohortId>,
    pub(super) heaps: BTreeMap<ConnectionName, HeapStatus>,
    pub(super) passes: VecDeque<PassLine>,
    pub(super) queue_depth: usize,
    beat: Instant,
}

/// The board.
pub(super) struct Board {
    inner: Mutex<Inner>,
    pub(super) metrics: super::metrics::Metrics,
    pub(super) clock: Clock,
}

impl Board {
    pub(super) fn new(config: &Config, clock: Clock) -> Self {
        let now = clock.now();
        let inner = Inner {
            started: now,
            role: Role::Starting,
            state: String::new(),
            config_digest: String::new(),
            config_loaded: now,
            config_error: None,
            reach_error: None,
            needs_restart: Vec::new(),
            stale_after: config.watch.stale_after,
            cohorts: BTreeMap::new(),
            order: Vec::new(),
            heaps: BTreeMap::new(),
            passes: VecDeque::new(),
            queue_depth: 0,
            beat: Instant::now(),
        };
        let board = Self { inner: Mutex::new(inner), metrics: super::metrics::Metrics::new(), clock };
        board.configured(config);
        board
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
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
        self.lock().role = Role::StandingBy(holder);
    }

    pub(super) fn leading(&self, state: String) {
        let mut inner = self.lock();
        (inner.role, inner.state) = (Role::Leading, state);
    }

    pub(super) fn stopping(&self) {
        self.lock().role = Role::Stopping;
    }

    /// Another config is in use.
    pub(super) fn configured(&self, config: &Config) {
        let mut inner = self.lock();
        inner.config_digest.clone_from(&config.digest);
        inner.config_loaded = self.clock.now();
        inner.config_error = None;
        inner.stale_after = config.watch.stale_after;
        inner.order = super::settings::cohorts(config).cloned().collect();
        let Inner { order, cohorts, .. } = &mut *inner;
        cohorts.retain(|id, _| order.contains(id));
        for cohort in &config.cohorts {
            let source = source_words(&cohort.source);
            let status = inner.cohorts.entry(cohort.id.clone()).or_insert_with(CohortStatus::new);
            (status.name, status.connection, status.source) =
                (cohort.name.clone(), cohort.to.to_string(), source);
        }
        for id in &config.removed {
            inner.cohorts.entry(id.clone()).or_insert_with(CohortStatus::new);
        }
        inner.heaps.retain(|name, _| config.heap.contains_key(name));
        for name in config.heap.keys() {
            inner.heaps.entry(name.clone()).or_default();
        }
    }

    /// Changes what is known of a cohort.
    pub(super) fn cohort(&self, id: &CohortId, change: impl FnOnce(&mut CohortStatus)) {
        if let Some(status) = self.lock().cohorts.get_mut(id) {
            change(status);
        }
    }

    /// A pass has done something.
    pub(super) fn passed(&self, line: PassLine) {
        let mut inner = self.lock();
        inner.passes.push_front(line);
        inner.passes.truncate(PASSES_KEPT);
    }
}

impl CohortStatus {
    fn new() -> Self {
        Self {
            name: String::new(),
            connection: String::new(),
            source: String::new(),
            condition: Condition::New,
            busy: None,
            members: None,
            in_doubt: 0,
            sizes: VecDeque::new(),
            last_good: None,
            next_look: None,
            last_plan: None,
            rejects: BTreeMap::new(),
            is_stale: false,
        }
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

fn source_words(source: &crate::config::Source) -> String {
    match source {
        crate::config::Source::File(file) => format!("files {}", file.pattern),
        crate::config::Source::HeapSegment(segment) => {
            format!("segment {} of {}", segment.segment, segment.connection)
        }
    }
}

/// Watches passes for the board.
impl Progress for Board {
    fn at(&self, cohort: &CohortId, stage: Stage, done: u64) {
        self.cohort(cohort, |status| status.busy = Some((stage, done)));
    }

    fn finished(&self, cohort: &CohortId) {
        self.cohort(cohort, |status| status.busy = None);
    }
}
