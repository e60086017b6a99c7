//! The loop of the process that holds the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::check::{CheckEnd, WorkspacePause, connect};
use super::cohort_run::{CohortRunContext, CohortRunEnd, Planning, look};
use super::endpoints::{EndpointInboxes, IngestEnd, Opened, note_waiting, show};
use super::exports::{ExportRunEnd, ExportRuns};
use super::identity::{IdentityImports, SharedIdentity};
use super::notify::{LastNotified, Notifier};
use super::queue::{WorkKey, WorkQueue};
use super::reload::ReadAgain;
use super::service::{Service, Signal, SignalListener};
use super::sources::{Files, Findings, WatchedSources};
use super::standby::StandbyEnd;
use super::status::WatchStatus;
use super::{ClientAccess, WatchEnvironment, WatchError, history, on_thread, settings};
use crate::apply::Interrupt;
use crate::config::Config;
use crate::connector::http::HttpError;
use crate::contained::{Panicked, contained_task};
use crate::model::{CohortId, ConnectionName, EndpointName, ExportId, Progress as _, SegmentId};
use crate::reconcile::{self, BrazeClients, OrphanedCohort};
use crate::state::{Approval, Location, StateWriter};
use crate::webhooks::{Certificate, Endpoints};

/// How often the loop goes round although nothing happens.
const BEAT: Duration = Duration::from_secs(5);
/// Runs of the journal that are read at the start, to show what was before.
const RUNS_READ: usize = 100;

/// What outlives a leader.
#[derive(Clone)]
pub(super) struct LeaderShared {
    pub(super) board: Arc<WatchStatus>,
    pub(super) doors: Arc<Endpoints>,
    /// Rings when something has come through a door.
    pub(super) bell: Arc<Notify>,
    pub(super) certificate: Option<Certificate>,
    /// Where the state is, whatever a later config says of it.
    pub(super) location: Location,
}

/// How leading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaderEnd {
    /// It was told to stop.
    Stopped,
    /// Another process has the state.
    Lost,
}

/// How leading ended, and by when everything that still goes on must have.
pub(super) struct LeaderEnded {
    pub(super) how: Result<LeaderEnd, WatchError>,
    pub(super) grace_ends: Instant,
}

/// The events that wake the loop.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum WatchEvent {
    Signal(Signal),
    /// Something changed in a folder.
    Files,
    /// Something came through a door.
    Delivered,
    /// A task has ended.
    Done(WorkDone),
    /// A time has come.
    Due,
}

/// What a task has done.
pub(super) enum WorkDone {
    Looked(CohortRunEnd),
    Folded(IngestEnd),
    Checked(Vec<CheckEnd>),
    Exported(Box<ExportRunEnd>),
    Learned(IdentityImports),
    /// The approvals of blocked cohorts were read.
    Approvals(Vec<(CohortId, Vec<Approval>)>),
    /// A survey has ended; without its files, it was stopped.
    Surveyed(Option<Files>, Findings),
    /// The inboxes of endpoints were opened.
    DoorsOpened(Opened),
    ConfigRead(Box<Result<(Config, ClientAccess), String>>),
    /// The orphaned cohorts were read.
    Orphaned(Vec<OrphanedCohort>),
    Panicked(Task, Panicked),
}

/// What a task works on, so that a panic in it stops nothing else.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Cohort(CohortId),
    Segments(Vec<SegmentId>),
    Export(ExportId),
    Heap(ConnectionName),
    Learning,
    Survey,
    Config,
    /// Opens the inboxes of endpoints.
    Doors,
    /// Reads the state for the status page or for approvals.
    Reading,
}

/// The leader: what it works with, and what it knows.
pub(super) struct Leader {
    pub(super) config: Arc<Config>,
    /// The config that this process started with.
    pub(super) first: Arc<Config>,
    pub(super) at: Arc<dyn WatchEnvironment>,
    pub(super) state: Arc<StateWriter>,
    pub(super) shared: LeaderShared,
    pub(super) reach: ClientAccess,
    pub(super) links: BrazeClients,
    pub(super) rests: WorkspacePause,
    pub(super) inboxes: EndpointInboxes,
    /// Whether all doors of the config are open.
    pub(super) has_doors: bool,
    /// Set while inboxes are being opened.
    pub(super) opening_doors: Option<ReadAgain>,
    pub(super) notifier: Notifier,
    pub(super) told: LastNotified,
    pub(super) queue: WorkQueue<WorkKey>,
    pub(super) exports: ExportRuns,
    pub(super) sources: WatchedSources,
    /// Set while the config is being read.
    pub(super) reading_config: Option<ReadAgain>,
    /// The config was read since the service manager last heard of it.
    pub(super) has_reread: bool,
    pub(super) tasks: JoinSet<WorkDone>,
    pub(super) planning: Planning,
    pub(super) interrupt: (watch::Sender<bool>, Interrupt),
    /// When each Heap's inbox is folded, and since when something waits in it.
    pub(super) folds: BTreeMap<ConnectionName, IngestRun>,
    /// What was given for whom, when last looked.
    pub(super) approvals: BTreeMap<CohortId, Vec<Approval>>,
    is_reading_approvals: bool,
    pub(super) next_beat: Instant,
    pub(super) next_poll: Instant,
    pub(super) is_lost: bool,
}

#[derive(Default)]
pub(super) struct IngestRun {
    pub(super) is_running: bool,
    pub(super) waits_since: Option<Instant>,
    pub(super) due: Option<Instant>,
    /// When a sync with pages missing has been waited for long enough.
    pub(super) deadline: Option<Instant>,
}

impl Leader {
    pub(super) fn new(
        followed: &StandbyEnd,
        at: Arc<dyn WatchEnvironment>,
        state: Arc<StateWriter>,
        shared: LeaderShared,
    ) -> Self {
        let now = Instant::now();
        let config = Arc::clone(&followed.config);
        Self {
            first: Arc::clone(&followed.first),
            inboxes: EndpointInboxes::new(config.watch.limits.inbox_len_max),
            has_doors: true,
            opening_doors: None,
            notifier: Notifier::new(&config, &[], None, &shared.board),
            sources: WatchedSources::new(followed.content),
            reading_config: None,
            has_reread: false,
            config,
            at,
            state,
            shared,
            reach: ClientAccess::default(),
            links: BrazeClients::new(),
            rests: WorkspacePause::new(),
            told: LastNotified::default(),
            queue: WorkQueue::new(),
            exports: ExportRuns::new(),
            tasks: JoinSet::new(),
            planning: Planning::default(),
            interrupt: Interrupt::new(),
            folds: BTreeMap::new(),
            approvals: BTreeMap::new(),
            is_reading_approvals: false,
            next_beat: now,
            next_poll: now,
            is_lost: false,
        }
    }

    /// Leads until it is told to stop, or the state is lost. The config that was last in use is followed on.
    pub(super) async fn run(
        mut self,
        signals: &mut SignalListener,
        service: &Service,
        followed: &mut StandbyEnd,
    ) -> LeaderEnded {
        let how = match self.start(service).await {
            Ok(()) => self.until_ended(signals, service).await,
            Err(error) => Err(error),
        };
        let grace_ends = Instant::now() + self.config.watch.grace;
        self.end().await;
        (followed.config, followed.content) = (self.config, self.sources.config_content());
        LeaderEnded { how, grace_ends }
    }

    async fn start(&mut self, service: &Service) -> Result<(), WatchError> {
        let config = Arc::clone(&self.config);
        self.reach = self.at.reach(&config).await.map_err(WatchError::Reach)?;
        self.links = self.linked(&config).map_err(|error| WatchError::Failed(error.to_string()))?;
        let failed = |error: HttpError| WatchError::Failed(error.to_string());
        connect(&mut self.rests, &config, &self.reach, self.at.clock()).map_err(failed)?;
        self.link_heaps(None);
        self.notifier = Notifier::new(&config, &self.reach.notify, None, &self.shared.board);
        let missing = self.inboxes.missing(&config);
        let mut opened = tokio::task::block_in_place(|| missing.open(&self.state, self.at.clock()));
        if let Some(error) = opened.failed.take() {
            return Err(error.into());
        }
        self.inboxes.add(opened);
        self.inboxes.serve(&config, &self.reach, &self.shared.doors);
        self.sources.notice_all();
        if let Some((mut files, changed)) = self.sources.begin() {
            let findings = tokio::task::block_in_place(|| files.survey(&config, &changed));
            self.sources.surveyed(Some(files));
            // What has changed since it was read, before anything was watched.
            if findings.config_content.is_some_and(|content| self.sources.is_other_config(content)) {
                self.start_reading_config();
            }
        }
        self.shared.board.leading(self.shared.location.to_string());
        tokio::task::block_in_place(|| self.history());
        let now = Instant::now();
        settings::cohorts(&config).for_each(|id| self.queue.wake(id.clone(), now));
        self.begin_segments();
        let doors = config.heap.keys().filter(|name| config.has_webhook_endpoint(name));
        doors.for_each(|name| self.folds.entry(name.clone()).or_default().due = Some(now));
        self.wake_exports();
        self.start_learning(true);
        self.next_poll = now + config.watch.poll;
        let (cohorts, exports) = (config.cohorts.len(), config.exports.len());
        tracing::info!(cohorts, exports, state = %self.shared.location, "watching");
        service.ready("watching");
        Ok(())
    }

    /// What is known from before this process.
    fn history(&self) {
        let board = &self.shared.board;
        match reconcile::orphaned(&self.config, self.state.reader()) {
            Ok(left) => board.lock().orphaned = left,
            Err(error) => tracing::warn!("cannot list the orphaned cohorts: {error}"),
        }
        for name in self.config.heap.keys() {
            let segments = self.state.reader().segments(name).ok();
            show(name, segments, board, self.inboxes.held(name));
        }
        let runs = self.state.reader().runs(RUNS_READ).unwrap_or_default();
        for id in settings::cohorts(&self.config) {
            let Ok(Some(version)) = self.state.reader().version(id) else { continue };
            board.cohort(id, |status| {
                (status.in_doubt, status.uncertain_until) = (version.in_doubt, version.uncertain_until());
                let Some(members) = version.members else { return };
                let sizes = history::sizes(&runs, id, members);
                sizes.into_iter().for_each(|(at, members)| status.has(members, at));
                status.has(members, version.written_at);
            });
        }
        history::runs(&runs).into_iter().rev().for_each(|past| board.passed(past));
    }

    /// Starts a task. A panic in it is an error of what it works on.
    pub(super) fn spawn(&mut self, of: Task, work: impl Future<Output = WorkDone> + Send + 'static) {
        let contained = async move {
            contained_task(work).await.unwrap_or_else(|panicked| WorkDone::Panicked(of, panicked))
        };
        self.tasks.spawn(contained);
    }

    pub(super) fn note_orphaned(&mut self) {
        let (config, state) = (Arc::clone(&self.config), Arc::clone(&self.state));
        self.spawn(Task::Reading, async move {
            let read = on_thread(move || reconcile::orphaned(&config, state.reader())).await;
            WorkDone::Orphaned(match read {
                Some(Ok(left)) => left,
                Some(Err(error)) => {
                    tracing::warn!("cannot list the orphaned cohorts: {error}");
                    Vec::new()
                }
                None => Vec::new(),
            })
        });
    }

    async fn until_ended(
        &mut self,
        signals: &mut SignalListener,
        service: &Service,
    ) -> Result<LeaderEnd, WatchError> {
        while !self.is_lost {
            self.start_what_is_due();
            match self.woken(signals).await {
                WatchEvent::Signal(Signal::Stop) => return Ok(LeaderEnd::Stopped),
                WatchEvent::Signal(Signal::Reread) => {
                    tracing::info!("told to read everything again");
                    service.reloading();
                    self.has_reread = false;
                    self.start_reading_config();
                }
                WatchEvent::Files => self.sources.noticed(self.config.watch.debounce),
                WatchEvent::Delivered => {
                    let received: BTreeSet<EndpointName> = self.shared.doors.take_received();
                    self.delivered(&received);
                    self.posted(&received);
                }
                WatchEvent::Done(done) => self.done(done),
                WatchEvent::Due => {}
            }
            if std::mem::take(&mut self.has_reread) {
                service.ready("watching");
            }
            self.on_time(service);
        }
        Ok(LeaderEnd::Lost)
    }

    /// A task has ended.
    fn done(&mut self, done: WorkDone) {
        match done {
            WorkDone::Looked(looked) => self.looked(looked),
            WorkDone::Folded(end) => self.folded(end),
            WorkDone::Checked(ends) => self.checked(ends),
            WorkDone::Exported(exported) => self.exported(*exported),
            WorkDone::Learned(lessons) => self.learned(lessons),
            WorkDone::Approvals(given) => self.approved(given),
            WorkDone::Surveyed(files, findings) => self.surveyed(files, findings),
            WorkDone::DoorsOpened(opened) => self.doors_opened(opened),
            WorkDone::ConfigRead(read) => self.config_read(*read),
            WorkDone::Orphaned(left) => self.shared.board.lock().orphaned = left,
            WorkDone::Panicked(task, panicked) => self.panicked(task, &panicked),
        }
    }

    /// Waits for the next thing that wakes the loop.
    async fn woken(&mut self, signals: &mut SignalListener) -> WatchEvent {
        let due = self.next_due();
        tokio::select! {
            signal = signals.next() => WatchEvent::Signal(signal),
            Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => match done {
                Ok(done) => WatchEvent::Done(done),
                Err(stopped) => match stopped.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => WatchEvent::Due,
                },
            },
            () = self.sources.bell.notified() => WatchEvent::Files,
            () = self.shared.bell.notified() => WatchEvent::Delivered,
            () = tokio::time::sleep_until(due.into()) => WatchEvent::Due,
        }
    }

    fn next_due(&self) -> Instant {
        let folds = self.folds.values().filter(|fold| !fold.is_running);
        let folds = folds.flat_map(|fold| [fold.due, fold.deadline]).flatten();
        let times = [self.queue.next_due(), self.exports.queue.next_due(), self.sources.settles()]
            .into_iter()
            .flatten();
        times.chain(folds).chain([self.next_poll]).fold(self.next_beat, Instant::min)
    }

    /// Does what is due by the clock.
    fn on_time(&mut self, service: &Service) {
        let now = Instant::now();
        self.shared.board.beat();
        if self.next_poll <= now {
            self.next_poll = now + self.config.watch.poll;
            if !self.has_doors {
                self.open_doors();
            }
            self.sources.notice_all();
            self.start_learning(false);
        }
        if self.sources.settles().is_some_and(|settles| settles <= Instant::now()) {
            self.start_survey();
        }
        if self.next_beat <= now {
            self.next_beat = now + service.beat_every().unwrap_or(BEAT).min(BEAT);
            service.beat();
            self.beat();
        }
        self.shared.board.lock().queue_depth = self.queue.depth(now) + self.exports.queue.depth(now);
    }

    /// What nobody tells of: approvals, staleness, and a hold on the state that is gone.
    fn beat(&mut self) {
        self.is_lost |= self.state.check_lease().is_err();
        let now = self.at.clock().now();
        self.read_approvals();
        self.note_stale(now);
        for name in self.config.heap.keys() {
            note_waiting(&self.shared.board, name, self.inboxes.held(name), now);
        }
    }

    /// Reads the approvals of blocked cohorts, which no event announces.
    fn read_approvals(&mut self) {
        let blocked = self.refused();
        if blocked.is_empty() || std::mem::replace(&mut self.is_reading_approvals, true) {
            return;
        }
        let (state, now) = (Arc::clone(&self.state), self.at.clock().now());
        self.spawn(Task::Reading, async move {
            let read = move || {
                let given = |id: CohortId| state.reader().approvals(&id, now).ok().map(|given| (id, given));
                blocked.into_iter().filter_map(given).collect()
            };
            WorkDone::Approvals(on_thread(read).await.unwrap_or_default())
        });
    }

    fn approved(&mut self, given: Vec<(CohortId, Vec<Approval>)>) {
        self.is_reading_approvals = false;
        for (id, given) in given {
            if self.approvals.get(&id).is_none_or(|seen| *seen != given) {
                if !given.is_empty() {
                    tracing::info!(cohort = %id, "a plan was approved");
                    self.queue.wake(id.clone(), Instant::now());
                }
                self.approvals.insert(id, given);
            }
        }
    }

    /// A task ended by a panic: what it worked on fails, and everything else goes on.
    fn panicked(&mut self, task: Task, panicked: &Panicked) {
        match task {
            Task::Cohort(cohort) => {
                self.shared.board.finished(&cohort);
                self.looked(CohortRunEnd::failed(cohort, panicked.to_string()));
            }
            Task::Segments(segments) => {
                segments.iter().for_each(|segment| self.check_panicked(segment, panicked));
            }
            Task::Export(export) => {
                // It may be half changed in memory. What was committed is whole.
                self.exports.identity = SharedIdentity::default();
                self.exported(ExportRunEnd::panicked(export, panicked.clone()));
            }
            Task::Heap(heap) => {
                tracing::warn!(heap = %heap, "deliveries are not used yet: {panicked}");
                if let Some(fold) = self.folds.get_mut(&heap) {
                    fold.is_running = false;
                    fold.due = Some(Instant::now() + self.config.watch.longest_wait);
                }
            }
            Task::Learning => {
                self.exports.identity = SharedIdentity::default();
                self.exports.is_learning = false;
                tracing::warn!("identity sources cannot be read: {panicked}");
            }
            Task::Survey => self.surveyed(None, Findings::default()),
            Task::Config => self.config_read(Err(panicked.to_string())),
            Task::Doors => self.doors_opened(Opened::default()),
            Task::Reading => self.is_reading_approvals = false,
        }
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        let mut segments = Vec::new();
        for key in self.queue.take_due(now) {
            let cohort = match key {
                WorkKey::Cohort(cohort) => cohort,
                WorkKey::Segment(segment) => {
                    segments.push(segment);
                    continue;
                }
            };
            let looking = CohortRunContext {
                config: Arc::clone(&self.config),
                state: Arc::clone(&self.state),
                links: self.links.clone(),
                secrets: Arc::new(self.reach.secrets.clone()),
                at: Arc::clone(&self.at),
                board: Arc::clone(&self.shared.board),
                planning: self.planning.clone(),
                interrupt: self.interrupt.1.clone(),
            };
            let of = Task::Cohort(cohort.clone());
            self.spawn(of, async move { WorkDone::Looked(look(cohort, looking).await) });
        }
        self.start_checks(&segments);
        self.start_due_exports();
        self.start_folds(now);
    }

    fn start_folds(&mut self, now: Instant) {
        let mut started = Vec::new();
        for (heap, fold) in &mut self.folds {
            let is_due = [fold.due, fold.deadline].into_iter().flatten().any(|at| at <= now);
            if fold.is_running || !is_due {
                continue;
            }
            (fold.due, fold.waits_since, fold.deadline) = (None, None, None);
            if let Some(work) = self.inboxes.ingest(heap, &self.config, &self.state, &self.at) {
                fold.is_running = true;
                started.push((heap.clone(), work));
            }
        }
        for (heap, work) in started {
            self.spawn(Task::Heap(heap), async move { WorkDone::Folded(work.await) });
        }
    }

    /// Lets what is under way come to its end, for as long as the config grants.
    async fn end(&mut self) {
        self.inboxes.close(&self.shared.doors);
        let _ = self.interrupt.0.send(true);
        let grace = tokio::time::sleep(self.config.watch.grace);
        tokio::pin!(grace);
        while !self.tasks.is_empty() {
            tokio::select! {
                done = self.tasks.join_next() => drop(done),
                () = &mut grace => {
                    tracing::warn!("the time to stop in is over; what has no answer is in doubt, and the next run settles it");
                    self.tasks.abort_all();
                    return;
                }
            }
        }
    }
}
