//! One file a command: what it reads, what it calls, what it prints, how it ends.

pub(super) mod approve;
pub(super) mod doctor;
pub(super) mod export;
pub(super) mod forget;
pub(super) mod generate;
pub(super) mod history;
pub(super) mod init;
pub(super) mod plan;
pub(super) mod reconcile;
pub(super) mod replay;
pub(super) mod resync;
pub(super) mod sandbox;
pub(super) mod state;
pub(super) mod status;
pub(super) mod validate;
pub(super) mod watch;

use std::collections::BTreeMap;

use super::args::{Global, PassArgs};
use super::environment;
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use crate::config::{Config, Secret, StatePlace, load};
use crate::model::{Ceilings, CohortId};
use crate::state::{Address, Location, StateReader, StateWriter};

/// The config that the command line names.
fn config(global: &Global) -> Result<Config, CommandError> {
    Ok(load(&global.config, global.env.as_deref())?)
}

/// Where the config says that the state is, with what the environment knows of the vendors' stores.
pub(super) fn location(config: &Config) -> Location {
    let StatePlace::Bucket { url, endpoint, region, lease } = &config.state else {
        return Location::Folder(config.state_folder());
    };
    let options = store_options(endpoint.as_deref(), region.as_deref());
    Location::Bucket(Address { url: url.clone(), options, lease: *lease })
}

/// What the environment knows of the vendors' stores, with what the config says of one of them.
fn store_options(endpoint: Option<&str>, region: Option<&str>) -> Vec<(String, String)> {
    let mut options = environment::store_options();
    let is_secret = |name: &str| {
        !name.ends_with("_ID") && ["SECRET", "TOKEN", "KEY"].iter().any(|part| name.contains(part))
    };
    let secrets: Vec<Secret> = options
        .iter()
        .filter(|(name, _)| is_secret(name))
        .map(|(_, value)| Secret::new(value.clone()))
        .collect();
    output::keep_secret(secrets.iter().filter(|secret| !secret.expose().is_empty()));
    let mut set = |name: &str, value: &str| options.push((name.to_owned(), value.to_owned()));
    if let Some(endpoint) = endpoint {
        for name in ["aws_endpoint", "google_base_url", "azure_storage_endpoint"] {
            set(name, endpoint);
        }
        if endpoint.starts_with("http://") {
            for name in ["aws_allow_http", "google_allow_http", "azure_allow_http"] {
                set(name, "true");
            }
        }
    }
    if let Some(region) = region {
        set("aws_region", region);
    }
    options
}

/// The state, to look at.
fn reader(config: &Config) -> Result<StateReader, CommandError> {
    Ok(StateReader::open(&location(config))?)
}

/// The state, to change.
fn writer(config: &Config) -> Result<StateWriter, CommandError> {
    let (holder, random) = (environment::holder(), environment::random());
    Ok(StateWriter::open(&location(config), &holder, environment::clock(), random)?)
}

/// The runtime for commands that talk to anybody.
fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| CommandError::new(Exit::Failed, format!("no runtime: {e}")))
}

/// What the command line allows for this run. A cohort that nobody knows is a mistake in the command.
fn ceilings(args: &PassArgs, config: &Config) -> Result<BTreeMap<CohortId, Ceilings>, CommandError> {
    let mut ceilings: BTreeMap<CohortId, Ceilings> = BTreeMap::new();
    for (id, number) in &args.max_removes {
        ceilings.entry(id.clone()).or_default().removes = Some(*number);
    }
    for (id, number) in &args.max_adds {
        ceilings.entry(id.clone()).or_default().adds = Some(*number);
    }
    let known = |id: &CohortId| config.cohorts.iter().any(|c| c.id == *id) || config.removed.contains(id);
    for id in ceilings.keys().chain(&args.cohorts) {
        if !known(id) {
            return Err(unknown_cohort(id, config));
        }
    }
    Ok(ceilings)
}

fn unknown_cohort(id: &CohortId, config: &Config) -> CommandError {
    let have: Vec<&str> = config.cohorts.iter().map(|cohort| cohort.id.as_str()).collect();
    let failed = CommandError::new(Exit::Usage, format!("the config has no cohort `{id}`"));
    failed.hint(format!("it has {}", have.join(", ")))
}
