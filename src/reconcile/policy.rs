//! What the guard must know besides the diff: the names of other cohorts, and the workspace of the recorded members.

use super::plan_error::PlanError;
use crate::config::{BrazeConfig, CohortConfig, Config, Trigger};
use crate::model::{CohortId, ConnectionName, DeliveryMethod};
use crate::plan::ArrayFull;
use crate::state::{Membership, RecordedWorkspace, StateError, StateReader};

/// A cohort that is in the state and no longer in the config. Its members stay in Braze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanedCohort {
    /// Its id.
    pub id: CohortId,
    /// Its name in Braze.
    pub name: Option<String>,
    /// The number of members; `None` while some are in doubt.
    pub members: Option<u64>,
    /// Its connection.
    pub connection: String,
    /// Whether `protect` forbids to empty it.
    pub protected: bool,
}

/// The names and array elements that the cohorts of each connection will have after the run.
pub(super) struct CohortNames {
    names: Vec<(ConnectionName, String, CohortId)>,
    /// Cohorts in array attributes, those with recorded members first.
    elements: Vec<(ConnectionName, DeliveryMethod, CohortId)>,
    /// Cohorts that are in the state and not in the config.
    pub(super) orphaned: Vec<OrphanedCohort>,
    /// Orphaned cohorts that cannot be read.
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
            let membership = match state.version(id) {
                Ok(membership) => membership,
                // The plan of this cohort reports the error.
                Err(error) if error.is_of_one_file() => continue,
                Err(error) => return Err(error),
            };
            let Some(membership) = membership.filter(|membership| !membership.is_vacant()) else { continue };
            all.has_element(&membership, id, config);
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
            let membership = match state.version(&id) {
                Ok(membership) => membership,
                // A damaged cohort stops no other.
                Err(error) if error.is_of_one_file() => {
                    all.unreadable.push((id, error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(membership) = membership.filter(|membership| !membership.removed) else { continue };
            let connection = connection_of(&membership.workspace.connection, config);
            if let Some((connection, name)) = connection.zip(membership.name.clone()) {
                all.names.push((connection, name, id.clone()));
            }
            all.orphaned.push(orphaned(id, membership));
        }
        Ok(all)
    }

    fn has_element(&mut self, membership: &Membership, id: &CohortId, config: &Config) {
        let connection = connection_of(&membership.workspace.connection, config);
        if let (Some(connection), delivery @ DeliveryMethod::Array(_)) =
            (connection, &membership.workspace.delivery)
        {
            self.elements.push((connection, delivery.clone(), id.clone()));
        }
    }

    /// The array attribute, if this cohort would exceed its limit. Cohorts that are in it already keep their elements.
    pub(super) fn array_full(&self, cohort: &CohortConfig, braze: &BrazeConfig) -> Option<ArrayFull> {
        let DeliveryMethod::Array(attribute) = &cohort.delivery else { return None };
        let same = |(to, by, _): &&(ConnectionName, DeliveryMethod, CohortId)| {
            *to == cohort.to && *by == cohort.delivery
        };
        let position = self.elements.iter().filter(same).position(|(_, _, id)| *id == cohort.id)?;
        let full = ArrayFull {
            attribute: attribute.to_string(),
            cohorts: self.elements.iter().filter(same).count() as u64,
            limit: braze.array_elements_max as u64,
        };
        (position >= braze.array_elements_max).then_some(full)
    }

    /// Another cohort with the same name on the same connection. Cohorts in attributes have no name in Braze.
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

fn orphaned(id: CohortId, membership: Membership) -> OrphanedCohort {
    OrphanedCohort {
        id,
        name: membership.name,
        members: membership.members.filter(|_| membership.in_doubt == 0),
        connection: membership.workspace.connection,
        protected: membership.protected,
    }
}

/// The connection with this name or former name.
fn connection_of(name: &str, config: &Config) -> Option<ConnectionName> {
    let is = |(known, braze): &(&ConnectionName, &BrazeConfig)| {
        known.as_str() == name || braze.formerly.iter().any(|old| old.as_str() == name)
    };
    config.braze.iter().find(is).map(|(known, _)| known.clone())
}

/// The settings of a connection.
pub(super) fn connection<'a>(
    name: &ConnectionName,
    config: &'a Config,
) -> Result<&'a BrazeConfig, PlanError> {
    config.braze.get(name).ok_or_else(|| PlanError::NoConnection(name.to_string()))
}

/// The connection of recorded members, by its current name, with its settings and its workspace.
pub(super) fn recorded_connection<'a>(
    membership: &Membership,
    config: &'a Config,
) -> Result<(ConnectionName, &'a BrazeConfig, RecordedWorkspace), PlanError> {
    let recorded = &membership.workspace.connection;
    let name = connection_of(recorded, config).ok_or_else(|| PlanError::NoConnection(recorded.clone()))?;
    let braze = connection(&name, config)?;
    let here = workspace(&name, braze, &membership.workspace.delivery);
    Ok((name, braze, here))
}

/// The target of a plan for its digest: workspace and triggers. An approval of a plan with a trigger does not approve
/// the same plan without it.
pub(super) fn target(cohort: &CohortConfig, workspace: &RecordedWorkspace) -> String {
    let trigger = |key: &str, trigger: &Option<Trigger>| {
        trigger.as_ref().map_or_else(String::new, |trigger| format!("; {key}: {trigger}"))
    };
    let (enter, exit) = (trigger("on_enter", &cohort.on_enter), trigger("on_exit", &cohort.on_exit));
    format!("{workspace}{enter}{exit}")
}

/// The workspace and the delivery method that the config sends a cohort to.
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

/// The recorded and the configured workspace, if they differ: the recorded members are not in the configured one. Two
/// workspaces of one company may share endpoint and partner, so the name of the connection is compared as well.
pub(super) fn workspace_change(
    recorded: &RecordedWorkspace,
    configured: &RecordedWorkspace,
    braze: &BrazeConfig,
) -> Option<(String, String)> {
    let renamed = braze.formerly.iter().any(|old| old.as_str() == recorded.connection);
    let same = recorded.endpoint == configured.endpoint
        && recorded.partner == configured.partner
        && (recorded.connection == configured.connection || renamed);
    (!same).then(|| (recorded.to_string(), configured.to_string()))
}

/// An empty membership starts anew in the configured workspace and with the configured delivery method.
pub(super) fn in_configured_workspace(
    membership: Membership,
    cohort: &CohortConfig,
    braze: &BrazeConfig,
) -> Membership {
    let here = workspace(&cohort.to, braze, &cohort.delivery);
    let is_same = workspace_change(&membership.workspace, &here, braze).is_none()
        && membership.workspace.delivery == here.delivery;
    if !membership.is_vacant() || is_same {
        return membership;
    }
    Membership {
        workspace: here,
        name: None,
        members: Some(0),
        source: None,
        parts: Vec::new(),
        late: Vec::new(),
        ..membership
    }
}
