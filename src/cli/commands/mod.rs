//! Commands, one file per command: input, calls, output and exit code.

mod adopt;
pub(super) mod approve;
pub(super) mod check;
pub(super) mod discover;
pub(super) mod doctor;
pub(super) mod export;
pub(super) mod forget;
pub(super) mod generate;
pub(super) mod history;
pub(super) mod identity;
pub(super) mod import;
pub(super) mod init;
pub(super) mod plan;
pub(super) mod reconcile;
pub(super) mod replay;
pub(super) mod resync;
pub(super) mod sandbox;
pub(super) mod state;
pub(super) mod status;
mod stop;
pub(super) mod validate;
pub(super) mod watch;

use std::collections::BTreeMap;

use super::access;
use super::args::RunArgs;
use super::environment;
use super::error::CommandError;
use super::exit::Exit;
use super::global_args::Global;
use crate::config::{Config, StateLocation, load};
use crate::model::{Ceilings, CohortId};
use crate::object_store;
use crate::state::{Address, Location, StateReader, StateWriter};

/// Loads the config of the command line.
fn config(global: &Global) -> Result<Config, CommandError> {
    Ok(load(&global.config, global.env.as_deref(), global.trusted_config.as_deref())?)
}

/// The location of the state from the config, with object store settings from the environment.
pub(super) fn location(config: &Config) -> Location {
    let StateLocation::Bucket { url, endpoint, region, lease } = &config.state else {
        return Location::Folder(config.state_folder());
    };
    let options = store_options(endpoint.as_deref(), region.as_deref());
    Location::Bucket(Address { url: url.clone(), options, lease: *lease })
}

/// Object store settings from the environment, with the config's settings of one store.
fn store_options(endpoint: Option<&str>, region: Option<&str>) -> Vec<(String, String)> {
    object_store::settings(&access::stores(), endpoint, region)
}

/// Opens the state for reading.
fn reader(config: &Config) -> Result<StateReader, CommandError> {
    must_exist(config)?;
    Ok(StateReader::open(&location(config))?)
}

/// Opens the state for writing.
fn writer(config: &Config) -> Result<StateWriter, CommandError> {
    must_exist(config)?;
    create(config)
}

/// Fails if the state is missing but `must_exist` is set: without it, recorded members would be unknown.
fn must_exist(config: &Config) -> Result<(), CommandError> {
    if !config.state_must_exist || StateReader::exists_at(&location(config))? {
        return Ok(());
    }
    let message = format!("there is no state in {}, and `state: {{ must_exist: true }}`", location(config));
    Err(CommandError::new(Exit::Failed, message)
        .hint("nothing was sent; was a cache lost, or a volume not mounted? Without the state, no member can be removed")
        .hint("if this is the first run: syncline state create"))
}

/// Opens the state for writing, and creates it if it is missing.
fn create(config: &Config) -> Result<StateWriter, CommandError> {
    let (holder, random) = (environment::holder(), environment::random());
    Ok(StateWriter::open(&location(config), &holder, environment::clock(), random)?)
}

/// The async runtime of commands that use the network.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| CommandError::new(Exit::Failed, format!("no runtime: {e}")))
}

/// The guard ceilings from the command line. A cohort that is not in the config is a usage error.
fn ceilings(args: &RunArgs, config: &Config) -> Result<BTreeMap<CohortId, Ceilings>, CommandError> {
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
