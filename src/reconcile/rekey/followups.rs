//! Changes that follow from re-keys, because Braze knows one user by several identifiers.
//!
//! - For Braze an alias and its owner are the same user. When an alias leaves and its owner stays a member, the removal
//!   takes the owner out too, so the owner is added again after it.
//! - Braze ignores the device of an identified owner. A user who was removed by a device may have been identified in
//!   the meantime, so the owner is removed as well once the id is known.

use super::spool_cursor::{BATCH_LEN, SpoolCursor};
use crate::model::{Identifier, IdentifierError, IdentifierKind, KeySeed, MemberStanding};
use crate::plan::Sides;
use crate::reconcile::plan_error::PlanError;
use crate::source::{DesiredError, SortedSet};
use crate::state::{IdentityOwners, MembershipCursor, OwnerQuery, Spool, StateError, StateReader};

/// Identifiers per lookup of owners.
const QUERIES_MAX: usize = 100_000;
/// Memory for the owners that are found. More of them spill to a temporary file.
const MEMORY: usize = 16 << 20;

/// The changes that follow from re-keys. The three sets are sorted by key.
pub(in crate::reconcile) struct RekeyFollowups {
    /// Owners who stay members while an alias of theirs leaves.
    pub(in crate::reconcile) owners_to_add: Spool,
    /// Owners of devices that leave or have left, who are not recorded as members.
    pub(in crate::reconcile) owners_to_remove: Spool,
    /// Owners who stay members while a device or an alias of theirs leaves. Empty unless triggers need them.
    pub(in crate::reconcile) staying: Spool,
}

/// Plans the follow-ups of these changes. `released` are devices that earlier runs removed. `None` without an identity
/// map.
pub(in crate::reconcile) fn plan_followups(
    changes: &mut Sides<Spool>,
    mut released: Spool,
    has_triggers: bool,
    members: impl Fn() -> Result<MembershipCursor, StateError>,
    state: &StateReader,
) -> Result<Option<RekeyFollowups>, PlanError> {
    let Some(owners) = state.owners()? else { return Ok(None) };
    let seed = state.seed();
    let is_member = |standing| standing == Some(Some(MemberStanding::Member));
    let mut of_aliases = SortedSet::new(seed, MEMORY);
    find_owners(&mut changes.removes, &[IdentifierKind::Alias], &owners, &mut of_aliases)?;
    let owners_to_add = select(of_aliases, &members, changes, is_member, seed)?;
    let mut staying = Spool::default();
    if has_triggers {
        let mut of_names = SortedSet::new(seed, MEMORY);
        let kinds = [IdentifierKind::Alias, IdentifierKind::DeviceId];
        find_owners(&mut changes.removes, &kinds, &owners, &mut of_names)?;
        staying = select(of_names, &members, changes, is_member, seed)?;
    }
    let mut of_devices = SortedSet::new(seed, MEMORY);
    for left in [&mut released, &mut changes.removes] {
        find_owners(left, &[IdentifierKind::DeviceId], &owners, &mut of_devices)?;
    }
    // An owner with any record was removed or rejected by the own id, and needs no second removal.
    let is_unrecorded = |standing: Option<Option<MemberStanding>>| standing.is_none();
    let owners_to_remove = select(of_devices, &members, changes, is_unrecorded, seed)?;
    Ok(Some(RekeyFollowups { owners_to_add, owners_to_remove, staying }))
}

/// Selects the owners with a wanted standing that are not among the changes. The outer `None` is an owner without
/// a record, the inner one a removed member.
fn select(
    owners: SortedSet,
    members: impl FnOnce() -> Result<MembershipCursor, StateError>,
    changes: &mut Sides<Spool>,
    is_wanted: impl Fn(Option<Option<MemberStanding>>) -> bool,
    seed: KeySeed,
) -> Result<Spool, PlanError> {
    let mut selected = Spool::default();
    let mut owners = owners.into_members();
    let Some(mut key) = owners.advance().map_err(DesiredError::Scratch)? else { return Ok(selected) };
    let mut members = members()?;
    let mut leaving = SpoolCursor::new(&mut changes.removes, seed)?;
    let mut entering = SpoolCursor::new(&mut changes.adds, seed)?;
    let mut recorded = members.advance_any()?;
    loop {
        while recorded.is_some_and(|(recorded, _)| recorded < key) {
            members.skip(members.ahead().partition_point(|ahead| *ahead < key));
            recorded = members.advance_any()?;
        }
        let standing = recorded.filter(|(recorded, _)| *recorded == key).map(|(_, standing)| standing);
        if is_wanted(standing) && !leaving.contains(key)? && !entering.contains(key)? {
            selected.push(owners.packed())?;
        }
        match owners.advance().map_err(DesiredError::Scratch)? {
            Some(next) => key = next,
            None => return Ok(selected),
        }
    }
}

/// Adds the external ids of the owners of these identifiers to `found`. Looks only at the given kinds.
fn find_owners(
    identifiers: &mut Spool,
    kinds: &[IdentifierKind],
    owners: &IdentityOwners,
    found: &mut SortedSet,
) -> Result<(), PlanError> {
    let mut queries = Vec::new();
    let mut batches = identifiers.batches(BATCH_LEN)?;
    while let Some(batch) = batches.next_batch()? {
        for packed in (0..batch.len()).map(|at| batch.packed(at)) {
            let (identifier, _) = Identifier::unpack(packed).map_err(damaged)?;
            let query = if kinds.contains(&identifier.kind) { owners.query(&identifier) } else { None };
            queries.extend(query.map(|query| (query, packed.into())));
        }
        if queries.len() >= QUERIES_MAX {
            look_up(&mut queries, owners, found)?;
        }
    }
    look_up(&mut queries, owners, found)
}

/// Answers the queries in the order in which the identity map stores the answers.
fn look_up(
    queries: &mut Vec<(OwnerQuery, Box<[u8]>)>,
    owners: &IdentityOwners,
    found: &mut SortedSet,
) -> Result<(), PlanError> {
    queries.sort_unstable();
    let (mut answers, mut packed) = (owners.answers(), Vec::new());
    for (query, identifier) in queries.drain(..) {
        let (identifier, _) = Identifier::unpack(&identifier).map_err(damaged)?;
        if let Some((owner, _)) = answers.owner(query, &identifier)? {
            packed.clear();
            owner.pack_into(&mut packed);
            found.push(&packed).map_err(DesiredError::Scratch)?;
        }
    }
    Ok(())
}

fn damaged(error: IdentifierError) -> PlanError {
    DesiredError::Scratch(std::io::Error::other(error)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChangeOp, Identifier};
    use crate::reconcile::run_fixture::{RunFixture, alias, device, external, values};

    /// The follow-ups of removals and additions: owners to add, owners to remove, and staying members.
    fn followups(
        fixture: &RunFixture,
        removes: &[Identifier<'_>],
        adds: &[Identifier<'_>],
        released: &[Identifier<'_>],
    ) -> Option<[Vec<String>; 3]> {
        let mut changes = Sides { removes: fixture.spool(removes), adds: fixture.spool(adds) };
        let state = fixture.state.reader();
        let version = state.version(fixture.id()).unwrap();
        let members = || state.members(fixture.id(), version.as_ref());
        let found = plan_followups(&mut changes, fixture.spool(released), true, members, state).unwrap();
        let values = |mut spool: Spool| values(&mut spool);
        found
            .map(|found| [values(found.owners_to_add), values(found.owners_to_remove), values(found.staying)])
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// `phone` and `tablet` are ada's, `crm-1` is bob's, and `crm-2` is cyd's. Bob and ada are members.
    fn fixture() -> RunFixture {
        let fixture = RunFixture::new("");
        fixture.record(
            ChangeOp::Add,
            &[external("ada"), external("bob"), alias("crm-1"), device("phone")],
            true,
        );
        fixture.identify(&[
            (device("phone"), "ada"),
            (device("tablet"), "ada"),
            (alias("crm-1"), "bob"),
            (alias("crm-2"), "cyd"),
            (device("watch"), "dan"),
        ]);
        fixture
    }

    #[test]
    fn an_owner_who_stays_is_added_again_after_an_alias_leaves() {
        let fixture = fixture();
        let found = followups(&fixture, &[alias("crm-1"), alias("crm-2")], &[], &[]).unwrap();
        assert_eq!(found, [texts(&["bob"]), texts(&[]), texts(&["bob"])], "cyd is no member");
        // Owners that the plan changes anyway need no second change.
        let leaves = followups(&fixture, &[alias("crm-1"), external("bob")], &[], &[]).unwrap();
        assert_eq!(leaves, [texts(&[]), texts(&[]), texts(&[])]);
        let enters = followups(&fixture, &[alias("crm-1")], &[external("bob")], &[]).unwrap();
        assert_eq!(enters, [texts(&[]), texts(&[]), texts(&[])]);
    }

    #[test]
    fn a_member_in_doubt_is_not_added_again() {
        let fixture = fixture();
        fixture.record(ChangeOp::Add, &[external("cyd")], false);
        let found = followups(&fixture, &[alias("crm-2")], &[], &[]).unwrap();
        assert_eq!(found, [texts(&[]), texts(&[]), texts(&[])], "the diff settles it");
    }

    #[test]
    fn a_device_leaves_with_its_owner_unless_the_owner_is_recorded() {
        let fixture = fixture();
        let found =
            followups(&fixture, &[device("watch"), device("phone")], &[], &[device("tablet")]).unwrap();
        assert_eq!(found, [texts(&[]), texts(&["dan"]), texts(&["ada"])], "ada is a member by the own id");
        // An earlier run removed the device. Its owner became known later.
        let released = followups(&fixture, &[], &[], &[device("watch")]).unwrap();
        assert_eq!(released, [texts(&[]), texts(&["dan"]), texts(&[])]);
        fixture.record(ChangeOp::Remove, &[external("ada")], true);
        let left = followups(&fixture, &[device("phone")], &[], &[]).unwrap();
        assert_eq!(left, [texts(&[]), texts(&[]), texts(&[])], "ada was removed by the own id");
    }

    #[test]
    fn there_are_no_followups_without_an_identity_map() {
        let fixture = RunFixture::new("");
        assert_eq!(followups(&fixture, &[alias("crm-1")], &[], &[]), None);
    }
}
