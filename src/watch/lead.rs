//! The loop of the process that holds the state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use super::board::Board;
use super::check::{CheckEnd, Rests, connect};
use super::doors::{FoldEnd, Inboxes, note_waiting, show};
use super::exports::{Exported, Exports};
use super::identity::Lessons;
use super::look::{Looked, Looking, look};
use super::notify::{Notifier, Told};
use super::queue::{Key, Queue};
use super::service::{Service, Signal, Signals};
use super::sources::Sources;
use super::standby::Followed;
use super::{Reach, Surroundings, WatchError, past, settings};
use crate::apply::Interrupt;
use crate::config::Config;
use crate::connector::http::HttpError;
use crate::model::{CohortId, ConnectionName};
use crate::receiver::{Certificate, Doors};
use crate::reconcile::{self, Links};
use crate::state::{Approval, Location, StateWriter};

/// How often the loop goes round although nothing happens.
const BEAT: Duration = Duration::from_secs(5);
/// Passes of the journal that are read at the start, to show what was before.
const PASSES_READ: usize = 100;

/// What outlives a leader.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) board: Arc<Board>,
    pub(super) doors: Arc<Doors>,
    /// Rings when something has come through a door.
    pub(super) bell: Arc<Notify>,
    pub(super) certificate: Option<Certificate>,
    /// Where the state is, whatever a later config says of it.
    pub(super) location: Location,
}

/// How leading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeadEnd {
    /// It was told to stop.
    Stopped,
    /// Another process has the state.
    Lost,
}

/// How leading ended, and by when everything that still goes on must have.
pub(super) struct LeadEnded {
    pub(super) how: Result<LeadEnd, WatchError>,
    pub(super) grace_ends: Instant,
}

/// The things that wake the loop: there are no others.
enum Wake {
    Signal(Signal),
    /// Something changed in a folder.
    Files,
    /// Something came through a door.
    Delivered,
    /// A task has ended.
    Done(Done),
    /// A time has come.
    Due,
}

/// What a task has done.
pub(super) enum Done {
    Looked(Looked),
    Folded(FoldEnd),
    Checked(Vec<CheckEnd>),
    Exported(Box<Exported>),
    Learned(Lessons),
}

/// The leader: what it works with, and what it knows.
pub(super) struct Lead {
    pub(super) config: Arc<Config>,
    /// The config that this process started with.
    pub(super) first: Arc<Config>,
    pub(super) at: Arc<dyn Surroundings>,
    pub(super) state: Arc<StateWriter>,
    pub(super) shared: Shared,
    pub(super) reach: Reach,
    pub(super) links: Links,
    pub(super) rests: Rests,
    pub(super) inboxes: Inboxes,
    /// Whether all doors of the config are open.
    pub(super) has_doors: bool,
    pub(super) notifier: Notifier,
    pub(super) told: Told,
    pub(super) queue: Queue<Key>,
    pub(super) exports: Exports,
    pub(super) sources: Sources,
    pub(super) tasks: JoinSet<Done>,
    pub(super) planning: Arc<Semaphore>,
    pub(super) interrupt: (watch::Sender<bool>, Interrupt),
    /// When each Heap's inbox is folded, and since when something waits in it.
    pub(super) folds: BTreeMap<ConnectionName, Fold>,
    /// What was given for whom, when last looked.
    pub(super) approvals: BTreeMap<CohortId, Vec<Approval>>,
    pub(super) next_beat: Instant,
    pub(super) next_poll: Instant,
    pub(super) is_lost: bool,
}

#[derive(Default)]
pub(super) struct Fold {
    pub(super) is_running: bool,
    pub(super) waits_since: Option<Instant>,
    pub(super) due: Option<Instant>,
    /// When a sync with pages missing has been waited for long enough.
    pub(super) deadline: Option<Instant>,
}

impl Lead {
    pub(super) fn new(
        followed: &Followed,
        at: Arc<dyn Surroundings>,
        state: Arc<StateWriter>,
        shared: Shared,
    ) -> Self {
        let now = Instant::now();
        let config = Arc::clone(&followed.config);
        Self {
            first: Arc::clone(&followed.first),
            inboxes: Inboxes::new(config.watch.limits.inbox_len_max),
            has_doors: true,
            notifier: Notifier::new(&config, &[], None, &shared.board),
            sources: Sources::new(followed.content),
            config,
            at,
            state,
            shared,
            reach: Reach::default(),
            links: Links::new(),
            rests: Rests::new(),
            told: Told::default(),
            queue: Queue::new(),
            exports: Exports::new(),
            tasks: JoinSet::new(),
            planning: Arc::new(Semaphore::new(1)),
            interrupt: Interrupt::new(),
            folds: BTreeMap::new(),
            approvals: BTreeMap::new(),
            next_beat: now,
            next_poll: now,
            is_lost: false,
        }
    }

    /// Leads until it is told to stop, or the state is lost. The config that was last in use is followed on.
    pub(super) async fn run(
        mut self,
        signals: &mut Signals,
        service: &Service,
        followed: &mut Followed,
    ) -> LeadEnded {
        let how = match self.start(service).await {
            Ok(()) => self.until_ended(signals, service).await,
            Err(error) => Err(error),
        };
        let grace_ends = Instant::now() + self.config.watch.grace;
        self.end().await;
        (followed.config, followed.content) = (self.config, self.sources.config_content());
        LeadEnded { how, grace_ends }
    }

    async fn start(&mut self, service: &Service) -> Result<(), WatchError> {
        let config = Arc::clone(&self.config);
        self.reach = self.at.reach(&config).await.map_err(WatchError::Reach)?;
        self.links = self.linked(&config).map_err(|error| WatchError::Failed(error.to_string()))?;
        let failed = |error: HttpError| WatchError::Failed(error.to_string());
        connect(&mut self.rests, &config, &self.reach, self.at.clock()).map_err(failed)?;
        self.link_heaps(None);
        self.notifier = Notifier::new(&config, &self.reach.notify, None, &self.shared.board);
        self.inboxes.open(&config, &self.reach, &self.state, &self.shared.doors, &*self.at)?;
        self.sources.watch(&config);
        self.sources.changed(&config, None);
        self.shared.board.leading(self.shared.location.to_string());
        self.history();
        let now = Instant::now();
        settings::cohorts(&config).for_each(|id| self.queue.wake(id.clone(), now));
        self.begin_segments();
        let doors = config.heap.keys().filter(|name| config.heap_has_door(name));
        doors.for_each(|name| self.folds.entry(name.clone()).or_default().due = Some(now));
        self.wake_exports();
        self.start_learning(true);
        self.next_poll = now + config.watch.poll;
        let (cohorts, exports) = (config.cohorts.len(), config.exports.len());
        tracing::info!(cohorts, exports, state = %self.shared.location, "watching");
        service.ready("watching");
        // What has changed since it was read, before anything was watched.
        self.reread(false).await;
        Ok(())
    }

    /// What is known from before this process.
    fn history(&self) {
        let board = &self.shared.board;
        self.note_left_behind();
        for name in self.config.heap.keys() {
            show(name, &self.state, board, self.inboxes.held(name));
        }
        let passes = self.state.reader().passes(PASSES_READ).unwrap_or_default();
        for id in settings::cohorts(&self.config) {
            let Ok(Some(version)) = self.state.reader().version(id) else { continue };
            board.cohort(id, |status| {
                status.in_doubt = version.in_doubt;
                let Some(members) = version.members else { return };
                let sizes = past::sizes(&passes, id, members);
                sizes.into_iter().for_each(|(at, members)| status.has(members, at));
                status.has(members, version.written_at);
            });
        }
        past::passes(&passes).into_iter().rev().for_each(|past| board.passed(past));
    }

    pub(super) fn note_left_behind(&self) {
        match reconcile::left_behind(&self.config, self.state.reader()) {
            Ok(left) => self.shared.board.lock().left_behind = left,
            Err(error) => tracing::warn!("who is left behind cannot be told: {error}"),
        }
    }

    async fn until_ended(&mut self, signals: &mut Signals, service: &Service) -> Result<LeadEnd, WatchError> {
        while !self.is_lost {
            self.start_what_is_due();
            match self.woken(signals).await {
                Wake::Signal(Signal::Stop) => return Ok(LeadEnd::Stopped),
                Wake::Signal(Signal::Reread) => {
                    tracing::info!("told to read everything again");
                    service.reloading();
                    self.reread(true).await;
                    service.ready("watching");
                }
                Wake::Files => self.sources.noticed(self.config.watch.debounce),
                Wake::Delivered => {
                    self.delivered();
                    self.posted();
                }
                Wake::Done(Done::Looked(looked)) => self.looked(looked),
                Wake::Done(Done::Folded(end)) => self.folded(&end),
                Wake::Done(Done::Checked(ends)) => self.checked(ends),
                Wake::Done(Done::Exported(exported)) => self.exported(*exported),
                Wake::Done(Done::Learned(lessons)) => self.learned(lessons),
                Wake::Due => {}
            }
            self.on_time(service).await;
        }
        Ok(LeadEnd::Lost)
    }

    /// Waits for the next thing that wakes the loop.
    async fn woken(&mut self, signals: &mut Signals) -> Wake {
        let due = self.next_due();
        tokio::select! {
            signal = signals.next() => Wake::Signal(signal),
            Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => match done {
                Ok(done) => Wake::Done(done),
                Err(stopped) => match stopped.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Wake::Due,
                },
            },
            () = self.sources.bell.notified() => Wake::Files,
            () = self.shared.bell.notified() => Wake::Delivered,
            () = tokio::time::sleep_until(due.into()) => Wake::Due,
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
    async fn on_time(&mut self, service: &Service) {
        let now = Instant::now();
        self.shared.board.beat();
        if self.sources.settles().is_some_and(|settles| settles <= now) {
            self.settled().await;
        }
        if self.next_poll <= now {
            self.next_poll = now + self.config.watch.poll;
            if !self.has_doors {
                self.open_doors();
            }
            self.sources.notice_all();
            self.start_learning(false);
            self.settled().await;
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
        for id in self.refused() {
            let given = tokio::task::block_in_place(|| self.state.reader().approvals(&id, now));
            let given = given.unwrap_or_default();
            if self.approvals.get(&id).is_none_or(|seen| *seen != given) {
                if !given.is_empty() {
                    tracing::info!(cohort = %id, "somebody has approved a plan");
                    self.queue.wake(id.clone(), Instant::now());
                }
                self.approvals.insert(id, given);
            }
        }
        self.note_stale(now);
        for name in self.config.heap.keys() {
            note_waiting(&self.shared.board, name, self.inboxes.held(name), now);
        }
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        let mut segments = Vec::new();
        for key in self.queue.take_due(now) {
            let cohort = match key {
                Key::Cohort(cohort) => cohort,
                Key::Segment(segment) => {
                    segments.push(segment);
                    continue;
                }
            };
            let looking = Looking {
                config: Arc::clone(&self.config),
                state: Arc::clone(&self.state),
                links: self.links.clone(),
                secrets: Arc::new(self.reach.secrets.clone()),
                at: Arc::clone(&self.at),
                board: Arc::clone(&self.shared.board),
                planning: Arc::clone(&self.planning),
                interrupt: self.interrupt.1.clone(),
            };
            self.tasks.spawn(async move { Done::Looked(look(cohort, looking).await) });
        }
        self.start_checks(&segments);
        self.start_due_exports();
        for (heap, fold) in &mut self.folds {
            let is_due = [fold.due, fold.deadline].into_iter().flatten().any(|at| at <= now);
            if fold.is_running || !is_due {
                continue;
            }
            (fold.due, fold.waits_since, fold.deadline) = (None, None, None);
            if let Some(work) = self.inboxes.fold(heap, &self.config, &self.state, &self.at) {
                fold.is_running = true;
                self.tasks.spawn(async move { Done::Folded(work.await) });
            }
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
                    tracing::warn!("the time to stop in is over; what has no answer is in doubt, and the next pass settles it");
                    self.tasks.abort_all();
                    return;
                }
            }
        }
    }
}
