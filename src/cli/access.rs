//! Access to connections: resolves secrets and starts sandboxes.

use std::collections::BTreeMap;

use super::environment;
use super::error::{CommandError, no_secret};
use super::exit::Exit;
use super::logging::notify;
use crate::config::{
    AppId, BrazeConfig, CohortConfig, Config, ExportConfig, ExportSource, HeapConfig, HttpSource, Secret,
    SecretRef, Secrets, SourceAccess, SqlConfig, VendorEndpoint,
};
use crate::connector::braze::{BrazeKeyKind, ImportKeys, WorkspaceKeySet};
use crate::export;
use crate::foreign::keep_secret;
use crate::model::{ConnectionName, ExportId};
use crate::reconcile::BrazeAccess;
use syncline_sandbox::{HeapOptions, Sandbox, SandboxOptions};

/// Default webhook secret of the sandbox.
const SANDBOX_WEBHOOK_SECRET: &str = "sandbox-webhook-secret";

/// The alternative for everyone who is no partner of Braze.
pub(super) const WITHOUT_PARTNER_KEY: &str =
    "without a partner key, use `deliver: attribute` in the cohorts: it needs only `rest_api_key`";

/// The keys of all connections with cohorts.
pub(super) fn keys(config: &Config) -> Result<BTreeMap<ConnectionName, WorkspaceKeySet>, CommandError> {
    with_keys(config).map(|(name, braze)| Ok((name.clone(), keys_of(config, name, braze)?))).collect()
}

/// The keys that this machine has, and a line for each connection with cohorts that lacks one.
pub(super) fn available_keys(config: &Config) -> (BTreeMap<ConnectionName, WorkspaceKeySet>, Vec<String>) {
    let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
    for (name, braze) in with_keys(config) {
        match keys_of(config, name, braze) {
            Ok(keys) => drop(found.insert(name.clone(), keys)),
            Err(error) => missing.push(error.message().to_owned()),
        }
    }
    (found, missing)
}

/// The connections with cohorts, without the sandbox, which needs no keys.
fn with_keys(config: &Config) -> impl Iterator<Item = (&ConnectionName, &BrazeConfig)> {
    config.braze.iter().filter(|(name, braze)| {
        let is_used = !config.removed.is_empty() || config.cohorts.iter().any(|cohort| cohort.to == **name);
        braze.endpoint != VendorEndpoint::Sandbox && is_used
    })
}

/// The keys of a connection. Keys that the config does not need may be missing.
pub(super) fn keys_of(
    config: &Config,
    name: &ConnectionName,
    braze: &BrazeConfig,
) -> Result<WorkspaceKeySet, CommandError> {
    let (import, rest) = (import_keys(name, braze), rest_key(name, braze));
    Ok(WorkspaceKeySet {
        import: if needs(config, name, BrazeKeyKind::DataImport) { import? } else { import.ok().flatten() },
        rest: if needs(config, name, BrazeKeyKind::Rest) { Some(rest?) } else { rest.ok() },
    })
}

/// Whether the cohorts of a connection need a key.
pub(super) fn needs(config: &Config, name: &ConnectionName, kind: BrazeKeyKind) -> bool {
    let mut cohorts = config.cohorts.iter().filter(|cohort| cohort.to == *name).peekable();
    let by_default = cohorts.peek().is_none() && kind == BrazeKeyKind::DataImport;
    let needs_rest = |cohort: &CohortConfig| {
        cohort.on_enter.is_some() || cohort.on_exit.is_some() || cohort.preflight.is_some()
    };
    by_default
        || cohorts.any(|cohort| {
            BrazeKeyKind::of(&cohort.delivery) == kind || (kind == BrazeKeyKind::Rest && needs_rest(cohort))
        })
}

/// Resolves a secret. Reports a secret that was probably pasted or saved wrongly.
fn found(reference: &SecretRef, owner: &str, key: &str) -> Result<Secret, CommandError> {
    let secret = reference.resolve(&environment::variable).map_err(|error| no_secret(owner, key, &error))?;
    if let Some(oddity) = secret.oddity() {
        notify(&format!("the {key} of `{owner}` {oddity}"));
    }
    Ok(secret)
}

/// The keys of the cohort import, if the config names them.
fn import_keys(name: &ConnectionName, braze: &BrazeConfig) -> Result<Option<ImportKeys>, CommandError> {
    let Some(keys) = &braze.keys else { return Ok(None) };
    let find = |reference: &SecretRef, key: &str| {
        found(reference, name.as_str(), key).map_err(|error| error.hint(WITHOUT_PARTNER_KEY))
    };
    let data_import = find(&keys.data_import, "data import key")?;
    let partner_api = find(&keys.partner_api, "partner API key")?;
    Ok(Some(ImportKeys { data_import, partner_api }))
}

/// Whether a cohort of this connection is delivered as an attribute.
pub(super) fn has_attributes(config: &Config, name: &ConnectionName) -> bool {
    let mut cohorts = config.cohorts.iter().filter(|cohort| cohort.to == *name);
    cohorts.any(|cohort| BrazeKeyKind::of(&cohort.delivery) == BrazeKeyKind::Rest)
}

/// Whether segments of this connection are checked.
pub(super) fn has_segments(config: &Config, name: &ConnectionName) -> bool {
    config.checked_segments().any(|segment| segment.connection == *name)
}

/// Whether users of this connection are exported by their ids: by `preflight:` of a cohort, or for the canaries of a
/// segment.
pub(super) fn has_exports_of_users(config: &Config, name: &ConnectionName) -> bool {
    let mut cohorts = config.cohorts.iter().filter(|cohort| cohort.to == *name);
    let mut segments = config.segments.iter().filter(|segment| segment.connection == *name);
    cohorts.any(|cohort| cohort.preflight.is_some()) || segments.any(|segment| !segment.canaries.is_empty())
}

/// Finds the REST key of every connection that has segments, so that a missing one is reported before any request.
pub(super) fn rest_keys(config: &Config) -> Result<(), CommandError> {
    for (name, braze) in config.braze.iter().filter(|(name, _)| has_segments(config, name)) {
        rest_key(name, braze)?;
    }
    Ok(())
}

fn rest_key(name: &ConnectionName, braze: &BrazeConfig) -> Result<Secret, CommandError> {
    let lacks = || CommandError::new(Exit::Credentials, format!("connection `{name}` has no REST API key"));
    let reference = braze.rest_key.as_ref().ok_or_else(lacks)?;
    found(reference, name.as_str(), "REST API key")
}

/// The keys that identify the workspace of a connection.
pub(super) struct WorkspaceKeys {
    pub(super) data_import: Option<Secret>,
    pub(super) rest: Option<Secret>,
}

/// Resolves the keys of one connection that the config sets.
pub(super) fn workspace_keys(
    name: &ConnectionName,
    braze: &BrazeConfig,
) -> Result<WorkspaceKeys, CommandError> {
    if braze.endpoint == VendorEndpoint::Sandbox {
        let SandboxOptions { data_import_key, rest, .. } = SandboxOptions::default();
        let (data_import, rest) = (Secret::new(data_import_key), Secret::new(rest.api_key));
        return Ok(WorkspaceKeys { data_import: Some(data_import), rest: Some(rest) });
    }
    let find = |reference: &SecretRef| found(reference, name.as_str(), "data import key");
    let data_import = braze.keys.as_ref().map(|keys| find(&keys.data_import)).transpose()?;
    let rest = braze.rest_key.is_some().then(|| rest_key(name, braze)).transpose()?;
    Ok(WorkspaceKeys { data_import, rest })
}

/// The environment ids of the Heaps that these exports send to. The sandbox has one of its own.
pub(super) fn app_ids(
    config: &Config,
    exports: &[&ExportConfig],
) -> Result<BTreeMap<ConnectionName, String>, CommandError> {
    let mut found = BTreeMap::new();
    for (name, heap) in &config.heap {
        if exports.iter().any(|export| export.to == *name) {
            found.extend(app_id(name, heap)?.map(|id| (name.clone(), id)));
        }
    }
    Ok(found)
}

/// The environment id of a Heap, if it has one.
pub(super) fn app_id(name: &ConnectionName, heap: &HeapConfig) -> Result<Option<String>, CommandError> {
    match &heap.app_id {
        Some(AppId::Plain(digits)) => Ok(Some(digits.clone())),
        Some(AppId::Ref(reference)) => {
            let id = reference.find(&environment::variable);
            id.map(Some).map_err(|error| no_secret(name.as_str(), "app id", &error))
        }
        None if heap.endpoint == Some(VendorEndpoint::Sandbox) => {
            Ok(Some(SandboxOptions::default().heap.app_id))
        }
        None => Ok(None),
    }
}

/// The accepted tokens of all HTTP exports.
pub(super) fn tokens(config: &Config) -> Result<BTreeMap<ExportId, Vec<Secret>>, CommandError> {
    let mut found = BTreeMap::new();
    for export in &config.exports {
        if let ExportSource::Http(source) = &export.source {
            found.insert(export.id.clone(), tokens_of(export, source)?);
        }
    }
    Ok(found)
}

/// The accepted tokens of one HTTP export.
pub(super) fn tokens_of(export: &ExportConfig, source: &HttpSource) -> Result<Vec<Secret>, CommandError> {
    source.tokens.iter().map(|reference| found(reference, export.id.as_str(), "token")).collect()
}

/// The key of a Heap's deletion API. The sandbox has one of its own.
pub(super) fn api_key(name: &ConnectionName, heap: &HeapConfig) -> Result<Secret, CommandError> {
    match &heap.api_key {
        Some(reference) => found(reference, name.as_str(), "api key"),
        None if heap.endpoint == Some(VendorEndpoint::Sandbox) => {
            Ok(Secret::new(SandboxOptions::default().heap.api_key))
        }
        None => {
            let lacks = CommandError::new(Exit::Credentials, format!("connection `{name}` lacks `api_key`"));
            Err(lacks.hint(format!("add `api_key: {{ env: HEAP_API_KEY }}` to connection `{name}`")))
        }
    }
}

/// The signing secrets of each Heap connection. The sandbox has its own.
pub(super) fn webhooks(config: &Config) -> Result<BTreeMap<ConnectionName, Vec<Secret>>, CommandError> {
    let mut found = BTreeMap::new();
    for (name, heap) in &config.heap {
        found.insert(name.clone(), webhook_secrets(name, heap)?);
    }
    Ok(found)
}

/// The signing secrets of one Heap connection.
pub(super) fn webhook_secrets(name: &ConnectionName, heap: &HeapConfig) -> Result<Vec<Secret>, CommandError> {
    let mut secrets = Vec::new();
    for reference in &heap.webhook_secrets {
        secrets.push(found(reference, name.as_str(), "webhook secret")?);
    }
    if secrets.is_empty() && heap.endpoint == Some(VendorEndpoint::Sandbox) {
        secrets.push(Secret::new(SANDBOX_WEBHOOK_SECRET.to_owned()));
    }
    Ok(secrets)
}

/// The secrets of all databases that cohorts use.
fn databases(config: &Config) -> Result<BTreeMap<ConnectionName, Secrets>, CommandError> {
    let mut found = BTreeMap::new();
    for (name, database) in &config.sql {
        // Where there may be tables of cohorts that are asked elsewhere now.
        let may_have_tables =
            matches!(database, SqlConfig::Postgres(postgres) if postgres.pushdown.is_some());
        if may_have_tables || config.cohorts.iter().any(|cohort| cohort.source.database() == Some(name)) {
            found.insert(name.clone(), secrets_of(name, database)?);
        }
    }
    Ok(found)
}

/// The secrets of one database.
pub(super) fn secrets_of(name: &ConnectionName, database: &SqlConfig) -> Result<Secrets, CommandError> {
    database
        .secrets()
        .map(|(key, reference)| Ok((key.to_owned(), found(reference, name.as_str(), key)?)))
        .collect()
}

/// Access to the sources of cohorts.
pub(super) fn sources(config: &Config) -> Result<SourceAccess, CommandError> {
    Ok(SourceAccess { databases: databases(config)?, stores: stores() })
}

/// Environment variables of the vendors' object stores.
pub(super) fn stores() -> Vec<(String, String)> {
    let options = environment::store_options();
    let is_secret = |name: &str| {
        !name.ends_with("_ID") && ["SECRET", "TOKEN", "KEY"].iter().any(|part| name.contains(part))
    };
    options.iter().filter(|(name, _)| is_secret(name)).for_each(|(_, value)| keep_secret(value));
    options
}

/// The addresses of notification webhooks, in the order of the config.
pub(super) fn notification_urls(config: &Config) -> Result<Vec<Secret>, CommandError> {
    config.watch.notify.iter().map(|notify| found(&notify.url, "watch", "notify url")).collect()
}

/// Sandboxes that run for as long as this lives. Their memory is part of the state.
#[derive(Default)]
pub(super) struct Sandboxes(tokio::sync::Mutex<BTreeMap<ConnectionName, Sandbox>>);

impl Sandboxes {
    /// Where the REST side of a connection is, with its key; a sandbox is started.
    pub(super) async fn rest(
        &self,
        config: &Config,
        name: &ConnectionName,
    ) -> Result<(String, Secret), CommandError> {
        let unknown = || CommandError::new(Exit::Bug, format!("no connection `{name}`"));
        let braze = config.braze.get(name).ok_or_else(unknown)?;
        let VendorEndpoint::Url(base) = &braze.endpoint else {
            let mut running = self.0.lock().await;
            let options = SandboxOptions { partner: braze.partner.clone(), ..SandboxOptions::default() };
            let base = started(&mut running, config, name, options).await?;
            return Ok((base, Secret::new(SandboxOptions::default().rest.api_key)));
        };
        Ok((base.clone(), rest_key(name, braze)?))
    }

    /// How to reach every connection that is wanted and has keys; sandboxes are started.
    pub(super) async fn reach(
        &self,
        config: &Config,
        keys: &BTreeMap<ConnectionName, WorkspaceKeySet>,
        is_wanted: impl Fn(&ConnectionName) -> bool,
    ) -> Result<BTreeMap<ConnectionName, BrazeAccess>, CommandError> {
        let mut reached = BTreeMap::new();
        let mut running = self.0.lock().await;
        for (name, braze) in config.braze.iter().filter(|(name, _)| is_wanted(name)) {
            if let VendorEndpoint::Url(base) = &braze.endpoint {
                let keys = keys.get(name).cloned();
                reached.extend(keys.map(|keys| (name.clone(), BrazeAccess { base: base.clone(), keys })));
                continue;
            }
            let options = SandboxOptions { partner: braze.partner.clone(), ..SandboxOptions::default() };
            let base = started(&mut running, config, name, options).await?;
            reached.insert(name.clone(), BrazeAccess { base, keys: sandbox_keys() });
        }
        Ok(reached)
    }

    /// How to reach every Heap that is wanted and has an environment id; sandboxes are started.
    pub(super) async fn reach_heaps(
        &self,
        config: &Config,
        ids: &BTreeMap<ConnectionName, String>,
        is_wanted: impl Fn(&ConnectionName) -> bool,
    ) -> Result<BTreeMap<ConnectionName, export::HeapAccess>, CommandError> {
        let mut reached = BTreeMap::new();
        let mut running = self.0.lock().await;
        for (name, heap) in config.heap.iter().filter(|(name, _)| is_wanted(name)) {
            let base = match &heap.endpoint {
                Some(VendorEndpoint::Url(base)) => base.clone(),
                Some(VendorEndpoint::Sandbox) => {
                    let app_id = ids.get(name).cloned();
                    let defaults = SandboxOptions::default();
                    let app_id = app_id.unwrap_or(defaults.heap.app_id.clone());
                    let options =
                        SandboxOptions { heap: HeapOptions { app_id, ..defaults.heap.clone() }, ..defaults };
                    started(&mut running, config, name, options).await?
                }
                None => continue,
            };
            if let Some(app_id) = ids.get(name).cloned() {
                reached.insert(name.clone(), export::HeapAccess { base, app_id });
            }
        }
        Ok(reached)
    }
}

/// Where a connection's sandbox is; it is started if it does not run yet.
async fn started(
    running: &mut BTreeMap<ConnectionName, Sandbox>,
    config: &Config,
    name: &ConnectionName,
    options: SandboxOptions,
) -> Result<String, CommandError> {
    if let Some(sandbox) = running.get(name) {
        return Ok(sandbox.url());
    }
    let memory = Some(config.state_folder().join("sandbox").join(name.as_str()));
    let sandbox = Sandbox::start(SandboxOptions { memory, ..options }).await?;
    Ok(running.entry(name.clone()).or_insert(sandbox).url())
}

fn sandbox_keys() -> WorkspaceKeySet {
    let SandboxOptions { partner_api_key, data_import_key, rest, .. } = SandboxOptions::default();
    let (data_import, partner_api) = (Secret::new(data_import_key), Secret::new(partner_api_key));
    WorkspaceKeySet {
        import: Some(ImportKeys { data_import, partner_api }),
        rest: Some(Secret::new(rest.api_key)),
    }
}
