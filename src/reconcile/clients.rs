//! Clients of the connections that cohorts are sent to.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Config;
use crate::connector::braze::{BrazeClient, WorkspaceKeySet};
use crate::connector::http::HttpError;
use crate::model::{Clock, ConnectionName};

/// Where a connection is, and its keys.
#[derive(Clone, Debug)]
pub struct BrazeAccess {
    /// The base URL.
    pub base: String,
    /// The keys.
    pub keys: WorkspaceKeySet,
}

/// Clients of the connections, with what they know of the vendors' rate limits: one for all runs.
pub type BrazeClients = BTreeMap<ConnectionName, Arc<BrazeClient>>;

/// Makes the clients of these connections. Nothing is sent yet.
///
/// # Errors
/// When there can be no HTTP client.
pub fn link(
    config: &Config,
    access: &BTreeMap<ConnectionName, BrazeAccess>,
    clock: Clock,
) -> Result<BrazeClients, HttpError> {
    let mut links = BrazeClients::new();
    for (name, settings) in &config.braze {
        if let Some(BrazeAccess { base, keys }) = access.get(name) {
            links.insert(name.clone(), Arc::new(BrazeClient::new(settings, base, keys.clone(), clock)?));
        }
    }
    Ok(links)
}
