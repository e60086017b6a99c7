//! Exports in the queue: when each is looked at, what a look is, and what is told of it.
//!
//! A look at an export first asks whether there is anything to do, which costs a listing and writes nothing; only
//! then is there a run. A run hands back while single persons are over Heap's limit, so that what comes meanwhile
//! is not kept waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::endpoints::http_exports;
use super::identity::SharedIdentity;
use super::leader::{Leader, Task, WorkDone};
use super::on_done::chance;
use super::queue::{Backoff, WorkEnd};
use super::status::ExportStatus;
use super::{ClientAccess, WatchEnvironment, on_thread};
use super::{schedule, settings};
use crate::apply::{Interrupt, StopCause};
use crate::config::{
    CohortConfig, Config, ExportConfig, ExportSource, Notable, ScheduleConfig, StorageLocation,
};
use crate::connector::currents::{KnownFolders, StorageAccess};
use crate::contained::Panicked;
use crate::export::{self, Days, ExportPatience, ExportReport, ExportStop, HeapClients, POSTED_AT_ONCE};
use crate::model::{ConnectionName, EndpointName, ExportId, IdentifierKind};
use crate::reconcile::{self, ExportJob, Exporting};
use crate::state::{ClosedFile, Inbox, InboxError, StateWriter};

/// How often a bucket is looked at that has no schedule of its own: Braze writes every five minutes.
const BUCKET_EVERY: Duration = Duration::from_secs(5 * 60);
/// How often a door's export is looked at although nothing came: something may have waited for too long.
const DOOR_EVERY: Duration = Duration::from_secs(60 * 60);
/// A failure that lasts for so many tries is told.
const FAILURES_TOLD: u32 = 3;

/// What exports of a leader share.
pub(super) struct ExportRuns {
    pub(super) queue: super::queue::WorkQueue<ExportId>,
    pub(super) links: HeapClients,
    pub(super) identity: SharedIdentity,
    /// What earlier listings of their folders found.
    pub(super) known: BTreeMap<ExportId, KnownFolders>,
    /// It is being taught.
    pub(super) is_learning: bool,
    /// What was said of its sources that cannot be read, by their paths.
    pub(super) unlearned: BTreeMap<String, String>,
    /// The version of the map that cohorts have been woken for.
    identity_version: u64,
}

/// A look that ended.
pub(super) struct ExportRunEnd {
    id: ExportId,
    /// None: there was nothing to do.
    report: Result<Option<ExportReport>, ExportStop>,
    after: Option<After>,
}

/// What the state says after a run.
#[derive(Clone, Copy)]
struct After {
    /// Events that Heap has taken, ever.
    sent: Option<u64>,
    identity_version: Option<u64>,
}

impl ExportRunEnd {
    pub(super) fn panicked(id: ExportId, panicked: Panicked) -> Self {
        Self { id, report: Err(ExportStop::Local(panicked.into())), after: None }
    }
}

/// What a look works with.
struct ExportRunContext {
    config: Arc<Config>,
    export: ExportConfig,
    state: Arc<StateWriter>,
    identity: SharedIdentity,
    links: HeapClients,
    inbox: Option<Arc<Inbox>>,
    at: Arc<dyn WatchEnvironment>,
    interrupt: Interrupt,
    access: StorageAccess,
}

impl ExportRuns {
    pub(super) fn new() -> Self {
        Self {
            queue: super::queue::WorkQueue::new(),
            links: HeapClients::new(),
            identity: SharedIdentity::default(),
            known: BTreeMap::new(),
            is_learning: false,
            unlearned: BTreeMap::new(),
            identity_version: 0,
        }
    }
}

impl ExportRunContext {
    async fn look(self) -> ExportRunEnd {
        let (id, state) = (self.export.id.clone(), Arc::clone(&self.state));
        let report = self.run().await;
        let of = id.clone();
        let after = on_thread(move || After {
            sent: state.reader().export(&of).ok().and_then(|record| record.counts.get("sent").copied()),
            identity_version: state.reader().identity_version().ok(),
        });
        ExportRunEnd { report, after: after.await, id }
    }

    async fn run(self) -> Result<Option<ExportReport>, ExportStop> {
        let mut posted = match &self.inbox {
            Some(inbox) => match inbox.close_file().await {
                Ok(files) => files,
                Err(InboxError::State(error)) => return Err(StopCause::State(error.to_string()).into()),
                Err(_) => return Ok(None), // it is being closed
            },
            None => Vec::new(),
        };
        if posted.is_empty() && !self.has_work().await? {
            return Ok(None);
        }
        let (inbox, has_more) = (self.inbox.clone(), posted.len() > POSTED_AT_ONCE);
        posted.truncate(POSTED_AT_ONCE);
        let mut report = self.export(posted).await?;
        if let Some(inbox) = inbox {
            inbox.used(&report.used);
        }
        if has_more && report.halt.is_none() {
            report.next = Some(Duration::ZERO);
        }
        Ok(Some(report))
    }

    /// Whether there is anything to do, found out on a thread of its own.
    async fn has_work(&self) -> Result<bool, ExportStop> {
        let (export, state) = (self.export.clone(), Arc::clone(&self.state));
        let (access, clock) = (self.access.clone(), self.at.clock());
        let work = move || export::has_work(&export, state.reader(), &access, clock);
        on_thread(work).await.unwrap_or(Err(StopCause::Interrupted.into()))
    }

    async fn export(self, posted: Vec<ClosedFile>) -> Result<ExportReport, ExportStop> {
        let (shared, state) = (self.identity, Arc::clone(&self.state));
        let open = move || shared.open(&state).map_err(ExportStop::from);
        let identity = on_thread(open).await.unwrap_or(Err(StopCause::Interrupted.into()))?;
        let exporting = Exporting {
            state: self.state,
            identity,
            links: self.links,
            run: self.at.new_run(),
            clock: self.at.clock(),
            interrupt: self.interrupt,
            patience: ExportPatience::EndAtUserLimits,
        };
        let nothing = ExportReport::new(&self.export);
        let (export, access) = (self.export, self.access);
        let job = ExportJob { export, posted, again: None, days: Days::default(), access };
        let mut reports = reconcile::export(vec![job], &self.config, exporting).await?;
        Ok(reports.pop().unwrap_or(nothing))
    }
}

impl Leader {
    /// Makes the clients of the Heaps, keeping those that are what they were: they know what has gone lately.
    pub(super) fn link_heaps(&mut self, old: Option<(&Config, &ClientAccess)>) {
        let config = Arc::clone(&self.config);
        let heaps = &self.reach.heaps;
        let is_same = |name: &ConnectionName| {
            old.is_some_and(|(old, had)| {
                old.heap.get(name) == config.heap.get(name) && had.heaps.get(name) == heaps.get(name)
            })
        };
        self.exports.links.retain(|name, _| is_same(name) && heaps.contains_key(name));
        match export::link(&config, &self.reach.heaps, self.at.clock()) {
            Ok(links) => {
                for (name, link) in links {
                    self.exports.links.entry(name).or_insert(link);
                }
            }
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// Everything about exports that another config makes something else of.
    pub(super) fn use_exports(&mut self, old: &Config, had: &ClientAccess) {
        self.link_heaps(Some((old, had)));
        let (config, now) = (Arc::clone(&self.config), Instant::now());
        let is_declared = |id: &ExportId| config.exports.iter().any(|export| export.id == *id);
        self.exports.queue.retain(is_declared);
        self.exports.known.retain(|id, _| is_declared(id));
        for export in &config.exports {
            if settings::is_other_export((old, had), (&config, &self.reach), export) {
                self.exports.queue.wake(export.id.clone(), now);
            }
        }
    }

    /// Looks at all of them.
    pub(super) fn wake_exports(&mut self) {
        let now = Instant::now();
        self.config.exports.iter().for_each(|export| self.exports.queue.wake(export.id.clone(), now));
    }

    /// These endpoints received deliveries: those of an export are gathered for a while.
    pub(super) fn posted(&mut self, received: &BTreeSet<EndpointName>) {
        let (config, now) = (Arc::clone(&self.config), Instant::now());
        let is_its = |export: &ExportConfig| received.contains(&EndpointName::of_export(&export.id));
        for (export, _) in http_exports(&config).filter(|(export, _)| is_its(export)) {
            self.exports.queue.wake(export.id.clone(), now + export.flush_every);
            let wall = self.at.clock().now();
            self.shared.board.export(&export.id, |status| {
                status.waiting_since = Some(status.waiting_since.unwrap_or(wall));
            });
        }
    }

    pub(super) fn start_due_exports(&mut self) {
        for id in self.exports.queue.take_due(Instant::now()) {
            let export = self.config.exports.iter().find(|export| export.id == id);
            let looking = export.cloned().map(|export| self.looking(export));
            match looking {
                Some(looking) => {
                    self.spawn(Task::Export(id), async move {
                        WorkDone::Exported(Box::new(looking.look().await))
                    });
                }
                None => self.exports.queue.remove(&id), // it is not in the config
            }
        }
    }

    fn looking(&mut self, export: ExportConfig) -> ExportRunContext {
        ExportRunContext {
            config: Arc::clone(&self.config),
            state: Arc::clone(&self.state),
            identity: self.exports.identity.clone(),
            links: self.exports.links.clone(),
            inbox: self.inboxes.of_export(&export.id).map(Arc::clone),
            at: Arc::clone(&self.at),
            interrupt: self.interrupt.1.clone(),
            access: StorageAccess {
                options: self.reach.store_options.get(&export.id).cloned().unwrap_or_default(),
                known: self.exports.known.entry(export.id.clone()).or_default().clone(),
            },
            export,
        }
    }

    /// A look has ended.
    pub(super) fn exported(&mut self, exported: ExportRunEnd) {
        let ExportRunEnd { id, report, after } = exported;
        let (ended, trouble) = judged(&report);
        self.is_lost |= matches!(&report, Err(ExportStop::Local(StopCause::LeaseLost)))
            || matches!(&report, Ok(Some(report)) if report.halt == Some(ExportStop::Local(StopCause::LeaseLost)));
        let now = self.at.clock().now();
        let next = schedule::next(&self.schedule_of_export(&id), now);
        let scheduled = next.map(|next| Instant::now() + schedule::until(next, now));
        let soon = match &report {
            Ok(Some(report)) => report.next.map(|wait| Instant::now() + wait),
            _ => None,
        };
        let scheduled = scheduled.into_iter().chain(soon).min();
        let backoff =
            Backoff { first: self.config.watch.first_wait, longest: self.config.watch.longest_wait };
        self.exports.queue.ended(&id, ended, Instant::now(), scheduled, backoff, chance(self.at.random()));
        let failures = self.exports.queue.failures(&id);
        self.shared.board.metrics.export_looked(id.as_str());
        if let Ok(Some(report)) = &report {
            self.shared.board.metrics.exported(report);
            if report.tally.events > 0 {
                self.wake_who_may_move(after.and_then(|after| after.identity_version));
            }
        }
        let due = self.exports.queue.due(&id).map(|due| due.saturating_duration_since(Instant::now()));
        let events = after.and_then(|after| after.sent);
        self.shared.board.export(&id, |status: &mut ExportStatus| {
            status.events = events.unwrap_or(status.events);
            status.next_look = due.and_then(|due| now.checked_add(due).ok());
            if let Ok(Some(report)) = &report {
                status.waiting = report.waiting;
                status.rejected += report.tally.rejected();
            }
            if trouble.is_none() {
                (status.last_good, status.waiting_since) = (Some(now), None);
            }
            status.trouble.clone_from(&trouble);
            status.needs_person = ended == WorkEnd::Settled && trouble.is_some();
        });
        self.tell_export(&id, ended, failures, &report, trouble);
    }

    /// The identity map has this version now. A new one may re-key members that are known by a device or an alias.
    pub(super) fn wake_who_may_move(&mut self, version: Option<u64>) {
        let Some(version) = version else { return };
        if std::mem::replace(&mut self.exports.identity_version, version) == version {
            return;
        }
        let may_move =
            |cohort: &&CohortConfig| cohort.rules.iter().any(|rule| rule.kind != IdentifierKind::ExternalId);
        for cohort in self.config.cohorts.iter().filter(may_move) {
            self.queue.wake(cohort.id.clone(), Instant::now());
        }
    }

    fn tell_export(
        &mut self,
        id: &ExportId,
        ended: WorkEnd,
        failures: u32,
        report: &Result<Option<ExportReport>, ExportStop>,
        trouble: Option<String>,
    ) {
        match trouble {
            None => {
                if let Ok(Some(report)) = report {
                    let (sent, rejected) = (report.tally.sent, report.tally.rejected());
                    tracing::info!(export = %id, sent, rejected, waiting = report.waiting, "exported");
                }
                self.tell(&of_export(id), None, "exported again");
            }
            Some(why) => {
                tracing::warn!(export = %id, "fails: {why}");
                if ended == WorkEnd::Settled || failures >= FAILURES_TOLD {
                    self.tell(&of_export(id), Some(Notable::Failure), &why);
                }
            }
        }
    }

    fn schedule_of_export(&self, id: &ExportId) -> ScheduleConfig {
        let export = self.config.exports.iter().find(|export| export.id == *id);
        let every = match export.map(|export| &export.source) {
            Some(ExportSource::Storage(source)) => match &source.place {
                StorageLocation::Folder { .. } => self.config.watch.poll,
                StorageLocation::Bucket { .. } => BUCKET_EVERY,
            },
            Some(ExportSource::Http(_)) | None => DOOR_EVERY,
        };
        export.and_then(|export| export.schedule.clone()).unwrap_or(ScheduleConfig::Every(every))
    }
}

/// Whether it will run by itself, and what is to be said.
fn judged(report: &Result<Option<ExportReport>, ExportStop>) -> (WorkEnd, Option<String>) {
    let halt = match report {
        Ok(None) => return (WorkEnd::Settled, None),
        Ok(Some(report)) => match (&report.halt, report.tally.unread.first()) {
            (Some(halt), _) => halt,
            (None, Some(unread)) => return (WorkEnd::Failed, Some(unread.clone())),
            (None, None) => return (WorkEnd::Settled, None),
        },
        Err(halt) => halt,
    };
    // What is refused is refused again until somebody changes it.
    let is_final = matches!(
        halt,
        ExportStop::Unauthorized(_) | ExportStop::NoKeys | ExportStop::Local(StopCause::Interrupted)
    );
    (if is_final { WorkEnd::Settled } else { WorkEnd::Failed }, Some(halt.to_string()))
}

/// What notifications call an export.
pub(super) fn of_export(id: &ExportId) -> String {
    format!("export {id}")
}
