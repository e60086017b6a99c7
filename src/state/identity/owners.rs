//! The map as others see it: read, never taught. Many questions at once, each block of a part read once for them.

use std::ops::Range;

use super::known::{IdentityKey, KnownIdentity, MapKey};
use super::map_part::MapPart;
use super::{MapVersion, newest};
use crate::model::{EXTERNAL_ID_LEN_MAX, Identifier, IdentifierKind, KeySeed, Timestamp, usable};
use crate::state::{StateError, StateReader};

/// More merges than this in a row are a circle.
const HOPS_MAX: usize = 8;

/// The identity map of one version, to ask it who owns what.
pub struct IdentityOwners {
    seed: KeySeed,
    parts: Vec<MapPart>,
    /// The parts of what was learned, and of each table of each source: of one, the oldest first.
    groups: Vec<Range<usize>>,
}

impl std::fmt::Debug for IdentityOwners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owners").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

/// A question: the key of a handle that the map may know. They are answered in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerQuery(MapKey);

impl IdentityOwners {
    pub(super) fn open(state: &StateReader) -> Result<Option<Self>, StateError> {
        let MapVersion { parts: learned, sources, .. } = newest(state)?;
        let tables = sources.iter().flat_map(|taught| [&taught.people, &taught.joins]);
        let (mut parts, mut groups) = (Vec::new(), Vec::new());
        for files in std::iter::once(&learned).chain(tables) {
            let first = parts.len();
            for file in files {
                parts.push(MapPart::open(&state.store, file)?);
            }
            groups.push(first..parts.len());
        }
        Ok((!parts.is_empty()).then(|| Self { seed: state.seed(), parts, groups }))
    }

    /// The question who owns a handle; none if nobody does. Reads nothing.
    #[must_use]
    #[inline]
    pub fn may_know(&self, handle: IdentityKey<'_>) -> Option<OwnerQuery> {
        let key = handle.key(self.seed);
        self.parts.iter().any(|part| part.may_have(key)).then_some(OwnerQuery(key))
    }

    /// The question whose a member is; none of a member by the customer's own id, or if nobody owns it. Reads nothing.
    #[must_use]
    #[inline]
    pub fn question(&self, member: &Identifier<'_>) -> Option<OwnerQuery> {
        self.may_know(IdentityKey::of_member(member)?)
    }

    /// Answers questions, one after the other.
    #[must_use]
    pub fn answers(&self) -> OwnerAnswers<'_> {
        OwnerAnswers { owners: self, blocks: self.parts.iter().map(|_| None).collect() }
    }
}

/// What is known of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerEvidence {
    /// Who it is.
    Owner {
        /// The customer's id.
        owner: String,
        /// When that was seen; 1970 if nobody said.
        seen: Timestamp,
        /// Whether somebody else was ever said to be it.
        is_contested: bool,
    },
    /// The person was deleted.
    Gone,
}

/// The last block of a part that was read, by its place.
type LastBlock = Option<(usize, Vec<(MapKey, KnownIdentity)>)>;

/// Somebody by the customer's own id, if Braze takes it.
fn named(owner: &str) -> Option<Identifier<'_>> {
    let value = usable(owner.as_bytes(), EXTERNAL_ID_LEN_MAX, &[]).ok()??;
    let value = std::str::from_utf8(value).ok()?;
    Some(Identifier { kind: IdentifierKind::ExternalId, label: "", value })
}

/// What counts of a key.
#[derive(Clone, Copy)]
struct FoundOwner {
    /// The part, and the entry of its last block.
    place: (usize, usize),
    /// Whether others say that it is somebody else's.
    is_contested: bool,
}

/// Answers, quick as long as the questions come in ascending order.
pub struct OwnerAnswers<'a> {
    owners: &'a IdentityOwners,
    blocks: Vec<LastBlock>,
}

impl OwnerAnswers<'_> {
    /// Whose a member is, by the customer's own id, and whether somebody else was ever said to own it: then the newest
    /// evidence has decided. None if nobody is known, or by an id that Braze does not take. The member must be the
    /// one that the question was asked of.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn owner(
        &mut self,
        asked: OwnerQuery,
        member: &Identifier<'_>,
    ) -> Result<Option<(Identifier<'_>, bool)>, StateError> {
        let Some(handle) = IdentityKey::of_member(member) else { return Ok(None) };
        let Some(FoundOwner { place, is_contested }) = self.last(asked.0, handle)? else { return Ok(None) };
        Ok(match self.at(place) {
            Some(KnownIdentity::Owner(owner, _, before)) => {
                named(owner).map(|who| (who, *before || is_contested))
            }
            _ => None,
        })
    }

    /// What is known of whoever has the handle; none if nothing is.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn evidence(&mut self, handle: IdentityKey<'_>) -> Result<Option<OwnerEvidence>, StateError> {
        let Some(OwnerQuery(key)) = self.owners.may_know(handle) else { return Ok(None) };
        let Some(FoundOwner { place, is_contested }) = self.last(key, handle)? else { return Ok(None) };
        Ok(match self.at(place) {
            Some(KnownIdentity::Owner(owner, seen, before)) => Some(OwnerEvidence::Owner {
                owner: owner.to_string(),
                seen: Timestamp::from_second(i64::from(*seen)).unwrap_or(Timestamp::UNIX_EPOCH),
                is_contested: *before || is_contested,
            }),
            Some(KnownIdentity::Gone) => Some(OwnerEvidence::Gone),
            Some(KnownIdentity::Merged(_)) | None => None,
        })
    }

    /// The last entry of the chain that begins with a key; none if it leads nowhere, or in a circle.
    fn last(&mut self, key: MapKey, handle: IdentityKey<'_>) -> Result<Option<FoundOwner>, StateError> {
        let mut key = key;
        for _ in 0..HOPS_MAX {
            let Some(found) = self.find(key)? else { return Ok(None) };
            let Some(KnownIdentity::Merged(into)) = self.at(found.place) else { return Ok(Some(found)) };
            key = handle.merged_into(into).key(self.owners.seed);
        }
        Ok(None)
    }

    fn at(&self, (part, entry): (usize, usize)) -> Option<&KnownIdentity> {
        let (_, entries) = self.blocks.get(part)?.as_ref()?;
        entries.get(entry).map(|(_, known)| known)
    }

    /// Where what counts of a key stands: the part, and the entry of its last block.
    fn find(&mut self, key: MapKey) -> Result<Option<FoundOwner>, StateError> {
        let (mut best, mut is_contested) = (None, false);
        for at in 0..self.owners.groups.len() {
            let Some(place) = self.find_in(self.owners.groups[at].clone(), key)? else { continue };
            let counts = match (self.at(place), best.and_then(|best| self.at(best))) {
                // A source's row that is no more says nothing.
                (None, _) => false,
                (Some(KnownIdentity::Gone), _) if at > 0 => false,
                (Some(known), Some(best)) => {
                    is_contested |= known.contradicts(best);
                    known.counts_before(best)
                }
                (Some(_), None) => true,
            };
            best = if counts { Some(place) } else { best };
        }
        Ok(best.map(|place| FoundOwner { place, is_contested }))
    }

    /// Where the newest of some parts that knows a key has it.
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
