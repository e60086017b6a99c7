//! Replay: sends rejects, or the events of some days, once more.
//!
//! Heap deduplicates events by their key, so an event that it has already changes nothing.

use std::collections::BTreeSet;

use super::batch::{BatchOrigin, BatchOutput};
use super::discover_files;
use super::dispatch::{EventDispatch, FeedEnd, TimeRange};
use super::ledger::{checkpoint, locked};
use super::pipeline::{ExportShared, piped};
use super::{Days, ExportReport, ExportStop, read_files};
use crate::blocking;
use crate::config::ExportSource;
use crate::event_mapping::{
    AnonymousIds, EventKind, EventMapper, EventSummary, EventUser, NameGlobError, NameGlobs,
    OwnerLookup as _, complete,
};
use crate::model::{ExportId, Timestamp};
use crate::state::{RejectFile, RejectLine, StateError, StateReader};

/// The rejects to replay.
#[derive(Clone, Debug, Default)]
pub struct ReplayFilter {
    /// Only with one of these reasons; all if empty.
    pub reasons: Vec<String>,
    /// Only of event types that one of these globs matches; all if empty.
    pub types: NameGlobs,
    /// Only events from then on.
    pub since: Option<Timestamp>,
    /// Only events before then.
    pub until: Option<Timestamp>,
}

/// The rejects that a filter selects.
#[derive(Clone, Debug, Default)]
pub struct ReplaySelection {
    /// The files, with the lines that are meant.
    files: Vec<(RejectFile, BTreeSet<u64>)>,
    /// Number of rejects by reason that can be sent again.
    pub by_reason: std::collections::BTreeMap<String, u64>,
    /// Rejects without an event, for example unreadable files.
    pub without_event: u64,
}

impl ReplaySelection {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.by_reason.values().sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// The input of a replay.
#[derive(Clone, Debug)]
pub enum ReplayJob {
    /// Rejects. Those that are taken are rejects no more.
    Rejects(ReplaySelection),
    /// Events of files between these, whether they were sent or not.
    Days(Days),
}

/// The fields of a reject's line that a replay reads.
#[derive(serde::Deserialize)]
struct ReplayLine {
    reason: String,
    #[serde(default)]
    column: String,
    #[serde(default)]
    value: String,
    event: Option<String>,
    sent: Option<String>,
}

impl ReplayLine {
    /// `None` for a damaged line, which must not be sent.
    fn read(line: &RejectLine) -> Option<Self> {
        line.is_whole.then(|| serde_json::from_slice(&line.bytes).ok()).flatten()
    }
}

/// Selects rejects of an export.
///
/// # Errors
/// When they cannot be read.
pub fn pick(
    state: &StateReader,
    export: &ExportId,
    pick: &ReplayFilter,
) -> Result<ReplaySelection, StateError> {
    let mut picked = ReplaySelection::default();
    let span = TimeRange { since: pick.since, until: pick.until };
    for file in state.reject_files(Some(export))? {
        let mut rows = BTreeSet::new();
        for (row, line) in (0..).zip(state.reject_lines(&file)?) {
            let Some(line) = ReplayLine::read(&line) else { continue };
            if !pick.reasons.is_empty() && !pick.reasons.contains(&line.reason) {
                continue;
            }
            if line.event.is_none() && line.sent.is_none() {
                picked.without_event += 1;
            } else if pick.holds(&line, span) {
                *picked.by_reason.entry(line.reason).or_default() += 1;
                rows.insert(row);
            }
        }
        if !rows.is_empty() {
            picked.files.push((file, rows));
        }
    }
    Ok(picked)
}

impl ReplayFilter {
    /// The filter for event types that one of these globs matches.
    ///
    /// # Errors
    /// [`NameGlobError`] for an invalid glob.
    pub fn with_types(self, globs: &[String]) -> Result<Self, NameGlobError> {
        Ok(Self { types: NameGlobs::of_types(globs)?, ..self })
    }

    fn holds(&self, line: &ReplayLine, span: TimeRange) -> bool {
        if self.types.is_empty() && span.is_endless() {
            return true;
        }
        // An element that Heap rejected no longer has its event type.
        let Some(event) = &line.event else { return self.types.is_empty() };
        let event = EventSummary::read(event);
        (self.types.is_empty() || self.types.matches(&event.event_type)) && span.holds(event.second)
    }
}

pub(super) async fn run(
    shared: &ExportShared,
    again: ReplayJob,
    report: &mut ExportReport,
) -> Result<(), ExportStop> {
    match again {
        ReplayJob::Rejects(picked) => rejects(shared, picked).await,
        ReplayJob::Days(meant) => days(shared, meant, report).await,
    }
}

async fn days(shared: &ExportShared, meant: Days, report: &mut ExportReport) -> Result<(), ExportStop> {
    let ExportSource::Storage(source) = &shared.export.source else {
        return Err(ExportStop::Source(
            "posted events are deleted once Heap accepts them; only rejects can be replayed".to_owned(),
        ));
    };
    let storage = shared.storage(source)?;
    let (Days { since, until }, mut after) = (meant, None);
    loop {
        let scope = discover_files::DiscoveryScope { after: after.as_ref(), ..meant.scope(true) };
        let now = shared.context.clock.now();
        let found = blocking::in_place(|| {
            let record = locked(&shared.ledger).record.clone();
            discover_files::find(&storage, &record, scope, source.incomplete_after, now)
        });
        let found = found?;
        report.others = found.others;
        locked(&shared.ledger).found_input(found.objects.iter().map(|object| object.len).sum());
        let last = found.objects.last().map(|object| (object.day, object.path.clone()));
        let (thread_shared, objects, span) = (storage.clone(), found.objects, TimeRange { since, until });
        piped(shared, move |shared, dispatch, out| {
            read_files::feed(objects, &shared.reading(&thread_shared, dispatch, span, true), out)
        })
        .await?;
        checkpoint(&shared.ledger, &shared.context.identity)?;
        after = last;
        if !found.more {
            return Ok(());
        }
    }
}

async fn rejects(shared: &ExportShared, picked: ReplaySelection) -> Result<(), ExportStop> {
    let thread_shared = picked.files.clone();
    let sent = piped(shared, move |shared, dispatch, out| feed(&thread_shared, shared, dispatch, out)).await;
    checkpoint(&shared.ledger, &shared.context.identity)?;
    blocking::in_place(|| keep_the_rest(shared, &picked))?;
    sent
}

fn feed(
    files: &[(RejectFile, BTreeSet<u64>)],
    shared: &ExportShared,
    dispatch: &EventDispatch<'_>,
    out: &mut BatchOutput,
) -> Result<(), FeedEnd> {
    let (posted, mut mapper) =
        (shared.posted(dispatch, TimeRange::default()), EventMapper::new(&shared.rules));
    for (list, (file, rows)) in files.iter().enumerate() {
        for (row, line) in (0..).zip(shared.context.state.reader().reject_lines(file)?) {
            let origin = BatchOrigin::Reject { list, row };
            let line = rows.contains(&row).then(|| ReplayLine::read(&line)).flatten();
            let Some(line) = line else { continue };
            if let Some(event) = &line.event {
                // An event that is not sent is ignored, held, or rejected by this run.
                if !posted.event(event, row, origin, &mut mapper, out)? {
                    locked(&shared.ledger).done(origin);
                }
            } else if let Some(sent) = &line.sent {
                send_as_it_was(sent, &line, origin, dispatch, out)?;
            }
        }
    }
    Ok(())
}

/// Sends an element that Heap rejected, or that was held, as it was mapped then.
fn send_as_it_was(
    sent: &str,
    line: &ReplayLine,
    origin: BatchOrigin,
    dispatch: &EventDispatch<'_>,
    out: &mut BatchOutput,
) -> Result<(), FeedEnd> {
    let what = if line.column == "user_properties" { EventKind::Profile } else { EventKind::Event };
    if line.reason == "rejected_by_heap" {
        let who = EventUser::Identity(super::batch::user_in(sent.as_bytes()).into());
        out.begin().extend_from_slice(sent.as_bytes());
        out.push(what, &who, origin)?;
    } else if let Some(owner) = owner(&line.value, dispatch) {
        let who = EventUser::Identity(owner.into());
        complete(sent.as_bytes(), &who, out.begin());
        out.push(what, &who, origin)?;
    }
    Ok(())
}

/// The user of an overdue held event, if the identity map knows it by now.
fn owner(keys: &str, dispatch: &EventDispatch<'_>) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct ReplayedEvent {
        user_id: String,
        device_id: String,
    }
    let held: ReplayedEvent = serde_json::from_str(keys).ok()?;
    let key = |text: String| (!text.is_empty()).then(|| text.into());
    let keys = AnonymousIds { user_id: key(held.user_id), device_id: key(held.device_id) };
    dispatch.known.owner(&keys).map(Into::into)
}

/// Removes replayed rejects from their files.
fn keep_the_rest(shared: &ExportShared, picked: &ReplaySelection) -> Result<(), StateError> {
    let replayed = std::mem::take(&mut locked(&shared.ledger).replayed);
    let state = &shared.context.state;
    for (list, rows) in replayed {
        let (file, _) = &picked.files[list];
        let lines = (0..).zip(state.reader().reject_lines(file)?);
        let rest: Vec<RejectLine> =
            lines.filter(|(row, _)| !rows.contains(row)).map(|(_, line)| line).collect();
        state.keep_rejects(file, &rest)?;
    }
    Ok(())
}
