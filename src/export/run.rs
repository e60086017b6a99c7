//! The life of a run: what is read, then what waits, then putting all of it on disk.

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

/// Batches that are ready before they are sent.
const AHEAD: usize = 2;
/// Files of waiting events before they are written anew.
const WAITING_FILES_MAX: usize = 8;
/// Shortest wait for Heap to take more.
const SOON: Duration = Duration::from_millis(20);

/// What the thread that reads and whoever sends both hold.
#[derive(Clone)]
pub(super) struct ExportShared {
    pub(super) export: Arc<config::ExportConfig>,
    pub(super) rules: Arc<Rules>,
    pub(super) ledger: Arc<Mutex<ExportLedger>>,
    pub(super) means: ExportContext,
}

/// Runs a run over what is new, as far as it is of these days. `posted` are the files of the inbox, if there is a
/// door.
pub async fn run(
    export: &config::ExportConfig,
    posted: Vec<ClosedFile>,
    days: Days,
    means: &ExportContext,
) -> ExportReport {
    within(export, means, async |shared, report| {
        let read = match &shared.export.source {
            ExportSource::Storage(source) => intake::stored(shared, source, days, report).await,
            ExportSource::Http(_) => intake::received(shared, &posted, report).await,
        };
        read?;
        wait_out(shared, report).await
    })
    .await
}

/// Sends what was picked once more.
pub async fn replay_again(
    export: &config::ExportConfig,
    again: ReplayJob,
    means: &ExportContext,
) -> ExportReport {
    within(export, means, async |shared, report| {
        replay::run(shared, again, report).await?;
        wait_out(shared, report).await
    })
    .await
}

/// Runs some work of an export, and settles whatever came of it.
async fn within(
    export: &config::ExportConfig,
    means: &ExportContext,
    work: impl AsyncFnOnce(&ExportShared, &mut ExportReport) -> Result<(), ExportStop>,
) -> ExportReport {
    let mut report = ExportReport::new(export);
    let shared = match ExportShared::open(export, means) {
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
    fn open(export: &config::ExportConfig, means: &ExportContext) -> Result<Self, ExportStop> {
        let rules = Rules::new(&export.settings).map_err(|error| ExportStop::Source(error.to_string()))?;
        let rejects = means.state.rejects(&means.run, &rejects_of(&export.id));
        let ledger = ExportLedger::open(&means.state, &export.id, rejects, means.clock)?;
        Ok(Self {
            export: Arc::new(export.clone()),
            rules: Arc::new(rules),
            ledger: Arc::new(Mutex::new(ledger)),
            means: means.clone(),
        })
    }

    fn lane(&self) -> Lane<'_> {
        Lane {
            export: &self.export.id,
            heap: &self.means.heap,
            retry: self.means.settings.retry,
            at_once: self.means.settings.requests_at_once,
            state: &self.means.state,
            journal: &self.means.journal,
            ledger: &self.ledger,
            identity: &self.means.identity,
            clock: self.means.clock,
            interrupt: &self.means.interrupt,
            taken: AtomicU64::new(locked(&self.ledger).tally.sent),
            refused: AtomicU64::new(0),
            busy: Mutex::new(HashSet::new()),
        }
    }

    pub(super) fn reading<'a>(
        &'a self,
        storage: &'a Storage,
        taking: &'a EventDispatch<'a>,
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
            taking,
            clock: self.means.clock,
            incomplete_after,
            span,
            again,
        }
    }

    pub(super) fn posted<'a>(&'a self, taking: &'a EventDispatch<'a>, span: TimeRange) -> InboxReader<'a> {
        InboxReader {
            state: self.means.state.reader(),
            rules: &self.rules,
            ledger: &self.ledger,
            taking,
            clock: self.means.clock,
            span,
        }
    }

    pub(super) fn post(
        &self,
        files: &[ClosedFile],
        taking: &EventDispatch<'_>,
        out: &mut Output,
    ) -> Result<(), FeedEnd> {
        self.posted(taking, self.span()).feed(files, out)
    }

    pub(super) fn span(&self) -> TimeRange {
        TimeRange { since: self.export.since, until: None }
    }

    pub(super) fn storage(&self, source: &StorageSource) -> Result<Storage, ExportStop> {
        Storage::open(&source.place, &self.means.access).map_err(|error| unreadable(&error))
    }
}

pub(super) fn unreadable(error: &StorageError) -> ExportStop {
    ExportStop::Source(error.to_string())
}

/// Reads on a thread of its own and sends what it makes.
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
    let (batch_len_max, body_len_max) = (shared.export.batch_len_max, shared.means.settings.request_len_max);
    let mut out = Output::new(&shared.means.heap, ready, batch_len_max, body_len_max);
    let of_thread = shared.clone();
    let reader = tokio::task::spawn_blocking(contained_as_here(move || {
        let known = KnownUsers::new(&of_thread.means.identity, of_thread.means.clock);
        let taking = EventDispatch {
            known,
            ledger: &of_thread.ledger,
            tally: EventCounts::default().into(),
            shapeless: Default::default(),
        };
        feed(&of_thread, &taking, &mut out)?;
        taking.flush()?;
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

/// Removes the files of the inbox that are settled, as a commit says by now.
pub(super) fn let_go(shared: &ExportShared, report: &mut ExportReport) -> Result<(), StateError> {
    let used = std::mem::take(&mut locked(&shared.ledger).used);
    used.iter().try_for_each(|file| shared.means.state.remove_used(file))?;
    report.used.extend(used);
    Ok(())
}

/// Goes through what waits, again and again while waiting helps.
async fn wait_out(shared: &ExportShared, report: &mut ExportReport) -> Result<(), ExportStop> {
    checkpoint(&shared.ledger, &shared.means.identity)?;
    let has_news = locked(&shared.means.identity).has_news_for(&shared.export.id);
    let mut has_learned = (has_news && shared.is_anybody_awaited()) || shared.is_anything_due();
    loop {
        let is_limited = limited(shared) > 0;
        if !is_limited && !has_learned {
            return Ok(());
        }
        has_learned = false;
        let lane = shared.lane();
        piped_on(shared, &lane, |shared, taking, out| shared.room(taking).feed(out)).await?;
        let busy = locked(&lane.busy).clone();
        drop(lane);
        checkpoint(&shared.ledger, &shared.means.identity)?;
        let still = limited(shared);
        if still == 0 {
            return Ok(());
        }
        let heap = &shared.means.heap;
        let wait = heap.budget.wait_for_any(busy, Instant::now()).max(SOON);
        if shared.means.patience == ExportPatience::HandBack {
            report.next = Some(wait);
            return Ok(());
        }
        tracing::info!(export = %shared.export.id, "{still} events wait for Heap's limit of single persons");
        shared.means.interrupt.sleep(wait).await?;
    }
}

/// How many events wait for Heap's limit of single persons.
fn limited(shared: &ExportShared) -> u64 {
    locked(&shared.ledger).record.waiting.iter().map(HeldEventsFile::limited).sum()
}

impl ExportShared {
    fn room<'a>(&'a self, taking: &'a EventDispatch<'a>) -> HeldEventsContext<'a> {
        HeldEventsContext {
            state: self.means.state.reader(),
            export: &self.export.id,
            heap: &self.means.heap,
            ledger: &self.ledger,
            taking,
            clock: self.means.clock,
            age_max: self.export.hold_age_max,
            len_max: self.export.hold_len_max,
        }
    }

    /// Whether anything waits for its person.
    fn is_anybody_awaited(&self) -> bool {
        locked(&self.ledger).record.waiting.iter().any(|file| file.persons > 0)
    }

    /// Whether something has waited for too long, or too much waits.
    fn is_anything_due(&self) -> bool {
        let (ledger, now) = (locked(&self.ledger), self.means.clock.now());
        let files = || ledger.record.waiting.iter().filter(|file| file.persons > 0);
        let persons: u64 = files().map(|file| file.persons).sum();
        persons > self.export.hold_len_max
            || files().any(|file| discover_files::age(file.oldest, now) >= self.export.hold_age_max)
    }
}

/// Puts everything that is settled on disk, whatever came of the run.
fn settle(shared: &ExportShared, report: &mut ExportReport) -> Result<(), StateError> {
    let ExportContext { state, identity, clock, .. } = &shared.means;
    checkpoint(&shared.ledger, identity)?;
    tokio::task::block_in_place(|| {
        let_go(shared, report)?;
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

/// Lets go of files of events that wait no more, and writes the rest anew when there are many.
fn compact(shared: &ExportShared) -> Result<(), StateError> {
    let state = &shared.means.state;
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

/// Tells the journal, and takes the tally.
fn note(shared: ExportShared, report: &mut ExportReport) -> Result<(), StateError> {
    let ExportContext { journal, clock, .. } = shared.means;
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
