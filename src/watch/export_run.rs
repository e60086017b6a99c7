//! One export run. A poll first checks whether there is work, which costs a listing and writes nothing.
//!
//! A run ends while single users are over Heap's rate limit, so that events that arrive meanwhile do not wait.

use std::sync::Arc;
use std::time::Duration;

use super::context::LeaderContext;
use super::environment::{WatchEnvironment, on_thread};
use super::identity::SharedIdentity;
use super::queue::RunEnd;
use super::status::WatchStatus;
use crate::apply::{Interrupt, StopCause};
use crate::blocking;
use crate::config::{Config, ExportConfig};
use crate::connector::currents::StorageAccess;
use crate::contained::Panicked;
use crate::export::{self, Days, ExportPatience, ExportReport, ExportStop, HeapClients, POSTED_AT_ONCE};
use crate::model::{Clock, ExportId, NoProgress, RunId};
use crate::reconcile::{self, ExportJob, ExportResources, RecordedEnd, RunRecorder};
use crate::state::{ClosedFile, Inbox, InboxError, OutcomeRun, StateWriter};

/// An export run, and everything that it works with.
pub(super) struct ExportRun {
    config: Arc<Config>,
    export: ExportConfig,
    state: Arc<StateWriter>,
    identity: SharedIdentity,
    heaps: HeapClients,
    inbox: Option<Arc<Inbox>>,
    environment: Arc<dyn WatchEnvironment>,
    clock: Clock,
    interrupt: Interrupt,
    access: StorageAccess,
    status: Arc<WatchStatus>,
}

/// The result of an export run.
pub(super) struct ExportRunEnd {
    pub(super) id: ExportId,
    /// `Ok(None)`: there was no work.
    pub(super) report: Result<Option<ExportReport>, ExportStop>,
    pub(super) progress: ExportTotals,
}

/// Why an export run failed.
#[derive(Clone, Debug)]
pub(super) struct ExportFailure {
    pub(super) reason: String,
    /// A retry alone does not help.
    pub(super) needs_operator: bool,
}

/// What the state says after a run.
#[derive(Clone, Copy, Default)]
pub(super) struct ExportTotals {
    /// Events that Heap has accepted, over all runs.
    pub(super) sent: Option<u64>,
    pub(super) identity_version: Option<u64>,
}

impl ExportRunEnd {
    /// The result of a run that panicked.
    pub(super) fn panicked(id: ExportId, panicked: Panicked) -> Self {
        Self { id, report: Err(ExportStop::Local(panicked.into())), progress: ExportTotals::default() }
    }

    /// Whether another process holds the lease.
    pub(super) fn is_lease_lost(&self) -> bool {
        match &self.report {
            Err(stop) => *stop == ExportStop::Local(StopCause::LeaseLost),
            Ok(Some(report)) => report.stop_reason == Some(ExportStop::Local(StopCause::LeaseLost)),
            Ok(None) => false,
        }
    }

    /// The wait that the run asks for before the next one.
    pub(super) fn next(&self) -> Option<Duration> {
        self.report.as_ref().ok()?.as_ref()?.next
    }

    /// Whether the run is retried, and the failure if there is one.
    pub(super) fn failure(&self) -> (RunEnd, Option<ExportFailure>) {
        let stop = match &self.report {
            Ok(None) => return (RunEnd::Settled, None),
            Ok(Some(report)) => match (&report.stop_reason, report.tally.unread.first()) {
                (Some(stop), _) => stop,
                (None, Some(unread)) => {
                    let failure = ExportFailure { reason: unread.clone(), needs_operator: true };
                    return (RunEnd::Failed, Some(failure));
                }
                (None, None) => return (RunEnd::Settled, None),
            },
            Err(stop) => stop,
        };
        // Rejected keys stay rejected until an operator changes them.
        let is_final = matches!(
            stop,
            ExportStop::Unauthorized(_) | ExportStop::NoKeys | ExportStop::Local(StopCause::Interrupted)
        );
        let failure = ExportFailure { reason: stop.to_string(), needs_operator: stop.needs_operator() };
        (if is_final { RunEnd::Settled } else { RunEnd::Failed }, Some(failure))
    }
}

impl ExportRun {
    pub(super) fn new(
        export: ExportConfig,
        context: &LeaderContext,
        heaps: HeapClients,
        identity: SharedIdentity,
        inbox: Option<Arc<Inbox>>,
        access: StorageAccess,
    ) -> Self {
        Self {
            config: Arc::clone(&context.config),
            export,
            state: Arc::clone(&context.state),
            identity,
            heaps,
            inbox,
            environment: Arc::clone(&context.environment),
            clock: context.clock,
            interrupt: context.interrupt.clone(),
            access,
            status: Arc::clone(&context.status),
        }
    }

    /// Checks for work, and exports if there is any.
    pub(super) async fn run(self) -> ExportRunEnd {
        let (id, state, run) = (self.export.id.clone(), Arc::clone(&self.state), self.environment.new_run());
        let report = self.poll(&run).await;
        match &report {
            Ok(Some(_)) => {}
            Ok(None) => self.record(&run, None),
            Err(stop) => self.record(&run, Some(stop)),
        }
        let of = id.clone();
        let progress = on_thread(move || ExportTotals {
            sent: state.reader().export(&of).ok().and_then(|progress| progress.counts.get("sent").copied()),
            identity_version: state.reader().identity_version().ok(),
        });
        ExportRunEnd { report, progress: progress.await.unwrap_or_default(), id }
    }

    /// Records a run that exported nothing. A failure to record it is logged.
    fn record(&self, run: &RunId, stop: Option<&ExportStop>) {
        let report = ExportReport { stop_reason: stop.cloned(), ..ExportReport::new(&self.export) };
        let (origin, failure) = (self.environment.origin(), report.failure());
        let before = self.status.lock().exports.get(&report.id).and_then(|status| status.failure.clone());
        let exports = reconcile::export_outcomes(std::slice::from_ref(&report));
        let recorded = blocking::in_place(|| {
            // A failure that repeats is journaled once, not in each run.
            if failure.is_some() && failure != before {
                let recorder = RunRecorder::begin(&self.state, run, self.clock, &self.config, origin)?;
                recorder.journal().append(self.clock.now(), report.exported())?;
                let result = reconcile::exports_result(std::slice::from_ref(&report)).to_owned();
                let end = RecordedEnd { result, exports, ..RecordedEnd::default() };
                return recorder.end(&end, &self.config);
            }
            let of = OutcomeRun { run, command: &origin.command, at: self.clock.now() };
            self.state.record_outcomes(of, &[], &exports)
        });
        if let Err(error) = recorded {
            tracing::warn!(export = %self.export.id, "the outcome of the run could not be recorded: {error}");
        }
    }

    async fn poll(&self, run: &RunId) -> Result<Option<ExportReport>, ExportStop> {
        let mut received = match &self.inbox {
            Some(inbox) => match inbox.close_file().await {
                Ok(files) => files,
                Err(InboxError::State(error)) => return Err(StopCause::State(error.to_string()).into()),
                Err(_) => return Ok(None), // the inbox is being closed
            },
            None => Vec::new(),
        };
        if received.is_empty() && !self.has_work().await? {
            return Ok(None);
        }
        let (inbox, has_more) = (self.inbox.clone(), received.len() > POSTED_AT_ONCE);
        received.truncate(POSTED_AT_ONCE);
        let mut report = self.export(run, received).await?;
        if let Some(inbox) = inbox {
            inbox.used(&report.used);
        }
        if has_more && report.stop_reason.is_none() {
            report.next = Some(Duration::ZERO);
        }
        Ok(Some(report))
    }

    /// Whether there is work, found out on its own thread.
    async fn has_work(&self) -> Result<bool, ExportStop> {
        let (export, state) = (self.export.clone(), Arc::clone(&self.state));
        let (access, clock) = (self.access.clone(), self.clock);
        let work = move || export::has_work(&export, state.reader(), &access, clock);
        on_thread(work).await.unwrap_or(Err(StopCause::Interrupted.into()))
    }

    async fn export(&self, run: &RunId, posted: Vec<ClosedFile>) -> Result<ExportReport, ExportStop> {
        let (shared, state) = (self.identity.clone(), Arc::clone(&self.state));
        let open = move || shared.open(&state).map_err(ExportStop::from);
        let identity = on_thread(open).await.unwrap_or(Err(StopCause::Interrupted.into()))?;
        let origin = self.environment.origin();
        let recorder = RunRecorder::begin(&self.state, run, self.clock, &self.config, origin)?;
        let exporting = ExportResources {
            state: Arc::clone(&self.state),
            identity,
            clients: self.heaps.clone(),
            run: run.clone(),
            journal: recorder.journal(),
            clock: self.clock,
            interrupt: self.interrupt.clone(),
            patience: ExportPatience::EndAtUserLimits,
            progress: Arc::new(NoProgress),
        };
        let (export, access) = (self.export.clone(), self.access.clone());
        let job = ExportJob { export, posted, again: None, days: Days::default(), access };
        let span = tracing::info_span!("run", %run);
        let exported = reconcile::export(vec![job], &self.config, exporting);
        let mut reports = tracing::Instrument::instrument(exported, span).await;
        let end = RecordedEnd {
            result: reconcile::exports_result(&reports).to_owned(),
            requests: reports.iter().map(|report| report.tally.requests()).sum(),
            cohorts: Vec::new(),
            exports: reconcile::export_outcomes(&reports),
        };
        let ended = blocking::in_place(|| recorder.end(&end, &self.config));
        let mut report = reports.pop().unwrap_or_else(|| ExportReport::new(&self.export));
        if let Err(error) = ended {
            report.stop_reason.get_or_insert_with(|| error.into());
        }
        Ok(report)
    }
}
