//! Look-up of users in the recorded membership of a cohort: by key with the index of each part, or by a scan.
//!
//! An identifier determines its key, so a look-up reads one row group of each part. Devices and aliases that are known by
//! a hash alone need a scan, which skips parts that have only external ids.

use std::collections::{BTreeMap, BTreeSet};

use super::membership::{LateRequest, Membership};
use super::membership_cursor::Since;
use super::part::{PartCursor, PartFolder, PartRef, RowOutcome, path_of};
use super::{MembershipCursor, StateError, StateReader};
use crate::model::{ChangeOp, CohortId, Identifier, MemberKey, MemberStanding, RowSet, Timestamp};

/// Decides whether an identifier is the user's.
pub(super) type IdentifierFilter<'a> = &'a dyn Fn(&Identifier<'_>) -> bool;

/// One identifier in the recorded membership of a cohort.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundMember {
    /// The standing. `None`: Braze has removed it, or the version has it only in late requests.
    pub standing: Option<MemberStanding>,
    /// The run since which it has this standing. `None`: it is unknown.
    pub run: Option<String>,
    /// Requests without an answer that Braze may still handle, and until when.
    pub late: BTreeMap<ChangeOp, Timestamp>,
    /// An earlier request has no answer, and it is not noted yet that it may arrive late.
    has_unnoted_doubt: bool,
}

impl FoundMember {
    /// Whether the user is a member in Braze, or may be one.
    #[must_use]
    pub fn may_be_member(&self) -> bool {
        self.has_unnoted_doubt || self.standing.is_some_and(|standing| standing != MemberStanding::Rejected)
    }
}

/// One user in the recorded membership of a cohort.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedUser {
    /// The user is a member, or in doubt.
    pub is_member: bool,
    /// Until when Braze may still add the user: an add request had no answer before the user was removed.
    pub late_until: Option<Timestamp>,
    /// Braze has rejected the user.
    pub(super) is_rejected: bool,
    pub(super) keys: BTreeSet<MemberKey>,
}

pub(super) fn is_packed(packed: &[u8], is_theirs: IdentifierFilter<'_>) -> bool {
    Identifier::unpack(packed).is_ok_and(|(identifier, _)| is_theirs(&identifier))
}

/// Returns the part with no row acknowledged or rejected, so that a cursor yields every row.
pub(super) fn without_outcomes(part: &PartRef) -> PartRef {
    PartRef { acknowledged: RowSet::default(), rejected: RowSet::default(), ..part.clone() }
}

impl StateReader {
    /// Returns the key of an identifier.
    #[must_use]
    pub fn key_of(&self, identifier: &Identifier<'_>) -> MemberKey {
        let mut packed = Vec::new();
        identifier.pack_into(&mut packed);
        MemberKey::of(self.seed(), &packed)
    }

    /// Looks up keys in a version of a cohort. Keys that no part has are absent from the result.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn find_members(
        &self,
        cohort: &CohortId,
        version: &Membership,
        keys: &BTreeSet<MemberKey>,
    ) -> Result<BTreeMap<MemberKey, FoundMember>, StateError> {
        let mut found: BTreeMap<MemberKey, (Since<Option<String>>, FoundMember)> = BTreeMap::new();
        for part in &version.parts {
            let mut cursor = self.cursor(PartFolder::Cohort(cohort), part)?;
            for key in keys {
                if cursor.seek(*key)? {
                    let (since, member) = found.entry(*key).or_default();
                    let (outcome, run) = (cursor.outcome(), cursor.run()?);
                    since.apply(outcome, run.and_then(|run| run.as_utf8().ok().map(str::to_owned)));
                    member.has_unnoted_doubt |= !part.noted && matches!(outcome, RowOutcome::Unanswered);
                }
            }
        }
        for LateRequest { part, rows, until } in &version.late {
            for (row, key) in self.rows_of(PartFolder::Cohort(cohort), part, keys)? {
                if rows.contains(row) {
                    let (_, member) = found.entry(key).or_default();
                    let known = member.late.entry(part.op).or_insert(*until);
                    *known = (*known).max(*until);
                }
            }
        }
        let finished = |(key, (since, member)): (_, (Since<Option<String>>, FoundMember))| {
            (key, FoundMember { standing: since.standing, run: since.from.flatten(), ..member })
        };
        Ok(found.into_iter().map(finished).collect())
    }

    /// Scans a version of a cohort, with its late requests, for the identifiers of devices and aliases that are theirs.
    /// Parts with external ids alone are skipped.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn scan_handles(
        &self,
        cohort: &CohortId,
        version: &Membership,
        visit: &mut dyn FnMut(MemberKey, &Identifier<'_>),
    ) -> Result<(), StateError> {
        for part in version.all_parts() {
            if !self.cursor(PartFolder::Cohort(cohort), part)?.has_only_external_ids() {
                self.scan_part(cohort, part, visit)?;
            }
        }
        Ok(())
    }

    fn scan_part(
        &self,
        cohort: &CohortId,
        part: &PartRef,
        visit: &mut dyn FnMut(MemberKey, &Identifier<'_>),
    ) -> Result<(), StateError> {
        let mut cursor =
            MembershipCursor::of_parts(&self.store, cohort, &[without_outcomes(part)], self.seed())?;
        while let Some((key, _)) = cursor.advance_any()? {
            if let Ok((identifier, _)) = Identifier::unpack(cursor.packed()?) {
                visit(key, &identifier);
            }
        }
        Ok(())
    }

    /// Finds one user in the newest version of a cohort, under any kind and label of identifier.
    ///
    /// # Errors
    /// When the version or a part cannot be read or is damaged.
    pub fn recorded(
        &self,
        cohort: &CohortId,
        is_theirs: IdentifierFilter<'_>,
    ) -> Result<RecordedUser, StateError> {
        let mut recorded = RecordedUser::default();
        let Some(version) = self.version(cohort)? else { return Ok(recorded) };
        for part in version.all_parts() {
            self.scan_part(cohort, part, &mut |key, identifier| {
                if is_theirs(identifier) {
                    recorded.keys.insert(key);
                }
            })?;
        }
        for found in self.find_members(cohort, &version, &recorded.keys)?.into_values() {
            recorded.is_rejected |= found.standing == Some(MemberStanding::Rejected);
            // A request that is not noted may arrive after later ones; the next run notes it before it relies on them.
            recorded.is_member |= found.may_be_member();
            recorded.late_until = recorded.late_until.max(found.late.get(&ChangeOp::Add).copied());
        }
        recorded.is_member &= !version.removed;
        Ok(recorded)
    }

    /// Returns the rows of a part with these keys.
    pub(super) fn rows_of(
        &self,
        folder: PartFolder<'_>,
        part: &PartRef,
        keys: &BTreeSet<MemberKey>,
    ) -> Result<Vec<(u64, MemberKey)>, StateError> {
        let (mut cursor, mut rows) = (self.cursor(folder, part)?, Vec::new());
        for key in keys {
            if cursor.seek(*key)? {
                rows.push((cursor.row(), *key));
            }
        }
        Ok(rows)
    }

    /// Opens a cursor before the first member of a part.
    pub(super) fn cursor(&self, folder: PartFolder<'_>, part: &PartRef) -> Result<PartCursor, StateError> {
        PartCursor::open(self.store.open_blob(&path_of(folder, &part.id))?, part, self.seed())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::part::PartWriter;
    use super::super::store::Store;
    use super::*;
    use crate::model::{IdentifierKind, KeySeed};

    const SEED: KeySeed = KeySeed(7);

    fn packed(n: u32) -> Vec<u8> {
        let mut packed = Vec::new();
        let kind = IdentifierKind::ALL[n as usize % 3];
        let label = if kind == IdentifierKind::Alias { "crm" } else { "" };
        Identifier { kind, label, value: &format!("user-{n}") }.pack_into(&mut packed);
        packed
    }

    /// A part with the even numbers, and all keys of both, sorted.
    fn part(store: &Store, cohort: &CohortId, len: u32) -> (PartRef, Vec<(MemberKey, u32)>) {
        let mut keys: Vec<(MemberKey, u32)> =
            (0..len).map(|n| (MemberKey::of(SEED, &packed(n)), n)).collect();
        keys.sort_unstable();
        let mut writer = PartWriter::create(store, cohort, ChangeOp::Add, SEED).unwrap();
        for (_, n) in keys.iter().filter(|(_, n)| n % 2 == 0) {
            writer.set_run((n % 7 != 0).then(|| format!("run-{}", n % 10)).as_deref());
            writer.push(&packed(*n)).unwrap();
        }
        (writer.finish().unwrap(), keys)
    }

    fn open(store: &Store, cohort: &CohortId, part: &PartRef) -> PartCursor {
        PartCursor::open(store.open_blob(&path_of(cohort, &part.id)).unwrap(), part, SEED).unwrap()
    }

    /// Over several row groups: each key alone, and all in a row with their runs.
    #[test]
    fn every_key_is_found_and_every_other_is_not() {
        let home = tempfile::tempdir().unwrap();
        let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
        let (part, keys) = part(&store, &cohort, 400_000);
        let mut cursor = open(&store, &cohort, &part);
        assert!(!cursor.has_only_external_ids());
        for (at, (key, n)) in keys.iter().enumerate().filter(|(at, _)| at % 499 < 3) {
            assert_eq!(cursor.seek(*key).unwrap(), n % 2 == 0, "{at}");
            if n % 2 == 0 {
                let run = cursor.run().unwrap().map(|run| run.as_utf8().unwrap().to_owned());
                assert_eq!(run, (n % 7 != 0).then(|| format!("run-{}", n % 10)));
                let mut found = Vec::new();
                cursor.identifier(&mut found).unwrap();
                assert_eq!(found, packed(*n));
            }
        }
        for (key, n) in keys.iter().step_by(39_989) {
            assert_eq!(open(&store, &cohort, &part).seek(*key).unwrap(), n % 2 == 0);
        }
    }

    /// Damage in the first row group is noticed by look-ups in that group alone.
    #[test]
    fn a_look_up_reads_one_row_group() {
        let home = tempfile::tempdir().unwrap();
        let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
        let (part, keys) = part(&store, &cohort, 400_000);
        let path = store.at(&path_of(&cohort, &part.id));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4..100_000].fill(0);
        std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
        let members = keys.iter().filter(|(_, n)| n % 2 == 0).map(|(key, _)| *key);
        let is_found: Vec<bool> = members
            .step_by(997)
            .map(|key| open(&store, &cohort, &part).seek(key).is_ok_and(|is_found| is_found))
            .collect();
        let first_group = (64 << 10) / 997 + 1;
        assert!(is_found[..first_group].iter().all(|is_found| !is_found), "{is_found:?}");
        assert!(is_found[first_group..].iter().all(|is_found| *is_found), "{is_found:?}");
    }

    /// A flipped bit never turns a member into a user who is not one, or the reverse.
    #[test]
    fn a_damaged_part_gives_no_wrong_answer() {
        let home = tempfile::tempdir().unwrap();
        let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
        let (part, keys) = part(&store, &cohort, 600);
        let path = store.at(&path_of(&cohort, &part.id));
        let whole = std::fs::read(&path).unwrap();
        let mut detected = 0;
        for at in (0..whole.len()).step_by(11) {
            let mut bad = whole.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::File::create(&path).unwrap().write_all(&bad).unwrap();
            for (key, n) in keys.iter().step_by(7) {
                let blob = store.open_blob(&path_of(&cohort, &part.id)).unwrap();
                let found = PartCursor::open(blob, &part, SEED).and_then(|mut cursor| {
                    let is_found = cursor.seek(*key)?;
                    if is_found {
                        cursor.identifier(&mut Vec::new())?;
                    }
                    Ok(is_found)
                });
                match found {
                    Ok(is_found) => assert_eq!(is_found, n % 2 == 0, "a flipped bit at {at}"),
                    Err(error) => {
                        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
                        detected += 1;
                    }
                }
            }
        }
        assert!(detected > 500, "{detected}");
    }
}
