//! How each connection is reached: keys found, sandboxes started.

use std::collections::BTreeMap;

use super::environment;
use super::error::{CommandError, no_secret};
use super::output;
use crate::config::{Config, Endpoint, Secret, Secrets, Source};
use crate::connector::braze::Keys;
use crate::model::ConnectionName;
use crate::reconcile::Access;
use crate::sandbox::{Options, Sandbox};

/// What the sandbox's Heap signs with unless it is told otherwise.
const SANDBOX_WEBHOOK_SECRET: &str = "sandbox-webhook-secret";

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

/// What each Heap may sign its webhook with. The sandbox has a secret of its own.
pub(super) fn webhooks(config: &Config) -> Result<BTreeMap<ConnectionName, Vec<Secret>>, CommandError> {
    let mut found = BTreeMap::new();
    for (name, heap) in &config.heap {
        let mut secrets = Vec::new();
        for place in &heap.webhook_secrets {
            let secret = place.resolve(&environment::variable);
            secrets.push(secret.map_err(|error| no_secret(name.as_str(), "webhook secret", &error))?);
        }
        if secrets.is_empty() && heap.is_sandbox {
            secrets.push(Secret::new(SANDBOX_WEBHOOK_SECRET.to_owned()));
        }
        output::keep_secret(&secrets);
        found.insert(name.clone(), secrets);
    }
    Ok(found)
}

/// The secrets of the databases that a cohort asks.
pub(super) fn databases(config: &Config) -> Result<BTreeMap<ConnectionName, Secrets>, CommandError> {
    let mut found = BTreeMap::new();
    for (name, database) in &config.sql {
        let is_asked = |source: &Source| matches!(source, Source::Sql(sql) if sql.connection == *name);
        if config.cohorts.iter().any(|cohort| is_asked(&cohort.source)) {
            let each = database.secrets().map(|(key, place)| {
                let secret = place.resolve(&environment::variable);
                Ok((key.to_owned(), secret.map_err(|error| no_secret(name.as_str(), key, &error))?))
            });
            let secrets = each.collect::<Result<Secrets, CommandError>>()?;
            output::keep_secret(secrets.values());
            found.insert(name.clone(), secrets);
        }
    }
    Ok(found)
}

/// The addresses of those who are notified, in the order of the config.
pub(super) fn notify(config: &Config) -> Result<Vec<Secret>, CommandError> {
    let find = |notify: &crate::config::Notify| {
        notify.url.resolve(&environment::variable).map_err(|error| no_secret("watch", "notify url", &error))
    };
    let found: Vec<Secret> = config.watch.notify.iter().map(find).collect::<Result<_, _>>()?;
    output::keep_secret(&found);
    Ok(found)
}

/// Sandboxes that run for as long as this lives. Their memory is part of the state.
#[derive(Default)]
pub(super) struct Sandboxes(tokio::sync::Mutex<BTreeMap<ConnectionName, Sandbox>>);

impl Sandboxes {
    /// How to reach every connection that is wanted and has keys; sandboxes are started.
    pub(super) async fn reach(
        &self,
        config: &Config,
        keys: &BTreeMap<ConnectionName, Keys>,
        is_wanted: impl Fn(&ConnectionName) -> bool,
    ) -> Result<BTreeMap<ConnectionName, Access>, CommandError> {
        let mut reached = BTreeMap::new();
        let mut running = self.0.lock().await;
        for (name, braze) in config.braze.iter().filter(|(name, _)| is_wanted(name)) {
            if let Endpoint::Url(base) = &braze.endpoint {
                let keys = keys.get(name).cloned();
                reached.extend(keys.map(|keys| (name.clone(), Access { base: base.clone(), keys })));
                continue;
            }
            if !running.contains_key(name) {
                let memory = Some(config.state_folder().join("sandbox").join(name.as_str()));
                let options = Options { memory, partner: braze.partner.clone(), ..Options::default() };
                running.insert(name.clone(), Sandbox::start(options).await?);
            }
            if let Some(sandbox) = running.get(name) {
                reached.insert(name.clone(), Access { base: sandbox.url(), keys: sandbox_keys() });
            }
        }
        Ok(reached)
    }
}

fn sandbox_keys() -> Keys {
    let Options { partner_api_key, data_import_key, .. } = Options::default();
    Keys { data_import: Secret::new(data_import_key), partner_api: Secret::new(partner_api_key) }
}
