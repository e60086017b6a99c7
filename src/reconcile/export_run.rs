//! One run over the exports, in parallel. An error of one export stops no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::end_of_run::tidy_state;
use crate::apply::Interrupt;
use crate::config::{self, Config};
use crate::connector::currents::StorageAccess;
use crate::contained::contained_task;
use crate::export::{self, Days, ExportPatience, ExportReport, ExportStop, HeapClients, ReplayJob};
use crate::model::{Clock, ExportId, RunId};
use crate::state::{ClosedFile, IdentityMap, JournalEvent, StateError, StateWriter};

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
    /// The clock.
    pub clock: Clock,
    /// Set when you want to stop.
    pub interrupt: Interrupt,
    /// Whether to wait until Heap has accepted everything.
    pub patience: ExportPatience,
}

/// Runs these exports.
///
/// # Errors
/// When the journal cannot be written, before anything is sent. Every later error is in the reports.
pub async fn export(
    jobs: Vec<ExportJob>,
    config: &Config,
    resources: ExportResources,
) -> Result<Vec<ExportReport>, StateError> {
    let began = resources.clock.now();
    let journal = Arc::new(resources.state.journal(&resources.run, began)?);
    let syncline = env!("CARGO_PKG_VERSION").to_owned();
    journal.append(began, JournalEvent::Began { syncline, config: config.digest.clone() })?;
    let order: Vec<ExportId> = jobs.iter().map(|job| job.export.id.clone()).collect();
    let (mut tasks, mut reports) = (JoinSet::new(), BTreeMap::new());
    for job in jobs {
        let reached =
            resources.clients.get(&job.export.to).cloned().zip(config.heap.get(&job.export.to).cloned());
        let Some((heap, settings)) = reached else {
            let report =
                ExportReport { stop_reason: Some(ExportStop::NoKeys), ..ExportReport::new(&job.export) };
            reports.insert(job.export.id.clone(), report);
            continue;
        };
        let resources = export::ExportContext {
            state: Arc::clone(&resources.state),
            heap,
            settings,
            identity: Arc::clone(&resources.identity),
            journal: Arc::clone(&journal),
            run: resources.run.clone(),
            clock: resources.clock,
            interrupt: resources.interrupt.clone(),
            patience: resources.patience,
            access: job.access,
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
            contained_task(work).await.unwrap_or_else(|panicked| ExportReport {
                stop_reason: Some(ExportStop::Local(panicked.into())),
                ..nothing
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
    let requests = reports.iter().map(|report| report.tally.requests()).sum();
    let ended = JournalEvent::Ended { result: result(&reports).to_owned(), requests };
    if let Err(error) = journal.append(resources.clock.now(), ended).and_then(|()| journal.sync()) {
        // The exports of a run share the journal.
        let stop = ExportStop::from(error);
        for report in reports.iter_mut().filter(|report| report.stop_reason.is_none()) {
            report.stop_reason = Some(stop.clone());
        }
    }
    tokio::task::block_in_place(|| tidy_state(&resources.state, config, resources.clock));
    Ok(reports)
}

/// The result of the exports as the JSON output and the journal show it.
#[must_use]
pub fn result(reports: &[ExportReport]) -> &'static str {
    let changed = reports.iter().any(ExportReport::changed_anything);
    match (changed, reports.iter().all(ExportReport::is_complete)) {
        (true, true) => "exported",
        (true, false) => "exported_in_part",
        (false, true) => "in_sync",
        (false, false) => "failed",
    }
}
