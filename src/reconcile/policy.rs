//! What the guard is told about a cohort's surroundings: the names of the others, and where its record
//! is.

use super::report::OrphanedCohort;
use crate::config::{BrazeConfig, CohortConfig, Config};
use crate::model::{CohortId, ConnectionName, DeliveryMethod};
use crate::plan::ArrayFull;
use crate::state::{Membership, RecordedWorkspace, StateError, StateReader};

/// The names that cohorts will have after the run, by where they are.
pub(super) struct CohortNames {
    names: Vec<(ConnectionName, String, CohortId)>,
    /// The cohorts in arrays, those that have people there first.
    elements: Vec<(ConnectionName, DeliveryMethod, CohortId)>,
    /// Cohorts of the state that the config does not know.
    pub(super) orphaned: Vec<OrphanedCohort>,
    /// Cohorts of the state that the config does not know and that cannot be read.
    pub(super) unreadable: Vec<(CohortId, StateError)>,
}

impl CohortNames {
    pub(super) fn read(config: &Config, state: &StateReader) -> Result<Self, StateError> {
        let declared = config.cohorts.iter().filter(|cohort| cohort.delivery == DeliveryMethod::CohortImport);
        let declared = declared.map(|cohort| (cohort.to.clone(), cohort.name.clone(), cohort.id.clone()));
        let mut all = Self {
            names: declared.collect(),
            elements: Vec::new(),
            orphaned: Vec::new(),
            unreadable: Vec::new(),
        };
        let (ids, has_arrays) = (state.cohorts()?, config.cohorts.iter().any(is_in_array));
        for id in ids.iter().filter(|_| has_arrays) {
            let record = match state.version(id) {
                Ok(record) => record,
                // Its own plan reports that.
                Err(error) if error.is_of_one_file() => continue,
                Err(error) => return Err(error),
            };
            let Some(record) = record.filter(|record| !record.is_vacant()) else { continue };
            all.has_element(&record, id, config);
        }
        for cohort in config.cohorts.iter().filter(|cohort| is_in_array(cohort)) {
            let element = (cohort.to.clone(), cohort.delivery.clone(), cohort.id.clone());
            if !all.elements.contains(&element) {
                all.elements.push(element);
            }
        }
        for id in ids {
            let known = config.cohorts.iter().any(|cohort| cohort.id == id) || config.removed.contains(&id);
            if known {
                continue;
            }
            let record = match state.version(&id) {
                Ok(record) => record,
                // One damaged cohort stops no other.
                Err(error) if error.is_of_one_file() => {
                    all.unreadable.push((id, error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(record) = record.filter(|record| !record.removed) else { continue };
            let connection = connection_of(&record.workspace.connection, config);
            if let Some((connection, name)) = connection.zip(record.name.clone()) {
                all.names.push((connection, name, id.clone()));
            }
            all.orphaned.push(orphaned(id, record));
        }
        Ok(all)
    }

    fn has_element(&mut self, record: &Membership, id: &CohortId, config: &Config) {
        let connection = connection_of(&record.workspace.connection, config);
        if let (Some(connection), by @ DeliveryMethod::Array(_)) = (connection, &record.workspace.delivery) {
            self.elements.push((connection, by.clone(), id.clone()));
        }
    }

    /// Set when this cohort would be one too many in its array. Whoever is in it already stays.
    pub(super) fn array_full(&self, cohort: &CohortConfig, braze: &BrazeConfig) -> Option<ArrayFull> {
        let DeliveryMethod::Array(attribute) = &cohort.delivery else { return None };
        let same = |(to, by, _): &&(ConnectionName, DeliveryMethod, CohortId)| {
            *to == cohort.to && *by == cohort.delivery
        };
        let place = self.elements.iter().filter(same).position(|(_, _, id)| *id == cohort.id)?;
        let full = ArrayFull {
            attribute: attribute.to_string(),
            cohorts: self.elements.iter().filter(same).count() as u64,
            limit: braze.array_elements_max as u64,
        };
        (place >= braze.array_elements_max).then_some(full)
    }

    /// Another cohort in the same Braze that has this cohort's name, where names are seen: an attribute has none.
    pub(super) fn taken_by(&self, cohort: &CohortConfig) -> Option<CohortId> {
        if cohort.delivery != DeliveryMethod::CohortImport {
            return None;
        }
        let same = |(connection, name, id): &&(ConnectionName, String, CohortId)| {
            *connection == cohort.to && *name == cohort.name && *id != cohort.id
        };
        self.names.iter().find(same).map(|(_, _, id)| id.clone())
    }
}

fn is_in_array(cohort: &CohortConfig) -> bool {
    matches!(cohort.delivery, DeliveryMethod::Array(_))
}

fn orphaned(id: CohortId, record: Membership) -> OrphanedCohort {
    OrphanedCohort {
        id,
        name: record.name,
        members: record.members.filter(|_| record.in_doubt == 0),
        connection: record.workspace.connection,
        protected: record.protected,
    }
}

/// The connection that is called so, or was.
pub(super) fn connection_of(name: &str, config: &Config) -> Option<ConnectionName> {
    let is = |(known, braze): &(&ConnectionName, &BrazeConfig)| {
        known.as_str() == name || braze.formerly.iter().any(|old| old.as_str() == name)
    };
    config.braze.iter().find(is).map(|(known, _)| known.clone())
}

/// Where the config would send a cohort, and how.
pub(super) fn workspace(
    connection: &ConnectionName,
    braze: &BrazeConfig,
    delivery: &DeliveryMethod,
) -> RecordedWorkspace {
    RecordedWorkspace {
        connection: connection.to_string(),
        endpoint: braze.endpoint.as_str().to_owned(),
        partner: braze.partner.clone(),
        delivery: delivery.clone(),
    }
}

/// Set when a record is of another Braze than the config's: its members are not there. Two workspaces of
/// one company may share endpoint and partner, so the connection's name is part of it.
pub(super) fn moved(
    record: &RecordedWorkspace,
    config: &RecordedWorkspace,
    braze: &BrazeConfig,
) -> Option<(String, String)> {
    let renamed = braze.formerly.iter().any(|old| old.as_str() == record.connection);
    let same = record.endpoint == config.endpoint
        && record.partner == config.partner
        && (record.connection == config.connection || renamed);
    (!same).then(|| (record.to_string(), config.to_string()))
}

/// A record that nobody is left in begins anew where the config sends it now.
pub(super) fn at_home(record: Membership, cohort: &CohortConfig, braze: &BrazeConfig) -> Membership {
    let here = workspace(&cohort.to, braze, &cohort.delivery);
    let is_same =
        moved(&record.workspace, &here, braze).is_none() && record.workspace.delivery == here.delivery;
    if !record.is_vacant() || is_same {
        return record;
    }
    Membership {
        workspace: here,
        name: None,
        members: Some(0),
        source: None,
        parts: Vec::new(),
        late: Vec::new(),
        ..record
    }
}
