//! The loop of the process that holds the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use super::board::{Board, Condition};
use super::doors::{FoldEnd, Inboxes, cohorts_of, note_waiting, show};
use super::look::{Looked, Looking, look};
use super::notify::{Notice, Notifier, Told, of_cohort};
use super::queue::{Backoff, Ended, Queue};
use super::service::{Service, Signal, Signals};
use super::sources::Sources;
use super::{Reach, Surroundings, WatchError, schedule, settings};
use crate::apply::Interrupt;
use crate::config::{Config, Notable};
use crate::model::{CohortId, ConnectionName, Timestamp};
use crate::receiver::{Certificate, Doors};
use crate::reconcile::{self, Links};
use crate::state::{StateError, StateWriter};

/// How often the loop goes round although nothing happens.
const BEAT: Duration = Duration::from_secs(5);
/// How long a door must be quiet before what came through it is folded, and the longest that it waits.
const FOLD_AFTER: Duration = Duration::from_millis(150);
const FOLD_WITHIN: Duration = Duration::from_secs(2);
/// When a fold that failed is tried again.
const FOLD_AGAIN: Duration = Duration::from_secs(5);
/// A failure that lasts for so many tries is told.
const FAILURES_TOLD: u32 = 3;

/// What outlives a leader.
pub(super) struct Shared {
    pub(super) board: Arc<Board>,
    pub(super) doors: Arc<Doors>,
    /// Rings when something has come through a door.
    pub(super) bell: Arc<Notify>,
    pub(super) certificate: Option<Certificate>,
}

/// How leading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeadEnd {
    /// It was told to stop.
    Stopped,
    /// Another process has the state.
    Lost,
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
enum Done {
    Looked(Looked),
    Folded(FoldEnd),
}

pub(super) struct Lead {
    config: Arc<Config>,
    at: Arc<dyn Surroundings>,
    state: Arc<StateWriter>,
    shared: Shared,
    reach: Reach,
    links: Links,
    inboxes: Inboxes,
    notifier: Notifier,
    told: Told,
    queue: Queue<CohortId>,
    sources: Sources,
    tasks: JoinSet<Done>,
    planning: Arc<Semaphore>,
    interrupt: (watch::Sender<bool>, Interrupt),
    /// When each Heap's inbox is folded, and since when something waits in it.
    folds: BTreeMap<ConnectionName, Fold>,
    approvals: BTreeMap<CohortId, Vec<String>>,
    next_beat: Instant,
    next_poll: Instant,
    is_lost: bool,
}

#[derive(Default)]
struct Fold {
    is_running: bool,
    waits_since: Option<Instant>,
    due: Option<Instant>,
    /// When a sync with pages missing has been waited for long enough.
    deadline: Option<Instant>,
}

impl Lead {
    pub(super) fn new(
        config: Arc<Config>,
        at: Arc<dyn Surroundings>,
        state: Arc<StateWriter>,
        shared: Shared,
    ) -> Self {
        let now = Instant::now();
        Self {
            inboxes: Inboxes::new(config.watch.limits.inbox_len_max),
            notifier: Notifier::new(&config, &[]),
            sources: Sources::new(),
            config,
            at,
            state,
            shared,
            reach: Reach::default(),
            links: Links::new(),
            told: Told::default(),
            queue: Queue::new(),
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

    /// Leads until it is told to stop, or the state is lost. The config that was last in use goes on.
    pub(super) async fn run(
        mut self,
        signals: &mut Signals,
        service: &Service,
    ) -> (Result<LeadEnd, WatchError>, Arc<Config>) {
        let ended = match self.start(service).await {
            Ok(()) => self.until_ended(signals, service).await,
            Err(error) => Err(error),
        };
        self.end().await;
        (ended, self.config)
    }

    async fn start(&mut self, service: &Service) -> Result<(), WatchError> {
        let config = Arc::clone(&self.config);
        self.reach = self.at.reach(&config).await.map_err(WatchError::Reach)?;
        self.links = self.linked(&config).map_err(|error| WatchError::Failed(error.to_string()))?;
        self.notifier = Notifier::new(&config, &self.reach.notify);
        self.inboxes.open(&config, &self.reach, &self.state, &self.shared.doors, &*self.at)?;
        self.sources.watch(&config);
        self.sources.changed(&config, None);
        self.shared.board.leading(self.at.location(&config).to_string());
        self.history();
        let now = Instant::now();
        settings::cohorts(&config).for_each(|id| self.queue.wake(id.clone(), now));
        self.inboxes.names().for_each(|name| self.folds.entry(name.clone()).or_default().due = Some(now));
        self.next_poll = now + config.watch.poll;
        tracing::info!(cohorts = config.cohorts.len(), state = %self.at.location(&config), "watching");
        service.ready("watching");
        Ok(())
    }

    /// What is known from before this process.
    fn history(&self) {
        for id in settings::cohorts(&self.config) {
            let Ok(Some(version)) = self.state.reader().version(id) else { continue };
            self.shared.board.cohort(id, |status| {
                if let Some(members) = version.members {
                    status.has(members, version.written_at);
                }
                status.in_doubt = version.in_doubt;
            });
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
                Wake::Delivered => self.delivered(),
                Wake::Done(Done::Looked(looked)) => self.looked(looked),
                Wake::Done(Done::Folded(end)) => self.folded(&end),
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
        let times = [self.queue.next_due(), self.sources.settles()].into_iter().flatten();
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
            self.sources.notice_all();
            self.settled().await;
        }
        if self.next_beat <= now {
            self.next_beat = now + service.beat_every().unwrap_or(BEAT).min(BEAT);
            service.beat();
            self.beat();
        }
        self.shared.board.lock().queue_depth = self.queue.depth(now);
    }

    /// What nobody tells of: approvals, staleness, and a hold on the state that is gone.
    fn beat(&mut self) {
        self.is_lost |= self.state.check_lease().is_err();
        let now = self.at.clock().now();
        for id in self.refused() {
            let given = tokio::task::block_in_place(|| self.state.reader().approvals(&id, now));
            let plans: Vec<String> = given.unwrap_or_default().into_iter().map(|given| given.plan).collect();
            if self.approvals.get(&id).is_none_or(|seen| *seen != plans) {
                if !plans.is_empty() {
                    tracing::info!(cohort = %id, "somebody has approved a plan");
                    self.queue.wake(id.clone(), Instant::now());
                }
                self.approvals.insert(id, plans);
            }
        }
        self.note_stale(now);
        for name in self.inboxes.names() {
            note_waiting(&self.shared.board, name, self.inboxes.held(), now);
        }
    }

    fn refused(&self) -> Vec<CohortId> {
        let inner = self.shared.board.lock();
        let is_refused = |condition: &Condition| matches!(condition, Condition::Refused(..));
        inner.cohorts.iter().filter(|(_, s)| is_refused(&s.condition)).map(|(id, _)| id.clone()).collect()
    }

    fn note_stale(&mut self, now: Timestamp) {
        let (mut stale, after) = (Vec::new(), self.config.watch.stale_after);
        {
            let mut inner = self.shared.board.lock();
            let started = inner.started;
            for (id, status) in &mut inner.cohorts {
                let since = status.last_good.unwrap_or(started);
                status.is_stale = schedule::until(now, since) > after;
                if status.is_stale {
                    stale.push((id.clone(), since));
                }
            }
        }
        for (id, since) in stale {
            let hours = schedule::until(now, since).as_secs() / 3600;
            self.tell(&of_cohort(&id), Some(Notable::Staleness), &format!("no good pass for {hours} hours"));
        }
    }

    /// Tells those who want to know, if it is new.
    fn tell(&mut self, about: &str, trouble: Option<Notable>, text: &str) {
        if let Some(kind) = self.told.turn(about, trouble) {
            let (about, text) = (about.to_owned(), text.to_owned());
            self.notifier.tell(Notice { kind, about, text, at: self.at.clock().now() });
        }
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for cohort in self.queue.take_due(now) {
            let looking = Looking {
                config: Arc::clone(&self.config),
                state: Arc::clone(&self.state),
                links: self.links.clone(),
                at: Arc::clone(&self.at),
                board: Arc::clone(&self.shared.board),
                planning: Arc::clone(&self.planning),
                interrupt: self.interrupt.1.clone(),
            };
            self.tasks.spawn(async move { Done::Looked(look(cohort, looking).await) });
        }
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

    /// A look has ended.
    fn looked(&mut self, looked: Looked) {
        let Looked { cohort, ended, condition, is_lost } = looked;
        self.is_lost |= is_lost;
        let now = self.at.clock().now();
        let next = schedule::next(self.schedule_of(&cohort), now);
        let until = next.map(|next| Instant::now() + schedule::until(next, now));
        let backoff =
            Backoff { first: self.config.watch.first_wait, longest: self.config.watch.longest_wait };
        self.queue.ended(&cohort, ended, Instant::now(), until, backoff, chance(self.at.random()));
        let failures = self.queue.failures(&cohort);
        let due = self.queue.due(&cohort).map(|due| due.saturating_duration_since(Instant::now()));
        let is_new = self.condition_of(&cohort).is_none_or(|before| before != condition);
        self.shared.board.cohort(&cohort, |status| {
            status.condition = condition.clone();
            status.next_look = due.and_then(|due| now.checked_add(due).ok());
            if condition.is_good() {
                status.last_good = Some(now);
            }
        });
        let about = of_cohort(&cohort);
        match &condition {
            Condition::New | Condition::Waiting(_) => {}
            Condition::InStep => self.tell(&about, None, "in step again"),
            Condition::Refused(why, _) => self.tell(&about, Some(Notable::Refusal), &why.join("\n")),
            Condition::Failing(why) if ended == Ended::Settled || failures >= FAILURES_TOLD => {
                self.tell(&about, Some(Notable::Failure), why);
            }
            Condition::Failing(_) => {}
        }
        if is_new {
            log(&cohort, &condition);
        }
    }

    fn condition_of(&self, cohort: &CohortId) -> Option<Condition> {
        self.shared.board.lock().cohorts.get(cohort).map(|status| status.condition.clone())
    }

    fn schedule_of(&self, id: &CohortId) -> &crate::config::Schedule {
        let own = self.config.cohorts.iter().find(|cohort| cohort.id == *id);
        own.and_then(|cohort| cohort.schedule.as_ref()).unwrap_or(&self.config.watch.schedule)
    }

    /// Something has come through a door: it is folded when the door is quiet, or soon in any case.
    fn delivered(&mut self) {
        let now = Instant::now();
        for name in self.inboxes.names() {
            let fold = self.folds.entry(name.clone()).or_default();
            let since = *fold.waits_since.get_or_insert(now);
            fold.due = Some((now + FOLD_AFTER).min(since + FOLD_WITHIN));
        }
    }

    /// A fold has ended.
    fn folded(&mut self, end: &FoldEnd) {
        let now = Instant::now();
        let Some(fold) = self.folds.get_mut(&end.heap) else { return };
        fold.is_running = false;
        match &end.folded {
            Err(error) => {
                self.is_lost |= matches!(**error, StateError::Lost);
                tracing::warn!(heap = %end.heap, "what Heap has told is not used yet: {error}");
                fold.due = Some(now + FOLD_AGAIN);
            }
            Ok(folded) => {
                let wall = self.at.clock().now();
                fold.deadline = folded.next_deadline.map(|at| now + schedule::until(at, wall));
                if folded.deliveries + folded.put_aside > 0 {
                    tracing::info!(
                        heap = %end.heap, deliveries = folded.deliveries, known = folded.duplicates,
                        put_aside = folded.put_aside, segments = folded.segments.len(), "Heap has told"
                    );
                }
                self.shared.board.metrics.folded(end.heap.as_str(), folded);
                {
                    let mut inner = self.shared.board.lock();
                    let status = inner.heaps.entry(end.heap.clone()).or_default();
                    status.deliveries += folded.deliveries;
                    status.duplicates += folded.duplicates;
                    status.waiting_since = None;
                }
                show(&end.heap, &self.config, &self.state, &self.shared.board, self.inboxes.held());
                cohorts_of(&end.heap, folded, &self.config).for_each(|id| self.queue.wake(id.clone(), now));
            }
        }
    }

    /// Nothing has changed in the folders for a while.
    async fn settled(&mut self) {
        let noticed = self.sources.take();
        if noticed.touches_config() {
            self.reread(false).await;
        }
        let now = Instant::now();
        for id in self.sources.changed(&self.config, Some(&noticed)) {
            self.queue.wake(id, now);
        }
        self.sources.watch(&self.config);
    }

    /// Reads the config again, if its text is another, or in any case.
    async fn reread(&mut self, in_any_case: bool) {
        if !self.sources.config_has_changed(&self.config) && !in_any_case {
            return;
        }
        let at = Arc::clone(&self.at);
        let read = tokio::task::block_in_place(|| at.config());
        self.shared.board.metrics.config_read(read.is_ok());
        let new = match read {
            Ok(new) => new,
            Err(problems) => return self.keep_config(problems),
        };
        if new.digest == self.config.digest && !in_any_case {
            self.shared.board.lock().config_error = None;
            self.tell("config", None, "the config is valid again");
            return;
        }
        match self.at.reach(&new).await {
            Ok(reach) => self.use_config(new, reach),
            Err(missing) => self.keep_config(missing),
        }
    }

    /// The config on disk cannot be used: loudly, the last good one stays.
    fn keep_config(&mut self, problems: String) {
        tracing::error!("the config cannot be used, and the last good one stays in use:\n{problems}");
        self.tell("config", Some(Notable::Failure), &format!("the config cannot be used:\n{problems}"));
        self.shared.board.lock().config_error = Some(problems);
    }

    fn use_config(&mut self, new: Config, reach: Reach) {
        let old = std::mem::replace(&mut self.config, Arc::new(new));
        let config = Arc::clone(&self.config);
        let mut changed = settings::changed(&old, &config);
        let relinked = settings::relinked(&old, &config, &self.reach, &reach);
        self.reach = reach;
        self.links.retain(|name, _| !relinked.contains(name) && config.braze.contains_key(name));
        match self.linked(&config) {
            Ok(links) => {
                links.into_iter().for_each(|(name, link)| drop(self.links.entry(name).or_insert(link)))
            }
            Err(error) => tracing::error!("{error}"),
        }
        let sent_anew = config.cohorts.iter().filter(|cohort| relinked.contains(&cohort.to));
        changed.extend(sent_anew.map(|cohort| cohort.id.clone()));
        if let Err(error) =
            self.inboxes.open(&config, &self.reach, &self.state, &self.shared.doors, &*self.at)
        {
            tracing::error!("a door cannot be opened: {error}");
        }
        if let (Some(certificate), Some(files)) = (&self.shared.certificate, &config.watch.tls)
            && let Err(error) = certificate.reread(files)
        {
            tracing::error!("the old certificate stays in use: {error}");
        }
        let restart = settings::needs_restart(&old, &config);
        if !restart.is_empty() {
            tracing::warn!("a change of {} needs a restart", restart.join(", "));
        }
        self.shared.board.configured(&config);
        self.shared.board.lock().needs_restart = restart;
        self.notifier = Notifier::new(&config, &self.reach.notify);
        let known: BTreeSet<String> = settings::cohorts(&config).map(of_cohort).collect();
        self.told.retain(|about| known.contains(about) || about == "config");
        self.tell("config", None, "the config is valid again");
        self.queue.retain(|id| settings::cohorts(&config).any(|known| known == id));
        self.folds.retain(|name, fold| config.heap.contains_key(name) || fold.is_running);
        self.sources.changed(&config, None);
        tracing::info!(
            changed = changed.len(),
            digest = &config.digest[..12.min(config.digest.len())],
            "another config is in use"
        );
        let now = Instant::now();
        changed.into_iter().for_each(|id| self.queue.wake(id, now));
    }

    fn linked(&self, config: &Config) -> Result<Links, crate::connector::http::HttpError> {
        reconcile::link(config, &self.reach.access, self.at.clock())
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

fn log(cohort: &CohortId, condition: &Condition) {
    match condition {
        Condition::New => {}
        Condition::InStep => tracing::info!(%cohort, "in step"),
        Condition::Waiting(what) => tracing::info!(%cohort, "waits: {what}"),
        Condition::Refused(why, plan) => {
            tracing::warn!(%cohort, %plan, "the guard withholds: {}", why.join("; "));
        }
        Condition::Failing(why) => tracing::warn!(%cohort, "fails: {why}"),
    }
}

/// A number from 0 to 1.
#[allow(clippy::cast_precision_loss, reason = "chance needs no precision")]
fn chance(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
