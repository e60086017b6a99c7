//! Inboxes of the webhook endpoints: opened once per endpoint, and served under the paths of the config.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::LeaderContext;
use super::environment::{ClientAccess, on_thread};
use super::queue::SingleTask;
use crate::blocking;
use crate::config::{Config, ExportConfig, ExportSource, HttpSource};
use crate::model::{Clock, ConnectionName, EndpointName, ExportId};
use crate::state::{Inbox, InboxQuota, StateError, StateWriter};
use crate::webhooks::{CurrentsEndpoint, Endpoint, EndpointGuard, Endpoints, HeapEndpoint};

/// The inboxes of all endpoints.
pub(super) struct EndpointInboxes {
    quota: InboxQuota,
    /// An inbox stays open when its endpoint leaves the config: a request may still write to it, and one name must never
    /// have two inboxes.
    heaps: BTreeMap<ConnectionName, Arc<Inbox>>,
    exports: BTreeMap<ExportId, Arc<Inbox>>,
    opening: SingleTask,
    /// Whether every endpoint of the config has an inbox.
    is_complete: bool,
}

/// Endpoints without an inbox.
struct MissingInboxes {
    heaps: Vec<ConnectionName>,
    exports: Vec<ExportId>,
    quota: InboxQuota,
}

/// Inboxes that were opened.
#[derive(Default)]
pub(super) struct OpenedInboxes {
    heaps: BTreeMap<ConnectionName, Arc<Inbox>>,
    exports: BTreeMap<ExportId, Arc<Inbox>>,
    /// Why another inbox could not be opened.
    error: Option<StateError>,
}

/// Endpoints with opened inboxes. Deliveries may wait in them.
pub(super) struct OpenedEndpoints {
    pub(super) heaps: Vec<ConnectionName>,
    pub(super) exports: Vec<ExportId>,
    /// The caller must start opening once more.
    pub(super) is_repeated: bool,
}

impl MissingInboxes {
    fn is_empty(&self) -> bool {
        self.heaps.is_empty() && self.exports.is_empty()
    }

    /// Opens the inboxes. This reads the state, so it must not run on the event loop.
    fn open(self, state: &Arc<StateWriter>, clock: Clock) -> OpenedInboxes {
        let mut opened = OpenedInboxes::default();
        let open = |name: &EndpointName| Inbox::open(state, name, self.quota.clone(), clock).map(Arc::new);
        for name in self.heaps {
            match open(&EndpointName::of_heap(&name)) {
                Ok(inbox) => drop(opened.heaps.insert(name, inbox)),
                Err(error) => opened.error = Some(error),
            }
        }
        for id in self.exports {
            match open(&EndpointName::of_export(&id)) {
                Ok(inbox) => drop(opened.exports.insert(id, inbox)),
                Err(error) => opened.error = Some(error),
            }
        }
        opened
    }
}

impl EndpointInboxes {
    pub(super) fn new(len_max: u64) -> Self {
        Self {
            quota: InboxQuota::new(len_max),
            heaps: BTreeMap::new(),
            exports: BTreeMap::new(),
            opening: SingleTask::default(),
            is_complete: true,
        }
    }

    /// Whether every endpoint of the config has an inbox.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Opens all inboxes and serves their endpoints, before the event loop starts.
    ///
    /// # Errors
    /// When an inbox cannot be opened.
    pub(super) fn open_all(
        &mut self,
        context: &LeaderContext,
        endpoints: &Endpoints,
    ) -> Result<(), StateError> {
        let missing = self.missing(&context.config);
        let mut opened = blocking::in_place(|| missing.open(&context.state, context.clock));
        if let Some(error) = opened.error.take() {
            return Err(error);
        }
        self.add(opened);
        self.serve(&context.config, &context.access, endpoints);
        Ok(())
    }

    /// Serves the endpoints that have an inbox, and starts to open the missing inboxes, if there are any. An inbox that
    /// cannot be opened is tried again with the next poll.
    pub(super) fn start_opening(
        &mut self,
        context: &LeaderContext,
        endpoints: &Endpoints,
    ) -> Option<impl Future<Output = OpenedInboxes> + Send + use<>> {
        self.serve(&context.config, &context.access, endpoints);
        if !self.opening.request() {
            return None;
        }
        let missing = self.missing(&context.config);
        self.is_complete = missing.is_empty();
        if self.is_complete {
            self.opening.finish();
            return None;
        }
        let (state, clock) = (Arc::clone(&context.state), context.clock);
        Some(async move { on_thread(move || missing.open(&state, clock)).await.unwrap_or_default() })
    }

    /// Serves the endpoints with opened inboxes.
    pub(super) fn finish_opening(
        &mut self,
        mut opened: OpenedInboxes,
        context: &LeaderContext,
        endpoints: &Endpoints,
    ) -> OpenedEndpoints {
        if let Some(error) = opened.error.take() {
            tracing::error!("cannot open an endpoint: {error}");
        }
        let heaps = opened.heaps.keys().filter(|name| context.config.heap.contains_key(*name));
        let exports = opened.exports.keys().filter(|id| context.export(id).is_some());
        let (heaps, exports) = (heaps.cloned().collect(), exports.cloned().collect());
        self.add(opened);
        self.serve(&context.config, &context.access, endpoints);
        self.is_complete = self.missing(&context.config).is_empty();
        let is_repeated = self.opening.finish() && !self.is_complete;
        OpenedEndpoints { heaps, exports, is_repeated }
    }

    /// The endpoints of this config without an inbox.
    fn missing(&mut self, config: &Config) -> MissingInboxes {
        self.quota = self.quota.resized(config.watch.limits.inbox_len_max);
        let heaps = config.heap.keys().filter(|name| config.has_webhook_endpoint(name));
        let exports = http_exports(config).map(|(export, _)| &export.id);
        MissingInboxes {
            heaps: heaps.filter(|name| !self.heaps.contains_key(*name)).cloned().collect(),
            exports: exports.filter(|id| !self.exports.contains_key(*id)).cloned().collect(),
            quota: self.quota.clone(),
        }
    }

    /// Adds inboxes. An inbox that exists is not replaced.
    fn add(&mut self, opened: OpenedInboxes) {
        for (name, inbox) in opened.heaps {
            self.heaps.entry(name).or_insert(inbox);
        }
        for (id, inbox) in opened.exports {
            self.exports.entry(id).or_insert(inbox);
        }
    }

    /// Serves the endpoints of this config that have an inbox, and closes all others. It reads no state.
    fn serve(&self, config: &Config, access: &ClientAccess, endpoints: &Endpoints) {
        let mut open = BTreeMap::new();
        for (name, settings) in config.heap.iter().filter(|(name, _)| config.has_webhook_endpoint(name)) {
            let Some(inbox) = self.heaps.get(name).map(Arc::clone) else { continue };
            let secrets = access.webhook_secrets.get(name).cloned().unwrap_or_default();
            let guard = HeapEndpoint { secrets, max_age: settings.max_age, max_ahead: settings.max_ahead };
            let (name, guard) = (EndpointName::of_heap(name), EndpointGuard::Heap(guard));
            open.insert(settings.path.clone(), Endpoint { name, guard, inbox });
        }
        for (export, source) in http_exports(config) {
            // An empty list of tokens is a setting. Tokens that were not found must not open the endpoint.
            let Some(tokens) = access.export_tokens.get(&export.id).cloned() else { continue };
            let Some(inbox) = self.exports.get(&export.id).map(Arc::clone) else { continue };
            let guard = EndpointGuard::Currents(CurrentsEndpoint { tokens });
            let name = EndpointName::of_export(&export.id);
            open.insert(source.path.clone(), Endpoint { name, guard, inbox });
        }
        endpoints.set(open);
    }

    /// Closes all endpoints and inboxes. Deliveries that are being written are finished.
    pub(super) fn close(&mut self, endpoints: &Endpoints) {
        endpoints.set(BTreeMap::new());
        blocking::in_place(|| {
            self.heaps.clear();
            self.exports.clear();
        });
    }

    /// The inbox of an HTTP export.
    pub(super) fn of_export(&self, export: &ExportId) -> Option<Arc<Inbox>> {
        self.exports.get(export).map(Arc::clone)
    }

    /// The inbox of a Heap connection.
    pub(super) fn of_heap(&self, heap: &ConnectionName) -> Option<Arc<Inbox>> {
        self.heaps.get(heap).map(Arc::clone)
    }

    /// The size of the deliveries that wait for ingest, in bytes.
    pub(super) fn waiting_bytes(&self, heap: &ConnectionName) -> u64 {
        self.heaps.get(heap).map_or(0, |inbox| inbox.held())
    }
}

/// The exports with an HTTP endpoint.
pub(super) fn http_exports(config: &Config) -> impl Iterator<Item = (&ExportConfig, &HttpSource)> {
    config.exports.iter().filter_map(|export| match &export.source {
        ExportSource::Http(source) => Some((export, source)),
        ExportSource::Storage(_) => None,
    })
}
