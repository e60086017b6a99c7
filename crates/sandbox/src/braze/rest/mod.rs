//! Simulator of Braze's REST API.
//!
//! Source: Braze, "API basics" (the key in `Authorization: Bearer`, a permission for each endpoint), "API
//! limits" (groups, headers), and the page of each endpoint. It is as strict as these documents. Where they are
//! silent, see [`RestOptions`] and the comments. Each endpoint is a row of [`GET_ENDPOINTS`] or [`POST_ENDPOINTS`].

mod admin;
mod dashboard;
mod export;
mod identity;
mod options;
mod serve;
mod track;
mod trigger;

use std::collections::{BTreeMap, BTreeSet};

use super::limits::FixedWindow;
use crate::SandboxOptions;
use crate::faults::Endpoint;

pub(super) use admin::{RestCounters, routes as admin};
pub use options::{RestGroup, RestOptions};
use serve::EndpointHandler;
pub(super) use serve::routes;

/// One endpoint.
#[derive(Clone)]
struct RestEndpoint {
    path: &'static str,
    endpoint: Endpoint,
    /// Permission that the key needs.
    permission: &'static str,
    group: RestGroup,
    handler: EndpointHandler,
}

const fn endpoint_row(
    path: &'static str,
    endpoint: Endpoint,
    permission: &'static str,
    group: RestGroup,
    handler: EndpointHandler,
) -> RestEndpoint {
    RestEndpoint { path, endpoint, permission, group, handler }
}

/// Endpoints called with GET.
const GET_ENDPOINTS: [RestEndpoint; 7] = {
    use Endpoint as E;
    const SHARED: RestGroup = RestGroup::Shared;
    [
        endpoint_row("/segments/list", E::SegmentsList, "segments.list", SHARED, dashboard::segments),
        endpoint_row("/segments/details", E::SegmentsDetails, "segments.details", SHARED, dashboard::segment),
        endpoint_row(
            "/segments/data_series",
            E::SegmentsSeries,
            "segments.data_series",
            SHARED,
            dashboard::sizes,
        ),
        endpoint_row("/campaigns/list", E::CampaignsList, "campaigns.list", SHARED, dashboard::campaigns),
        endpoint_row(
            "/campaigns/details",
            E::CampaignsDetails,
            "campaigns.details",
            SHARED,
            dashboard::campaign,
        ),
        endpoint_row("/canvas/list", E::CanvasList, "canvas.list", SHARED, dashboard::canvases),
        endpoint_row("/canvas/details", E::CanvasDetails, "canvas.details", SHARED, dashboard::canvas),
    ]
};

/// Endpoints called with POST.
const POST_ENDPOINTS: [RestEndpoint; 9] = {
    use {Endpoint as E, RestGroup as G};
    [
        endpoint_row("/users/export/ids", E::ExportIds, "users.export.ids", G::ExportIds, export::ids),
        endpoint_row(
            "/users/export/segment",
            E::ExportSegment,
            "users.export.segment",
            G::Shared,
            export::segment,
        ),
        endpoint_row("/users/track", E::UsersTrack, "users.track", G::Track, track::track),
        endpoint_row("/users/alias/new", E::AliasNew, "users.alias.new", G::Identity, identity::alias),
        endpoint_row("/users/identify", E::UsersIdentify, "users.identify", G::Identity, identity::identify),
        endpoint_row("/users/merge", E::UsersMerge, "users.merge", G::Identity, identity::merge),
        endpoint_row("/users/delete", E::UsersDelete, "users.delete", G::Identity, identity::delete),
        endpoint_row(
            "/campaigns/trigger/send",
            E::CampaignsTrigger,
            "campaigns.trigger.send",
            G::Shared,
            trigger::campaign,
        ),
        endpoint_row(
            "/canvas/trigger/send",
            E::CanvasTrigger,
            "canvas.trigger.send",
            G::Shared,
            trigger::canvas,
        ),
    ]
};

/// State of the REST API beyond the store.
#[derive(Debug)]
pub(crate) struct RestApi {
    /// Keys with their permissions; `None` allows everything.
    keys: BTreeMap<String, Option<BTreeSet<String>>>,
    limits: BTreeMap<RestGroup, FixedWindow>,
    pub(super) counters: RestCounters,
    rejects: Vec<track::TrackReject>,
    exports: Vec<export::SegmentExport>,
}

impl RestApi {
    pub(super) fn new(options: &SandboxOptions) -> Self {
        let limit = |(group, limit, window)| (group, FixedWindow::new(limit, window));
        let limits = RestGroup::ALL.into_iter().chain(options.rest.limits.iter().copied());
        Self {
            keys: BTreeMap::from([(options.rest.api_key.clone(), None)]),
            limits: limits.map(limit).collect(),
            counters: RestCounters::default(),
            rejects: Vec::new(),
            exports: Vec::new(),
        }
    }
}
