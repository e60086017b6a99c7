//! How each connection is reached: keys found, sandboxes started.

use std::collections::BTreeMap;

use super::environment;
use super::error::{CommandError, no_secret};
use super::output;
use crate::config::{Config, Endpoint, Secret};
use crate::connector::braze::Keys;
use crate::model::ConnectionName;
use crate::reconcile::{Access, PassPlan};
use crate::sandbox::{Options, Sandbox};

/// The keys of every connection that a cohort uses. The sandbox has its own and needs none.
pub(super) fn keys(config: &Config) -> Result<BTreeMap<ConnectionName, Keys>, CommandError> {
    let mut found = BTreeMap::new();
    for (name, braze) in &config.braze {
        let Some(places) = &braze.keys else { continue };
        if config.removed.is_empty() && !config.cohorts.iter().any(|cohort| cohort.to == *name) {
            continue;
        }
        let find = |place: &crate::config::SecretRef, key: &str| {
            place.resolve(&environment::variable).map_err(|error| no_secret(name.as_str(), key, &error))
        };
        let data_import = find(&places.data_import, "data import key")?;
        let partner_api = find(&places.partner_api, "partner API key")?;
        output::keep_secret([&data_import, &partner_api]);
        found.insert(name.clone(), Keys { data_import, partner_api });
    }
    Ok(found)
}

/// Sandboxes that run for as long as this lives, and how to reach every connection.
pub(super) struct Reached {
    pub(super) access: BTreeMap<ConnectionName, Access>,
    _sandboxes: Vec<Sandbox>,
}

/// Starts the sandboxes that the plan sends to. Their memory is part of the state.
pub(super) async fn reach(
    config: &Config,
    keys: BTreeMap<ConnectionName, Keys>,
    plan: &PassPlan,
) -> Result<Reached, CommandError> {
    let mut reached = Reached { access: BTreeMap::new(), _sandboxes: Vec::new() };
    for (name, braze) in &config.braze {
        let base = match &braze.endpoint {
            Endpoint::Url(url) => url.clone(),
            Endpoint::Sandbox => {
                if !plan.sends_to(name) {
                    continue;
                }
                let memory = Some(config.state_folder().join("sandbox").join(name.as_str()));
                let options = Options { memory, partner: braze.partner.clone(), ..Options::default() };
                let sandbox = Sandbox::start(options).await?;
                let url = sandbox.url();
                reached._sandboxes.push(sandbox);
                url
            }
        };
        let keys =
            keys.get(name).cloned().or_else(|| (braze.endpoint == Endpoint::Sandbox).then(sandbox_keys));
        if let Some(keys) = keys {
            reached.access.insert(name.clone(), Access { base, keys });
        }
    }
    Ok(reached)
}

fn sandbox_keys() -> Keys {
    let Options { partner_api_key, data_import_key, .. } = Options::default();
    Keys { data_import: Secret::new(data_import_key), partner_api: Secret::new(partner_api_key) }
}
