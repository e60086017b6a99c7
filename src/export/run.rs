//! The stages of an export run: read new input, release held events, commit.

use std::sync::Arc;
use std::time::Duration;

use super::discover_files;
use super::dispatch::EventDispatch;
use super::held_events::HeldEventsContext;
use super::ledger::{checkpoint, locked};
use super::pipeline::{ExportShared, piped_on, remove_settled_files};
use super::{Days, ExportContext, ExportPatience, ExportReport, ExportStop, ReplayJob, input, replay};
use crate::apply::StopCause;
use crate::blocking;
use crate::config::{self, ExportSource};
use crate::model::counted_as;
use crate::state::{ClosedFile, HeldEventsFile, StateError};
use crate::wait_log;

/// The number of held-event files above which they are merged.
const WAITING_FILES_MAX: usize = 8;
/// The shortest wait for Heap's limits.
const SOON: Duration = Duration::from_millis(20);

/// Runs an export over its new input within `days`. `posted` are the files of its inbox, if it has an endpoint.
pub async fn run(
    export: &config::ExportConfig,
    posted: Vec<ClosedFile>,
    days: Days,
    context: &ExportContext,
) -> ExportReport {
    within(export, context, async |shared, report| {
        let read = match &shared.export.source {
            ExportSource::Storage(source) => input::stored(shared, source, days, report).await,
            ExportSource::Http(_) => input::received(shared, &posted, report).await,
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
        Err(stop) => {
            report.stop_reason = Some(stop);
            // The stop is the reason that is reported, also if it cannot be recorded.
            let _ = context.journal.append(context.clock.now(), report.exported());
            return report;
        }
    };
    let worked = work(&shared, &mut report).await;
    let settled = settle(&shared, &mut report);
    report.stop_reason = worked.and(settled.map_err(Into::into)).err();
    context.progress.export_finished(&export.id);
    drop(blocking::in_place(|| note(shared, &mut report)).inspect_err(|error| {
        report.stop_reason.get_or_insert_with(|| StopCause::State(error.to_string()).into());
    }));
    report
}

/// Releases held events, repeatedly while waiting for Heap's limits helps.
async fn release_held(shared: &ExportShared, report: &mut ExportReport) -> Result<(), ExportStop> {
    checkpoint(&shared.ledger, &shared.context.identity)?;
    let has_new_links = locked(&shared.context.identity).has_updates_for(&shared.export.id);
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
        let wait = heap.limiter.wait_for_any(busy, shared.context.clock.monotonic()).max(SOON);
        if shared.context.patience == ExportPatience::EndAtUserLimits {
            report.next = Some(wait);
            return Ok(());
        }
        let cause =
            format!("{} for Heap's limit for one user", counted_as(still, "event waits", "events wait"));
        wait_log::log_rate_limit("heap", &cause, wait);
        shared.context.interrupt.sleep(wait).await?;
    }
}

/// The number of events that wait for Heap's limit for one user.
fn limited(shared: &ExportShared) -> u64 {
    locked(&shared.ledger).record.held.iter().map(HeldEventsFile::awaiting_limit).sum()
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
        locked(&self.ledger).record.held.iter().any(|file| file.awaiting_user > 0)
    }

    /// Whether a held event is overdue, or more are held than `hold` allows.
    fn has_overdue(&self) -> bool {
        let (ledger, now) = (locked(&self.ledger), self.context.clock.now());
        let files = || ledger.record.held.iter().filter(|file| file.awaiting_user > 0);
        let users: u64 = files().map(|file| file.awaiting_user).sum();
        users > self.export.hold_len_max
            || files().any(|file| discover_files::age(file.oldest, now) >= self.export.hold_age_max)
    }
}

/// Commits everything that is settled, also after an error.
fn settle(shared: &ExportShared, report: &mut ExportReport) -> Result<(), StateError> {
    let ExportContext { state, identity, clock, .. } = &shared.context;
    checkpoint(&shared.ledger, identity)?;
    blocking::in_place(|| {
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
            report.waiting = ledger.record.held_len();
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
    let before = ledger.record.held.len();
    ledger.record.held.retain(|file| file.held() > 0);
    if ledger.record.held.len() > WAITING_FILES_MAX {
        let mut writer = state.held_writer(&shared.export.id)?;
        for file in &ledger.record.held {
            let mut rows = state.reader().held_events(&shared.export.id, file)?;
            while let Some((row, waiting)) = rows.advance()? {
                if !file.settled.contains(row) {
                    writer.push(&waiting)?;
                }
            }
        }
        ledger.record.held = vec![writer.finish()?];
        ledger.touch();
    } else if ledger.record.held.len() < before {
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
    journal.append(clock.now(), report.exported())
}
