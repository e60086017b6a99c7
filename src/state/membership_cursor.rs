//! Cursor over a recorded membership: merges all parts of a version by key; the latest part decides on each member.

use parquet::data_type::ByteArray;

use super::StateError;
use super::membership::Membership;
use super::part::{PartCursor, PartFolder, PartRef, RowOutcome, path_of};
use super::store::Store;
use crate::model::{ChangeOp, CohortId, KeySeed, MemberKey, MemberStanding};

/// Iterates over recorded members, in strictly ascending key order.
#[derive(Debug)]
pub struct MembershipCursor {
    parts: Vec<PartCursor>,
    /// The latest part with the current key, which also has its identifier.
    current: Option<usize>,
    at: Option<MemberKey>,
    lead: Option<LeadingPart>,
    packed: Vec<u8>,
}

/// The only part with the current key. The other parts need no check before their smallest key.
#[derive(Clone, Copy, Debug)]
struct LeadingPart {
    part: usize,
    others: Option<MemberKey>,
}

impl MembershipCursor {
    pub(super) fn open(
        store: &Store,
        cohort: &CohortId,
        version: Option<&Membership>,
        seed: KeySeed,
    ) -> Result<Self, StateError> {
        Self::of_parts(
            store,
            cohort,
            version.map(|version| version.parts.as_slice()).unwrap_or_default(),
            seed,
        )
    }

    /// Opens a cursor over some parts, oldest first.
    pub(super) fn of_parts<'a>(
        store: &Store,
        folder: impl Into<PartFolder<'a>>,
        parts: &[PartRef],
        seed: KeySeed,
    ) -> Result<Self, StateError> {
        let folder = folder.into();
        let mut cursors = Vec::with_capacity(parts.len());
        for part in parts {
            let mut cursor = PartCursor::open(store.open_blob(&path_of(folder, &part.id))?, part, seed)?;
            cursor.advance()?;
            cursors.push(cursor);
        }
        Ok(Self { parts: cursors, current: None, at: None, lead: None, packed: Vec::new() })
    }

    /// Advances to the next member and returns its standing.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    #[inline]
    pub fn advance(&mut self) -> Result<Option<(MemberKey, MemberStanding)>, StateError> {
        loop {
            match self.advance_any()? {
                Some((key, Some(standing))) => return Ok(Some((key, standing))),
                Some((_, None)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Advances to the next identifier in any part. No standing: Braze has removed the member.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    #[inline]
    pub fn advance_any(&mut self) -> Result<Option<(MemberKey, Option<MemberStanding>)>, StateError> {
        let Some(at) = self.next_key()? else { return Ok(None) };
        let standing = match self.lead {
            Some(lead) => fold(None, self.parts[lead.part].outcome()),
            None => self.standing(at),
        };
        Ok(Some((at, standing)))
    }

    /// Advances to the next smallest key.
    #[inline]
    fn next_key(&mut self) -> Result<Option<MemberKey>, StateError> {
        if let Some(LeadingPart { part, others }) = self.lead {
            let part = &mut self.parts[part];
            part.advance()?;
            if let Some(key) = part.key().filter(|key| others.is_none_or(|other| *key < other)) {
                self.at = Some(key);
                return Ok(self.at);
            }
        } else if let Some(at) = self.at {
            self.parts.iter_mut().filter(|part| part.key() == Some(at)).try_for_each(PartCursor::advance)?;
        }
        self.at = self.parts.iter().filter_map(PartCursor::key).min();
        (self.current, self.lead) = (None, None);
        if let Some(at) = self.at {
            self.find_lead(at);
        }
        Ok(self.at)
    }

    fn find_lead(&mut self, at: MemberKey) {
        let has_it = |part: &&PartCursor| part.key() == Some(at);
        self.current = self.parts.iter().rposition(|part| has_it(&part));
        let alone = self.parts.iter().filter(has_it).count() == 1;
        let others = self.parts.iter().filter(|part| !has_it(part)).filter_map(PartCursor::key).min();
        self.lead = self.current.filter(|_| alone).map(|part| LeadingPart { part, others });
    }

    /// Returns buffered keys that follow the current one and have the same standing.
    #[must_use]
    pub fn ahead(&self) -> &[MemberKey] {
        let Some(LeadingPart { part, others }) = self.lead else { return &[] };
        let keys = self.parts[part].ahead();
        &keys[..others.map_or(keys.len(), |other| keys.partition_point(|key| *key < other))]
    }

    /// Skips this many of the keys in [`Self::ahead`].
    pub fn skip(&mut self, count: usize) {
        if let Some(lead) = self.lead {
            self.parts[lead.part].skip(count);
            self.at = self.parts[lead.part].key();
        }
    }

    /// Combines the outcomes of all parts for a key, oldest first. `None`: Braze has removed the member.
    fn standing(&mut self, key: MemberKey) -> Option<MemberStanding> {
        let parts = self.parts.iter_mut().filter(|part| part.key() == Some(key));
        parts.fold(None, |standing, part| fold(standing, part.outcome()))
    }

    /// The latest part with the current key, which decides on the member.
    pub(super) fn part(&self) -> Option<usize> {
        self.current
    }

    /// Returns the run since which the current member has its standing. `None`: it is unknown.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub(super) fn run(&mut self) -> Result<Option<ByteArray>, StateError> {
        if let Some(lead) = self.lead {
            return self.parts[lead.part].run();
        }
        let (mut since, at) = (Since::default(), self.at);
        for (number, part) in self.parts.iter_mut().enumerate().filter(|(_, part)| part.key() == at) {
            since.apply(part.outcome(), number);
        }
        since.from.map_or(Ok(None), |number| self.parts[number].run())
    }

    /// The packed identifier of the current member.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged, or there is no current member.
    pub fn packed(&mut self) -> Result<&[u8], StateError> {
        self.packed.clear();
        if let Some(current) = self.current {
            self.parts[current].identifier(&mut self.packed)?;
        }
        Ok(&self.packed)
    }
}

/// The standing of one member, by its outcomes in the parts so far, and what has given it this standing.
#[derive(Clone, Debug)]
pub(super) struct Since<T> {
    pub(super) standing: Option<MemberStanding>,
    pub(super) from: Option<T>,
}

impl<T> Default for Since<T> {
    fn default() -> Self {
        Self { standing: None, from: None }
    }
}

impl<T> Since<T> {
    /// Applies the outcome of a later part.
    pub(super) fn apply(&mut self, outcome: RowOutcome, from: T) {
        let standing = fold(self.standing, outcome);
        if standing != self.standing || self.from.is_none() {
            self.from = Some(from);
        }
        self.standing = standing;
    }
}

/// Applies the outcome of a later part. A rejected change leaves the member as before: a user who was added, or may have
/// been, may still be a member.
fn fold(before: Option<MemberStanding>, outcome: RowOutcome) -> Option<MemberStanding> {
    match outcome {
        RowOutcome::Accepted(ChangeOp::Add) => Some(MemberStanding::Member),
        RowOutcome::Accepted(ChangeOp::Remove) => None,
        RowOutcome::Rejected(ChangeOp::Add) => match before {
            None | Some(MemberStanding::Rejected) => Some(MemberStanding::Rejected),
            Some(MemberStanding::Member | MemberStanding::InDoubt | MemberStanding::Disputed) => {
                Some(MemberStanding::Disputed)
            }
        },
        RowOutcome::Rejected(ChangeOp::Remove) => before,
        RowOutcome::Unanswered => Some(MemberStanding::InDoubt),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::StateReader;
    use super::super::format::StateFormat;
    use super::super::membership::RecordedWorkspace;
    use super::super::part::PartWriter;
    use super::*;
    use crate::model::{Identifier, IdentifierKind, RowSet, RunId, Timestamp};

    const SEED: KeySeed = KeySeed(7);

    fn packed(n: u32) -> Vec<u8> {
        let value = format!("user-{n}");
        let (kind, label) = [
            (IdentifierKind::ExternalId, ""),
            (IdentifierKind::Alias, "crm"),
            (IdentifierKind::DeviceId, ""),
        ][n as usize % 3];
        let mut packed = Vec::new();
        Identifier { kind, label, value: &value }.pack_into(&mut packed);
        packed
    }

    fn write(
        store: &Store,
        cohort: &CohortId,
        op: ChangeOp,
        people: impl Iterator<Item = u32>,
    ) -> (PartRef, Vec<MemberKey>) {
        let mut rows: Vec<(MemberKey, Vec<u8>)> =
            people.map(|n| (MemberKey::of(SEED, &packed(n)), packed(n))).collect();
        rows.sort();
        let mut writer = PartWriter::create(store, cohort, op, SEED).unwrap();
        rows.iter().for_each(|(_, packed)| writer.push(packed).unwrap());
        (writer.finish().unwrap(), rows.into_iter().map(|(key, _)| key).collect())
    }

    fn version(parts: Vec<PartRef>) -> Membership {
        let workspace = RecordedWorkspace {
            connection: String::new(),
            endpoint: String::new(),
            partner: String::new(),
            delivery: crate::model::DeliveryMethod::CohortImport,
        };
        let run = RunId::new(Timestamp::UNIX_EPOCH, 0);
        Membership { parts, ..Membership::first(&run, Timestamp::UNIX_EPOCH, workspace) }
    }

    fn read(store: &Store, cohort: &CohortId, version: &Membership) -> BTreeMap<MemberKey, MemberStanding> {
        let mut cursor = MembershipCursor::open(store, cohort, Some(version), SEED).unwrap();
        let mut found = BTreeMap::new();
        while let Some((key, standing)) = cursor.advance().unwrap() {
            assert!(found.keys().next_back().is_none_or(|last| *last < key));
            assert_eq!(
                MemberKey::of(SEED, cursor.packed().unwrap()),
                key,
                "the identifier belongs to the key"
            );
            found.insert(key, standing);
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        /// Compares with a naive reading: part after part, row after row.
        #[test]
        fn the_latest_part_decides(
            parts in proptest::collection::vec(
                (any::<bool>(), proptest::collection::btree_set(0u32..40, 0..30), 0u64..30, 0u64..30), 0..6)
        ) {
            let home = tempfile::tempdir().unwrap();
            let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
            let (mut naive, mut refs) = (BTreeMap::new(), Vec::new());
            for (add, people, accepted, rejected) in parts {
                let op = if add { ChangeOp::Add } else { ChangeOp::Remove };
                let (mut part, keys) = write(&store, &cohort, op, people.into_iter());
                let (accepted, rejected) = (accepted.min(part.rows), rejected.min(part.rows));
                part.acknowledged = RowSet::all(accepted);
                part.rejected = RowSet::from_ranges(std::iter::once(accepted..rejected.max(accepted)));
                for (row, key) in (0..).zip(keys) {
                    match (part.acknowledged.contains(row), part.rejected.contains(row), op) {
                        (true, _, ChangeOp::Add) => drop(naive.insert(key, MemberStanding::Member)),
                        (true, _, ChangeOp::Remove) => drop(naive.remove(&key)),
                        (_, true, ChangeOp::Add) => {
                            let in_it = naive.get(&key).is_some_and(|known| *known != MemberStanding::Rejected);
                            let known = if in_it { MemberStanding::Disputed } else { MemberStanding::Rejected };
                            naive.insert(key, known);
                        }
                        (_, true, ChangeOp::Remove) => {}
                        _ => drop(naive.insert(key, MemberStanding::InDoubt)),
                    }
                }
                refs.push(part);
            }
            let whole = version(refs);
            prop_assert_eq!(&read(&store, &cohort, &whole), &naive);
            // A look-up of each key gives the same.
            let format = Some(StateFormat { id: String::new(), seed: SEED });
            let state = StateReader { store: store.clone(), format, heads: Default::default() };
            let keys = (0..40).map(|n| MemberKey::of(SEED, &packed(n))).collect();
            let found = state.find_members(&cohort, &whole, &keys).unwrap().into_iter();
            let found: BTreeMap<MemberKey, MemberStanding> =
                found.filter_map(|(key, member)| Some((key, member.standing?))).collect();
            prop_assert_eq!(&found, &naive);
            // A merge keeps every standing, except that one part cannot record disputed members.
            let merged = super::super::compact::merge_all(&store, &cohort, &whole, SEED).unwrap();
            let plain = |standing| if standing == MemberStanding::Disputed { MemberStanding::InDoubt } else { standing };
            let naive: BTreeMap<MemberKey, MemberStanding> = naive.into_iter().map(|(k, s)| (k, plain(s))).collect();
            prop_assert_eq!(read(&store, &cohort, &merged), naive.clone());
            let count = |standing| naive.values().filter(|s| **s == standing).count() as u64;
            prop_assert_eq!(merged.members, Some(count(MemberStanding::Member)));
            prop_assert_eq!(merged.in_doubt, count(MemberStanding::InDoubt));
        }
    }

    #[test]
    fn identifiers_are_read_from_many_row_groups_in_any_pattern() {
        let home = tempfile::tempdir().unwrap();
        let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
        let (mut part, keys) = write(&store, &cohort, ChangeOp::Add, 0..150_000);
        part.acknowledged = RowSet::all(part.rows);
        let mut cursor = MembershipCursor::open(&store, &cohort, Some(&version(vec![part])), SEED).unwrap();
        for (row, key) in keys.iter().enumerate() {
            assert_eq!(cursor.advance().unwrap(), Some((*key, MemberStanding::Member)));
            if row % 997 == 0 || (row % 65_536) < 2 {
                assert_eq!(MemberKey::of(SEED, cursor.packed().unwrap()), *key, "row {row}");
            }
        }
        assert_eq!(cursor.advance().unwrap(), None);
    }

    /// A flipped bit is detected, or it is in a byte that is not read. It never changes a member.
    #[test]
    fn a_damaged_part_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
        let (part, _) = write(&store, &cohort, ChangeOp::Add, 0..5_000);
        let path = store.at(&path_of(&cohort, &part.id));
        let whole = std::fs::read(&path).unwrap();
        let damage = |bytes: &[u8]| {
            let mut file = std::fs::File::create(&path).unwrap();
            std::io::Write::write_all(&mut file, bytes).unwrap();
            let version = version(vec![part.clone()]);
            let opened = MembershipCursor::open(&store, &cohort, Some(&version), SEED);
            opened.and_then(|mut cursor| {
                let mut members = Vec::new();
                while let Some((key, _)) = cursor.advance()? {
                    members.push((key, cursor.packed()?.to_vec()));
                }
                Ok(members)
            })
        };
        let members = damage(&whole).unwrap();
        assert_eq!(members.len(), 5_000);
        assert!(matches!(damage(&whole[..whole.len() - 1]), Err(StateError::Damaged { .. })));
        let mut detected = 0;
        for at in (0..whole.len()).step_by(whole.len() / 100) {
            let mut bad = whole.clone();
            bad[at] ^= 0x40;
            match damage(&bad) {
                Ok(read) => assert!(read == members, "a flipped bit at {at}"),
                Err(error) => {
                    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
                    detected += 1;
                }
            }
        }
        assert!(detected > 80, "{detected}");
    }
}
