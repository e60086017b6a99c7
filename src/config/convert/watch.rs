//! Converts `watch:` and schedules.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::{positive, secret, small};
use crate::config::spec;
use crate::config::text::{Amount, SocketAddress};
use crate::config::watch::{
    EndpointLimits, Notable, NotifyConfig, NotifyFormat, ScheduleConfig, TlsFiles, WatchConfig,
};

pub(super) fn watch(shape: spec::WatchSpec, folder: &Path) -> WatchConfig {
    let tls = shape
        .tls
        .map(|tls| TlsFiles { certificate: folder.join(tls.certificate.0), key: folder.join(tls.key.0) });
    WatchConfig {
        listen: address(&shape.listen),
        admin: address(&shape.admin),
        admin_hosts: shape.admin_hosts.into_iter().map(|name| name.0.trim().to_lowercase()).collect(),
        public_url: shape.public_url.map(|url| url.0.trim().trim_end_matches('/').to_owned()),
        tls,
        limits: limits(&shape.limits),
        debounce: shape.debounce.0,
        poll: positive(shape.poll.0),
        schedule: schedule(shape.schedule),
        first_wait: positive(shape.retry.first_wait.0),
        longest_wait: positive(shape.retry.longest_wait.0),
        grace: shape.grace.0,
        stale_after: positive(shape.stale_after.0),
        notify: shape.notify.into_iter().map(|shape| notify(shape, folder)).collect(),
    }
}

/// Parses a value that the schema has validated.
fn address(text: &SocketAddress) -> SocketAddr {
    text.0.parse().unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

fn limits(shape: &spec::EndpointLimitsSpec) -> EndpointLimits {
    let bytes = |amount: Amount| usize::try_from(amount.0).unwrap_or(usize::MAX);
    let limits = EndpointLimits {
        body_len_max: bytes(shape.body),
        headers_len_max: bytes(shape.headers),
        header_time: positive(shape.header_time.0),
        request_time: positive(shape.request_time.0),
        idle_time: positive(shape.idle_time.0),
        connections_max: usize::try_from(shape.connections.0).unwrap_or(usize::MAX),
        streams_max: small(shape.streams),
        json_depth_max: small(shape.json_depth),
        memory_max: bytes(shape.memory),
        inbox_len_max: shape.inbox.0,
    };
    // The memory must fit the largest request.
    EndpointLimits { memory_max: limits.memory_max.max(limits.largest_request_len()), ..limits }
}

pub(super) fn schedule(shape: spec::ScheduleSpec) -> ScheduleConfig {
    match shape {
        spec::ScheduleSpec::Every(length) => ScheduleConfig::Every(positive(length.0)),
        spec::ScheduleSpec::Cron(cron) => ScheduleConfig::Cron { at: cron.at.0, time_zone: cron.time_zone.0 },
    }
}

fn notify(shape: spec::NotifySpec, folder: &Path) -> NotifyConfig {
    let on = |on: &spec::NotifyOnSpec| match on {
        spec::NotifyOnSpec::Blocked => Notable::Blocked,
        spec::NotifyOnSpec::Failure => Notable::Failure,
        spec::NotifyOnSpec::Recovery => Notable::Recovery,
        spec::NotifyOnSpec::Staleness => Notable::Staleness,
        spec::NotifyOnSpec::Drift => Notable::Drift,
    };
    NotifyConfig {
        url: secret(shape.url, folder),
        format: match shape.format {
            spec::NotifyFormatSpec::Json => NotifyFormat::Json,
            spec::NotifyFormatSpec::Slack => NotifyFormat::Slack,
        },
        on: shape.on.map_or_else(|| Notable::ALL.to_vec(), |list| list.0.iter().map(on).collect()),
    }
}
