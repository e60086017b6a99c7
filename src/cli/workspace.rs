//! Checks before any other use that the configured keys belong to the workspace of the state.

use std::collections::BTreeMap;

use super::access;
use super::error::CommandError;
use super::exit::Exit;
use super::render::report::workspace_remedies;
use super::suggested_command::SuggestedCommand;
use crate::apply::ApplyStop;
use crate::config::{BrazeConfig, Config, Secret};
use crate::connector::braze::{BrazeKeyKind, WorkspaceKeySet, key_fingerprint};
use crate::model::ConnectionName;
use crate::state::{KeyFingerprints, StateError, StateReader};

/// The key fingerprints of a connection, by its current or former names.
pub(super) fn marks_of(
    name: &ConnectionName,
    braze: &BrazeConfig,
    state: &StateReader,
) -> Result<Option<KeyFingerprints>, StateError> {
    state.key_fingerprints(std::iter::once(name).chain(&braze.formerly))
}

/// The fingerprint of a key.
pub(super) fn mark_of(marks: &KeyFingerprints, kind: BrazeKeyKind, key: &Secret) -> String {
    key_fingerprint(&marks.salt, kind, key)
}

/// Fails for keys of another workspace. A state without fingerprints records the keys of the first successful run.
///
/// # Errors
/// If the keys belong to another workspace, with remedies, or if the state cannot be read.
pub(super) fn check_workspace(
    config: &Config,
    state: &StateReader,
    keys: &BTreeMap<ConnectionName, WorkspaceKeySet>,
    again: &SuggestedCommand,
) -> Result<(), CommandError> {
    for (name, keys) in keys {
        let Some(braze) = config.braze.get(name) else { continue };
        let marks = match marks_of(name, braze, state) {
            // The plan reports it for the cohorts of this workspace. Other cohorts continue.
            Err(error) if error.is_of_one_file() => None,
            found => found?,
        };
        let Some(marks) = marks else { continue };
        let import = keys.import.as_ref().map(|keys| (BrazeKeyKind::DataImport, &keys.data_import));
        let rest = keys.rest.as_ref().map(|key| (BrazeKeyKind::Rest, key));
        let used = import.into_iter().chain(rest).filter(|(kind, _)| access::needs(config, name, *kind));
        for (kind, key) in used {
            let known = marks.keys.get(kind.code());
            if known.is_none_or(|known| *known == mark_of(&marks, kind, key)) {
                continue;
            }
            let stop = ApplyStop::OtherWorkspace { connection: name.to_string(), key: kind.name() };
            let error = CommandError::new(Exit::Blocked, format!("{stop}; nothing was sent"));
            return Err(workspace_remedies(&stop, again).into_iter().fold(error, CommandError::hint));
        }
    }
    Ok(())
}
