//! What the guard is told about a cohort's surroundings: the names of the others, and where its record
//! is.

use super::report::LeftBehind;
use crate::config::{Braze, Cohort, Config};
use crate::model::{CohortId, ConnectionName};
use crate::state::{StateError, StateReader, Version, Workspace};

/// The names that cohorts will have after the pass, by where they are.
pub(super) struct Names {
    names: Vec<(ConnectionName, String, CohortId)>,
    /// Cohorts of the state that the config does not know.
    pub(super) left_behind: Vec<LeftBehind>,
}

impl Names {
    pub(super) fn read(config: &Config, state: &StateReader) -> Result<Self, StateError> {
        let declared = config.cohorts.iter();
        let declared = declared.map(|cohort| (cohort.to.clone(), cohort.name.clone(), cohort.id.clone()));
        let mut all = Self { names: declared.collect(), left_behind: Vec::new() };
        for id in state.cohorts()? {
            let known = config.cohorts.iter().any(|cohort| cohort.id == id) || config.removed.contains(&id);
            if known {
                continue;
            }
            let Some(record) = state.version(&id)?.filter(|record| !record.removed) else { continue };
            let connection = connection_of(&record.workspace.connection, config);
            if let Some((connection, name)) = connection.zip(record.name.clone()) {
                all.names.push((connection, name, id.clone()));
            }
            all.left_behind.push(left_behind(id, record));
        }
        Ok(all)
    }

    /// Another cohort in the same Braze that has this cohort's name.
    pub(super) fn taken_by(&self, cohort: &Cohort) -> Option<CohortId> {
        let same = |(connection, name, id): &&(ConnectionName, String, CohortId)| {
            *connection == cohort.to && *name == cohort.name && *id != cohort.id
        };
        self.names.iter().find(same).map(|(_, _, id)| id.clone())
    }
}

fn left_behind(id: CohortId, record: Version) -> LeftBehind {
    LeftBehind {
        id,
        name: record.name,
        members: record.members.filter(|_| record.in_doubt == 0),
        connection: record.workspace.connection,
        protected: record.protected,
    }
}

/// The connection that is called so, or was.
pub(super) fn connection_of(name: &str, config: &Config) -> Option<ConnectionName> {
    let is = |(known, braze): &(&ConnectionName, &Braze)| {
        known.as_str() == name || braze.formerly.iter().any(|old| old.as_str() == name)
    };
    config.braze.iter().find(is).map(|(known, _)| known.clone())
}

/// Where the config would send a cohort.
pub(super) fn workspace(connection: &ConnectionName, braze: &Braze) -> Workspace {
    Workspace {
        connection: connection.to_string(),
        endpoint: braze.endpoint.as_str().to_owned(),
        partner: braze.partner.clone(),
    }
}

/// Set when a record is of another Braze than the config's: its members are not there. Two workspaces of
/// one company may share endpoint and partner, so the connection's name is part of it.
pub(super) fn moved(record: &Workspace, config: &Workspace, braze: &Braze) -> Option<(String, String)> {
    let renamed = braze.formerly.iter().any(|old| old.as_str() == record.connection);
    let same = record.endpoint == config.endpoint
        && record.partner == config.partner
        && (record.connection == config.connection || renamed);
    (!same).then(|| (record.to_string(), config.to_string()))
}

/// A record that nobody is left in begins anew where the config sends it now.
pub(super) fn at_home(record: Version, cohort: &Cohort, braze: &Braze) -> Version {
    let here = workspace(&cohort.to, braze);
    if !record.is_vacant() || moved(&record.workspace, &here, braze).is_none() {
        return record;
    }
    Version { workspace: here, name: None, members: Some(0), source: None, runs: Vec::new(), ..record }
}
