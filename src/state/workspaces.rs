//! Fingerprints of a workspace's API keys, to detect that a connection now points to another workspace.
//!
//! ```text
//! workspaces/<connection>/versions/000000000001.json   put-if-absent, like the versions of cohorts
//! ```
//!
//! Two workspaces of one company may have the same endpoint and the same partner; only their keys differ. A
//! fingerprint is an HMAC under a random salt that is stored beside it: it distinguishes keys without revealing them.
//! `connector` computes fingerprints, because the state sees no key.
//!
//! A fingerprint is recorded once Braze has accepted a request with its key. An operator can adopt another one without
//! the lease, which a server may hold for months: these files are only ever created.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checks::CheckTime;
use super::membership::number_of;
use super::store::Store;
use super::{Location, StateError, StateReader, StateWriter};
use super::{checked, format_number};
use crate::model::{ConnectionName, Timestamp};

/// Length of the salt in bytes.
const SALT_LEN: usize = 32;

/// The fingerprints of a workspace's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFingerprints {
    /// The version number, from 1.
    pub number: u64,
    /// When they were adopted.
    pub at: CheckTime,
    /// The salt, in hex.
    pub salt: String,
    /// The fingerprints by kind of key, in hex.
    pub keys: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct FingerprintsJson {
    format: u64,
    #[serde(flatten)]
    fingerprints: KeyFingerprints,
}

impl KeyFingerprints {
    /// Creates the first version of a connection, without any fingerprint yet.
    ///
    /// # Errors
    /// When the system provides no random bytes.
    pub fn first(at: Timestamp) -> Result<Self, StateError> {
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt).map_err(|e| StateError::TemporaryFile(std::io::Error::other(e)))?;
        let salt = salt.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { number: 1, at: CheckTime(at), salt, keys: BTreeMap::new() })
    }

    /// Returns the next version, with the same salt.
    #[must_use]
    pub fn next(&self, at: Timestamp) -> Self {
        Self { number: self.number + 1, at: CheckTime(at), ..self.clone() }
    }
}

fn folder_of(connection: &ConnectionName) -> String {
    format!("workspaces/{connection}/versions")
}

fn path_of(connection: &ConnectionName, number: u64) -> String {
    format!("{}/{number:012}.json", folder_of(connection))
}

/// Writes the fingerprints. `false`: another process wrote this version first.
fn put(
    store: &Store,
    connection: &ConnectionName,
    fingerprints: &KeyFingerprints,
) -> Result<bool, StateError> {
    let shape = FingerprintsJson { format: format_number::SUPPORTED, fingerprints: fingerprints.clone() };
    Ok(checked::put_new(store, &path_of(connection, fingerprints.number), &shape)?)
}

fn newest(store: &Store, connection: &ConnectionName) -> Result<Option<KeyFingerprints>, StateError> {
    let names = store.list(&folder_of(connection))?;
    let Some(number) = names.iter().filter_map(|name| number_of(name)).max() else { return Ok(None) };
    let file = path_of(connection, number);
    let shape: FingerprintsJson = checked::existing(store, &file)?;
    if shape.fingerprints.number != number {
        return Err(StateError::Damaged { path: store.at(&file), problem: "it is another".to_owned() });
    }
    Ok(Some(shape.fingerprints))
}

impl StateReader {
    /// Returns the fingerprints of the first connection that has any. A renamed connection is found by its former names.
    ///
    /// # Errors
    /// When they cannot be read or are damaged.
    pub fn key_fingerprints<'a>(
        &self,
        names: impl IntoIterator<Item = &'a ConnectionName>,
    ) -> Result<Option<KeyFingerprints>, StateError> {
        for name in names {
            let found = newest(&self.store, name)?;
            let number = found.as_ref().map_or(0, |fingerprints| fingerprints.number);
            self.heads.check(&self.store, &format!("workspaces/{name}"), number)?;
            if let Some(fingerprints) = found {
                return Ok(Some(fingerprints));
            }
        }
        Ok(None)
    }
}

impl StateWriter {
    /// Adopts fingerprints, unless another process has adopted some since.
    ///
    /// # Errors
    /// When the write fails.
    pub fn adopt(
        &self,
        connection: &ConnectionName,
        fingerprints: &KeyFingerprints,
    ) -> Result<(), StateError> {
        self.check_lease()?;
        if put(&self.reader().store, connection, fingerprints)? {
            self.committed(&format!("workspaces/{connection}"), fingerprints.number);
        } else {
            tracing::info!(%connection, "another process adopted key fingerprints; the next run checks those");
        }
        Ok(())
    }
}

/// Adopts fingerprints for an operator. It does not need the lease.
#[derive(Debug)]
pub struct AdoptedKeys(Store);

impl AdoptedKeys {
    /// Opens the fingerprints of a state.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn open(location: &Location) -> Result<Self, StateError> {
        Ok(Self(Store::open(location)?))
    }

    /// Adopts fingerprints. `false`: another process adopted some since.
    ///
    /// # Errors
    /// When the write fails.
    pub fn adopt(
        &self,
        connection: &ConnectionName,
        fingerprints: &KeyFingerprints,
    ) -> Result<bool, StateError> {
        put(&self.0, connection, fingerprints)
    }

    /// Returns the newest version number, even if its file is damaged. 0: there is none.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn newest_number(&self, connection: &ConnectionName) -> Result<u64, StateError> {
        let names = self.0.list(&folder_of(connection))?;
        Ok(names.iter().filter_map(|name| number_of(name)).max().unwrap_or(0))
    }

    /// Removes a damaged version that a newer one has replaced.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_damaged(&self, connection: &ConnectionName, number: u64) -> Result<(), StateError> {
        Ok(self.0.remove(&path_of(connection, number))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_adoption_is_current_and_each_number_is_used_once() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let (reader, adopted) = (
            StateReader { store: store.clone(), format: None, heads: Default::default() },
            AdoptedKeys(store),
        );
        let name = |text| ConnectionName::new(text).unwrap();
        let (old, new) = (name("old"), name("new"));
        assert_eq!(reader.key_fingerprints([&new, &old]).unwrap(), None);
        let mut first = KeyFingerprints::first(Timestamp::UNIX_EPOCH).unwrap();
        first.keys.insert("data_import".to_owned(), "ab".to_owned());
        assert!(adopted.adopt(&old, &first).unwrap());
        assert_eq!(
            reader.key_fingerprints([&new, &old]).unwrap(),
            Some(first.clone()),
            "found by the former name"
        );
        let next = first.next(Timestamp::UNIX_EPOCH);
        assert!(adopted.adopt(&old, &next).unwrap());
        assert!(!adopted.adopt(&old, &next).unwrap());
        assert_eq!(reader.key_fingerprints([&old]).unwrap().map(|fingerprints| fingerprints.number), Some(2));
        assert_ne!(KeyFingerprints::first(Timestamp::UNIX_EPOCH).unwrap().salt, first.salt);
    }
}
