//! Braze's REST side: what a customer's own key may ask and do.
//!
//! Source: Braze, "API basics" (the key in `Authorization: Bearer`, a permission for each endpoint), "API
//! limits" (groups, headers), and the page of each endpoint. It is as strict as they are; where they are
//! silent, see [`RestOptions`] and the comments beside. An endpoint is a row of [`READS`] or [`WRITES`].

mod admin;
mod dashboard;
mod export;
mod identity;
mod options;
mod serve;
mod track;
mod trigger;
mod zip;

use std::collections::{BTreeMap, BTreeSet};

use super::limits::RateLimit;
use crate::Options;
use crate::faults::Endpoint;

pub(super) use admin::{Counters, routes as admin};
pub use options::{RestGroup, RestOptions};
use serve::Work;
pub(super) use serve::routes;

/// One endpoint.
#[derive(Clone)]
struct Call {
    path: &'static str,
    endpoint: Endpoint,
    /// What a key must be allowed.
    permission: &'static str,
    group: RestGroup,
    work: Work,
}

const fn call(
    path: &'static str,
    endpoint: Endpoint,
    permission: &'static str,
    group: RestGroup,
    work: Work,
) -> Call {
    Call { path, endpoint, permission, group, work }
}

/// Asked with GET.
const READS: [Call; 7] = {
    use Endpoint as E;
    const SHARED: RestGroup = RestGroup::Shared;
    [
        call("/segments/list", E::SegmentsList, "segments.list", SHARED, dashboard::segments),
        call("/segments/details", E::SegmentsDetails, "segments.details", SHARED, dashboard::segment),
        call("/segments/data_series", E::SegmentsSeries, "segments.data_series", SHARED, dashboard::sizes),
        call("/campaigns/list", E::CampaignsList, "campaigns.list", SHARED, dashboard::campaigns),
        call("/campaigns/details", E::CampaignsDetails, "campaigns.details", SHARED, dashboard::campaign),
        call("/canvas/list", E::CanvasList, "canvas.list", SHARED, dashboard::canvases),
        call("/canvas/details", E::CanvasDetails, "canvas.details", SHARED, dashboard::canvas),
    ]
};

/// Asked with POST.
const WRITES: [Call; 9] = {
    use {Endpoint as E, RestGroup as G};
    [
        call("/users/export/ids", E::ExportIds, "users.export.ids", G::ExportIds, export::ids),
        call("/users/export/segment", E::ExportSegment, "users.export.segment", G::Shared, export::segment),
        call("/users/track", E::UsersTrack, "users.track", G::Track, track::track),
        call("/users/alias/new", E::AliasNew, "users.alias.new", G::Identity, identity::alias),
        call("/users/identify", E::UsersIdentify, "users.identify", G::Identity, identity::identify),
        call("/users/merge", E::UsersMerge, "users.merge", G::Identity, identity::merge),
        call("/users/delete", E::UsersDelete, "users.delete", G::Identity, identity::delete),
        call(
            "/campaigns/trigger/send",
            E::CampaignsTrigger,
            "campaigns.trigger.send",
            G::Shared,
            trigger::campaign,
        ),
        call("/canvas/trigger/send", E::CanvasTrigger, "canvas.trigger.send", G::Shared, trigger::canvas),
    ]
};

/// What the REST side has besides the store.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Keys with what each may do; none: everything.
    keys: BTreeMap<String, Option<BTreeSet<String>>>,
    limits: BTreeMap<RestGroup, RateLimit>,
    pub(super) counters: Counters,
    rejects: Vec<track::Reject>,
    exports: Vec<export::Export>,
}

impl Rest {
    pub(super) fn new(options: &Options) -> Self {
        let limit = |(group, limit, window)| (group, RateLimit::new(limit, window));
        let limits = RestGroup::ALL.into_iter().chain(options.rest.limits.iter().copied());
        Self {
            keys: BTreeMap::from([(options.rest.api_key.clone(), None)]),
            limits: limits.map(limit).collect(),
            counters: Counters::default(),
            rejects: Vec::new(),
            exports: Vec::new(),
        }
    }
}
