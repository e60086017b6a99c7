//! The identity map for reading. Lookups are batched: queries in key order read each block of a part once.

use std::ops::Range;

use super::known::{IdentityKey, KnownIdentity, MapKey};
use super::map_part::MapPart;
use super::{MapVersion, newest};
use crate::model::{
    EXTERNAL_ID_LEN_MAX, Identifier, IdentifierKind, KeySeed, Timestamp, normalize_identifier,
};
use crate::state::{StateError, StateReader};

/// More merges than this in a chain are a cycle.
const HOPS_MAX: usize = 8;

/// One version of the identity map, for lookups.
pub struct IdentityOwners {
    seed: KeySeed,
    parts: Vec<MapPart>,
    /// Index ranges of `parts`: single entries first, then each table of each source. Oldest first within a range.
    groups: Vec<Range<usize>>,
}

impl std::fmt::Debug for IdentityOwners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owners").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

/// A query: the key of an identifier that the map may contain. Queries should be answered in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerQuery(MapKey);

impl IdentityOwners {
    pub(super) fn open(state: &StateReader) -> Result<Option<Self>, StateError> {
        let MapVersion { parts: entries, sources, .. } = newest(state)?;
        let tables = sources.iter().flat_map(|source| [&source.users, &source.joins]);
        let (mut parts, mut groups) = (Vec::new(), Vec::new());
        for files in std::iter::once(&entries).chain(tables) {
            let first = parts.len();
            for file in files {
                parts.push(MapPart::open(&state.store, file)?);
            }
            groups.push(first..parts.len());
        }
        Ok((!parts.is_empty()).then(|| Self { seed: state.seed(), parts, groups }))
    }

    /// Creates the query for the owner of a key. `None`: the map does not contain it. Reads no file.
    #[must_use]
    #[inline]
    pub fn may_know(&self, handle: IdentityKey<'_>) -> Option<OwnerQuery> {
        let key = handle.key(self.seed);
        self.parts.iter().any(|part| part.may_have(key)).then_some(OwnerQuery(key))
    }

    /// Creates the query for the owner of a member. `None`: the member has an external id or no owner. Reads no file.
    #[must_use]
    #[inline]
    pub fn query(&self, member: &Identifier<'_>) -> Option<OwnerQuery> {
        self.may_know(IdentityKey::of_member(member)?)
    }

    /// Returns a reader that answers queries one by one.
    #[must_use]
    pub fn answers(&self) -> OwnerAnswers<'_> {
        OwnerAnswers { owners: self, blocks: self.parts.iter().map(|_| None).collect() }
    }
}

/// What the map says about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerEvidence {
    /// The key belongs to a user.
    Owner {
        /// The user's external id.
        owner: String,
        /// When that was observed. 1970: unknown.
        seen: Timestamp,
        /// Whether another owner was ever observed.
        is_contested: bool,
    },
    /// The user was deleted.
    Gone,
}

/// The last block of a part that was read, with its index.
type LastBlock = Option<(usize, Vec<(MapKey, KnownIdentity)>)>;

/// Returns the external id as an identifier, if Braze accepts it.
fn named(owner: &str) -> Option<Identifier<'_>> {
    let value = normalize_identifier(owner.as_bytes(), EXTERNAL_ID_LEN_MAX, &[]).ok()??;
    let value = std::str::from_utf8(value).ok()?;
    Some(Identifier { kind: IdentifierKind::ExternalId, label: "", value })
}

/// The entry that takes precedence for a key.
#[derive(Clone, Copy)]
struct FoundOwner {
    /// The part, and the index of the entry in its last block.
    position: (usize, usize),
    /// Whether other entries name another owner.
    is_contested: bool,
}

/// Answers queries. It is fast while the queries come in ascending order.
pub struct OwnerAnswers<'a> {
    owners: &'a IdentityOwners,
    blocks: Vec<LastBlock>,
}

impl OwnerAnswers<'_> {
    /// Returns the external id of a member's owner, and whether another owner was ever observed. In that case the newest
    /// evidence decides. `None`: the owner is unknown, or Braze does not accept the id. `member` must be the one that the
    /// query was created for.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn owner(
        &mut self,
        query: OwnerQuery,
        member: &Identifier<'_>,
    ) -> Result<Option<(Identifier<'_>, bool)>, StateError> {
        let Some(handle) = IdentityKey::of_member(member) else { return Ok(None) };
        let Some(FoundOwner { position, is_contested }) = self.last(query.0, handle)? else {
            return Ok(None);
        };
        Ok(match self.at(position) {
            Some(KnownIdentity::Owner(owner, _, before)) => {
                named(owner).map(|who| (who, *before || is_contested))
            }
            _ => None,
        })
    }

    /// Returns what the map says about a key. `None`: nothing.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn evidence(&mut self, handle: IdentityKey<'_>) -> Result<Option<OwnerEvidence>, StateError> {
        let Some(OwnerQuery(key)) = self.owners.may_know(handle) else { return Ok(None) };
        let Some(FoundOwner { position, is_contested }) = self.last(key, handle)? else { return Ok(None) };
        Ok(match self.at(position) {
            Some(KnownIdentity::Owner(owner, seen, before)) => Some(OwnerEvidence::Owner {
                owner: owner.to_string(),
                seen: Timestamp::from_second(i64::from(*seen)).unwrap_or(Timestamp::UNIX_EPOCH),
                is_contested: *before || is_contested,
            }),
            Some(KnownIdentity::Gone) => Some(OwnerEvidence::Gone),
            Some(KnownIdentity::Merged(_)) | None => None,
        })
    }

    /// Follows merges to the last entry of a chain. `None`: the chain has no end or is a cycle.
    fn last(&mut self, key: MapKey, handle: IdentityKey<'_>) -> Result<Option<FoundOwner>, StateError> {
        let mut key = key;
        for _ in 0..HOPS_MAX {
            let Some(found) = self.find(key)? else { return Ok(None) };
            let Some(KnownIdentity::Merged(into)) = self.at(found.position) else { return Ok(Some(found)) };
            key = handle.merged_into(into).key(self.owners.seed);
        }
        Ok(None)
    }

    fn at(&self, (part, entry): (usize, usize)) -> Option<&KnownIdentity> {
        let (_, entries) = self.blocks.get(part)?.as_ref()?;
        entries.get(entry).map(|(_, known)| known)
    }

    /// Finds the entry that takes precedence for a key.
    fn find(&mut self, key: MapKey) -> Result<Option<FoundOwner>, StateError> {
        let (mut best, mut is_contested) = (None, false);
        for at in 0..self.owners.groups.len() {
            let Some(position) = self.find_in(self.owners.groups[at].clone(), key)? else { continue };
            let counts = match (self.at(position), best.and_then(|best| self.at(best))) {
                // A deleted row of a source carries no information.
                (None, _) => false,
                (Some(KnownIdentity::Gone), _) if at > 0 => false,
                (Some(known), Some(best)) => {
                    is_contested |= known.contradicts(best);
                    known.overrides(best)
                }
                (Some(_), None) => true,
            };
            best = if counts { Some(position) } else { best };
        }
        Ok(best.map(|position| FoundOwner { position, is_contested }))
    }

    /// Finds the newest entry of a key in a range of parts.
    fn find_in(&mut self, parts: Range<usize>, key: MapKey) -> Result<Option<(usize, usize)>, StateError> {
        for at in parts.rev() {
            let part = &self.owners.parts[at];
            if !part.may_have(key) {
                continue;
            }
            let Some(block) = part.block_of(key) else { continue };
            let last = &mut self.blocks[at];
            let entries = match last {
                Some((known, entries)) if *known == block => entries,
                _ => &mut last.insert((block, part.block(block)?)).1,
            };
            if let Ok(entry) = entries.binary_search_by_key(&key, |(key, _)| *key) {
                return Ok(Some((at, entry)));
            }
        }
        Ok(None)
    }
}
