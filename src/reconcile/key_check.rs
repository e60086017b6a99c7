//! Checks that the keys of a connection belong to the workspace that the recorded members are in.
//!
//! Two workspaces of one company may share the endpoint, the partner and the connection of a membership. Only the key
//! distinguishes them, so the state records its fingerprint: see [`KeyFingerprints`].

use std::collections::BTreeMap;

use super::context::{ApplyResources, PlanInputs};
use super::plan_error::PlanError;
use super::run_plan::RunPlan;
use crate::apply::ApplyStop;
use crate::config::Config;
use crate::connector::braze::{BrazeClient, BrazeKeyKind};
use crate::model::{ConnectionName, DeliveryMethod, Timestamp};
use crate::state::{KeyFingerprints, StateError, StateReader, StateWriter};

/// The name of a connection and its former names.
fn names<'a>(config: &'a Config, name: &'a ConnectionName) -> impl Iterator<Item = &'a ConnectionName> {
    let formerly = config.braze.get(name).map(|braze| braze.formerly.as_slice()).unwrap_or_default();
    std::iter::once(name).chain(formerly)
}

/// Why nothing may be sent to a connection, by delivery method.
pub(super) type KeyMismatches = BTreeMap<(ConnectionName, DeliveryMethod), ApplyStop>;

/// Fails if the key fingerprints of a connection cannot be read: then nothing may be sent to it.
pub(super) fn check_readable(name: &ConnectionName, inputs: PlanInputs<'_>) -> Result<(), PlanError> {
    let found = inputs.state.key_fingerprints(names(inputs.config, name));
    found.map(drop).map_err(|error| match error {
        StateError::Damaged { .. } => PlanError::Workspace(name.clone(), error),
        other => other.into(),
    })
}

/// Checks the keys that a plan would be sent with.
pub(super) fn mismatches(
    plan: &RunPlan,
    config: &Config,
    resources: &ApplyResources,
) -> Result<KeyMismatches, StateError> {
    let mut mismatches = KeyMismatches::new();
    for cohort in &plan.cohorts {
        let (name, delivery) = (&cohort.connection, cohort.delivery());
        let key = (name.clone(), delivery.clone());
        let Some(braze) = resources.links.get(name).filter(|_| !mismatches.contains_key(&key)) else {
            continue;
        };
        let kinds = [Some(BrazeKeyKind::of(delivery)), cohort.fires_triggers().then_some(BrazeKeyKind::Rest)];
        for kind in kinds.into_iter().flatten() {
            let halt = match mismatch(config, name, (braze, kind), resources.state.reader()) {
                // A damaged file stops only this workspace.
                Err(error) if error.is_of_one_file() => Some(error.into()),
                found => found?,
            };
            mismatches.extend(halt.map(|halt| (key.clone(), halt)));
        }
    }
    Ok(mismatches)
}

/// A key that differs from the recorded one. `None` if no key is recorded yet.
fn mismatch(
    config: &Config,
    name: &ConnectionName,
    (braze, kind): (&BrazeClient, BrazeKeyKind),
    state: &StateReader,
) -> Result<Option<ApplyStop>, StateError> {
    let Some(marks) = state.key_fingerprints(names(config, name))? else { return Ok(None) };
    let Some(mark) = braze.key_fingerprint(&marks.salt, kind) else { return Ok(None) };
    let is_other = marks.keys.get(kind.code()).is_some_and(|known| *known != mark);
    let (connection, key) = (name.to_string(), kind.name());
    Ok(is_other.then_some(ApplyStop::OtherWorkspace { connection, key }))
}

/// Records the fingerprint of a key that Braze accepted, if none is recorded.
pub(super) fn remember(
    config: &Config,
    name: &ConnectionName,
    (braze, kind): (&BrazeClient, BrazeKeyKind),
    state: &StateWriter,
    now: Timestamp,
) -> Result<(), StateError> {
    let known = state.reader().key_fingerprints(names(config, name))?;
    if known.as_ref().is_some_and(|marks| marks.keys.contains_key(kind.code())) {
        return Ok(());
    }
    let mut marks = match known {
        Some(marks) => marks.next(now),
        None => KeyFingerprints::first(now)?,
    };
    let Some(mark) = braze.key_fingerprint(&marks.salt, kind) else { return Ok(()) };
    marks.keys.insert(kind.code().to_owned(), mark);
    state.adopt(name, &marks)
}
