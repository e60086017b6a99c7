//! One run over the exports, in parallel. An error of one export stops no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::apply::Interrupt;
use crate::config::{self, Config};
use crate::connector::currents::StorageAccess;
use crate::contained::contained_task;
use crate::export::{self, Days, ExportPatience, ExportReport, ExportStop, HeapClients, ReplayJob};
use crate::model::{Clock, ExportId, Progress, RunId};
use crate::state::{ClosedFile, IdentityMap, Journal, RunOutcome, StateWriter};

/// One export of a run.
#[derive(Clone, Debug)]
pub struct ExportJob {
    /// The export.
    pub export: config::ExportConfig,
    /// The files of its inbox, if it has an endpoint.
    pub posted: Vec<ClosedFile>,
    /// Sends these events again, instead of new ones.
    pub again: Option<ReplayJob>,
    /// Limits the export to these days.
    pub days: Days,
    /// The access to its files.
    pub access: StorageAccess,
}

/// The resources of exports.
#[derive(Clone)]
pub struct ExportResources {
    /// The state.
    pub state: Arc<StateWriter>,
    /// The identity map.
    pub identity: Arc<Mutex<IdentityMap>>,
    /// The clients of the Heap connections that have keys.
    pub clients: HeapClients,
    /// The id of the run.
    pub run: RunId,
    /// The journal of the run.
    pub journal: Arc<Journal>,
    /// The clock.
    pub clock: Clock,
    /// Set when you want to stop.
    pub interrupt: Interrupt,
    /// Whether to wait until Heap has accepted everything.
    pub patience: ExportPatience,
    /// Receives the progress.
    pub progress: Arc<dyn Progress>,
}

/// Runs these exports. Every error is in the reports.
pub async fn export(jobs: Vec<ExportJob>, config: &Config, resources: ExportResources) -> Vec<ExportReport> {
    let order: Vec<ExportId> = jobs.iter().map(|job| job.export.id.clone()).collect();
    let (mut tasks, mut reports) = (JoinSet::new(), BTreeMap::new());
    for job in jobs {
        let reached =
            resources.clients.get(&job.export.to).cloned().zip(config.heap.get(&job.export.to).cloned());
        let Some((heap, settings)) = reached else {
            let report =
                ExportReport { stop_reason: Some(ExportStop::NoKeys), ..ExportReport::new(&job.export) };
            reports.insert(job.export.id.clone(), resources.recorded(report));
            continue;
        };
        let shared = resources.clone();
        let resources = export::ExportContext {
            state: Arc::clone(&resources.state),
            heap,
            settings,
            identity: Arc::clone(&resources.identity),
            journal: Arc::clone(&resources.journal),
            run: resources.run.clone(),
            clock: resources.clock,
            interrupt: resources.interrupt.clone(),
            patience: resources.patience,
            access: job.access,
            progress: Arc::clone(&resources.progress),
        };
        let nothing = ExportReport::new(&job.export);
        let span = tracing::info_span!("export", export = %job.export.id);
        let work = async move {
            match job.again {
                Some(again) => export::replay_again(&job.export, again, &resources).await,
                None => export::run(&job.export, job.posted, job.days, &resources).await,
            }
        };
        let work = async move {
            contained_task(work).await.unwrap_or_else(|panicked| {
                let stop_reason = Some(ExportStop::Local(panicked.into()));
                shared.recorded(ExportReport { stop_reason, ..nothing })
            })
        };
        tasks.spawn(work.instrument(span));
    }
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(report) => drop(reports.insert(report.id.clone(), report)),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    let mut reports: Vec<ExportReport> = order.iter().filter_map(|id| reports.remove(id)).collect();
    if let Err(error) = resources.journal.sync() {
        // The exports of a run share the journal.
        let stop = ExportStop::from(error);
        for report in reports.iter_mut().filter(|report| report.stop_reason.is_none()) {
            report.stop_reason = Some(stop.clone());
        }
    }
    reports
}

impl ExportResources {
    /// Records a report of an export that did not run. The exports write their own reports.
    fn recorded(&self, mut report: ExportReport) -> ExportReport {
        if let Err(error) = self.journal.append(self.clock.now(), report.exported()) {
            report.stop_reason.get_or_insert_with(|| error.into());
        }
        report
    }
}

/// The outcomes of exports, for `status`.
#[must_use]
pub fn export_outcomes(reports: &[ExportReport]) -> Vec<(ExportId, RunOutcome)> {
    reports.iter().map(|report| (report.id.clone(), report.run_outcome())).collect()
}

/// The result of the exports as the JSON output and the journal show it.
#[must_use]
pub fn result(reports: &[ExportReport]) -> &'static str {
    let changed = reports.iter().any(ExportReport::changed_anything);
    let mut incomplete = reports.iter().filter(|report| !report.is_complete()).peekable();
    match (changed, incomplete.peek().is_none()) {
        (true, true) => "exported",
        (true, false) => "exported_in_part",
        (false, true) => "in_sync",
        (false, false) if incomplete.all(ExportReport::is_stopped) => "stopped",
        (false, false) => "failed",
    }
}
