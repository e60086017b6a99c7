//! Expected size of a segment: set algebra over the recorded memberships of its cohorts, merged by key in constant
//! memory.
//!
//! # Guarantees
//! The size is exact for identifiers. Members in doubt make it a range.
//!
//! # Caveats
//! A user with different identifiers in two cohorts counts twice, and one identifier does not exclude the other.

use crate::config::SegmentConfig;
use crate::model::{CohortId, Identifier, IdentifierKind, MemberKey, MemberStanding, Timestamp};
use crate::state::{MembershipCursor, StateError, StateReader};

/// The expected size of a segment by the recorded memberships.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedSegment {
    /// The smallest number of members.
    pub min: u64,
    /// The largest number of members.
    pub max: u64,
    /// Canaries that are not members.
    pub absent_canaries: Vec<String>,
    /// The time of the newest recorded membership; `None` if nothing was sent yet.
    pub written_at: Option<Timestamp>,
    /// Cohorts that were never sent.
    pub unsent: Vec<CohortId>,
}

/// Computes the expected size of a segment.
///
/// # Errors
/// When a recorded membership cannot be read.
pub fn expected(segment: &SegmentConfig, state: &StateReader) -> Result<ExpectedSegment, StateError> {
    let mut counted = ExpectedSegment::default();
    let mut cohorts = Vec::new();
    for id in segment.cohorts() {
        let version = state.version(id)?.filter(|version| !version.removed);
        match &version {
            Some(version) => counted.written_at = counted.written_at.max(Some(version.written_at)),
            None => counted.unsent.push(id.clone()),
        }
        cohorts.push(state.members(id, version.as_ref())?);
    }
    let mut canaries = Canaries::new(segment, state);
    let rule = ExpectedRule::new(segment);
    walk(&mut cohorts, |key, standing| {
        let (surely, perhaps) = rule.of(standing);
        counted.min += u64::from(surely);
        counted.max += u64::from(perhaps);
        canaries.meet(key, perhaps);
    })?;
    counted.absent_canaries = canaries.absent();
    Ok(counted)
}

/// A user's membership in each cohort, one bit per cohort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CanaryMembership {
    surely: u128,
    perhaps: u128,
}

/// The combination of cohorts that makes a user a member of the segment.
#[derive(Clone, Copy, Debug)]
struct ExpectedRule {
    include: u128,
    exclude: u128,
    all: bool,
}

impl ExpectedRule {
    fn new(segment: &SegmentConfig) -> Self {
        let ones = |count: usize| (0..count).fold(0, |mask, at| mask | bit(at));
        let include = ones(segment.include.len());
        Self {
            include,
            exclude: ones(segment.include.len() + segment.exclude.len()) ^ include,
            all: segment.all,
        }
    }

    /// Whether a user is certainly a member of the segment, and whether the user may be one.
    fn of(self, who: CanaryMembership) -> (bool, bool) {
        let possible = who.surely | who.perhaps;
        let is_in = |mask: u128| match self.all {
            true => mask & self.include == self.include,
            false => mask & self.include != 0,
        };
        (is_in(who.surely) && possible & self.exclude == 0, is_in(possible) && who.surely & self.exclude == 0)
    }
}

/// The bit of a cohort. A segment has at most 100 cohorts.
fn bit(at: usize) -> u128 {
    u32::try_from(at).ok().and_then(|at| 1_u128.checked_shl(at)).unwrap_or(0)
}

/// Calls `meet` once per identifier of any cohort, in key order.
fn walk(
    cohorts: &mut [MembershipCursor],
    mut meet: impl FnMut(MemberKey, CanaryMembership),
) -> Result<(), StateError> {
    let mut heads = Vec::with_capacity(cohorts.len());
    for cohort in cohorts.iter_mut() {
        heads.push(cohort.advance()?);
    }
    while let Some(key) = heads.iter().flatten().map(|(key, _)| *key).min() {
        let mut who = CanaryMembership::default();
        for (at, head) in heads.iter_mut().enumerate() {
            let Some((_, standing)) = head.filter(|(other, _)| *other == key) else { continue };
            match standing {
                MemberStanding::Member => who.surely |= bit(at),
                MemberStanding::InDoubt | MemberStanding::Disputed => who.perhaps |= bit(at),
                MemberStanding::Rejected => {}
            }
            *head = cohorts[at].advance()?;
        }
        meet(key, who);
    }
    Ok(())
}

/// The canaries that the merge looks for, in key order.
struct Canaries {
    waiting: Vec<(MemberKey, String)>,
    absent: Vec<String>,
}

impl Canaries {
    fn new(segment: &SegmentConfig, state: &StateReader) -> Self {
        let key = |id: &String| {
            let mut packed = Vec::new();
            Identifier { kind: IdentifierKind::ExternalId, label: "", value: id }.pack_into(&mut packed);
            (MemberKey::of(state.seed(), &packed), id.clone())
        };
        let mut waiting: Vec<(MemberKey, String)> = segment.canaries.iter().map(key).collect();
        waiting.sort();
        waiting.reverse();
        Self { waiting, absent: Vec::new() }
    }

    fn meet(&mut self, key: MemberKey, is_in: bool) {
        while self.waiting.last().is_some_and(|(wanted, _)| *wanted <= key) {
            let Some((wanted, id)) = self.waiting.pop() else { return };
            if wanted != key || !is_in {
                self.absent.push(id);
            }
        }
    }

    fn absent(mut self) -> Vec<String> {
        self.absent.extend(self.waiting.into_iter().map(|(_, id)| id));
        self.absent.sort();
        self.absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_in_doubt_make_a_range() {
        let who = |surely, perhaps| CanaryMembership { surely, perhaps };
        let any = ExpectedRule { include: 0b011, exclude: 0b100, all: false };
        assert_eq!(any.of(who(0b001, 0)), (true, true));
        assert_eq!(any.of(who(0, 0b010)), (false, true), "may be in");
        assert_eq!(any.of(who(0b001, 0b100)), (false, true), "may be excluded");
        assert_eq!(any.of(who(0b101, 0)), (false, false));
        assert_eq!(any.of(who(0b100, 0)), (false, false));
        let all = ExpectedRule { all: true, ..any };
        assert_eq!(all.of(who(0b001, 0)), (false, false));
        assert_eq!(all.of(who(0b001, 0b010)), (false, true));
        assert_eq!(all.of(who(0b011, 0)), (true, true));
    }

    #[test]
    fn masks_are_of_their_cohorts() {
        assert_eq!([bit(0), bit(127), bit(128)], [1, 1 << 127, 0]);
    }
}
