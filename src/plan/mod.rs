//! The plan of a cohort: diff, cost, guard and digest.
//!
//! Pure: no I/O, no clock, no async. Streams and change lists are traits and type parameters, so the same code plans
//! over a `Vec` in a test and over fifty million members on disk.
//!
//! # Expected flow
//! [`diff()`] compares desired with recorded members and reports each change to a [`ChangeSink`]. The caller makes a
//! [`MembershipPlan`] of the changes. [`guard()`] turns it into an [`ApprovedPlan`] and a list of violations, which
//! may block a side of it.
//!
//! # Guarantees
//! Applied to the recorded members, the changes give exactly the desired members. A plan can be shown, but only an
//! [`ApprovedPlan`] can be applied, and only [`guard()`] makes one.

mod block_code;
mod cost;
mod diff;
mod digest;
mod guard;

pub use block_code::BlockCode;
pub use cost::Cost;
pub use diff::{ChangeSink, DesiredCursor, DiffError, DiffTally, RecordedCursor, diff};
pub use digest::{ChangeSum, PlanDigest, of_all};
pub use guard::{
    ApprovedPlan, ArrayFull, ChangeSide, Damage, GuardPolicy, GuardVerdict, GuardViolation, guard, violations,
};

use std::collections::BTreeMap;

use crate::model::{ChangeOp, CohortId, DeliveryMethod, IdShapes, Timestamp};

/// Changes of each side that a plan keeps as samples.
pub const SAMPLE_LEN: usize = 5;

/// A request about the cohort itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CohortNaming {
    /// Creates it in Braze.
    Create {
        /// Its name.
        name: String,
    },
    /// Renames it.
    Rename {
        /// The current name in Braze.
        from: String,
        /// The new name.
        name: String,
    },
    /// Sends its name again: a naming request has no answer, so Braze may show another name.
    Again {
        /// Its name.
        name: String,
    },
}

impl CohortNaming {
    /// The name that Braze will show.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Create { name } | Self::Rename { name, .. } | Self::Again { name } => name,
        }
    }
}

/// The numbers of a source that the guard checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceTally {
    /// Rows read.
    pub rows: u64,
    /// Rows that name a member again.
    pub duplicates: u64,
    /// Rows that could not be read. Each may name a member.
    pub unreadable: u64,
    /// Rows that name a user.
    pub matched: u64,
    /// How many identifiers look damaged, by kind of damage.
    pub shapes: IdShapes,
    /// Rejected rows by reason.
    pub rejects: BTreeMap<String, u64>,
    /// A file without a header row, if there is one.
    pub headerless_file: Option<String>,
}

/// The changes of one cohort. `C` holds the changes of one side, each a packed identifier.
#[derive(Debug)]
pub struct MembershipPlan<C> {
    /// The cohort.
    pub cohort: CohortId,
    /// The version of the membership that the plan starts from; 0 without one.
    pub base: u64,
    /// The naming request, if one is needed.
    pub naming: Option<CohortNaming>,
    /// The counts of the diff.
    pub tally: DiffTally,
    /// The numbers of the source; `None` for a cohort under `removed:` and for a resync.
    pub source: Option<SourceTally>,
    /// A few changes of each side.
    pub samples: Samples,
    /// The sums of the changes of each side, for the digest.
    pub sums: Sides<ChangeSum>,
    /// Whether one user may be on both sides under two identifiers, so that neither side may be sent alone.
    pub mixed: bool,
    /// The delivery method.
    pub delivery: DeliveryMethod,
    /// The delivery method of the next run, if this plan only removes all members by the old method.
    pub next_delivery: Option<DeliveryMethod>,
    /// The workspace, for the digest: an approval is valid for one workspace.
    pub target: String,
    /// The changes include the members that late requests up to this time may have changed.
    pub settles: Option<Timestamp>,
    /// The changes.
    pub changes: Sides<C>,
    /// Identifiers per request.
    pub batch_len_max: u64,
    /// Requests per hour that the rate limit of Braze allows.
    pub requests_per_hour: u64,
}

/// A value for each side of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides<T> {
    /// For the removals.
    pub removes: T,
    /// For the additions.
    pub adds: T,
}

impl<T> Sides<T> {
    /// The value of this side.
    pub fn of_mut(&mut self, op: ChangeOp) -> &mut T {
        match op {
            ChangeOp::Remove => &mut self.removes,
            ChangeOp::Add => &mut self.adds,
        }
    }

    /// The value of this side.
    pub fn of(&self, op: ChangeOp) -> &T {
        match op {
            ChangeOp::Remove => &self.removes,
            ChangeOp::Add => &self.adds,
        }
    }
}

/// A few changes of each side, packed.
pub type Samples = Sides<Vec<Box<[u8]>>>;

/// The changes with the smallest hashes: a choice that depends on the set of changes alone, as the digest does. The
/// order in which they stream by depends on the seed of the state.
#[derive(Debug, Default)]
pub struct SampleChoice(Vec<(u64, Box<[u8]>)>);

impl SampleChoice {
    fn offer(&mut self, hash: u64, packed: &[u8]) {
        let at = self.0.partition_point(|(kept, _)| *kept <= hash);
        if at < SAMPLE_LEN {
            self.0.insert(at, (hash, packed.into()));
            self.0.truncate(SAMPLE_LEN);
        }
    }

    fn into_list(self) -> Vec<Box<[u8]>> {
        self.0.into_iter().map(|(_, packed)| packed).collect()
    }
}

/// Samples and sums of the changes, collected while they stream by.
#[derive(Debug, Default)]
pub struct PlanDraft {
    samples: Sides<SampleChoice>,
    /// The sums of the changes of each side, for the digest.
    pub sums: Sides<ChangeSum>,
}

impl PlanDraft {
    /// Adds one change.
    pub fn note(&mut self, op: ChangeOp, packed: &[u8]) {
        let hash = self.sums.of_mut(op).add(packed);
        self.samples.of_mut(op).offer(hash, packed);
    }

    /// A few changes of each side, the same for the same digest.
    #[must_use]
    pub fn into_samples(self) -> Samples {
        Sides { removes: self.samples.removes.into_list(), adds: self.samples.adds.into_list() }
    }
}

impl<C> MembershipPlan<C> {
    /// Whether the plan sends nothing.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.naming.is_none() && self.tally.removes() == 0 && self.tally.adds() == 0
    }

    /// The digest of the whole plan, blocked sides included: what an approval names.
    #[must_use]
    pub fn whole_digest(&self) -> PlanDigest {
        PlanDigest::of(&self.target, &self.cohort, self.naming.as_ref(), self.sums)
    }

    /// The cost of the given sides.
    #[must_use]
    pub fn cost(&self, naming: bool, sides: Sides<bool>) -> Cost {
        let count = |sent: bool, members: u64| if sent { members } else { 0 };
        Cost::of(
            u64::from(naming && self.naming.is_some()),
            [count(sides.removes, self.tally.removes()), count(sides.adds, self.tally.adds())],
            self.batch_len_max,
            self.requests_per_hour,
        )
    }
}
