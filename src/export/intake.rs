//! What a run reads: the files of a source, or those of an inbox, until there are no more.

use std::collections::HashSet;

use super::ledger::{checkpoint, locked};
use super::run::{ExportShared, let_go, piped, unreadable};
use super::{Days, ExportReport, ExportStop, POSTED_AT_ONCE, discover_files, files};
use crate::config::StorageSource;
use crate::model::{Day, Timestamp};
use crate::state::{ClosedFile, Reject, StateError};

/// Reads the files that are new, until there are no more.
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
        let listed = shared.means.clock.now();
        let mut found = tokio::task::block_in_place(|| {
            let record = locked(&shared.ledger).record.clone();
            discover_files::find(&storage, &record, scope, source.incomplete_after, listed)
        })
        .map_err(|error| unreadable(&error))?;
        report.others = found.others;
        take_note(shared, &found, listed)?;
        settle_days(shared, &found, listed);
        // Once in a run: what could not be read now is left to the next.
        found.objects.retain(|object| tried.insert(object.print));
        if found.objects.is_empty() && found.reopened.is_empty() {
            return Ok(());
        }
        let (storage, objects) = (storage.clone(), found.objects);
        piped(shared, move |shared, taking, out| {
            files::feed(objects, &shared.reading(&storage, taking, shared.span(), false), out)
        })
        .await?;
        checkpoint(&shared.ledger, &shared.means.identity)?;
    }
}

/// Takes over what a listing says of the source.
fn take_note(
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
        let detail = "it ended too early, and is gone before its rest came";
        ledger.reject(&Reject { reason: "cut_short", detail, file: Some(path), ..Reject::default() })?;
    }
    // Only once nothing is left: whatever could not be read or sent must be found again.
    let is_done = found.is_whole && found.objects.is_empty() && found.reopened.is_empty();
    if is_done && discover_files::is_listing_due(&ledger.record, listed) {
        ledger.record.listed_whole = Some(listed);
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

/// Reads files of the inbox, some at a time: what Heap has had makes room for what comes.
pub(super) async fn received(
    shared: &ExportShared,
    posted: &[ClosedFile],
    report: &mut ExportReport,
) -> Result<(), ExportStop> {
    for files in posted.chunks(POSTED_AT_ONCE) {
        let files = files.to_vec();
        piped(shared, move |shared, taking, out| shared.post(&files, taking, out)).await?;
        checkpoint(&shared.ledger, &shared.means.identity)?;
        tokio::task::block_in_place(|| let_go(shared, report))?;
    }
    Ok(())
}
