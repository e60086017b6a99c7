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
use super::store::Store;
use super::versioned_json::{Retention, Versions};
use super::{Location, StateError, StateReader, StateWriter, entry};
use crate::model::{ConnectionName, Timestamp};

/// Length of the salt in bytes.
const SALT_LEN: usize = 32;

/// The fingerprints of a workspace's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFingerprints {
    /// The version number, from 1.
    #[serde(skip)]
    pub number: u64,
    /// When they were adopted.
    pub at: CheckTime,
    /// The salt, in hex.
    pub salt: String,
    /// The fingerprints by kind of key, in hex.
    pub keys: BTreeMap<String, String>,
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

fn entry_of(connection: &ConnectionName) -> String {
    format!("workspaces/{connection}")
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
            let numbered = |fingerprints, number| Some(KeyFingerprints { number, ..fingerprints });
            let found = self.newest(&entry_of(name), numbered)?;
            if found.is_some() {
                return Ok(found);
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
        let (entry, number) = (entry_of(connection), fingerprints.number);
        if !self.put_entry(&entry, number, fingerprints, Retention::All)? {
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
        self.versions(connection).put(fingerprints.number, fingerprints, Retention::All)
    }

    /// Returns the newest version number, even if its file is damaged. 0: there is none.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn newest_number(&self, connection: &ConnectionName) -> Result<u64, StateError> {
        self.versions(connection).newest_number()
    }

    /// Removes a damaged version that a newer one has replaced.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_damaged(&self, connection: &ConnectionName, number: u64) -> Result<(), StateError> {
        self.versions(connection).remove(number)
    }

    fn versions(&self, connection: &ConnectionName) -> Versions<'_> {
        entry::versions(&self.0, &entry_of(connection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_adoption_is_current_and_each_number_is_used_once() {
        let store = Store::in_memory();
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
