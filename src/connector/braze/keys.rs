//! Keys of a Braze workspace, and fingerprints that identify a workspace by its keys.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::Secret;
use crate::model::DeliveryMethod;

/// The keys of a workspace that are set.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceKeySet {
    /// The keys of the cohort import.
    pub import: Option<ImportKeys>,
    /// The REST API key, for attributes, triggers and the endpoints that read.
    pub rest: Option<Secret>,
}

/// The keys of the cohort import.
#[derive(Clone, Debug)]
pub struct ImportKeys {
    /// The customer's data import key, sent as `client_secret`.
    pub data_import: Secret,
    /// The partner's API key.
    pub partner_api: Secret,
}

/// A kind of key. Each key belongs to one workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrazeKeyKind {
    /// The data import key of the cohort import.
    DataImport,
    /// The REST API key.
    Rest,
}

impl BrazeKeyKind {
    /// The kind of key that a delivery method needs.
    #[must_use]
    pub fn of(delivery: &DeliveryMethod) -> Self {
        match delivery {
            DeliveryMethod::CohortImport => Self::DataImport,
            DeliveryMethod::Array(_) | DeliveryMethod::Boolean(_) => Self::Rest,
        }
    }

    /// The name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DataImport => "data import key",
            Self::Rest => "REST API key",
        }
    }

    /// The code in the state.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::DataImport => "data_import",
            Self::Rest => "rest",
        }
    }
}

/// The fingerprint of a key: an HMAC under a random salt, in hex. It identifies the workspace of a state and reveals
/// nothing about the key.
#[must_use]
pub fn key_fingerprint(salt: &str, kind: BrazeKeyKind, key: &Secret) -> String {
    // HMAC accepts a salt of any length, so this cannot fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(salt.as_bytes()) else { return String::new() };
    for part in [kind.code(), key.expose()] {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_depends_on_salt_kind_and_key_and_does_not_contain_the_key() {
        let fingerprint = |salt, kind, key: &str| key_fingerprint(salt, kind, &Secret::new(key.to_owned()));
        let base = fingerprint("s", BrazeKeyKind::DataImport, "key");
        assert_eq!(base, fingerprint("s", BrazeKeyKind::DataImport, "key"));
        assert!(base.len() == 64 && !base.contains("key"));
        for other in [
            fingerprint("t", BrazeKeyKind::DataImport, "key"),
            fingerprint("s", BrazeKeyKind::Rest, "key"),
            fingerprint("s", BrazeKeyKind::DataImport, "kez"),
        ] {
            assert_ne!(base, other);
        }
    }
}
