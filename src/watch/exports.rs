//! Export runs of the leader: when each export runs, and what its result changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::config_diff;
use super::context::LeaderContext;
use super::endpoints::{EndpointInboxes, http_exports};
use super::environment::ClientAccess;
use super::export_run::{ExportRun, ExportRunEnd};
use super::identity::SharedIdentity;
use super::notify::{FAILURES_NOTIFIED, NotificationSubject, Notifications};
use super::queue::{RunEnd, WorkQueue};
use super::schedule;
use crate::config::{Config, ExportConfig, ExportSource, Notable, ScheduleConfig, StorageLocation};
use crate::connector::currents::{KnownFolders, StorageAccess};
use crate::export::{self, ExportReport, ExportStop, HeapClients};
use crate::model::{ConnectionName, EndpointName, ExportId};

/// The poll interval of a bucket without a schedule: Braze writes every five minutes.
const BUCKET_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The poll interval of an HTTP export: events that are held may have waited too long.
const HTTP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The queue of export runs, and the clients that they share.
pub(super) struct ExportRuns {
    queue: WorkQueue<ExportId>,
    heaps: HeapClients,
    /// The results of earlier listings.
    listings: BTreeMap<ExportId, KnownFolders>,
}

impl ExportRuns {
    pub(super) fn new() -> Self {
        Self { queue: WorkQueue::new(), heaps: HeapClients::new(), listings: BTreeMap::new() }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    pub(super) fn depth(&self, now: Instant) -> usize {
        self.queue.depth(now)
    }

    /// Makes these exports due now.
    pub(super) fn wake(&mut self, exports: impl IntoIterator<Item = ExportId>, now: Instant) {
        exports.into_iter().for_each(|id| self.queue.wake(id, now));
    }

    /// Makes all exports due now.
    pub(super) fn wake_all(&mut self, config: &Config, now: Instant) {
        self.wake(config.exports.iter().map(|export| export.id.clone()), now);
    }

    /// Makes HTTP exports due after their flush interval, because these endpoints received events.
    pub(super) fn received(&mut self, endpoints: &BTreeSet<EndpointName>, context: &LeaderContext) {
        let now = context.clock.read();
        let has_received = |export: &ExportConfig| endpoints.contains(&EndpointName::of_export(&export.id));
        for (export, _) in http_exports(&context.config).filter(|(export, _)| has_received(export)) {
            self.queue.wake(export.id.clone(), now.monotonic + export.flush_every);
            context.status.update_export(&export.id, |status| {
                status.waiting_since = Some(status.waiting_since.unwrap_or(now.wall));
            });
        }
    }

    /// Invalidates listings of folders in which files changed. `is_incomplete`: some changes may be missing.
    pub(super) fn files_changed(&mut self, paths: &BTreeSet<PathBuf>, is_incomplete: bool) {
        for listing in self.listings.values() {
            listing.changed(paths);
            if is_incomplete {
                listing.all_changed();
            }
        }
    }

    /// Creates the clients of all Heap connections. Unchanged connections keep theirs, which knows the rate limit.
    pub(super) fn connect(&mut self, context: &LeaderContext, before: Option<(&Config, &ClientAccess)>) {
        let (config, heaps) = (&context.config, &context.access.heaps);
        let is_same = |name: &ConnectionName| {
            before.is_some_and(|(old, old_access)| {
                old.heap.get(name) == config.heap.get(name) && old_access.heaps.get(name) == heaps.get(name)
            })
        };
        self.heaps.retain(|name, _| is_same(name) && heaps.contains_key(name));
        match export::link(config, heaps, context.clock) {
            Ok(clients) => {
                for (name, client) in clients {
                    self.heaps.entry(name).or_insert(client);
                }
            }
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// Follows another config: removes the exports that left, and wakes the changed ones.
    pub(super) fn set_config(&mut self, context: &LeaderContext, old: &Config, old_access: &ClientAccess) {
        self.connect(context, Some((old, old_access)));
        let now = context.clock.monotonic();
        self.queue.retain(|id| context.export(id).is_some());
        self.listings.retain(|id, _| context.export(id).is_some());
        for export in &context.config.exports {
            let new = (&*context.config, &*context.access);
            if config_diff::is_export_changed((old, old_access), new, export) {
                self.queue.wake(export.id.clone(), now);
            }
        }
    }

    /// Takes the exports that are due, each with its run.
    pub(super) fn take_due(
        &mut self,
        context: &LeaderContext,
        identity: &SharedIdentity,
        inboxes: &EndpointInboxes,
    ) -> Vec<(ExportId, ExportRun)> {
        let mut runs = Vec::new();
        for id in self.queue.take_due(context.clock.monotonic()) {
            let Some(export) = context.export(&id).cloned() else {
                self.queue.remove(&id);
                continue;
            };
            let access = StorageAccess {
                options: context.access.store_options.get(&id).cloned().unwrap_or_default(),
                known: self.listings.entry(id.clone()).or_default().clone(),
            };
            let (heaps, inbox) = (self.heaps.clone(), inboxes.of_export(&id));
            runs.push((id, ExportRun::new(export, context, heaps, identity.clone(), inbox, access)));
        }
        runs
    }

    /// Schedules the next run, updates the status and notifies a change. Returns the version of the identity map, if the
    /// run may have changed it.
    pub(super) fn finish(
        &mut self,
        ended: ExportRunEnd,
        context: &LeaderContext,
        notifications: &mut Notifications,
    ) -> Option<u64> {
        let (end, failure) = ended.failure();
        let now = context.clock.read();
        let schedule = schedule_of(context.export(&ended.id), context.config.watch.poll);
        let scheduled = schedule::next_run(&schedule, None, now);
        let requested = ended.next().map(|wait| now.monotonic + wait);
        let next = scheduled.into_iter().chain(requested).min();
        let (retry, jitter) = (context.retry(), context.jitter());
        self.queue.finish(&ended.id, end, now.monotonic, next, retry, jitter);
        let metrics = context.status.metrics();
        metrics.count_export_poll(ended.id.as_str());
        let next_run = self.queue.due(&ended.id).and_then(|due| now.wall_at(due));
        let ExportRunEnd { id, report, progress } = ended;
        context.status.update_export(&id, |status| {
            status.events = progress.sent.unwrap_or(status.events);
            status.next_run = next_run;
            if let Ok(Some(report)) = &report {
                status.waiting = report.waiting;
            }
            if failure.is_none() {
                (status.last_success, status.waiting_since) = (Some(now.wall), None);
            }
            status.failure = failure.as_ref().map(|failure| failure.reason.clone());
            status.needs_operator = failure.as_ref().is_some_and(|failure| failure.needs_operator);
        });
        let is_notified = end == RunEnd::Settled || self.queue.failures(&id) >= FAILURES_NOTIFIED;
        report_result(&id, &report, failure.map(|failure| failure.reason), is_notified, notifications);
        let report = report.ok().flatten()?;
        metrics.count_export(&report);
        progress.identity_version.filter(|_| report.tally.events > 0)
    }
}

fn report_result(
    id: &ExportId,
    report: &Result<Option<ExportReport>, ExportStop>,
    failure: Option<String>,
    is_notified: bool,
    notifications: &mut Notifications,
) {
    let subject = NotificationSubject::Export(id.clone());
    match failure {
        None => {
            if let Ok(Some(report)) = report {
                let (sent, rejected) = (report.tally.sent, report.tally.rejected());
                tracing::info!(export = %id, sent, rejected, waiting = report.waiting, "exported");
            }
            notifications.recovered(subject, "exported again");
        }
        Some(reason) => {
            tracing::warn!(export = %id, "failing: {reason}");
            if is_notified {
                notifications.problem(subject, Notable::Failure, &reason);
            }
        }
    }
}

/// The schedule of an export: its own, or an interval by the kind of its source.
pub(super) fn schedule_of(export: Option<&ExportConfig>, poll: Duration) -> ScheduleConfig {
    let interval = match export.map(|export| &export.source) {
        Some(ExportSource::Storage(source)) => match &source.location {
            StorageLocation::Folder { .. } => poll,
            StorageLocation::Bucket { .. } => BUCKET_INTERVAL,
        },
        Some(ExportSource::Http(_)) | None => HTTP_INTERVAL,
    };
    export.and_then(|export| export.schedule.clone()).unwrap_or(ScheduleConfig::Every(interval))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::export_run::ExportTotals;
    use crate::watch::watch_fixture::{WatchFixture, advance};

    fn export(id: &str) -> ExportId {
        ExportId::new(id).unwrap()
    }

    fn finish(runs: &mut ExportRuns, id: &str, stop: Option<ExportStop>, fixture: &mut WatchFixture) {
        let report = stop.map_or(Ok(None), Err);
        let ended = ExportRunEnd { id: export(id), report, progress: ExportTotals::default() };
        runs.finish(ended, &fixture.context, &mut fixture.notifications);
    }

    /// Both exports, after their first run.
    fn idle() -> (ExportRuns, WatchFixture) {
        let (mut runs, mut fixture) = (ExportRuns::new(), WatchFixture::new());
        let now = fixture.context.clock.monotonic();
        runs.wake_all(&fixture.context.config, now);
        assert_eq!(runs.queue.take_due(now), [export("clicks"), export("opens")]);
        finish(&mut runs, "clicks", None, &mut fixture);
        finish(&mut runs, "opens", None, &mut fixture);
        (runs, fixture)
    }

    #[test]
    fn a_delivery_starts_only_its_own_export_after_the_flush_interval() {
        let (mut runs, fixture) = idle();
        assert_eq!(fixture.until(runs.next_due()), Some(HTTP_INTERVAL.as_secs()));
        let received = BTreeSet::from([EndpointName::of_export(&export("clicks"))]);
        runs.received(&received, &fixture.context);
        advance(10);
        runs.received(&received, &fixture.context);
        assert_eq!(fixture.until(runs.next_due()), Some(20), "30 seconds after the first delivery");
        advance(20);
        assert_eq!(runs.queue.take_due(fixture.context.clock.monotonic()), [export("clicks")]);
        let waiting = |id: &str| fixture.context.status.lock().exports[&export(id)].waiting_since;
        assert_eq!(waiting("clicks").map(crate::model::Timestamp::as_second), Some(0));
        assert_eq!(waiting("opens"), None);
    }

    #[test]
    fn a_failed_export_is_retried_and_rejected_keys_wait_for_an_operator() {
        let (mut runs, mut fixture) = idle();
        runs.wake([export("clicks"), export("opens")], fixture.context.clock.monotonic());
        runs.queue.take_due(fixture.context.clock.monotonic());
        finish(&mut runs, "opens", Some(ExportStop::NoKeys), &mut fixture);
        assert_eq!(fixture.until(runs.next_due()), Some(HTTP_INTERVAL.as_secs()));
        finish(&mut runs, "clicks", Some(ExportStop::SourceUnavailable("down".to_owned())), &mut fixture);
        assert_eq!(runs.next_due(), runs.queue.due(&export("clicks")));
        assert!(fixture.until(runs.next_due()).unwrap() < 60);
        let needs_operator = |id: &str| fixture.context.status.lock().exports[&export(id)].needs_operator;
        assert_eq!((needs_operator("clicks"), needs_operator("opens")), (false, true));
    }

    #[test]
    fn an_export_that_leaves_the_config_during_its_run_and_returns_runs_again() {
        let (mut runs, mut fixture) = idle();
        let (old, access) = (Config::clone(&fixture.context.config), ClientAccess::default());
        runs.wake([export("clicks")], fixture.context.clock.monotonic());
        runs.queue.take_due(fixture.context.clock.monotonic());
        fixture.change_config(|config| config.exports.retain(|export| export.id.as_str() != "clicks"));
        runs.set_config(&fixture.context, &old, &access);
        let without = Config::clone(&fixture.context.config);
        fixture.change_config(|config| config.exports.clone_from(&old.exports));
        runs.set_config(&fixture.context, &without, &access);
        finish(&mut runs, "clicks", None, &mut fixture);
        assert_eq!(runs.queue.take_due(fixture.context.clock.monotonic()), [export("clicks")]);
    }

    #[test]
    fn the_interval_without_a_schedule_depends_on_the_kind_of_source() {
        let fixture = WatchFixture::new();
        let poll = Duration::from_secs(7);
        let http = fixture.context.export(&export("clicks")).unwrap().clone();
        assert_eq!(schedule_of(Some(&http), poll), ScheduleConfig::Every(HTTP_INTERVAL));
        let daily = ScheduleConfig::Every(Duration::from_secs(86_400));
        let own = ExportConfig { schedule: Some(daily.clone()), ..http };
        assert_eq!(schedule_of(Some(&own), poll), daily);
    }
}
