//! Pipeline of an export run: one thread reads and maps, the delivery sends, and both share the ledger.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::batch::BatchOutput;
use super::deliver::HeapDelivery;
use super::dispatch::{EventDispatch, FeedEnd, KnownUsers, TimeRange};
use super::ledger::{ExportLedger, locked};
use super::read_files::FileReading;
use super::read_inbox::InboxReader;
use super::{EventCounts, ExportContext, ExportReport, ExportStop};
use crate::blocking;
use crate::config::{self, ExportSource, StorageSource};
use crate::connector::currents::Storage;
use crate::contained::contained_as_here;
use crate::event_mapping::MappingRules;
use crate::state::{ClosedFile, StateError, rejects_of};

/// The number of batches that are filled in advance.
const AHEAD: usize = 2;
/// What the reading thread and the delivery share.
#[derive(Clone)]
pub(super) struct ExportShared {
    pub(super) export: Arc<config::ExportConfig>,
    pub(super) rules: Arc<MappingRules>,
    pub(super) ledger: Arc<Mutex<ExportLedger>>,
    pub(super) context: ExportContext,
}

impl ExportShared {
    pub(super) fn open(export: &config::ExportConfig, context: &ExportContext) -> Result<Self, ExportStop> {
        let rules =
            MappingRules::new(&export.settings).map_err(|error| ExportStop::Source(error.to_string()))?;
        let rejects = context.state.rejects(&context.run, &rejects_of(&export.id));
        let ledger =
            ExportLedger::open(&context.state, &export.id, rejects, context.clock, &context.progress)?;
        Ok(Self {
            export: Arc::new(export.clone()),
            rules: Arc::new(rules),
            ledger: Arc::new(Mutex::new(ledger)),
            context: context.clone(),
        })
    }

    pub(super) fn lane(&self) -> HeapDelivery<'_> {
        HeapDelivery {
            export: &self.export.id,
            heap: &self.context.heap,
            retry: self.context.settings.retry,
            at_once: self.context.settings.requests_at_once,
            state: &self.context.state,
            journal: &self.context.journal,
            ledger: &self.ledger,
            identity: &self.context.identity,
            clock: self.context.clock,
            interrupt: &self.context.interrupt,
            taken: AtomicU64::new(locked(&self.ledger).tally.sent),
            rejections: AtomicU64::new(0),
            busy: Mutex::new(HashSet::new()),
        }
    }

    pub(super) fn reading<'a>(
        &'a self,
        storage: &'a Storage,
        dispatch: &'a EventDispatch<'a>,
        span: TimeRange,
        again: bool,
    ) -> FileReading<'a> {
        let incomplete_after = match &self.export.source {
            ExportSource::Storage(source) => source.incomplete_after,
            ExportSource::Http(_) => Duration::ZERO,
        };
        FileReading {
            storage,
            rules: &self.rules,
            ledger: &self.ledger,
            dispatch,
            clock: self.context.clock,
            incomplete_after,
            span,
            again,
        }
    }

    pub(super) fn posted<'a>(&'a self, dispatch: &'a EventDispatch<'a>, span: TimeRange) -> InboxReader<'a> {
        InboxReader {
            state: self.context.state.reader(),
            rules: &self.rules,
            ledger: &self.ledger,
            dispatch,
            clock: self.context.clock,
            span,
        }
    }

    pub(super) fn post(
        &self,
        files: &[ClosedFile],
        dispatch: &EventDispatch<'_>,
        out: &mut BatchOutput,
    ) -> Result<(), FeedEnd> {
        self.posted(dispatch, self.span()).feed(files, out)
    }

    pub(super) fn span(&self) -> TimeRange {
        TimeRange { since: self.export.since, until: None }
    }

    pub(super) fn storage(&self, source: &StorageSource) -> Result<Storage, ExportStop> {
        Ok(Storage::open(&source.location, &self.context.access)?)
    }
}

/// Reads with `feed` on a thread of its own and delivers the batches.
pub(super) async fn piped(
    shared: &ExportShared,
    feed: impl FnOnce(&ExportShared, &EventDispatch<'_>, &mut BatchOutput) -> Result<(), FeedEnd> + Send + 'static,
) -> Result<(), ExportStop> {
    piped_on(shared, &shared.lane(), feed).await
}

pub(super) async fn piped_on(
    shared: &ExportShared,
    lane: &HeapDelivery<'_>,
    feed: impl FnOnce(&ExportShared, &EventDispatch<'_>, &mut BatchOutput) -> Result<(), FeedEnd> + Send + 'static,
) -> Result<(), ExportStop> {
    let (ready, batches) = blocking::channel(AHEAD);
    let (batch_len_max, body_len_max) =
        (shared.export.batch_len_max, shared.context.settings.request_len_max);
    let mut out = BatchOutput::new(&shared.context.heap, ready, batch_len_max, body_len_max);
    let thread_shared = shared.clone();
    let reader = blocking::on_thread(contained_as_here(move || {
        let known = KnownUsers::new(&thread_shared.context.identity, thread_shared.context.clock);
        let dispatch = EventDispatch {
            known,
            ledger: &thread_shared.ledger,
            tally: EventCounts::default().into(),
            shapeless: Default::default(),
        };
        feed(&thread_shared, &dispatch, &mut out)?;
        dispatch.flush()?;
        Ok(out.finish()?)
    }));
    let delivered = lane.deliver(batches).await;
    let fed = match reader.await {
        Ok(fed) => fed,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(FeedEnd::Closed),
        },
    };
    match fed {
        Err(FeedEnd::Stopped(stop)) => delivered.and(Err(stop)),
        _ => delivered,
    }
}

/// Removes the inbox files that a commit has settled.
pub(super) fn remove_settled_files(
    shared: &ExportShared,
    report: &mut ExportReport,
) -> Result<(), StateError> {
    let used = std::mem::take(&mut locked(&shared.ledger).used);
    used.iter().try_for_each(|file| shared.context.state.remove_used(file))?;
    report.used.extend(used);
    Ok(())
}
