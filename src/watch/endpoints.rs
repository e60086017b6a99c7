//! The inboxes behind the doors, and folding what is in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::status::WatchStatus;
use super::{ClientAccess, WatchEnvironment, on_thread};
use crate::config::{Config, ExportConfig, ExportSource, HttpSource, SourceConfig};
use crate::heap_segments::{IngestContext, IngestReport, ingest};
use crate::model::{Clock, CohortId, ConnectionName, EndpointName, ExportId, Timestamp};
use crate::reconcile;
use crate::state::{HeapSegments, Inbox, InboxError, InboxQuota, StateError, StateWriter};
use crate::webhooks::{CurrentsEndpoint, Endpoint, EndpointGuard, Endpoints, HeapEndpoint};

/// The inboxes of all doors.
pub(super) struct EndpointInboxes {
    room: InboxQuota,
    /// One that the config no longer has stays until the end: a request under way may still be put into it, and
    /// there must never be two of one name.
    by_name: BTreeMap<ConnectionName, Arc<Inbox>>,
    of_exports: BTreeMap<ExportId, Arc<Inbox>>,
}

/// Endpoints without an inbox.
pub(super) struct Missing {
    heaps: Vec<ConnectionName>,
    exports: Vec<ExportId>,
    room: InboxQuota,
}

/// Inboxes that were opened.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) heaps: BTreeMap<ConnectionName, Arc<Inbox>>,
    pub(super) exports: BTreeMap<ExportId, Arc<Inbox>>,
    /// Why others could not be opened.
    pub(super) failed: Option<StateError>,
}

impl Missing {
    pub(super) fn is_empty(&self) -> bool {
        self.heaps.is_empty() && self.exports.is_empty()
    }

    /// Opens the inboxes. This reads the state, so it must not run on the event loop.
    pub(super) fn open(self, state: &Arc<StateWriter>, clock: Clock) -> Opened {
        let mut opened = Opened::default();
        let inbox = |door: &EndpointName| Inbox::open(state, door, self.room.clone(), clock).map(Arc::new);
        for name in self.heaps {
            match inbox(&EndpointName::of_heap(&name)) {
                Ok(inbox) => drop(opened.heaps.insert(name, inbox)),
                Err(error) => opened.failed = Some(error),
            }
        }
        for id in self.exports {
            match inbox(&EndpointName::of_export(&id)) {
                Ok(inbox) => drop(opened.exports.insert(id, inbox)),
                Err(error) => opened.failed = Some(error),
            }
        }
        opened
    }
}

/// A fold that ended.
pub(super) struct IngestEnd {
    pub(super) heap: ConnectionName,
    pub(super) folded: Result<IngestReport, Arc<StateError>>,
    /// The segments after that, if they could be read.
    pub(super) segments: Option<HeapSegments>,
}

impl EndpointInboxes {
    pub(super) fn new(len_max: u64) -> Self {
        Self { room: InboxQuota::new(len_max), by_name: BTreeMap::new(), of_exports: BTreeMap::new() }
    }

    /// The endpoints of this config that have no inbox yet.
    pub(super) fn missing(&mut self, config: &Config) -> Missing {
        self.room = self.room.resized(config.watch.limits.inbox_len_max);
        let heaps = config.heap.keys().filter(|name| config.has_webhook_endpoint(name));
        let exports = http_exports(config).map(|(export, _)| &export.id);
        Missing {
            heaps: heaps.filter(|name| !self.by_name.contains_key(*name)).cloned().collect(),
            exports: exports.filter(|id| !self.of_exports.contains_key(*id)).cloned().collect(),
            room: self.room.clone(),
        }
    }

    /// Adds inboxes that were opened. One of a name that is there already is not replaced.
    pub(super) fn add(&mut self, opened: Opened) {
        for (name, inbox) in opened.heaps {
            self.by_name.entry(name).or_insert(inbox);
        }
        for (id, inbox) in opened.exports {
            self.of_exports.entry(id).or_insert(inbox);
        }
    }

    /// Opens the endpoints of this config that have an inbox, with these secrets, and closes all others. It reads no
    /// state.
    pub(super) fn serve(&self, config: &Config, reach: &ClientAccess, doors: &Endpoints) {
        let mut open = BTreeMap::new();
        for (name, settings) in config.heap.iter().filter(|(name, _)| config.has_webhook_endpoint(name)) {
            let Some(inbox) = self.by_name.get(name).map(Arc::clone) else { continue };
            let secrets = reach.webhooks.get(name).cloned().unwrap_or_default();
            let heap = HeapEndpoint { secrets, max_age: settings.max_age, max_ahead: settings.max_ahead };
            let door =
                Endpoint { name: EndpointName::of_heap(name), guard: EndpointGuard::Heap(heap), inbox };
            open.insert(settings.path.clone(), door);
        }
        for (export, source) in http_exports(config) {
            // No tokens at all is a setting; tokens that were not found must not open the door to everybody.
            let Some(tokens) = reach.tokens.get(&export.id).cloned() else { continue };
            let Some(inbox) = self.of_exports.get(&export.id).map(Arc::clone) else { continue };
            let guard = EndpointGuard::Currents(CurrentsEndpoint { tokens });
            open.insert(
                source.path.clone(),
                Endpoint { name: EndpointName::of_export(&export.id), guard, inbox },
            );
        }
        doors.open(open);
    }

    /// Closes all of them, once what is being put into them is.
    pub(super) fn close(&mut self, doors: &Endpoints) {
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
    pub(super) fn ingest(
        &self,
        heap: &ConnectionName,
        config: &Config,
        state: &Arc<StateWriter>,
        at: &Arc<dyn WatchEnvironment>,
    ) -> Option<impl Future<Output = IngestEnd> + Send + use<>> {
        let inbox = Arc::clone(self.by_name.get(heap)?);
        let incomplete_after = config.heap.get(heap)?.incomplete_after;
        let (heap, state, at) = (heap.clone(), Arc::clone(state), Arc::clone(at));
        let retention = reconcile::log_retention(config);
        Some(async move {
            let files = match inbox.close_file().await {
                Ok(files) => files,
                Err(InboxError::State(error)) => {
                    return IngestEnd { heap, folded: Err(error), segments: None };
                }
                // It is being closed.
                Err(_) => return IngestEnd { heap, folded: Ok(IngestReport::default()), segments: None },
            };
            let name = heap.clone();
            let work = move || {
                let (run, now) = (at.new_run(), at.clock().now());
                let folding = IngestContext { state: &state, heap: &name, run: &run, now, incomplete_after };
                let folded = ingest(&files, folding).map_err(Arc::new);
                // An ingest has no journal, but it may add rejects.
                let has_rejects =
                    folded.as_ref().is_ok_and(|folded: &IngestReport| folded.invalid + folded.rejected > 0);
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
            IngestEnd { heap, folded, segments }
        })
    }
}

/// The exports that have a door.
pub(super) fn http_exports(config: &Config) -> impl Iterator<Item = (&ExportConfig, &HttpSource)> {
    config.exports.iter().filter_map(|export| match &export.source {
        ExportSource::Http(source) => Some((export, source)),
        ExportSource::Storage(_) => None,
    })
}

/// Shows what a Heap has told.
pub(super) fn show(heap: &ConnectionName, segments: Option<HeapSegments>, board: &WatchStatus, held: u64) {
    let Some(told) = segments else { return };
    let mut inner = board.lock();
    let status = inner.heaps.entry(heap.clone()).or_default();
    (status.told, status.waiting_bytes) = (told, held);
}

/// The cohorts whose source is one of these segments.
pub(super) fn cohorts_of<'a>(
    heap: &'a ConnectionName,
    folded: &'a IngestReport,
    config: &'a Config,
) -> impl Iterator<Item = &'a CohortId> {
    let is_of = move |source: &SourceConfig| {
        source.segment_of(heap).is_some_and(|segment| folded.segments.contains(&segment))
    };
    config.cohorts.iter().filter(move |cohort| is_of(&cohort.source)).map(|cohort| &cohort.id)
}

/// Something has come through the doors: the lag counts from here.
pub(super) fn note_waiting(board: &WatchStatus, name: &ConnectionName, held: u64, now: Timestamp) {
    let mut inner = board.lock();
    if let Some(status) = inner.heaps.get_mut(name) {
        status.waiting_bytes = held;
        status.waiting_since = (held > 0).then(|| status.waiting_since.unwrap_or(now));
    }
}
