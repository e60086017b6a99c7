//! Checks that the keys of a connection belong to the workspace that the recorded members are in.
//!
//! Two workspaces of one company may share the endpoint, the partner and the connection of a membership. Only the key
//! distinguishes them, so the state records its fingerprint: see [`KeyFingerprints`].

use std::collections::BTreeMap;

use super::context::{BrazeClients, PlanInputs};
use super::plan_error::PlanError;
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

/// The keys that the requests of a cohort use.
pub(super) struct KeyUse {
    pub(super) connection: ConnectionName,
    pub(super) delivery: DeliveryMethod,
    /// Whether triggers or a preflight check use the REST API key as well.
    pub(super) uses_rest: bool,
}

/// Checks the keys that requests would be sent with.
pub(super) fn mismatches(
    uses: impl IntoIterator<Item = KeyUse>,
    config: &Config,
    clients: &BrazeClients,
    state: &StateReader,
) -> Result<KeyMismatches, StateError> {
    let mut mismatches = KeyMismatches::new();
    for KeyUse { connection: name, delivery, uses_rest } in uses {
        let kinds = [Some(BrazeKeyKind::of(&delivery)), uses_rest.then_some(BrazeKeyKind::Rest)];
        let key = (name.clone(), delivery);
        let Some(braze) = clients.get(&name).filter(|_| !mismatches.contains_key(&key)) else { continue };
        for kind in kinds.into_iter().flatten() {
            let stop = match mismatch(config, &name, (braze, kind), state) {
                // A damaged file stops only this workspace.
                Err(error) if error.is_of_one_file() => Some(error.into()),
                found => found?,
            };
            mismatches.extend(stop.map(|stop| (key.clone(), stop)));
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;
    use crate::config::Secret;
    use crate::connector::braze::{ImportKeys, WorkspaceKeySet};
    use crate::model::Clock;
    use crate::reconcile::run_fixture::{RunFixture, now};

    /// The client of a workspace with these keys. It sends nothing here.
    fn client(fixture: &RunFixture, import: &str, rest: &str) -> BrazeClient {
        let secret = |text: &str| Secret::new(text.to_owned());
        let import = ImportKeys { data_import: secret(import), partner_api: secret("partner") };
        let keys = WorkspaceKeySet { import: Some(import), rest: Some(secret(rest)) };
        let settings = fixture.config.braze.values().next().unwrap();
        BrazeClient::new(settings, "http://127.0.0.1:9", keys, Clock::new(now)).unwrap()
    }

    /// Why a cohort import with these keys may not be sent.
    fn stop(fixture: &RunFixture, import: &str, rest: &str, uses_rest: bool) -> Option<ApplyStop> {
        let connection = fixture.cohort().to.clone();
        let clients = BTreeMap::from([(connection.clone(), Arc::new(client(fixture, import, rest)))]);
        let delivery = DeliveryMethod::CohortImport;
        let uses = [KeyUse { connection, delivery, uses_rest }];
        let found = mismatches(uses, &fixture.config, &clients, fixture.state.reader()).unwrap();
        found.into_values().next()
    }

    fn remember(fixture: &RunFixture, kind: BrazeKeyKind) {
        let braze = client(fixture, "import-1", "rest-1");
        super::remember(&fixture.config, &fixture.cohort().to, (&braze, kind), &fixture.state, now())
            .unwrap();
    }

    fn other(key: &'static str) -> ApplyStop {
        ApplyStop::OtherWorkspace { connection: "braze".to_owned(), key }
    }

    #[test]
    fn a_key_of_another_workspace_is_found_once_a_key_is_recorded() {
        let fixture = RunFixture::new("");
        assert_eq!(stop(&fixture, "import-2", "rest-2", true), None, "no key is recorded yet");
        remember(&fixture, BrazeKeyKind::DataImport);
        assert_eq!(stop(&fixture, "import-1", "rest-2", true), None, "no REST API key is recorded yet");
        assert_eq!(stop(&fixture, "import-2", "rest-1", true), Some(other("data import key")));
        remember(&fixture, BrazeKeyKind::Rest);
        assert_eq!(stop(&fixture, "import-1", "rest-1", true), None);
        assert_eq!(stop(&fixture, "import-1", "rest-2", true), Some(other("REST API key")));
        assert_eq!(stop(&fixture, "import-1", "rest-2", false), None, "the cohort import does not use it");
    }

    #[test]
    fn a_recorded_key_is_not_replaced() {
        let fixture = RunFixture::new("");
        remember(&fixture, BrazeKeyKind::DataImport);
        let braze = client(&fixture, "import-2", "rest-2");
        let key = (&braze, BrazeKeyKind::DataImport);
        super::remember(&fixture.config, &fixture.cohort().to, key, &fixture.state, now()).unwrap();
        assert_eq!(stop(&fixture, "import-1", "rest-1", false), None);
        assert_eq!(stop(&fixture, "import-2", "rest-1", false), Some(other("data import key")));
    }

    #[test]
    fn a_renamed_connection_keeps_its_keys() {
        let mut fixture = RunFixture::new("");
        remember(&fixture, BrazeKeyKind::DataImport);
        let mut settings = fixture.config.braze.pop_first().unwrap().1;
        settings.formerly = vec![ConnectionName::new("braze").unwrap()];
        fixture.config.cohorts[0].to = ConnectionName::new("engagement").unwrap();
        fixture.config.braze.insert(fixture.config.cohorts[0].to.clone(), settings);
        assert_eq!(stop(&fixture, "import-1", "rest-1", false), None);
        assert!(stop(&fixture, "import-2", "rest-1", false).is_some());
    }

    #[test]
    fn damaged_fingerprints_stop_their_workspace() {
        let fixture = RunFixture::new("");
        remember(&fixture, BrazeKeyKind::DataImport);
        let file = fixture.path("state/workspaces/braze/versions/000000000001.json");
        File::options().write(true).open(file).unwrap().set_len(10).unwrap();
        assert!(matches!(stop(&fixture, "import-1", "rest-1", false), Some(ApplyStop::Local(_))));
        let found = check_readable(&fixture.cohort().to, fixture.inputs());
        assert!(matches!(found, Err(PlanError::Workspace(..))), "{found:?}");
    }

    #[test]
    fn the_rest_key_is_used_by_preflight_checks_and_triggers() {
        for (keys, uses_rest) in [("", false), ("    preflight: {}\n", true)] {
            let fixture = RunFixture::new(keys);
            fixture.source(&["ada,"]);
            assert_eq!(fixture.plan().key_use().map(|keys| keys.uses_rest), Some(uses_rest));
        }
        let fixture = RunFixture::new("    on_enter: { campaign: welcome }\n");
        fixture.record(crate::model::ChangeOp::Add, &[crate::reconcile::run_fixture::external("ada")], true);
        fixture.source(&["ada,", "bob,"]);
        assert_eq!(fixture.plan().key_use().map(|keys| keys.uses_rest), Some(true));
    }
}
