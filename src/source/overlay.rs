//! Desired members as the recorded membership with a difference applied: some members dropped, others added.

use super::sorted_members::SortedMembers;
use super::{DesiredError, SortedSet};
use crate::model::{MemberKey, MemberStanding};
use crate::state::MembershipCursor;

/// Cursor over (the settled recorded members − `drops`) ∪ `adds`, in strictly ascending key order.
#[derive(Debug)]
pub struct MembersOverlay {
    membership: MembershipCursor,
    /// The next recorded member that stays.
    kept: PendingMember,
    adds: SortedMembers,
    added: PendingMember,
    drops: SortedMembers,
    dropped: Option<MemberKey>,
    has_begun: bool,
    is_at_recorded: bool,
    /// Members so far.
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingMember {
    Unread,
    Next(MemberKey),
    End,
}

impl MembersOverlay {
    /// `membership` must be at its start.
    #[must_use]
    pub fn new(membership: MembershipCursor, adds: SortedSet, drops: SortedSet) -> Self {
        let (adds, drops) = (adds.into_members(), drops.into_members());
        let (kept, added, dropped) = (PendingMember::Unread, PendingMember::Unread, None);
        Self {
            membership,
            kept,
            adds,
            added,
            drops,
            dropped,
            has_begun: false,
            is_at_recorded: false,
            count: 0,
        }
    }

    /// Advances to the next member and returns its key; none at the end.
    ///
    /// # Errors
    /// When the membership or a temporary file cannot be read.
    #[inline]
    pub fn advance(&mut self) -> Result<Option<MemberKey>, DesiredError> {
        if self.added == PendingMember::Unread {
            self.added = self.adds.advance()?.map_or(PendingMember::End, PendingMember::Next);
        }
        if self.kept == PendingMember::Unread {
            self.kept = self.next_kept()?.map_or(PendingMember::End, PendingMember::Next);
        }
        let next = match (self.kept, self.added) {
            (PendingMember::Next(kept), PendingMember::Next(added)) if added <= kept => {
                // A member of both has the same identifier in both.
                if added == kept {
                    self.kept = PendingMember::Unread;
                }
                self.take_added(added)
            }
            (PendingMember::Next(kept), _) => {
                (self.kept, self.is_at_recorded) = (PendingMember::Unread, true);
                kept
            }
            (_, PendingMember::Next(added)) => self.take_added(added),
            _ => return Ok(None),
        };
        self.count += 1;
        Ok(Some(next))
    }

    fn take_added(&mut self, added: MemberKey) -> MemberKey {
        (self.added, self.is_at_recorded) = (PendingMember::Unread, false);
        added
    }

    /// Reads the next settled recorded member that is not dropped.
    fn next_kept(&mut self) -> Result<Option<MemberKey>, DesiredError> {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.dropped = self.drops.advance()?;
        }
        loop {
            let Some((key, standing)) = self.membership.advance()? else { return Ok(None) };
            while self.dropped.is_some_and(|dropped| dropped < key) {
                self.dropped = self.drops.advance()?;
            }
            if standing == MemberStanding::Member && self.dropped != Some(key) {
                return Ok(Some(key));
            }
        }
    }

    /// Advances while the next members equal `keys`. Returns how many matched.
    pub fn advance_while_equal(&mut self, keys: &[MemberKey]) -> usize {
        // Only recorded members are buffered, and only those before the next added or dropped member qualify.
        if !self.is_at_recorded || self.kept != PendingMember::Unread {
            return 0;
        }
        let added = if let PendingMember::Next(added) = self.added { Some(added) } else { None };
        let is_before = |key: &MemberKey| [added, self.dropped].iter().flatten().all(|limit| key < limit);
        let recorded = self.membership.ahead().iter();
        let count =
            recorded.zip(keys).take_while(|(recorded, key)| recorded == key && is_before(recorded)).count();
        self.membership.skip(count);
        self.count += count as u64;
        count
    }

    /// The packed identifier of the current member.
    ///
    /// # Errors
    /// When the membership cannot be read.
    pub fn packed(&mut self) -> Result<&[u8], DesiredError> {
        if self.is_at_recorded { Ok(self.membership.packed()?) } else { Ok(self.adds.packed()) }
    }

    /// Members so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
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

    /// A membership of two parts with rejected members and members in doubt.
    fn membership(state: &StateWriter, cohort: &CohortId, people: u32) -> (Membership, BTreeSet<u32>) {
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
            let rejected = RowSet::from_ranges(std::iter::once(part.rows / 2..part.rows / 2 + 1));
            let is_settled = |at: u64| parts.iter().any(|part| part.contains(&at));
            let members = rows.into_iter().zip(0..).filter(|(_, at)| is_settled(*at)).map(|((_, n), _)| n);
            (PartRef { acknowledged, rejected, ..part }, members.collect::<Vec<u32>>())
        };
        let parts = [(0, people), (people, people + people / 3)].map(|(from, to)| {
            let (part, members) = part(from, to);
            settled.extend(members);
            part
        });
        let run = RunId::new(Timestamp::UNIX_EPOCH, 1);
        let (connection, endpoint, partner) = (String::new(), String::new(), String::new());
        let workspace =
            RecordedWorkspace { connection, endpoint, partner, delivery: DeliveryMethod::CohortImport };
        (
            Membership { parts: parts.to_vec(), ..Membership::first(&run, Timestamp::UNIX_EPOCH, workspace) },
            settled,
        )
    }

    fn collect(overlay: &mut MembersOverlay, beside: &mut MembershipCursor) -> (BTreeSet<String>, usize) {
        let (mut found, mut skipped, mut last) = (BTreeSet::new(), 0, None);
        let mut at = beside.advance().unwrap();
        while let Some(key) = overlay.advance().unwrap() {
            assert!(last < Some(key), "strictly ascending");
            let packed = overlay.packed().unwrap();
            assert_eq!(MemberKey::of(SEED, packed), key);
            found.insert(Identifier::unpack(packed).unwrap().0.value.to_owned());
            while at.is_some_and(|(other, _)| other < key) {
                at = beside.advance().unwrap();
            }
            last = Some(key);
            if at.is_some_and(|(other, _)| other == key) {
                let ahead = beside.ahead();
                let count = overlay.advance_while_equal(ahead);
                last = ahead[..count].last().copied().or(last);
                // Members that were skipped are known from the membership only.
                for _ in 0..count {
                    at = beside.advance().unwrap();
                    found.insert(Identifier::unpack(beside.packed().unwrap()).unwrap().0.value.to_owned());
                }
                skipped += count;
            }
        }
        assert_eq!(overlay.count(), found.len() as u64, "each member once");
        (found, skipped)
    }

    fn check(
        reader: &StateReader,
        cohort: &CohortId,
        recorded: &(Membership, BTreeSet<u32>),
        adds: &[u32],
        drops: &[u32],
    ) -> usize {
        let (version, settled) = recorded;
        let (adds, drops): (BTreeSet<u32>, BTreeSet<u32>) =
            (adds.iter().copied().collect(), drops.iter().copied().collect());
        let cursor = || reader.members(cohort, Some(version)).unwrap();
        let mut overlay = MembersOverlay::new(cursor(), set(&adds), set(&drops));
        let (found, skipped) = collect(&mut overlay, &mut cursor());
        let kept: BTreeSet<u32> = settled.difference(&drops).copied().collect();
        assert_eq!(found, kept.union(&adds).map(|n| format!("u{n}")).collect());
        assert!(overlay.advance().unwrap().is_none(), "the cursor stays at the end");
        skipped
    }

    #[test]
    fn added_and_dropped_members_are_applied_to_the_membership() {
        let home = tempfile::tempdir().unwrap();
        let since = Timestamp::UNIX_EPOCH;
        let holder = Holder { host: String::new(), process: 1, since, renewal: None };
        let location = Location::Folder(home.path().to_owned());
        let state =
            StateWriter::open(&location, &holder, Clock::new(|| Timestamp::UNIX_EPOCH), SEED.0).unwrap();
        let cohort = CohortId::new("c").unwrap();
        for people in [30, 3000] {
            let recorded = membership(&state, &cohort, people);
            let check = |adds: &[u32], drops: &[u32]| check(state.reader(), &cohort, &recorded, adds, drops);
            let every = |nth: u32| (0..people * 2).filter(|n| n % nth == 0).collect::<Vec<u32>>();
            assert!(check(&[], &[]) > 0, "most members are skipped");
            let all = every(1);
            check(&[], &all);
            check(&all, &[]);
            check(&all, &all);
            for (adds, drops) in [(2, 3), (3, 2), (7, 50), (50, 7), (97, 89)] {
                check(&every(adds), &every(drops));
            }
        }
    }
}
