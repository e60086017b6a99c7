//! The inboxes behind the doors, and folding what is in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::board::Board;
use super::{Reach, Surroundings, on_thread};
use crate::config::{Config, Export, ExportSource, HttpSource, Source};
use crate::fold::{Folded, Folding, fold};
use crate::model::{CohortId, ConnectionName, DoorName, ExportId, Timestamp};
use crate::receiver::{CurrentsDoor, Door, Doors, Guard, HeapDoor};
use crate::reconcile;
use crate::state::{Inbox, InboxError, Room, Segments, StateError, StateWriter};

/// The inboxes of all doors.
pub(super) struct Inboxes {
    room: Room,
    /// One that the config no longer has stays until the end: a request under way may still be put into it, and
    /// there must never be two of one name.
    by_name: BTreeMap<ConnectionName, Arc<Inbox>>,
    of_exports: BTreeMap<ExportId, Arc<Inbox>>,
}

/// A fold that ended.
pub(super) struct FoldEnd {
    pub(super) heap: ConnectionName,
    pub(super) folded: Result<Folded, Arc<StateError>>,
    /// The segments after that, if they could be read.
    pub(super) segments: Option<Segments>,
}

impl Inboxes {
    pub(super) fn new(len_max: u64) -> Self {
        Self { room: Room::new(len_max), by_name: BTreeMap::new(), of_exports: BTreeMap::new() }
    }

    /// Opens the doors of this config, with these secrets.
    pub(super) fn open(
        &mut self,
        config: &Config,
        reach: &Reach,
        state: &Arc<StateWriter>,
        doors: &Doors,
        at: &dyn Surroundings,
    ) -> Result<(), StateError> {
        self.room = self.room.resized(config.watch.limits.inbox_len_max);
        let room = &self.room;
        let inbox = |door: &DoorName| Inbox::open(state, door, room.clone(), at.clock()).map(Arc::new);
        let mut open = BTreeMap::new();
        for (name, settings) in config.heap.iter().filter(|(name, _)| config.heap_has_door(name)) {
            let door = DoorName::of_heap(name);
            if !self.by_name.contains_key(name) {
                self.by_name.insert(name.clone(), inbox(&door)?);
            }
            let secrets = reach.webhooks.get(name).cloned().unwrap_or_default();
            let heap = HeapDoor { secrets, max_age: settings.max_age, max_ahead: settings.max_ahead };
            let inbox = Arc::clone(&self.by_name[name]);
            open.insert(settings.path.clone(), Door { name: door, guard: Guard::Heap(heap), inbox });
        }
        for (export, source) in http_exports(config) {
            let door = DoorName::of_export(&export.id);
            if !self.of_exports.contains_key(&export.id) {
                self.of_exports.insert(export.id.clone(), inbox(&door)?);
            }
            // No tokens at all is a setting; tokens that were not found must not open the door to everybody.
            let Some(tokens) = reach.tokens.get(&export.id).cloned() else { continue };
            let guard = CurrentsDoor { tokens };
            let inbox = Arc::clone(&self.of_exports[&export.id]);
            open.insert(source.path.clone(), Door { name: door, guard: Guard::Currents(guard), inbox });
        }
        doors.open(open);
        Ok(())
    }

    /// Closes all of them, once what is being put into them is.
    pub(super) fn close(&mut self, doors: &Doors) {
        doors.open(BTreeMap::new());
        tokio::task::block_in_place(|| {
            self.by_name.clear();
            self.of_exports.clear();
        });
    }

    /// The inbox of an export, if it has a door.
    pub(super) fn of_export(&self, export: &ExportId) -> Option<&Arc<Inbox>> {
        self.of_exports.get(export)
    }

    /// Bytes that wait.
    pub(super) fn held(&self, heap: &ConnectionName) -> u64 {
        self.by_name.get(heap).map_or(0, |inbox| inbox.held())
    }

    /// Folds what one Heap has told.
    pub(super) fn fold(
        &self,
        heap: &ConnectionName,
        config: &Config,
        state: &Arc<StateWriter>,
        at: &Arc<dyn Surroundings>,
    ) -> Option<impl Future<Output = FoldEnd> + Send + use<>> {
        let inbox = Arc::clone(self.by_name.get(heap)?);
        let incomplete_after = config.heap.get(heap)?.incomplete_after;
        let (heap, state, at) = (heap.clone(), Arc::clone(state), Arc::clone(at));
        let retention = reconcile::log_retention(config);
        Some(async move {
            let files = match inbox.close_file().await {
                Ok(files) => files,
                Err(InboxError::State(error)) => {
                    return FoldEnd { heap, folded: Err(error), segments: None };
                }
                // It is being closed.
                Err(_) => return FoldEnd { heap, folded: Ok(Folded::default()), segments: None },
            };
            let name = heap.clone();
            let work = move || {
                let (pass, now) = (at.new_pass(), at.clock().now());
                let folding = Folding { state: &state, heap: &name, pass: &pass, now, incomplete_after };
                let folded = fold(&files, folding).map_err(Arc::new);
                // An ingest has no journal, but it may add rejects.
                let has_rejects =
                    folded.as_ref().is_ok_and(|folded: &Folded| folded.put_aside + folded.rejected > 0);
                if has_rejects && let Err(error) = state.tidy_logs(&retention, now) {
                    tracing::warn!("journal and rejects could not be merged or pruned: {error}");
                }
                (folded, state.reader().segments(&name).ok())
            };
            let (folded, segments) =
                on_thread(work).await.unwrap_or_else(|| (Err(Arc::new(StateError::Lost)), None));
            if let Ok(folded) = &folded {
                inbox.used(&folded.used);
            }
            FoldEnd { heap, folded, segments }
        })
    }
}

/// The exports that have a door.
pub(super) fn http_exports(config: &Config) -> impl Iterator<Item = (&Export, &HttpSource)> {
    config.exports.iter().filter_map(|export| match &export.source {
        ExportSource::Http(source) => Some((export, source)),
        ExportSource::Storage(_) => None,
    })
}

/// Shows what a Heap has told.
pub(super) fn show(heap: &ConnectionName, segments: Option<Segments>, board: &Board, held: u64) {
    let Some(told) = segments else { return };
    let mut inner = board.lock();
    let status = inner.heaps.entry(heap.clone()).or_default();
    (status.told, status.waiting_bytes) = (told, held);
}

/// The cohorts whose source is one of these segments.
pub(super) fn cohorts_of<'a>(
    heap: &'a ConnectionName,
    folded: &'a Folded,
    config: &'a Config,
) -> impl Iterator<Item = &'a CohortId> {
    let is_of = move |source: &Source| {
        source.segment_of(heap).is_some_and(|segment| folded.segments.contains(&segment))
    };
    config.cohorts.iter().filter(move |cohort| is_of(&cohort.source)).map(|cohort| &cohort.id)
}

/// Something has come through the doors: the lag counts from here.
pub(super) fn note_waiting(board: &Board, name: &ConnectionName, held: u64, now: Timestamp) {
    let mut inner = board.lock();
    if let Some(status) = inner.heaps.get_mut(name) {
        status.waiting_bytes = held;
        status.waiting_since = (held > 0).then(|| status.waiting_since.unwrap_or(now));
    }
}
