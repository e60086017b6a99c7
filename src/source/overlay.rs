//! The record's settled members, without some and with others: who should be there, of whom only the difference was
//! read. It does not know where the difference comes from.

use super::sorted_members::SortedMembers;
use super::{DesiredError, SortedSet};
use crate::model::{MemberKey, Standing};
use crate::state::MembershipCursor;

/// A walk over (the record's settled members − `drops`) ∪ `adds`, in strictly ascending order of their keys.
#[derive(Debug)]
pub struct MembersOverlay {
    record: MembershipCursor,
    /// The record's next member, if the walk has looked for it and not come to it yet.
    kept: PendingMember,
    adds: SortedMembers,
    added: PendingMember,
    drops: SortedMembers,
    dropped: Option<MemberKey>,
    has_begun: bool,
    at_record: bool,
    /// Members so far.
    walked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingMember {
    Unknown,
    Is(MemberKey),
    Nobody,
}

impl MembersOverlay {
    /// Begins the walk. `record` has not been walked yet.
    #[must_use]
    pub fn new(record: MembershipCursor, adds: SortedSet, drops: SortedSet) -> Self {
        let (adds, drops) = (adds.into_members(), drops.into_members());
        let (kept, added, dropped) = (PendingMember::Unknown, PendingMember::Unknown, None);
        Self { record, kept, adds, added, drops, dropped, has_begun: false, at_record: false, walked: 0 }
    }

    /// Moves on to the next member, if there is one.
    ///
    /// # Errors
    /// When the record or a temporary file cannot be read.
    #[inline]
    pub fn advance(&mut self) -> Result<Option<MemberKey>, DesiredError> {
        if self.added == PendingMember::Unknown {
            self.added = self.adds.advance()?.map_or(PendingMember::Nobody, PendingMember::Is);
        }
        if self.kept == PendingMember::Unknown {
            self.kept = self.next_kept()?.map_or(PendingMember::Nobody, PendingMember::Is);
        }
        let next = match (self.kept, self.added) {
            (PendingMember::Is(kept), PendingMember::Is(added)) if added <= kept => {
                // Of one who is in both, either identifier will do: they are the same.
                if added == kept {
                    self.kept = PendingMember::Unknown;
                }
                self.take_added(added)
            }
            (PendingMember::Is(kept), _) => {
                (self.kept, self.at_record) = (PendingMember::Unknown, true);
                kept
            }
            (_, PendingMember::Is(added)) => self.take_added(added),
            _ => return Ok(None),
        };
        self.walked += 1;
        Ok(Some(next))
    }

    fn take_added(&mut self, added: MemberKey) -> MemberKey {
        (self.added, self.at_record) = (PendingMember::Unknown, false);
        added
    }

    /// The record's next settled member who stays.
    fn next_kept(&mut self) -> Result<Option<MemberKey>, DesiredError> {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.dropped = self.drops.advance()?;
        }
        loop {
            let Some((key, standing)) = self.record.advance()? else { return Ok(None) };
            while self.dropped.is_some_and(|dropped| dropped < key) {
                self.dropped = self.drops.advance()?;
            }
            if standing == Standing::Member && self.dropped != Some(key) {
                return Ok(Some(key));
            }
        }
    }

    /// Moves on over the members that follow as long as they are these keys, one by one; how many they were.
    pub fn pass(&mut self, keys: &[MemberKey]) -> usize {
        // Only the record's own are in hand, and only up to the next one who comes or goes.
        if !self.at_record || self.kept != PendingMember::Unknown {
            return 0;
        }
        let added = if let PendingMember::Is(added) = self.added { Some(added) } else { None };
        let is_before = |key: &MemberKey| [added, self.dropped].iter().flatten().all(|limit| key < limit);
        let ours = self.record.ahead().iter();
        let count = ours.zip(keys).take_while(|(ours, key)| ours == key && is_before(ours)).count();
        self.record.skip(count);
        self.walked += count as u64;
        count
    }

    /// The packed identifier of the current member.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn packed(&mut self) -> Result<&[u8], DesiredError> {
        if self.at_record { Ok(self.record.packed()?) } else { Ok(self.adds.packed()) }
    }

    /// Members, as far as the walk has come.
    #[must_use]
    pub fn walked(&self) -> u64 {
        self.walked
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{
        ChangeOp, Clock, CohortId, DeliveryMethod, Identifier, IdentifierKind, KeySeed, RowSet, RunId,
        Timestamp,
    };
    use crate::state::{Holder, Location, Membership, PartRef, RecordedWorkspace, StateReader, StateWriter};

    const SEED: KeySeed = KeySeed(7);

    fn packed(n: u32) -> Vec<u8> {
        let mut packed = Vec::new();
        Identifier::pack(IdentifierKind::ExternalId, "", format!("u{n}").as_bytes(), &mut packed);
        packed
    }

    fn set(people: &BTreeSet<u32>) -> SortedSet {
        let mut set = SortedSet::new(SEED, 1 << 20);
        people.iter().for_each(|n| set.push(&packed(*n)).unwrap());
        set
    }

    /// A record of two parts, some of whose members are refused or in doubt.
    fn record(state: &StateWriter, cohort: &CohortId, people: u32) -> (Membership, BTreeSet<u32>) {
        let mut settled = BTreeSet::new();
        let part = |from: u32, to: u32| {
            let mut rows: Vec<(MemberKey, u32)> =
                (from..to).map(|n| (MemberKey::of(SEED, &packed(n)), n)).collect();
            rows.sort_unstable();
            let mut writer = state.part(cohort, ChangeOp::Add).unwrap();
            rows.iter().for_each(|(_, n)| writer.push(&packed(*n)).unwrap());
            let part = writer.finish().unwrap();
            let parts = [0..part.rows / 2, part.rows / 2 + 2..part.rows];
            let acknowledged = RowSet::from_ranges(parts.iter().cloned());
            let refused = RowSet::from_ranges(std::iter::once(part.rows / 2..part.rows / 2 + 1));
            let is_settled = |at: u64| parts.iter().any(|part| part.contains(&at));
            let who = rows.into_iter().zip(0..).filter(|(_, at)| is_settled(*at)).map(|((_, n), _)| n);
            (PartRef { acknowledged, refused, ..part }, who.collect::<Vec<u32>>())
        };
        let parts = [(0, people), (people, people + people / 3)].map(|(from, to)| {
            let (part, who) = part(from, to);
            settled.extend(who);
            part
        });
        let pass = RunId::new(Timestamp::UNIX_EPOCH, 1);
        let (connection, endpoint, partner) = (String::new(), String::new(), String::new());
        let workspace =
            RecordedWorkspace { connection, endpoint, partner, delivery: DeliveryMethod::CohortImport };
        (
            Membership {
                parts: parts.to_vec(),
                ..Membership::first(&pass, Timestamp::UNIX_EPOCH, workspace)
            },
            settled,
        )
    }

    fn walk(overlay: &mut MembersOverlay, beside: &mut MembershipCursor) -> (BTreeSet<String>, usize) {
        let (mut found, mut passed, mut last) = (BTreeSet::new(), 0, None);
        let mut at = beside.advance().unwrap();
        while let Some(key) = overlay.advance().unwrap() {
            assert!(last < Some(key), "strictly ascending");
            let who = overlay.packed().unwrap();
            assert_eq!(MemberKey::of(SEED, who), key);
            found.insert(Identifier::unpack(who).unwrap().0.value.to_owned());
            while at.is_some_and(|(other, _)| other < key) {
                at = beside.advance().unwrap();
            }
            last = Some(key);
            if at.is_some_and(|(other, _)| other == key) {
                let ahead = beside.ahead();
                let count = overlay.pass(ahead);
                last = ahead[..count].last().copied().or(last);
                // Whoever was passed is known by the record alone.
                for _ in 0..count {
                    at = beside.advance().unwrap();
                    found.insert(Identifier::unpack(beside.packed().unwrap()).unwrap().0.value.to_owned());
                }
                passed += count;
            }
        }
        assert_eq!(overlay.walked(), found.len() as u64, "nobody twice");
        (found, passed)
    }

    fn check(
        reader: &StateReader,
        cohort: &CohortId,
        record: &(Membership, BTreeSet<u32>),
        adds: &[u32],
        drops: &[u32],
    ) -> usize {
        let (version, settled) = record;
        let (adds, drops): (BTreeSet<u32>, BTreeSet<u32>) =
            (adds.iter().copied().collect(), drops.iter().copied().collect());
        let cursor = || reader.members(cohort, Some(version)).unwrap();
        let mut overlay = MembersOverlay::new(cursor(), set(&adds), set(&drops));
        let (found, passed) = walk(&mut overlay, &mut cursor());
        let kept: BTreeSet<u32> = settled.difference(&drops).copied().collect();
        assert_eq!(found, kept.union(&adds).map(|n| format!("u{n}")).collect());
        assert!(overlay.advance().unwrap().is_none(), "it stays at the end");
        passed
    }

    #[test]
    fn the_record_without_some_and_with_others() {
        let home = tempfile::tempdir().unwrap();
        let since = Timestamp::UNIX_EPOCH;
        let holder = Holder { host: String::new(), process: 1, since, heard: None };
        let location = Location::Folder(home.path().to_owned());
        let state =
            StateWriter::open(&location, &holder, Clock::new(|| Timestamp::UNIX_EPOCH), SEED.0).unwrap();
        let cohort = CohortId::new("c").unwrap();
        for people in [30, 3000] {
            let record = record(&state, &cohort, people);
            let check = |adds: &[u32], drops: &[u32]| check(state.reader(), &cohort, &record, adds, drops);
            let every = |nth: u32| (0..people * 2).filter(|n| n % nth == 0).collect::<Vec<u32>>();
            assert!(check(&[], &[]) > 0, "most are passed without a look");
            let everybody = every(1);
            check(&[], &everybody);
            check(&everybody, &[]);
            check(&everybody, &everybody);
            for (adds, drops) in [(2, 3), (3, 2), (7, 50), (50, 7), (97, 89)] {
                check(&every(adds), &every(drops));
            }
        }
    }
}
