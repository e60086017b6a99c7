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
pub(super) mod who;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::args::RunArgs;
use super::environment;
use super::error::CommandError;
use super::exit::Exit;
use super::global_args::Global;
use super::logging;
use super::operator;
use super::resources::{create, location, must_exist, reader, runtime, writer};
use crate::config::{Config, StateLocation, did_you_mean, listed, load, load_state_location};
use crate::model::{Ceilings, CohortId, RunId};
use crate::reconcile::RunRecorder;
use crate::state::{StateReader, StateWriter};

/// Loads the config of the command line.
fn config(global: &Global) -> Result<Config, CommandError> {
    Ok(load(&global.config, global.env.as_deref(), global.trusted_config.as_deref())?)
}

/// Loads the config of a run. An invalid config is a failed run in the `history` of its state, if the state is known and in
/// a folder: a bucket that does not respond would delay the message.
fn run_config(command: &str, global: &Global) -> Result<Config, CommandError> {
    let is_in_folder = |config: &Config| matches!(config.state, StateLocation::Folder(_));
    config(global).inspect_err(|error| {
        if let Some(config) = state_config(global).filter(is_in_folder) {
            record_failed_start(command, &config, error);
        }
    })
}

/// Loads the config of a command that shows what the state records. If the config is invalid, says where the state is, and
/// there is one, the problems are a warning, and the config has no cohorts and no exports. Returns whether the config is valid.
fn config_or_state(global: &Global) -> Result<(Config, bool), CommandError> {
    let error = match config(global) {
        Ok(config) => return Ok((config, true)),
        Err(error) => error,
    };
    let exists = |config: &Config| StateReader::exists_at(&location(config)).unwrap_or(false);
    let Some(config) = state_config(global).filter(exists) else { return Err(error) };
    let mut lines = vec![format!("warning: {}; only what the state records is shown", error.message())];
    lines.extend(error.problems().into_iter().map(|problem| format!("  {problem}")));
    logging::notify(&lines.join("\n"));
    Ok((config, false))
}

/// The location of the state in an invalid config. A trusted config decides about all of the config, so there is none
/// with it.
fn state_config(global: &Global) -> Option<Config> {
    let environment = global.env.as_deref();
    if global.trusted_config.is_some() { None } else { load_state_location(&global.config, environment) }
}

/// Does the work of a run, which `history` shows from here on, also if it fails.
fn recorded<T>(
    command: &str,
    run: &RunId,
    config: &Config,
    state: &Arc<StateWriter>,
    work: impl FnOnce(&RunRecorder) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let origin = operator::origin(command);
    let recorder = RunRecorder::begin(state, run, environment::clock(), config, origin)?;
    work(&recorder).inspect_err(|error| match error.is_requested() {
        true => recorder.stop(config),
        false => recorder.fail(error.message(), config),
    })
}

/// Records a run that failed before it held the state, for `history`. Only the holder may write to a state, so nothing is
/// recorded while another process holds it, and no state is created for it.
fn record_failed_start(command: &str, config: &Config, error: &CommandError) {
    let text = error.recorded();
    let recorded = || -> Result<(), CommandError> {
        if !StateReader::exists_at(&location(config))? {
            return Ok(());
        }
        let (state, run) = (Arc::new(create(config)?), environment::process_run());
        let failed = (operator::origin(command), &*text);
        Ok(RunRecorder::record_failed_start(&state, run, environment::clock(), config, failed)?)
    };
    if let Err(error) = recorded() {
        tracing::debug!("the failed start is not in the history: {}", error.message());
    }
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

/// The first of these cohorts that neither the config nor the state has.
fn first_unknown<'a>(
    chosen: &'a [CohortId],
    config: &Config,
    state: &StateReader,
) -> Result<Option<&'a CohortId>, CommandError> {
    let in_state = if chosen.is_empty() { Vec::new() } else { state.cohorts()? };
    Ok(chosen.iter().find(|id| !config.cohort_ids().any(|known| known == *id) && !in_state.contains(id)))
}

fn unknown_cohort(id: &CohortId, config: &Config) -> CommandError {
    unknown("the config", "cohort", id.as_str(), config.cohorts.iter().map(|cohort| cohort.id.as_str()))
}

/// An argument that names what does not exist. The hint is the most similar name, or some of the names there are.
fn unknown<'a>(place: &str, what: &str, id: &str, known: impl Iterator<Item = &'a str>) -> CommandError {
    let known: Vec<&str> = known.collect();
    let failed = CommandError::new(Exit::Usage, format!("{place} has no {what} `{id}`"));
    failed.hint(match did_you_mean(id, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("it has no {what}"),
        None => format!("it has {}", listed(&known)),
    })
}
