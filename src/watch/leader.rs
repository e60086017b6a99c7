//! The leader: holds the lease on the state and runs the event loop. Each event goes to the part that is responsible for
//! it; the leader connects the parts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::approvals::ApprovalPoll;
use super::cohort_run::{CohortRun, CohortRunEnd};
use super::cohorts::CohortRuns;
use super::config_diff;
use super::config_reload::{self, ConfigRead, ConfigReload};
use super::context::LeaderContext;
use super::endpoints::{EndpointInboxes, OpenedInboxes};
use super::environment::{ClientAccess, InvalidConfig, WatchEnvironment, WatchError, on_thread};
use super::export_run::ExportRunEnd;
use super::exports::ExportRuns;
use super::identity::{IdentityImports, ImportEnd};
use super::ingest::IngestRuns;
use super::notify::{NotificationSubject, Notifications};
use super::recorded::{self, RecordedStatus};
use super::segments::SegmentChecks;
use super::sources::{SourceWatch, SurveyFindings, WatchedFiles};
use super::standby::WatchedConfig;
use super::status::WatchStatus;
use super::systemd::{ProcessSignal, ServiceManager, SignalListener};
use super::tasks::{TaskResult, TaskSubject, Tasks};
use crate::apply::Interrupt;
use crate::blocking;
use crate::config::{Config, Notable};
use crate::connector::http::HttpError;
use crate::contained::Panicked;
use crate::model::{Progress as _, duration_words};
use crate::reconcile::{self, BrazeClients};
use crate::state::{Location, StateWriter};
use crate::webhooks::{Endpoints, ServerCertificate};

/// The interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What outlives a leader.
#[derive(Clone)]
pub(super) struct LeaderShared {
    pub(super) status: Arc<WatchStatus>,
    pub(super) endpoints: Arc<Endpoints>,
    /// Notified when an endpoint has received a delivery.
    pub(super) received: Arc<Notify>,
    pub(super) certificate: Option<ServerCertificate>,
    /// The location of the state. A later config does not change it.
    pub(super) location: Location,
}

/// Why the leader ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaderEnd {
    /// A signal stopped the process.
    Stopped,
    /// Another process holds the lease.
    LeaseLost,
}

/// The result of a leader, and until when responses may still be sent.
pub(super) struct LeaderEnded {
    pub(super) result: Result<LeaderEnd, WatchError>,
    pub(super) grace_ends: Instant,
}

/// An event of the loop.
#[allow(clippy::large_enum_variant, reason = "only one exists at a time")]
enum WatchEvent {
    Signal(ProcessSignal),
    /// A watched folder has changed.
    FilesChanged,
    /// An endpoint has received a delivery.
    Received,
    /// A task has ended.
    TaskDone(TaskResult),
    /// A timer has expired.
    Timer,
}

/// The leader and its parts.
pub(super) struct Leader {
    context: LeaderContext,
    shared: LeaderShared,
    cohorts: CohortRuns,
    exports: ExportRuns,
    segments: SegmentChecks,
    ingest: IngestRuns,
    inboxes: EndpointInboxes,
    identity: IdentityImports,
    sources: SourceWatch,
    approvals: ApprovalPoll,
    reload: ConfigReload,
    /// The config that this process started with.
    first_config: Arc<Config>,
    notifications: Notifications,
    tasks: Tasks,
    interrupt: watch::Sender<bool>,
    next_heartbeat: Instant,
    next_poll: Instant,
    is_lease_lost: bool,
}

impl Leader {
    pub(super) fn new(
        watched: &WatchedConfig,
        environment: Arc<dyn WatchEnvironment>,
        state: Arc<StateWriter>,
        shared: LeaderShared,
    ) -> Self {
        let clock = environment.clock();
        let config = Arc::clone(&watched.config);
        let (interrupt_sender, interrupt) = Interrupt::new();
        let status = Arc::clone(&shared.status);
        Self {
            cohorts: CohortRuns::new(),
            exports: ExportRuns::new(),
            segments: SegmentChecks::new(),
            ingest: IngestRuns::default(),
            inboxes: EndpointInboxes::new(config.watch.limits.inbox_len_max),
            identity: IdentityImports::default(),
            sources: SourceWatch::new(watched.content, clock),
            approvals: ApprovalPoll::default(),
            reload: ConfigReload::default(),
            first_config: Arc::clone(&watched.first),
            notifications: Notifications::new(&config, &[], status.metrics(), clock),
            tasks: Tasks::default(),
            interrupt: interrupt_sender,
            next_heartbeat: clock.monotonic(),
            next_poll: clock.monotonic(),
            is_lease_lost: false,
            context: LeaderContext {
                config,
                access: Arc::default(),
                braze: BrazeClients::new(),
                environment,
                state,
                status,
                clock,
                interrupt,
            },
            shared,
        }
    }

    /// Runs until a signal stops the process, or the lease is lost. `watched` receives the last config in use.
    pub(super) async fn run(
        mut self,
        signals: &mut SignalListener,
        service: &ServiceManager,
        watched: &mut WatchedConfig,
    ) -> LeaderEnded {
        let result = match self.start(service).await {
            Ok(()) => Ok(self.event_loop(signals, service).await),
            Err(error) => Err(error),
        };
        let grace_ends = self.context.clock.monotonic() + self.context.config.watch.grace;
        self.stop().await;
        (watched.config, watched.content) = (self.context.config, self.sources.config_content());
        LeaderEnded { result, grace_ends }
    }

    /// Connects to all services, opens the endpoints and makes everything due.
    async fn start(&mut self, service: &ServiceManager) -> Result<(), WatchError> {
        let config = Arc::clone(&self.context.config);
        let access = self.context.environment.client_access(&config).await.map_err(WatchError::Access)?;
        self.context.access = Arc::new(access);
        let failed = |error: HttpError| WatchError::Failed(error.to_string());
        self.context.braze = self.braze_clients().map_err(failed)?;
        self.segments.connect(&self.context).map_err(failed)?;
        self.exports.connect(&self.context, None);
        self.notifications.set_webhooks(&config, &self.context.access.notify_urls);
        self.inboxes.open_all(&self.context, &self.shared.endpoints)?;
        self.sources.notice_all();
        if let Some((mut files, changed)) = self.sources.begin() {
            let findings = blocking::in_place(|| files.survey(&config, &changed));
            self.sources.finish(Some(files));
            // The config may have changed between its read and the start of the watch.
            if findings.config_content.is_some_and(|content| self.sources.set_config_content(content)) {
                self.start_reload();
            }
        }
        self.context.status.leader();
        blocking::in_place(|| self.show_recorded());
        let now = self.context.clock.monotonic();
        self.cohorts.wake(config.cohort_ids().cloned(), now);
        self.segments.begin(&self.context);
        let heaps = config.heap.keys().filter(|name| config.has_webhook_endpoint(name));
        heaps.for_each(|name| self.ingest.wake(name.clone(), now));
        self.exports.wake_all(&config, now);
        let pause = self.cohorts.turns().pause();
        self.start_import(pause);
        self.next_poll = now + config.watch.poll;
        let (cohorts, exports) = (config.cohorts.len(), config.exports.len());
        tracing::info!(cohorts, exports, state = %self.shared.location, "watching");
        service.ready("watching");
        Ok(())
    }

    async fn event_loop(&mut self, signals: &mut SignalListener, service: &ServiceManager) -> LeaderEnd {
        while !self.is_lease_lost {
            self.start_due();
            match self.next_event(signals).await {
                WatchEvent::Signal(ProcessSignal::Stop) => return LeaderEnd::Stopped,
                WatchEvent::Signal(ProcessSignal::Reload) => {
                    tracing::info!("reload requested by a signal");
                    service.reloading();
                    self.start_reload();
                }
                WatchEvent::FilesChanged => self.sources.notice(self.context.config.watch.debounce),
                WatchEvent::Received => {
                    let endpoints = self.shared.endpoints.take_received();
                    let now = self.context.clock.monotonic();
                    self.ingest.received(&endpoints, &self.context.config, now);
                    self.exports.received(&endpoints, &self.context);
                }
                WatchEvent::TaskDone(result) => self.task_done(result, service),
                WatchEvent::Timer => {}
            }
            self.run_timers(service);
        }
        LeaderEnd::LeaseLost
    }

    async fn next_event(&mut self, signals: &mut SignalListener) -> WatchEvent {
        let due = self.next_due();
        tokio::select! {
            signal = signals.next() => WatchEvent::Signal(signal),
            result = self.tasks.next(), if !self.tasks.is_empty() => {
                result.map_or(WatchEvent::Timer, WatchEvent::TaskDone)
            }
            () = self.sources.changed() => WatchEvent::FilesChanged,
            () = self.shared.received.notified() => WatchEvent::Received,
            () = tokio::time::sleep_until(due.into()) => WatchEvent::Timer,
        }
    }

    fn next_due(&self) -> Instant {
        let due = [
            self.cohorts.next_due(),
            self.exports.next_due(),
            self.segments.next_due(),
            self.ingest.next_due(),
            self.sources.next_survey(),
        ];
        due.into_iter().flatten().chain([self.next_poll]).fold(self.next_heartbeat, Instant::min)
    }

    /// Starts all runs that are due.
    fn start_due(&mut self) {
        let Self { context, tasks, .. } = self;
        for (id, run) in self.cohorts.take_due(context) {
            tasks.spawn(TaskSubject::Cohort(id), async move { TaskResult::Cohort(run.run().await) });
        }
        for (ids, checks) in self.segments.take_due(context) {
            tasks.spawn(TaskSubject::Segments(ids), async move { TaskResult::Segments(checks.await) });
        }
        for (id, run) in self.exports.take_due(context, self.identity.map(), &self.inboxes) {
            let work = async move { TaskResult::Export(Box::new(run.run().await)) };
            tasks.spawn(TaskSubject::Export(id), work);
        }
        for (heap, ingest) in self.ingest.take_due(context, &self.inboxes) {
            tasks.spawn(TaskSubject::Ingest(heap), async move { TaskResult::Ingest(ingest.await) });
        }
    }

    /// Polls, surveys changed files, and sends the heartbeat, each when its time has come.
    fn run_timers(&mut self, service: &ServiceManager) {
        let now = self.context.clock.monotonic();
        self.context.status.heartbeat();
        if self.next_poll <= now {
            self.next_poll = now + self.context.config.watch.poll;
            if !self.inboxes.is_complete() {
                self.open_inboxes();
            }
            self.sources.notice_all();
            self.start_import(None);
        }
        if self.sources.next_survey().is_some_and(|due| due <= self.context.clock.monotonic()) {
            self.start_survey();
        }
        if self.next_heartbeat <= now {
            self.next_heartbeat = now + service.heartbeat_interval().unwrap_or(HEARTBEAT).min(HEARTBEAT);
            service.heartbeat();
            self.poll_state();
        }
        self.context.status.lock().queue_depth =
            self.cohorts.depth(now) + self.exports.depth(now) + self.segments.depth(now);
    }

    /// Checks what no event announces: the lease, approvals, staleness and the size of inboxes.
    fn poll_state(&mut self) {
        self.is_lease_lost |= self.context.state.check_lease().is_err();
        if let Some(read) = self.approvals.start(&self.context) {
            self.tasks.spawn(TaskSubject::Approvals, async move { TaskResult::Approvals(read.await) });
        }
        for (subject, age) in self.context.status.mark_stale(self.context.config.watch.stale_after) {
            let text = format!("no successful run for {}", duration_words(age));
            self.notifications.problem(subject, Notable::Staleness, &text);
        }
        let now = self.context.clock.now();
        for name in self.context.config.heap.keys() {
            self.context.status.set_inbox(name, self.inboxes.waiting_bytes(name), now);
        }
    }

    fn task_done(&mut self, result: TaskResult, service: &ServiceManager) {
        match result {
            TaskResult::Cohort(ended) => self.cohort_done(ended),
            TaskResult::Export(ended) => self.export_done(*ended),
            TaskResult::Segments(ends) => {
                self.is_lease_lost |= self.segments.finish(ends, &self.context, &mut self.notifications);
            }
            TaskResult::Ingest(ended) => {
                let outcome = self.ingest.finish(ended, &self.context, &self.inboxes);
                self.is_lease_lost |= outcome.is_lease_lost;
                self.cohorts.wake(outcome.changed, self.context.clock.monotonic());
            }
            TaskResult::Import(ended) => self.import_done(ended),
            TaskResult::Approvals(approvals) => {
                let approved = self.approvals.finish(approvals);
                self.cohorts.wake(approved, self.context.clock.monotonic());
            }
            TaskResult::Survey(files, findings) => self.survey_done(files, findings),
            TaskResult::Inboxes(opened) => self.inboxes_opened(opened),
            TaskResult::Config(read) => self.config_read(*read, service),
            TaskResult::Orphaned(orphaned) => {
                if let Some(orphaned) = orphaned {
                    self.context.status.lock().orphaned = orphaned;
                }
            }
            TaskResult::Panicked(subject, panicked) => self.task_panicked(subject, &panicked, service),
        }
    }

    /// A panic fails the subject of the task. Everything else continues.
    fn task_panicked(&mut self, subject: TaskSubject, panicked: &Panicked, service: &ServiceManager) {
        let (context, notifications) = (&self.context, &mut self.notifications);
        match subject {
            TaskSubject::Cohort(id) => {
                context.status.finished(&id);
                let run = CohortRun::new(id, context, self.cohorts.turns());
                self.cohort_done(run.panicked(panicked));
            }
            TaskSubject::Export(id) => {
                self.identity.reset_map();
                self.export_done(ExportRunEnd::panicked(id, panicked.clone()));
            }
            TaskSubject::Segments(ids) => self.segments.panicked(&ids, panicked, context, notifications),
            TaskSubject::Ingest(heap) => self.ingest.panicked(&heap, panicked, context),
            TaskSubject::Import => self.identity.panicked(panicked),
            TaskSubject::Survey => self.survey_done(None, SurveyFindings::default()),
            TaskSubject::Config => {
                self.config_read(Err(InvalidConfig::one(panicked.to_string())), service);
            }
            TaskSubject::Inboxes => self.inboxes_opened(OpenedInboxes::default()),
            TaskSubject::Approvals => self.approvals.reset(),
            TaskSubject::Orphaned => {}
        }
    }

    fn cohort_done(&mut self, ended: CohortRunEnd) {
        self.is_lease_lost |= ended.is_lease_lost;
        self.cohorts.finish(ended, &self.context, &mut self.notifications);
    }

    fn export_done(&mut self, ended: ExportRunEnd) {
        self.is_lease_lost |= ended.is_lease_lost();
        let version = self.exports.finish(ended, &self.context, &mut self.notifications);
        let now = self.context.clock.monotonic();
        self.cohorts.wake_for_identity(version, &self.context.config, now);
    }

    fn start_import(&mut self, pause: Option<tokio::sync::OwnedRwLockWriteGuard<()>>) {
        if let Some(import) = self.identity.start(&self.context, pause) {
            self.tasks.spawn(TaskSubject::Import, async move { TaskResult::Import(import.await) });
        }
    }

    fn import_done(&mut self, ended: ImportEnd) {
        let outcome = self.identity.finish(ended, &mut self.notifications);
        self.is_lease_lost |= outcome.is_lease_lost;
        if outcome.is_changed {
            let now = self.context.clock.monotonic();
            self.cohorts.wake_for_identity(outcome.version, &self.context.config, now);
            self.exports.wake_all(&self.context.config, now);
        }
    }

    /// Finds the files that changed, on its own thread.
    fn start_survey(&mut self) {
        let Some((mut files, changed)) = self.sources.begin() else { return };
        let config = Arc::clone(&self.context.config);
        self.tasks.spawn(TaskSubject::Survey, async move {
            let survey = move || {
                let findings = files.survey(&config, &changed);
                (files, findings)
            };
            match on_thread(survey).await {
                Some((files, findings)) => TaskResult::Survey(Some(files), findings),
                None => TaskResult::Survey(None, SurveyFindings::default()),
            }
        });
    }

    fn survey_done(&mut self, files: Option<WatchedFiles>, findings: SurveyFindings) {
        self.sources.finish(files);
        let (context, now) = (&self.context, self.context.clock.monotonic());
        // The config may have changed during the survey.
        self.cohorts.wake(findings.cohorts.into_iter().filter(|id| context.cohort(id).is_some()), now);
        let (changed, is_incomplete) = findings.changed;
        self.exports.files_changed(&changed, is_incomplete);
        self.exports.wake(findings.exports.into_iter().filter(|id| context.export(id).is_some()), now);
        if let Some(content) = findings.config_content {
            // An invalid config is read again even if its text is the same: it may have been read during a write.
            let is_invalid = context.status.lock().config_error.is_some();
            if self.sources.set_config_content(content) || is_invalid {
                self.start_reload();
            }
        }
    }

    fn start_reload(&mut self) {
        if let Some(read) = self.reload.start(&self.context) {
            self.tasks.spawn(TaskSubject::Config, async move { TaskResult::Config(Box::new(read.await)) });
        }
    }

    fn config_read(&mut self, read: ConfigRead, service: &ServiceManager) {
        let is_repeated = self.reload.finish();
        self.context.status.metrics().count_config_read(read.is_ok());
        match read {
            Ok((config, access)) => self.set_config(config, access),
            Err(problems) => {
                config_reload::report_invalid(problems, &self.context, &mut self.notifications);
            }
        }
        service.ready("watching");
        if is_repeated {
            self.start_reload();
        }
    }

    /// Uses another config in all parts.
    fn set_config(&mut self, config: Config, access: ClientAccess) {
        let old = std::mem::replace(&mut self.context.config, Arc::new(config));
        let old_access = std::mem::replace(&mut self.context.access, Arc::new(access));
        let (config, access) = (Arc::clone(&self.context.config), Arc::clone(&self.context.access));
        let now = self.context.clock.monotonic();
        let mut changed = config_diff::changed_cohorts(&old, &config, &old_access, &access);
        let reconnected = config_diff::changed_connections(&old, &config, &old_access, &access);
        self.context.braze.retain(|name, _| !reconnected.contains(name) && config.braze.contains_key(name));
        match self.braze_clients() {
            // Clients that stay know the rate limit.
            Ok(clients) => {
                for (name, client) in clients {
                    self.context.braze.entry(name).or_insert(client);
                }
            }
            Err(error) => tracing::error!("{error}"),
        }
        let resent = config.cohorts.iter().filter(|cohort| reconnected.contains(&cohort.to));
        changed.extend(resent.map(|cohort| cohort.id.clone()));
        let changed_len = changed.len();
        self.open_inboxes();
        self.ingest.set_config(&config, &old, now);
        if let (Some(certificate), Some(files)) = (&self.shared.certificate, &config.watch.tls)
            && let Err(error) = certificate.reload(files)
        {
            tracing::error!("the old certificate stays in use: {error}");
        }
        self.show_config(&config);
        let same_webhooks = old.watch.notify == config.watch.notify
            && config_diff::are_same_secrets(&old_access.notify_urls, &access.notify_urls);
        if !same_webhooks {
            self.notifications.set_webhooks(&config, &access.notify_urls);
        }
        self.notifications.retain(|subject| is_known(subject, &config));
        self.notifications.recovered(NotificationSubject::Config, "the config is valid again");
        self.exports.set_config(&self.context, &old, &old_access);
        if old.identity != config.identity {
            self.start_import(None);
        }
        self.segments.set_config(&self.context, &old);
        self.cohorts.set_config(&config, changed, now);
        // Other files are watched now. Changes before the watch began must not be missed.
        self.sources.notice_all();
        let digest = &config.digest[..12.min(config.digest.len())];
        tracing::info!(changed = changed_len, digest, "config reloaded");
    }

    /// Shows a config that is now in use, and reads its orphaned cohorts.
    fn show_config(&mut self, config: &Arc<Config>) {
        let needs_restart = config_diff::needs_restart(&self.first_config, config);
        if !needs_restart.is_empty() {
            tracing::warn!("a change of {} needs a restart", needs_restart.join(", "));
        }
        let (status, environment) = (&self.context.status, &self.context.environment);
        status.set_config(config);
        status.lock().needs_restart = needs_restart;
        status.lock().target = environment.target(config, &self.shared.location);
        let (config, state) = (Arc::clone(config), Arc::clone(&self.context.state));
        let read = move || recorded::orphaned_cohorts(&config, state.reader());
        self.tasks.spawn(TaskSubject::Orphaned, async move {
            TaskResult::Orphaned(on_thread(read).await.flatten())
        });
    }

    /// Shows the status that earlier processes have recorded.
    fn show_recorded(&self) {
        let (context, state) = (&self.context, self.context.state.reader());
        RecordedStatus::read(&context.config, state, &*context.environment).show(&context.status);
    }

    fn braze_clients(&self) -> Result<BrazeClients, HttpError> {
        reconcile::connect_braze(&self.context.config, &self.context.access.braze, self.context.clock)
    }

    fn open_inboxes(&mut self) {
        if let Some(opening) = self.inboxes.start_opening(&self.context, &self.shared.endpoints) {
            self.tasks.spawn(TaskSubject::Inboxes, async move { TaskResult::Inboxes(opening.await) });
        }
    }

    fn inboxes_opened(&mut self, opened: OpenedInboxes) {
        let opened = self.inboxes.finish_opening(opened, &self.context, &self.shared.endpoints);
        let now = self.context.clock.monotonic();
        opened.heaps.into_iter().for_each(|name| self.ingest.wake(name, now));
        self.exports.wake(opened.exports, now);
        if opened.is_repeated {
            self.open_inboxes();
        }
    }

    /// Closes the endpoints, interrupts all tasks, and waits for them during the grace period.
    async fn stop(&mut self) {
        self.inboxes.close(&self.shared.endpoints);
        let _ = self.interrupt.send(true);
        let grace = tokio::time::sleep(self.context.config.watch.grace);
        tokio::pin!(grace);
        while !self.tasks.is_empty() {
            tokio::select! {
                done = self.tasks.next() => drop(done),
                () = &mut grace => {
                    tracing::warn!(
                        "the grace period has ended; requests without a reply stay in doubt, and the next run settles them"
                    );
                    self.tasks.abort_all();
                    return;
                }
            }
        }
    }
}

/// Whether a subject of notifications is in the config.
fn is_known(subject: &NotificationSubject, config: &Config) -> bool {
    match subject {
        NotificationSubject::Config => true,
        NotificationSubject::Cohort(id) => config.cohort_ids().any(|known| known == id),
        NotificationSubject::Export(id) => config.exports.iter().any(|export| export.id == *id),
        NotificationSubject::Segment(id) => config.segments.iter().any(|segment| segment.id == *id),
        NotificationSubject::Identity(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contained::contained;
    use crate::state::OutcomeResult;
    use crate::watch::watch_fixture::{WatchFixture, advance, cohort};

    fn leader(fixture: &WatchFixture) -> Leader {
        let (context, received) = (&fixture.context, Arc::new(Notify::new()));
        let endpoints = Endpoints::new(context.config.watch.limits, context.clock, Arc::clone(&received));
        let shared = LeaderShared {
            status: Arc::clone(&context.status),
            endpoints: Arc::new(endpoints),
            received,
            certificate: None,
            location: context.environment.location(&context.config),
        };
        let watched = WatchedConfig::new(Arc::clone(&context.config));
        Leader::new(&watched, Arc::clone(&context.environment), Arc::clone(&context.state), shared)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_loop_wakes_at_the_earliest_of_work_heartbeat_and_poll() {
        let fixture = WatchFixture::new();
        let (mut leader, service) = (leader(&fixture), ServiceManager::new());
        let wait = |leader: &Leader| fixture.until(Some(leader.next_due())).unwrap();
        assert_eq!(wait(&leader), 0, "the first heartbeat and the first poll are due");
        leader.run_timers(&service);
        assert_eq!(wait(&leader), HEARTBEAT.as_secs());
        let now = fixture.context.clock.monotonic();
        leader.cohorts.wake([cohort("carts")], now + Duration::from_secs(2));
        assert_eq!(wait(&leader), 2);
        leader.exports.wake_all(&fixture.context.config, now + Duration::from_secs(1));
        assert_eq!(wait(&leader), 1);
        advance(1);
        leader.run_timers(&service);
        assert_eq!(fixture.context.status.lock().queue_depth, 2, "both exports are due");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cohort_without_success_is_marked_stale_at_a_heartbeat() {
        let fixture = WatchFixture::new();
        let (mut leader, service) = (leader(&fixture), ServiceManager::new());
        let is_stale = || fixture.context.status.lock().cohorts[&cohort("vip")].is_stale;
        leader.run_timers(&service);
        assert!(!is_stale());
        advance(fixture.context.config.watch.stale_after.as_secs() + 1);
        leader.run_timers(&service);
        assert!(is_stale() && fixture.context.status.is_alive());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_in_a_cohort_run_fails_that_cohort_and_retries_it() {
        let fixture = WatchFixture::new();
        let (mut leader, service) = (leader(&fixture), ServiceManager::new());
        leader.cohorts.wake([cohort("carts"), cohort("vip")], fixture.context.clock.monotonic());
        assert_eq!(leader.cohorts.take_due(&fixture.context).len(), 2);
        let panicked = contained::<()>(|| panic!("a bug")).unwrap_err();
        leader.task_done(TaskResult::Panicked(TaskSubject::Cohort(cohort("carts")), panicked), &service);
        let code = |id: &str| fixture.context.status.lock().cohorts[&cohort(id)].condition.code();
        assert_eq!((code("carts"), code("vip")), ("failing", "new"));
        assert!(fixture.until(leader.cohorts.next_due()).unwrap() > 0, "after a wait");
        let state = fixture.context.state.reader();
        let last = state.last_outcomes().unwrap().cohort(&cohort("carts")).unwrap().clone();
        assert_eq!((last.result, last.needs_operator), (OutcomeResult::Failed, true));
        let run = state.runs(10).unwrap().remove(0).summary();
        assert_eq!((run.result.as_deref(), run.cohorts[0].cohort.as_str()), (Some("failed"), "carts"));
        assert!(run.cohorts[0].error.as_deref().unwrap().contains("a bug"), "{run:?}");
        assert!(!leader.is_lease_lost);
    }
}
