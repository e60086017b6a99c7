//! The stages of an export run: read new input, release held events, commit.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::batch::Output;
use super::deliver::Lane;
use super::discover_files;
use super::dispatch::{EventDispatch, FeedEnd, KnownUsers, TimeRange};
use super::files::FileReading;
use super::held_events::HeldEventsContext;
use super::ledger::{ExportLedger, checkpoint, locked};
use super::read_inbox::InboxReader;
use super::{
    Days, EventCounts, ExportContext, ExportPatience, ExportReport, ExportStop, ReplayJob, intake, replay,
};
use crate::config::{self, ExportSource, StorageSource};
use crate::connector::currents::{Storage, StorageError};
use crate::contained::contained_as_here;
use crate::event_mapping::Rules;
use crate::state::{ClosedFile, HeldEventsFile, JournalEvent, StateError, rejects_of};

/// The number of batches that are filled in advance.
const AHEAD: usize = 2;
/// The number of held-event files above which they are merged.
const WAITING_FILES_MAX: usize = 8;
/// The shortest wait for Heap's limits.
const SOON: Duration = Duration::from_millis(20);

/// What the reading thread and the delivery share.
#[derive(Clone)]
pub(super) struct ExportShared {
    pub(super) export: Arc<config::ExportConfig>,
    pub(super) rules: Arc<Rules>,
    pub(super) ledger: Arc<Mutex<ExportLedger>>,
    pub(super) context: ExportContext,
}

/// Runs an export over its new input within `days`. `posted` are the files of its inbox, if it has an endpoint.
pub async fn run(
    export: &config::ExportConfig,
    posted: Vec<ClosedFile>,
    days: Days,
    context: &ExportContext,
) -> ExportReport {
    within(export, context, async |shared, report| {
        let read = match &shared.export.source {
            ExportSource::Storage(source) => intake::stored(shared, source, days, report).await,
            ExportSource::Http(_) => intake::received(shared, &posted, report).await,
        };
        read?;
        release_held(shared, report).await
    })
    .await
}

/// Runs a replay.
pub async fn replay_again(
    export: &config::ExportConfig,
    again: ReplayJob,
    context: &ExportContext,
) -> ExportReport {
    within(export, context, async |shared, report| {
        replay::run(shared, again, report).await?;
        release_held(shared, report).await
    })
    .await
}

/// Runs `work` with an open ledger, commits what it settled, and writes the report.
async fn within(
    export: &config::ExportConfig,
    context: &ExportContext,
    work: impl AsyncFnOnce(&ExportShared, &mut ExportReport) -> Result<(), ExportStop>,
) -> ExportReport {
    let mut report = ExportReport::new(export);
    let shared = match ExportShared::open(export, context) {
        Ok(shared) => shared,
        Err(halt) => return ExportReport { halt: Some(halt), ..report },
    };
    let worked = work(&shared, &mut report).await;
    let settled = settle(&shared, &mut report);
    report.halt = worked.and(settled.map_err(Into::into)).err();
    drop(tokio::task::block_in_place(|| note(shared, &mut report)).inspect_err(|error| {
        report.halt.get_or_insert_with(|| ExportStop::State(error.to_string()));
    }));
    report
}

impl ExportShared {
    fn open(export: &config::ExportConfig, context: &ExportContext) -> Result<Self, ExportStop> {
        let rules = Rules::new(&export.settings).map_err(|error| ExportStop::Source(error.to_string()))?;
        let rejects = context.state.rejects(&context.run, &rejects_of(&export.id));
        let ledger = ExportLedger::open(&context.state, &export.id, rejects, context.clock)?;
        Ok(Self {
            export: Arc::new(export.clone()),
            rules: Arc::new(rules),
            ledger: Arc::new(Mutex::new(ledger)),
            context: context.clone(),
        })
    }

    fn lane(&self) -> Lane<'_> {
        Lane {
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
            refused: AtomicU64::new(0),
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
        out: &mut Output,
    ) -> Result<(), FeedEnd> {
        self.posted(dispatch, self.span()).feed(files, out)
    }

    pub(super) fn span(&self) -> TimeRange {
        TimeRange { since: self.export.since, until: None }
    }

    pub(super) fn storage(&self, source: &StorageSource) -> Result<Storage, ExportStop> {
        Storage::open(&source.place, &self.context.access).map_err(|error| unreadable(&error))
    }
}

pub(super) fn unreadable(error: &StorageError) -> ExportStop {
    ExportStop::Source(error.to_string())
}

/// Reads with `feed` on a thread of its own and delivers the batches.
pub(super) async fn piped(
    shared: &ExportShared,
    feed: impl FnOnce(&ExportShared, &EventDispatch<'_>, &mut Output) -> Result<(), FeedEnd> + Send + 'static,
) -> Result<(), ExportStop> {
    piped_on(shared, &shared.lane(), feed).await
}

async fn piped_on(
    shared: &ExportShared,
    lane: &Lane<'_>,
    feed: impl FnOnce(&ExportShared, &EventDispatch<'_>, &mut Output) -> Result<(), FeedEnd> + Send + 'static,
) -> Result<(), ExportStop> {
    let (ready, batches) = mpsc::channel(AHEAD);
    let (batch_len_max, body_len_max) =
        (shared.export.batch_len_max, shared.context.settings.request_len_max);
    let mut out = Output::new(&shared.context.heap, ready, batch_len_max, body_len_max);
    let thread_shared = shared.clone();
    let reader = tokio::task::spawn_blocking(contained_as_here(move || {
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
        Err(FeedEnd::Halt(halt)) => delivered.and(Err(halt)),
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

/// Releases held events, repeatedly while waiting for Heap's limits helps.
async fn release_held(shared: &ExportShared, report: &mut ExportReport) -> Result<(), ExportStop> {
    checkpoint(&shared.ledger, &shared.context.identity)?;
    let has_new_links = locked(&shared.context.identity).has_news_for(&shared.export.id);
    let mut has_learned = (has_new_links && shared.has_unidentified()) || shared.has_overdue();
    loop {
        let is_limited = limited(shared) > 0;
        if !is_limited && !has_learned {
            return Ok(());
        }
        has_learned = false;
        let lane = shared.lane();
        piped_on(shared, &lane, |shared, dispatch, out| shared.held_events(dispatch).feed(out)).await?;
        let busy = locked(&lane.busy).clone();
        drop(lane);
        checkpoint(&shared.ledger, &shared.context.identity)?;
        let still = limited(shared);
        if still == 0 {
            return Ok(());
        }
        let heap = &shared.context.heap;
        let wait = heap.budget.wait_for_any(busy, Instant::now()).max(SOON);
        if shared.context.patience == ExportPatience::EndAtUserLimits {
            report.next = Some(wait);
            return Ok(());
        }
        tracing::info!(export = %shared.export.id, "{still} events wait for Heap's limit for one user");
        shared.context.interrupt.sleep(wait).await?;
    }
}

/// The number of events that wait for Heap's limit for one user.
fn limited(shared: &ExportShared) -> u64 {
    locked(&shared.ledger).record.waiting.iter().map(HeldEventsFile::limited).sum()
}

impl ExportShared {
    fn held_events<'a>(&'a self, dispatch: &'a EventDispatch<'a>) -> HeldEventsContext<'a> {
        HeldEventsContext {
            state: self.context.state.reader(),
            export: &self.export.id,
            heap: &self.context.heap,
            ledger: &self.ledger,
            dispatch,
            clock: self.context.clock,
            age_max: self.export.hold_age_max,
            len_max: self.export.hold_len_max,
        }
    }

    /// Whether an event waits for its user to be identified.
    fn has_unidentified(&self) -> bool {
        locked(&self.ledger).record.waiting.iter().any(|file| file.persons > 0)
    }

    /// Whether a held event is overdue, or more are held than `hold` allows.
    fn has_overdue(&self) -> bool {
        let (ledger, now) = (locked(&self.ledger), self.context.clock.now());
        let files = || ledger.record.waiting.iter().filter(|file| file.persons > 0);
        let persons: u64 = files().map(|file| file.persons).sum();
        persons > self.export.hold_len_max
            || files().any(|file| discover_files::age(file.oldest, now) >= self.export.hold_age_max)
    }
}

/// Commits everything that is settled, also after an error.
fn settle(shared: &ExportShared, report: &mut ExportReport) -> Result<(), StateError> {
    let ExportContext { state, identity, clock, .. } = &shared.context;
    checkpoint(&shared.ledger, identity)?;
    tokio::task::block_in_place(|| {
        remove_settled_files(shared, report)?;
        compact(shared)?;
        let mut identity = locked(identity);
        identity.settle()?;
        let now = clock.now();
        if let Err(error) = state.tidy_identity(&identity, now) {
            tracing::warn!("the identity map could not be tidied: {error}");
        }
        drop(identity);
        let number = {
            let ledger = locked(&shared.ledger);
            report.waiting = ledger.record.waiting_len();
            ledger.record.number
        };
        let rejects_before = discover_files::before(now, shared.export.rejects_kept);
        if let Err(error) = state.tidy_export(&shared.export.id, number, rejects_before, now) {
            tracing::warn!(export = %shared.export.id, "the state could not be tidied: {error}");
        }
        Ok::<(), StateError>(())
    })?;
    checkpoint(&shared.ledger, identity)
}

/// Removes files without held events, and merges the others when there are many.
fn compact(shared: &ExportShared) -> Result<(), StateError> {
    let state = &shared.context.state;
    let mut ledger = locked(&shared.ledger);
    let before = ledger.record.waiting.len();
    ledger.record.waiting.retain(|file| file.waiting() > 0);
    if ledger.record.waiting.len() > WAITING_FILES_MAX {
        let mut writer = state.waiting_writer(&shared.export.id)?;
        for file in &ledger.record.waiting {
            let mut rows = state.reader().waiting(&shared.export.id, file)?;
            while let Some((row, waiting)) = rows.advance()? {
                if !file.settled.contains(row) {
                    writer.push(&waiting)?;
                }
            }
        }
        ledger.record.waiting = vec![writer.finish()?];
        ledger.touch();
    } else if ledger.record.waiting.len() < before {
        ledger.touch();
    }
    Ok(())
}

/// Writes the run to the journal, and moves the counts into the report.
fn note(shared: ExportShared, report: &mut ExportReport) -> Result<(), StateError> {
    let ExportContext { journal, clock, .. } = shared.context;
    if let Some(ledger) = Arc::into_inner(shared.ledger).and_then(|ledger| ledger.into_inner().ok()) {
        (report.tally, report.rejects_file) = ledger.finish()?;
    }
    let exported = JournalEvent::Exported {
        export: report.id.to_string(),
        files: report.tally.files,
        events: report.tally.events,
        sent: report.tally.sent,
        rejected: report.tally.rejected(),
        waiting: report.waiting,
        error: report.halt.as_ref().map(ToString::to_string),
    };
    journal.append(clock.now(), exported)
}
