//! Keyed fingerprints of keys, by which the state knows its workspace again. They tell nothing of the keys.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::Secret;
use crate::model::DeliveryMethod;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrazeKeyKind {
    /// The cohort import: the key is one workspace's.
    DataImport,
    /// The REST side: the key is one workspace's as well.
    Rest,
}

impl BrazeKeyKind {
    /// The kind of key that this way of delivery needs.
    #[must_use]
    pub fn of(delivery: &DeliveryMethod) -> Self {
        match delivery {
            DeliveryMethod::CohortImport => Self::DataImport,
            DeliveryMethod::Array(_) | DeliveryMethod::Boolean(_) => Self::Rest,
        }
    }

    /// The kind as messages name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DataImport => "data import key",
            Self::Rest => "REST API key",
        }
    }

    /// The kind in a word, as the state has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::DataImport => "data_import",
            Self::Rest => "rest",
        }
    }
}

/// The fingerprint of a key, under a random key, in hex. Where it is used, the record says in so many words.
#[must_use]
pub fn mark(salt: &str, kind: BrazeKeyKind, key: &Secret) -> String {
    // HMAC takes a key of any length: there is nothing that can fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(salt.as_bytes()) else { return String::new() };
    for part in [kind.word(), key.expose()] {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_matters_and_nothing_is_told() {
        let mark = |salt, kind, key: &str| mark(salt, kind, &Secret::new(key.to_owned()));
        let base = mark("s", BrazeKeyKind::DataImport, "key");
        assert_eq!(base, mark("s", BrazeKeyKind::DataImport, "key"));
        assert!(base.len() == 64 && !base.contains("key"));
        for other in [
            mark("t", BrazeKeyKind::DataImport, "key"),
            mark("s", BrazeKeyKind::Rest, "key"),
            mark("s", BrazeKeyKind::DataImport, "kez"),
        ] {
            assert_ne!(base, other);
        }
    }
}
