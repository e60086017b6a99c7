//! Dry run of an export: the files and events that a run would read.

use std::collections::BTreeSet;

use super::discover_files::{age, find, is_listing_due};
use super::{Days, ExportStop};
use crate::config::{self, ExportSource};

use crate::connector::avro::{AvroBlock, AvroBlocks, AvroHeader, AvroLimits};
use crate::connector::currents::{Storage, StorageAccess};
use crate::model::{Clock, Day, EndpointName};
use crate::state::StateReader;

/// The input that a run would read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportDryRun {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Events in them, of all types.
    pub events: u64,
    /// The number of days of the files.
    pub days: u64,
    /// Files that cannot be read to their end.
    pub unreadable: u64,
    /// Events held by earlier runs.
    pub waiting: u64,
    /// Whether there are more files than were examined.
    pub more: bool,
}

/// Examines the files that a run over `days` would read: new ones, or with `again` all.
///
/// # Errors
/// When the source or the state cannot be read.
pub fn survey(
    export: &config::ExportConfig,
    state: &StateReader,
    days: Days,
    again: bool,
    access: &StorageAccess,
    clock: Clock,
) -> Result<ExportDryRun, ExportStop> {
    let record = state.export(&export.id)?;
    let mut survey = ExportDryRun { waiting: record.held_len(), ..ExportDryRun::default() };
    let source = match &export.source {
        ExportSource::Storage(source) => source,
        ExportSource::Http(_) => {
            for file in state.inbox(&EndpointName::of_export(&export.id))? {
                survey.files += 1;
                survey.bytes += file.bytes;
                let events =
                    |body: &[u8]| crate::event_mapping::pieces(body).map_or(0, |events| events.len() as u64);
                survey.events +=
                    state.deliveries(&file)?.deliveries.iter().map(|one| events(&one.body)).sum::<u64>();
            }
            return Ok(survey);
        }
    };
    let storage = Storage::open(&source.location, access)?;
    let own = export.since.filter(|_| !again).map(Day::of);
    let scope = days.scope(again).of_export(own);
    let found = find(&storage, &record, scope, source.incomplete_after, clock.now())?;
    let days: BTreeSet<Day> = found.objects.iter().map(|object| object.day).collect();
    survey.days = days.len() as u64;
    survey.more = found.more;
    for object in &found.objects {
        survey.files += 1;
        survey.bytes += object.len;
        let (events, is_whole) = count(&storage, object);
        survey.events += events;
        survey.unreadable += u64::from(!is_whole);
    }
    Ok(survey)
}

/// Whether a run would do anything. Changes nothing, and reads no file.
///
/// # Errors
/// When the source or the state cannot be read.
pub fn has_work(
    export: &config::ExportConfig,
    state: &StateReader,
    access: &StorageAccess,
    clock: Clock,
) -> Result<bool, ExportStop> {
    let (record, now) = (state.export(&export.id)?, clock.now());
    let is_due = |file: &crate::state::HeldEventsFile| {
        file.awaiting_limit() > 0 || (file.held() > 0 && age(file.oldest, now) >= export.hold_age_max)
    };
    if record.held.iter().any(is_due) {
        return Ok(true);
    }
    let ExportSource::Storage(source) = &export.source else {
        return Ok(!state.inbox(&EndpointName::of_export(&export.id))?.is_empty());
    };
    let storage = Storage::open(&source.location, access)?;
    // Only a run records that everything was listed.
    if !storage.is_near() && is_listing_due(&record, now) {
        return Ok(true);
    }
    let scope = Days::default().scope(false).of_export(export.since.map(Day::of));
    let found = find(&storage, &record, scope, source.incomplete_after, now)?;
    Ok(!found.objects.is_empty() || !found.reopened.is_empty() || !found.gone.is_empty())
}

/// The number of readable events in a file, and whether the file is complete.
fn count(storage: &Storage, object: &crate::connector::currents::EventFile) -> (u64, bool) {
    let limits = AvroLimits::default();
    let Ok(mut read) = storage.read(object, 0) else { return (0, false) };
    let Ok(header) = AvroHeader::read(&mut read, &limits) else { return (0, false) };
    let (mut blocks, mut block) =
        (AvroBlocks::new(read, &header, header.len(), &limits), AvroBlock::default());
    let mut events = 0;
    loop {
        match blocks.advance(&mut block) {
            Ok(true) => events += block.records_len(),
            Ok(false) => return (events, true),
            Err(_) => return (events, false),
        }
    }
}
