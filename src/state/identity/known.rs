//! One entry of the identity map: its key and what it says. Pure.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::model::{Identifier, IdentifierKind, KeySeed, Timestamp};

pub(super) type MapKey = u128;

/// Repeated evidence for a known owner is stored again only if it is newer by this many seconds.
const NEWER: u32 = 7 * 24 * 60 * 60;

/// The kinds of keys without a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKeyKind {
    /// Braze's own id.
    BrazeId,
    /// A device id.
    DeviceId,
}

/// A key of the identity map: a Braze id, a device id or an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKey<'a> {
    /// Braze's own id.
    BrazeId(&'a str),
    /// A device id.
    DeviceId(&'a str),
    /// An alias.
    Alias {
        /// Its label.
        label: &'a str,
        /// Its name.
        name: &'a str,
    },
}

impl<'a> IdentityKey<'a> {
    /// Creates a key of a kind without label.
    #[must_use]
    pub fn of(kind: IdentityKeyKind, value: &'a str) -> Self {
        match kind {
            IdentityKeyKind::BrazeId => Self::BrazeId(value),
            IdentityKeyKind::DeviceId => Self::DeviceId(value),
        }
    }

    /// Creates a key from a cohort member's identifier. `None`: it already is an external id.
    #[must_use]
    pub fn of_member(identifier: &Identifier<'a>) -> Option<Self> {
        match identifier.kind {
            IdentifierKind::ExternalId => None,
            IdentifierKind::DeviceId => Some(Self::DeviceId(identifier.value)),
            IdentifierKind::Alias => Some(Self::Alias { label: identifier.label, name: identifier.value }),
        }
    }

    pub(super) fn key(self, seed: KeySeed) -> MapKey {
        // The same text gives different keys for different kinds.
        let (kind, value) = match self {
            Self::BrazeId(value) => (0x9e37_79b9_7f4a_7c15, value),
            Self::DeviceId(value) => (0xc2b2_ae3d_27d4_eb4f, value),
            Self::Alias { label, name } => (xxh3_64_with_seed(label.as_bytes(), 0x1656_67b1_9e37_79f9), name),
        };
        xxh3_128_with_seed(value.as_bytes(), seed.0 ^ kind)
    }

    /// The key of the user that this one was merged into, of the same kind.
    pub(super) fn merged_into<'b>(self, into: &'b str) -> IdentityKey<'b>
    where
        'a: 'b,
    {
        match self {
            Self::Alias { label, .. } => IdentityKey::Alias { label, name: into },
            // Devices are never merged.
            Self::BrazeId(_) | Self::DeviceId(_) => IdentityKey::BrazeId(into),
        }
    }
}

/// What the map says about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KnownIdentity {
    /// The owner's external id, when that was observed in seconds since 1970, and whether another owner was ever
    /// observed.
    Owner(Box<str>, u32, bool),
    /// The id, of the same kind, of the user that this one was merged into.
    Merged(Box<str>),
    /// The user was deleted.
    Gone,
}

impl KnownIdentity {
    pub(super) fn owner(owner: &str, seen: Timestamp) -> Self {
        Self::Owner(owner.into(), u32::try_from(seen.as_second().max(0)).unwrap_or(u32::MAX), false)
    }

    /// Returns the kind, the time of observation, and the text.
    pub(super) fn parts(&self) -> (u8, u32, &str) {
        match self {
            Self::Owner(owner, seen, false) => (0, *seen, owner),
            Self::Owner(owner, seen, true) => (3, *seen, owner),
            Self::Merged(into) => (1, 0, into),
            Self::Gone => (2, 0, ""),
        }
    }

    pub(super) fn from_parts(kind: u8, seen: u32, text: &str) -> Option<Self> {
        match kind {
            0 | 3 => Some(Self::Owner(text.into(), seen, kind == 3)),
            1 => Some(Self::Merged(text.into())),
            2 => Some(Self::Gone),
            _ => None,
        }
    }

    /// Whether this adds nothing to the existing entry, or contradicts it with older evidence.
    pub(super) fn is_superseded_by(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Owner(owner, seen, _), Self::Owner(known, known_seen, _)) if owner == known => {
                *seen < known_seen.saturating_add(NEWER)
            }
            (Self::Owner(_, seen, _), Self::Owner(_, known_seen, _)) => seen < known_seen,
            _ => self == before,
        }
    }

    /// Marks the entry as contested.
    pub(super) fn contested(self) -> Self {
        match self {
            Self::Owner(owner, seen, _) => Self::Owner(owner, seen, true),
            other => other,
        }
    }

    /// Whether two different owners were ever observed.
    pub(super) fn is_contested(&self) -> bool {
        matches!(self, Self::Owner(_, _, true))
    }

    /// Whether this entry takes precedence over another one of the same key: a merge over an owner, and of two owners
    /// the newer evidence.
    pub(super) fn overrides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Owner(_, seen, _), Self::Owner(_, other, _)) => seen >= other,
            (_, Self::Gone) | (Self::Owner(..), Self::Merged(_)) => false,
            _ => true,
        }
    }

    /// Whether the two entries name different owners.
    pub(super) fn contradicts(&self, before: &Self) -> bool {
        matches!((self, before), (Self::Owner(owner, ..), Self::Owner(known, ..)) if owner != known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(owner: &str, seen: u32) -> KnownIdentity {
        KnownIdentity::Owner(owner.into(), seen, false)
    }

    #[test]
    fn the_newest_evidence_wins_regardless_of_its_order() {
        let known = owner("u1", 1000);
        assert!(owner("u2", 999).is_superseded_by(&known) && owner("u2", 999).contradicts(&known));
        assert!(!owner("u2", 1000).is_superseded_by(&known), "within the same second the last one wins");
        assert!(owner("u1", 1000 + NEWER - 1).is_superseded_by(&known));
        assert!(!owner("u1", 1000 + NEWER).is_superseded_by(&known));
        assert!(
            !owner("u1", 5).is_superseded_by(&KnownIdentity::Gone)
                && !KnownIdentity::Gone.is_superseded_by(&known)
        );
        assert!(!KnownIdentity::Gone.contradicts(&known));
    }

    #[test]
    fn the_same_text_has_a_different_key_for_each_kind() {
        let alias = |label, name| IdentityKey::Alias { label, name };
        let all = [
            IdentityKey::BrazeId("x"),
            IdentityKey::DeviceId("x"),
            alias("a", "x"),
            alias("b", "x"),
            alias("ax", ""),
        ];
        let keys: std::collections::BTreeSet<MapKey> =
            all.iter().map(|handle| handle.key(KeySeed(7))).collect();
        assert_eq!(keys.len(), all.len());
    }
}
