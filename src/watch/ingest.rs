//! Ingest of Heap's webhook: applies the deliveries of an inbox to segment tables, soon after they arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::LeaderContext;
use super::endpoints::EndpointInboxes;
use super::environment::on_thread;
use crate::config::{Config, HeapConfig};
use crate::contained::Panicked;
use crate::heap_segments::{IngestContext, IngestReport, ingest};
use crate::model::{CohortId, ConnectionName, EndpointName};
use crate::reconcile;
use crate::state::{HeapSegments, InboxError, StateError};

/// An ingest starts when no delivery has arrived for this long.
const QUIET: Duration = Duration::from_millis(150);
/// The longest wait for quiet.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// The wait after a failed ingest.
const RETRY: Duration = Duration::from_secs(5);

/// The ingests of all Heap connections.
#[derive(Default)]
pub(super) struct IngestRuns {
    timers: BTreeMap<ConnectionName, IngestTimer>,
}

/// When the next ingest of a Heap connection is due.
#[derive(Debug, Default)]
struct IngestTimer {
    is_running: bool,
    /// When the first delivery arrived that no ingest has taken.
    waiting_since: Option<Instant>,
    due: Option<Instant>,
    /// When a sync with missing pages has waited long enough.
    deadline: Option<Instant>,
}

/// The result of an ingest.
pub(super) struct IngestEnd {
    heap: ConnectionName,
    report: Result<IngestReport, Arc<StateError>>,
    /// The segments after it, if they could be read.
    segments: Option<HeapSegments>,
}

/// What follows from an ingest.
#[derive(Default)]
pub(super) struct IngestOutcome {
    /// Cohorts with a changed segment.
    pub(super) changed: Vec<CohortId>,
    pub(super) is_lease_lost: bool,
}

impl IngestTimer {
    /// A delivery arrived.
    fn received(&mut self, now: Instant) {
        let since = *self.waiting_since.get_or_insert(now);
        self.due = Some((now + QUIET).min(since + QUIET_MAX));
    }

    fn next_due(&self) -> Option<Instant> {
        if self.is_running {
            return None;
        }
        [self.due, self.deadline].into_iter().flatten().min()
    }

    /// Takes the ingest, if it is due.
    fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.next_due().is_some_and(|due| due <= now);
        if is_due {
            (self.due, self.waiting_since, self.deadline) = (None, None, None);
        }
        is_due
    }
}

impl IngestRuns {
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.values().filter_map(IngestTimer::next_due).min()
    }

    /// Makes the ingest of a Heap connection due now.
    pub(super) fn wake(&mut self, heap: ConnectionName, now: Instant) {
        self.timers.entry(heap).or_default().due = Some(now);
    }

    /// These endpoints received deliveries.
    pub(super) fn received(&mut self, endpoints: &BTreeSet<EndpointName>, config: &Config, now: Instant) {
        let has_received = |name: &&ConnectionName| endpoints.contains(&EndpointName::of_heap(name));
        for name in config.heap.keys().filter(has_received) {
            self.timers.entry(name.clone()).or_default().received(now);
        }
    }

    /// Follows another config: wakes connections with changed settings, because deliveries may wait for them.
    pub(super) fn set_config(&mut self, config: &Config, old: &Config, now: Instant) {
        let is_changed = |(name, heap): &(&ConnectionName, &HeapConfig)| old.heap.get(*name) != Some(*heap);
        for (name, _) in config.heap.iter().filter(is_changed) {
            self.wake(name.clone(), now);
        }
        self.timers.retain(|name, timer| config.heap.contains_key(name) || timer.is_running);
    }

    /// Takes the ingests that are due.
    pub(super) fn take_due(
        &mut self,
        context: &LeaderContext,
        inboxes: &EndpointInboxes,
    ) -> Vec<(ConnectionName, impl Future<Output = IngestEnd> + Send + use<>)> {
        let (mut taken, now) = (Vec::new(), context.clock.monotonic());
        for (heap, timer) in &mut self.timers {
            if timer.take_due(now)
                && let Some(ingest) = start_ingest(heap, context, inboxes)
            {
                timer.is_running = true;
                taken.push((heap.clone(), ingest));
            }
        }
        taken
    }

    /// Schedules the next ingest and updates the status.
    pub(super) fn finish(
        &mut self,
        ended: IngestEnd,
        context: &LeaderContext,
        inboxes: &EndpointInboxes,
    ) -> IngestOutcome {
        let now = context.clock.read();
        let Some(timer) = self.timers.get_mut(&ended.heap) else { return IngestOutcome::default() };
        timer.is_running = false;
        let heap = ended.heap;
        match &ended.report {
            Err(error) => {
                tracing::warn!(%heap, "the ingest of deliveries failed and is repeated: {error}");
                timer.due = Some(now.monotonic + RETRY);
                let is_lease_lost = matches!(**error, StateError::LeaseLost);
                IngestOutcome { changed: Vec::new(), is_lease_lost }
            }
            Ok(report) => {
                timer.deadline = report.next_deadline.map(|at| now.monotonic_at(at));
                if report.deliveries + report.invalid > 0 {
                    tracing::info!(
                        %heap, deliveries = report.deliveries, duplicates = report.duplicates,
                        invalid = report.invalid, segments = report.segments.len(), "deliveries ingested"
                    );
                }
                context.status.metrics().count_ingest(heap.as_str(), report);
                context.status.inbox_ingested(&heap);
                if let Some(segments) = ended.segments {
                    context.status.set_heap_segments(&heap, segments, inboxes.waiting_bytes(&heap));
                }
                let changed = changed_cohorts(&heap, report, &context.config);
                IngestOutcome { changed, is_lease_lost: false }
            }
        }
    }

    /// The ingest of this connection panicked. It is tried again after the longest wait.
    pub(super) fn panicked(&mut self, heap: &ConnectionName, panicked: &Panicked, context: &LeaderContext) {
        tracing::warn!(%heap, "the ingest of deliveries failed: {panicked}");
        if let Some(timer) = self.timers.get_mut(heap) {
            timer.is_running = false;
            timer.due = Some(context.clock.monotonic() + context.config.watch.longest_wait);
        }
    }
}

/// Ingests the inbox of a Heap connection. None: the connection has no inbox.
fn start_ingest(
    heap: &ConnectionName,
    context: &LeaderContext,
    inboxes: &EndpointInboxes,
) -> Option<impl Future<Output = IngestEnd> + Send + use<>> {
    let inbox = inboxes.of_heap(heap)?;
    let incomplete_after = context.config.heap.get(heap)?.incomplete_after;
    let (heap, state, clock) = (heap.clone(), Arc::clone(&context.state), context.clock);
    let environment = Arc::clone(&context.environment);
    let retention = reconcile::log_retention(&context.config);
    Some(async move {
        let files = match inbox.close_file().await {
            Ok(files) => files,
            Err(InboxError::State(error)) => {
                return IngestEnd { heap, report: Err(error), segments: None };
            }
            // The inbox is being closed.
            Err(_) => return IngestEnd { heap, report: Ok(IngestReport::default()), segments: None },
        };
        let name = heap.clone();
        let work = move || {
            let (run, now) = (environment.new_run(), clock.now());
            let _entered = tracing::info_span!("run", %run).entered();
            let context = IngestContext { state: &state, heap: &name, run: &run, now, incomplete_after };
            let report = ingest(&files, context).map_err(Arc::new);
            // An ingest has no journal, but it may add rejects.
            let has_rejects =
                report.as_ref().is_ok_and(|report: &IngestReport| report.invalid + report.rejected > 0);
            if has_rejects && let Err(error) = state.tidy_logs(&retention, now) {
                tracing::warn!("cannot merge or prune journal and rejects: {error}");
            }
            (report, state.reader().segments(&name).ok())
        };
        let (report, segments) =
            on_thread(work).await.unwrap_or_else(|| (Err(Arc::new(StateError::LeaseLost)), None));
        if let Ok(report) = &report {
            inbox.used(&report.used);
        }
        IngestEnd { heap, report, segments }
    })
}

/// The cohorts with a changed segment as source.
fn changed_cohorts(heap: &ConnectionName, report: &IngestReport, config: &Config) -> Vec<CohortId> {
    let has_changed =
        |segment: Option<u64>| segment.is_some_and(|segment| report.segments.contains(&segment));
    let changed = config.cohorts.iter().filter(|cohort| has_changed(cohort.source.segment_of(heap)));
    changed.map(|cohort| cohort.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ingest_waits_for_quiet_but_not_for_long() {
        let (mut timer, start) = (IngestTimer::default(), Instant::now());
        timer.received(start);
        assert_eq!(timer.next_due(), Some(start + QUIET));
        timer.received(start + Duration::from_millis(100));
        assert_eq!(timer.next_due(), Some(start + Duration::from_millis(100) + QUIET));
        timer.received(start + Duration::from_millis(1_990));
        assert_eq!(timer.next_due(), Some(start + QUIET_MAX));
        assert!(!timer.take_due(start + Duration::from_millis(1_999)));
        assert!(timer.take_due(start + QUIET_MAX));
        assert_eq!(timer.next_due(), None);
    }

    #[test]
    fn a_running_ingest_is_not_due_and_missing_pages_have_a_deadline() {
        let (mut timer, start) = (IngestTimer::default(), Instant::now());
        timer.received(start);
        timer.is_running = true;
        assert!(!timer.take_due(start + QUIET_MAX));
        timer.is_running = false;
        assert!(timer.take_due(start + QUIET_MAX));
        timer.deadline = Some(start + Duration::from_secs(600));
        assert!(!timer.take_due(start + Duration::from_secs(599)));
        assert!(timer.take_due(start + Duration::from_secs(600)));
    }
}
