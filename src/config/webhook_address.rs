//! URLs of the webhook endpoints of `watch`, as their senders must know them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::export::ExportSource;
use super::types::Config;
use crate::model::{ConnectionName, ExportId};

/// The sender of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookSender {
    /// Heap's Segment Sync, for this connection.
    Heap(ConnectionName),
    /// Braze Currents, for this export.
    Currents(ExportId),
}

impl fmt::Display for WebhookSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heap(connection) => write!(f, "Heap's webhook for connection `{connection}`"),
            Self::Currents(export) => write!(f, "Braze Currents for export `{export}`"),
        }
    }
}

impl Config {
    /// The complete URL of each endpoint, under the public address or, without one, under `listening`.
    #[must_use]
    pub fn webhook_urls(&self, listening: SocketAddr) -> Vec<(WebhookSender, String)> {
        let base = self.watch.public_url.clone().unwrap_or_else(|| self.local_url(listening));
        let heaps = self.heap.iter().filter(|(name, _)| self.has_webhook_endpoint(name));
        let heaps = heaps.map(|(name, heap)| (WebhookSender::Heap(name.clone()), &heap.path));
        let exports = self.exports.iter().filter_map(|export| match &export.source {
            ExportSource::Http(source) => Some((WebhookSender::Currents(export.id.clone()), &source.path)),
            ExportSource::Storage(_) => None,
        });
        heaps.chain(exports).map(|(sender, path)| (sender, format!("{base}{path}"))).collect()
    }

    /// The base address on this machine.
    fn local_url(&self, listening: SocketAddr) -> String {
        let ip = match listening.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let scheme = if self.watch.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", SocketAddr::new(ip, listening.port()))
    }
}
