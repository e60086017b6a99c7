//! One run over exports, side by side: each is a flow of its own, and what stops one stops no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tracing::Instrument as _;

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
    /// The files of its inbox, if it has a door.
    pub posted: Vec<ClosedFile>,
    /// What is to be sent once more, instead of what is new.
    pub again: Option<ReplayJob>,
    /// Only what is of these days.
    pub days: Days,
    /// How its files are reached.
    pub access: StorageAccess,
}

/// What exports work with.
#[derive(Clone)]
pub struct Exporting {
    /// The store.
    pub state: Arc<StateWriter>,
    /// Who is who.
    pub identity: Arc<Mutex<IdentityMap>>,
    /// The clients of the Heaps that can be reached.
    pub links: HeapClients,
    /// The run.
    pub run: RunId,
    /// The time.
    pub clock: Clock,
    /// Whether a person wants to stop.
    pub interrupt: Interrupt,
    /// Whether to wait until Heap has taken everything.
    pub patience: ExportPatience,
}

/// Runs these exports.
///
/// # Errors
/// When the journal cannot be written, before anything is sent. Every later error is in the reports.
pub async fn export(
    jobs: Vec<ExportJob>,
    config: &Config,
    means: Exporting,
) -> Result<Vec<ExportReport>, StateError> {
    let began = means.clock.now();
    let journal = Arc::new(means.state.journal(&means.run, began)?);
    let syncline = env!("CARGO_PKG_VERSION").to_owned();
    journal.append(began, JournalEvent::Began { syncline, config: config.digest.clone() })?;
    let order: Vec<ExportId> = jobs.iter().map(|job| job.export.id.clone()).collect();
    let (mut tasks, mut reports) = (JoinSet::new(), BTreeMap::new());
    for job in jobs {
        let reached = means.links.get(&job.export.to).cloned().zip(config.heap.get(&job.export.to).cloned());
        let Some((heap, settings)) = reached else {
            let report = ExportReport { halt: Some(ExportStop::NoKeys), ..ExportReport::new(&job.export) };
            reports.insert(job.export.id.clone(), report);
            continue;
        };
        let means = export::ExportContext {
            state: Arc::clone(&means.state),
            heap,
            settings,
            identity: Arc::clone(&means.identity),
            journal: Arc::clone(&journal),
            run: means.run.clone(),
            clock: means.clock,
            interrupt: means.interrupt.clone(),
            patience: means.patience,
            access: job.access,
        };
        let nothing = ExportReport::new(&job.export);
        let work = async move {
            match job.again {
                Some(again) => export::replay_again(&job.export, again, &means).await,
                None => export::run(&job.export, job.posted, job.days, &means).await,
            }
        };
        let work = async move {
            contained_task(work).await.unwrap_or_else(|panicked| ExportReport {
                halt: Some(ExportStop::Local(panicked.into())),
                ..nothing
            })
        };
        tasks.spawn(work.in_current_span());
    }
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(report) => drop(reports.insert(report.id.clone(), report)),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    let mut reports: Vec<ExportReport> = order.iter().filter_map(|id| reports.remove(id)).collect();
    let requests = reports.iter().map(|report| report.tally.requests()).sum();
    let ended = JournalEvent::Ended { result: word(&reports).to_owned(), requests };
    if let Err(error) = journal.append(means.clock.now(), ended).and_then(|()| journal.sync()) {
        // The journal is that of all exports of the run.
        let halt = ExportStop::from(error);
        for report in reports.iter_mut().filter(|report| report.halt.is_none()) {
            report.halt = Some(halt.clone());
        }
    }
    tokio::task::block_in_place(|| super::end(&means.state, config, means.clock));
    Ok(reports)
}

/// The result of exports in a word.
#[must_use]
pub fn word(reports: &[ExportReport]) -> &'static str {
    let changed = reports.iter().any(ExportReport::changed_anything);
    match (changed, reports.iter().all(ExportReport::is_whole)) {
        (true, true) => "exported",
        (true, false) => "exported_in_part",
        (false, true) => "in_sync",
        (false, false) => "failed",
    }
}
