//! One file a command: what it reads, what it calls, what it prints, how it ends.

pub(super) mod generate;
pub(super) mod history;
pub(super) mod init;
pub(super) mod plan;
pub(super) mod reconcile;
pub(super) mod sandbox;
pub(super) mod status;
pub(super) mod validate;

use std::collections::BTreeMap;

use super::args::{Global, PassArgs};
use super::error::CommandError;
use super::exit::Exit;
use crate::config::{Config, load};
use crate::model::{Ceilings, CohortId};

/// The config that the command line names.
fn config(global: &Global) -> Result<Config, CommandError> {
    Ok(load(&global.config, global.env.as_deref())?)
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
            let have: Vec<&str> = config.cohorts.iter().map(|cohort| cohort.id.as_str()).collect();
            let failed = CommandError::new(Exit::Usage, format!("the config has no cohort `{id}`"));
            return Err(failed.hint(format!("it has {}", have.join(", "))));
        }
    }
    Ok(ceilings)
}
