//! Input of a run: new files of a source, or files of the inbox, until there are no more.

use std::collections::HashSet;

use super::ledger::{checkpoint, locked};
use super::pipeline::{ExportShared, piped, remove_settled_files};
use super::{Days, ExportReport, ExportStop, POSTED_AT_ONCE, discover_files, read_files};
use crate::blocking;
use crate::config::StorageSource;
use crate::model::{Day, Timestamp};
use crate::state::{ClosedFile, Reject, StateError};

/// Reads new files until a listing finds no more.
pub(super) async fn stored(
    shared: &ExportShared,
    source: &StorageSource,
    days: Days,
    report: &mut ExportReport,
) -> Result<(), ExportStop> {
    let storage = shared.storage(source)?;
    let scope = days.scope(false).of_export(shared.export.since.map(Day::of));
    let mut tried = HashSet::new();
    loop {
        let listed = shared.context.clock.now();
        let mut found = blocking::in_place(|| {
            let record = locked(&shared.ledger).record.clone();
            discover_files::find(&storage, &record, scope, source.incomplete_after, listed)
        })?;
        report.others = found.others;
        apply_listing(shared, &found, listed)?;
        settle_days(shared, &found, listed);
        // A run tries each file once and leaves failures to the next run.
        found.objects.retain(|object| tried.insert(object.print));
        if found.objects.is_empty() && found.reopened.is_empty() {
            return Ok(());
        }
        locked(&shared.ledger).found_input(found.objects.iter().map(|object| object.len).sum());
        let (storage, objects) = (storage.clone(), found.objects);
        piped(shared, move |shared, dispatch, out| {
            read_files::feed(objects, &shared.reading(&storage, dispatch, shared.span(), false), out)
        })
        .await?;
        checkpoint(&shared.ledger, &shared.context.identity)?;
    }
}

/// Applies the result of a listing to the export's progress.
fn apply_listing(
    shared: &ExportShared,
    found: &discover_files::FilesToRead,
    listed: Timestamp,
) -> Result<(), StateError> {
    let mut ledger = locked(&shared.ledger);
    for day in &found.reopened {
        ledger.record.days.remove(day);
    }
    for path in &found.gone {
        ledger.record.parts.remove(path);
        let detail = "the file was incomplete, and was deleted before its rest arrived";
        ledger.reject(&Reject { reason: "truncated", detail, file: Some(path), ..Reject::default() })?;
    }
    // Only when nothing is left, so that unread files are listed again.
    let is_done = found.is_whole && found.objects.is_empty() && found.reopened.is_empty();
    if is_done && discover_files::is_listing_due(&ledger.record, listed) {
        ledger.record.fully_listed_at = Some(listed);
        ledger.touch();
    }
    Ok(())
}

fn settle_days(shared: &ExportShared, found: &discover_files::FilesToRead, listed: Timestamp) {
    let mut ledger = locked(&shared.ledger);
    if discover_files::settle_days(&mut ledger.record, found, listed) {
        ledger.touch();
    }
}

/// Reads files of the inbox in small groups, so that sent deliveries free its quota early.
pub(super) async fn received(
    shared: &ExportShared,
    posted: &[ClosedFile],
    report: &mut ExportReport,
) -> Result<(), ExportStop> {
    locked(&shared.ledger).found_input(posted.iter().map(|file| file.bytes).sum());
    for files in posted.chunks(POSTED_AT_ONCE) {
        let files = files.to_vec();
        piped(shared, move |shared, dispatch, out| shared.post(&files, dispatch, out)).await?;
        checkpoint(&shared.ledger, &shared.context.identity)?;
        blocking::in_place(|| remove_settled_files(shared, report))?;
    }
    Ok(())
}
