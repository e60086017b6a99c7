//! What the guard is told about a cohort's surroundings: the names of the others, and where its record
//! is.

use super::report::LeftBehind;
use crate::config::{Braze, Cohort, Config};
use crate::model::CohortId;
use crate::state::{StateError, StateReader, Version, Workspace};

/// The names that cohorts will have after the pass, by where they are.
pub(super) struct Names {
    names: Vec<(String, String, CohortId)>,
    /// Cohorts of the state that the config does not know.
    pub(super) left_behind: Vec<LeftBehind>,
}

/// What tells one Braze from another.
fn place(endpoint: &str, partner: &str) -> String {
    format!("{endpoint} {partner}")
}

impl Names {
    pub(super) fn read(config: &Config, state: &StateReader) -> Result<Self, StateError> {
        let declared = config.cohorts.iter().filter_map(|cohort| {
            let braze = config.connections.get(&cohort.to)?;
            Some((place(braze.endpoint.as_str(), &braze.partner), cohort.name.clone(), cohort.id.clone()))
        });
        let mut all = Self { names: declared.collect(), left_behind: Vec::new() };
        for id in state.cohorts()? {
            let known = config.cohorts.iter().any(|cohort| cohort.id == id) || config.removed.contains(&id);
            let Some(record) = state.version(&id)?.filter(|record| !known && !record.removed) else {
                continue;
            };
            if let Some(name) = record.name.clone() {
                all.names.push((
                    place(&record.workspace.endpoint, &record.workspace.partner),
                    name,
                    id.clone(),
                ));
            }
            all.left_behind.push(left_behind(id, record));
        }
        Ok(all)
    }

    /// Another cohort in the same Braze that has this cohort's name.
    pub(super) fn taken_by(&self, cohort: &Cohort, braze: &Braze) -> Option<CohortId> {
        let here = place(braze.endpoint.as_str(), &braze.partner);
        let same = |(place, name, id): &&(String, String, CohortId)| {
            *place == here && *name == cohort.name && *id != cohort.id
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

/// Where the config would send a cohort.
pub(super) fn workspace(cohort: &Cohort, braze: &Braze) -> Workspace {
    Workspace {
        connection: cohort.to.to_string(),
        endpoint: braze.endpoint.as_str().to_owned(),
        partner: braze.partner.clone(),
    }
}

/// Set when a record is of another Braze than the config's: its members are not there.
pub(super) fn moved(record: &Workspace, config: &Workspace) -> Option<(String, String)> {
    let shown = |workspace: &Workspace| format!("{} (partner `{}`)", workspace.endpoint, workspace.partner);
    let same = record.endpoint == config.endpoint && record.partner == config.partner;
    (!same).then(|| (shown(record), shown(config)))
}
