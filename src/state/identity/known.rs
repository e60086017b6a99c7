//! One entry of the identity map: by what somebody is known, and what is known of it. Touches no file.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::model::{Identifier, IdentifierKind, KeySeed, Timestamp};

pub(super) type MapKey = u128;

/// Evidence of what is known already is noted again once it is so much newer, in seconds.
const NEWER: u32 = 7 * 24 * 60 * 60;

/// By what somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKeyKind {
    /// Braze's own id.
    BrazeId,
    /// A device.
    DeviceId,
}

/// By what somebody is known, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKey<'a> {
    /// Braze's own id.
    BrazeId(&'a str),
    /// A device.
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
    /// A value of one of the kinds that have no label.
    #[must_use]
    pub fn of(kind: IdentityKeyKind, value: &'a str) -> Self {
        match kind {
            IdentityKeyKind::BrazeId => Self::BrazeId(value),
            IdentityKeyKind::DeviceId => Self::DeviceId(value),
        }
    }

    /// An identifier of a cohort's member, unless it is the customer's own id.
    #[must_use]
    pub fn of_member(identifier: &Identifier<'a>) -> Option<Self> {
        match identifier.kind {
            IdentifierKind::ExternalId => None,
            IdentifierKind::DeviceId => Some(Self::DeviceId(identifier.value)),
            IdentifierKind::Alias => Some(Self::Alias { label: identifier.label, name: identifier.value }),
        }
    }

    pub(super) fn key(self, seed: KeySeed) -> MapKey {
        // Other keys for other kinds of one text.
        let (kind, value) = match self {
            Self::BrazeId(value) => (0x9e37_79b9_7f4a_7c15, value),
            Self::DeviceId(value) => (0xc2b2_ae3d_27d4_eb4f, value),
            Self::Alias { label, name } => (xxh3_64_with_seed(label.as_bytes(), 0x1656_67b1_9e37_79f9), name),
        };
        xxh3_128_with_seed(value.as_bytes(), seed.0 ^ kind)
    }

    /// Whom somebody was merged into, known by the same kind of id.
    pub(super) fn merged_into<'b>(self, into: &'b str) -> IdentityKey<'b>
    where
        'a: 'b,
    {
        match self {
            Self::Alias { label, .. } => IdentityKey::Alias { label, name: into },
            // A device is nobody that could be merged.
            Self::BrazeId(_) | Self::DeviceId(_) => IdentityKey::BrazeId(into),
        }
    }
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KnownIdentity {
    /// The customer's id of the person, when that was seen, in seconds since 1970, and whether somebody else was
    /// ever said to be it.
    Owner(Box<str>, u32, bool),
    /// The id, of the same kind, of the person that this one was merged into.
    Merged(Box<str>),
    /// The person was deleted.
    Gone,
}

impl KnownIdentity {
    pub(super) fn owner(owner: &str, seen: Timestamp) -> Self {
        Self::Owner(owner.into(), u32::try_from(seen.as_second().max(0)).unwrap_or(u32::MAX), false)
    }

    /// Its kind, when it was seen, and its text.
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

    /// Whether this adds nothing to what was known before, or contradicts it with older evidence.
    pub(super) fn is_old_news(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Owner(owner, seen, _), Self::Owner(known, known_seen, _)) if owner == known => {
                *seen < known_seen.saturating_add(NEWER)
            }
            (Self::Owner(_, seen, _), Self::Owner(_, known_seen, _)) => seen < known_seen,
            _ => self == before,
        }
    }

    /// The same, of somebody of whom something else was said as well.
    pub(super) fn contested(self) -> Self {
        match self {
            Self::Owner(owner, seen, _) => Self::Owner(owner, seen, true),
            other => other,
        }
    }

    /// Whether two people were ever said to be it.
    pub(super) fn is_contested(&self) -> bool {
        matches!(self, Self::Owner(_, _, true))
    }

    /// Whether this counts, where something else that is told of the same key does not: whoever was merged is
    /// somebody else whoever they were before, and of two owners the newest evidence counts.
    pub(super) fn counts_before(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Owner(_, seen, _), Self::Owner(_, other, _)) => seen >= other,
            (_, Self::Gone) | (Self::Owner(..), Self::Merged(_)) => false,
            _ => true,
        }
    }

    /// Whether the two say that one key is of two people.
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
    fn the_newest_evidence_counts_in_whatever_order_it_comes() {
        let known = owner("u1", 1000);
        assert!(owner("u2", 999).is_old_news(&known) && owner("u2", 999).contradicts(&known));
        assert!(!owner("u2", 1000).is_old_news(&known), "of the same second, what is told last");
        assert!(owner("u1", 1000 + NEWER - 1).is_old_news(&known));
        assert!(!owner("u1", 1000 + NEWER).is_old_news(&known));
        assert!(
            !owner("u1", 5).is_old_news(&KnownIdentity::Gone) && !KnownIdentity::Gone.is_old_news(&known)
        );
        assert!(!KnownIdentity::Gone.contradicts(&known));
    }

    #[test]
    fn one_text_of_several_kinds_is_several_keys() {
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
