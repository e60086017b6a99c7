//! One export run. A poll first checks whether there is work, which costs a listing and writes nothing.
//!
//! A run ends while single users are over Heap's rate limit, so that events that arrive meanwhile do not wait.

use std::sync::Arc;
use std::time::Duration;

use super::context::LeaderContext;
use super::environment::{WatchEnvironment, on_thread};
use super::identity::SharedIdentity;
use super::queue::RunEnd;
use crate::apply::{Interrupt, StopCause};
use crate::config::{Config, ExportConfig};
use crate::connector::currents::StorageAccess;
use crate::contained::Panicked;
use crate::export::{self, Days, ExportPatience, ExportReport, ExportStop, HeapClients, POSTED_AT_ONCE};
use crate::model::{Clock, ExportId};
use crate::reconcile::{self, ExportJob, ExportResources};
use crate::state::{ClosedFile, Inbox, InboxError, StateWriter};

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
        }
    }

    /// Checks for work, and exports if there is any.
    pub(super) async fn run(self) -> ExportRunEnd {
        let (id, state) = (self.export.id.clone(), Arc::clone(&self.state));
        let report = self.poll().await;
        let of = id.clone();
        let progress = on_thread(move || ExportTotals {
            sent: state.reader().export(&of).ok().and_then(|progress| progress.counts.get("sent").copied()),
            identity_version: state.reader().identity_version().ok(),
        });
        ExportRunEnd { report, progress: progress.await.unwrap_or_default(), id }
    }

    async fn poll(self) -> Result<Option<ExportReport>, ExportStop> {
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
        let mut report = self.export(received).await?;
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

    async fn export(self, posted: Vec<ClosedFile>) -> Result<ExportReport, ExportStop> {
        let (shared, state) = (self.identity, Arc::clone(&self.state));
        let open = move || shared.open(&state).map_err(ExportStop::from);
        let identity = on_thread(open).await.unwrap_or(Err(StopCause::Interrupted.into()))?;
        let exporting = ExportResources {
            state: self.state,
            identity,
            clients: self.heaps,
            run: self.environment.new_run(),
            clock: self.clock,
            interrupt: self.interrupt,
            patience: ExportPatience::EndAtUserLimits,
        };
        let empty = ExportReport::new(&self.export);
        let (export, access) = (self.export, self.access);
        let job = ExportJob { export, posted, again: None, days: Days::default(), access };
        let span = tracing::info_span!("run", run = %exporting.run);
        let exported = reconcile::export(vec![job], &self.config, exporting);
        let mut reports = tracing::Instrument::instrument(exported, span).await?;
        Ok(reports.pop().unwrap_or(empty))
    }
}
