//! What a run would do, decided before anything is done: diff, cost, guard.
//!
//! Pure: no I/O, no clock, no async, and nothing here knows of files or of HTTP. Streams and change
//! lists come in as traits and type parameters, so the same code plans over a `Vec` in a test and
//! over fifty million members on disk.
//!
//! # Expected flow
//! [`diff()`] walks desired members and record in step and reports each change to a [`Sink`], usually a
//! [`Draft`]; the caller makes a [`Plan`] of it; [`guard()`] turns the plan into an [`Approved`], perhaps
//! with one side withheld, and a list of refusals.
//!
//! # Guarantees
//! Applied to what the record says, the changes give exactly the desired members. A plan can be shown,
//! but only an [`Approved`] can be applied, and only [`guard()`] makes one.

mod cost;
mod diff;
mod digest;
mod guard;

pub use cost::Cost;
pub use diff::{ChangeSink, DesiredCursor, DiffError, DiffTally, RecordedCursor, diff};
pub use digest::{ChangeSum, PlanDigest, of_all};
pub use guard::{
    Approved, ArrayFull, ChangeSide, Damage, GuardPolicy, GuardVerdict, GuardViolation, guard, refusals,
};

use std::collections::BTreeMap;

use crate::model::{ChangeOp, CohortId, DeliveryMethod, IdShapes, Timestamp};

/// How many changes of each side a plan shows as a sample.
pub const SAMPLE_LEN: usize = 5;

/// What is to happen to the cohort itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CohortNaming {
    /// Braze has not heard of it.
    Create {
        /// Its name.
        name: String,
    },
    /// Braze knows it by another name.
    Rename {
        /// The name that Braze has.
        from: String,
        /// The name that it will have.
        name: String,
    },
    /// Braze may show another name: a request without an answer was about the name.
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

/// What reading and matching the source gave, as far as it matters to the guard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceTally {
    /// Rows read.
    pub rows: u64,
    /// Rows that named a person who had been named before.
    pub duplicates: u64,
    /// Rows that could not be read; the people in them are unknown.
    pub unreadable: u64,
    /// Rows that name a user.
    pub matched: u64,
    /// What the identifiers in them look like.
    pub shapes: IdShapes,
    /// Rows that were rejected, by reason.
    pub rejects: BTreeMap<String, u64>,
    /// A file without even a header row, if there was one.
    pub hollow: Option<String>,
}

/// The changes of one cohort. `C` holds the changes of one side, each a packed identifier.
#[derive(Debug)]
pub struct MembershipPlan<C> {
    /// The cohort.
    pub cohort: CohortId,
    /// The version of the record that the plan starts from; 0 where there is none.
    pub base: u64,
    /// Create or rename.
    pub naming: Option<CohortNaming>,
    /// How many of what.
    pub tally: DiffTally,
    /// What the source gave; none when the cohort is to be emptied because the config says so.
    pub source: Option<SourceTally>,
    /// A few removals and additions.
    pub samples: Samples,
    /// Fingerprints of the two sides.
    pub sums: Sides<ChangeSum>,
    /// Whether one person may be known by two identifiers, so that neither side may go without the other.
    pub mixed: bool,
    /// How it would be sent.
    pub delivery: DeliveryMethod,
    /// How it will be sent from the next run on, when this one only takes everybody out of where they were sent
    /// before.
    pub moves_to: Option<DeliveryMethod>,
    /// Where it would be sent, for the digest: what was approved for one place is not for another.
    pub target: String,
    /// The members that late requests up to this time may have changed are among the changes.
    pub settles: Option<Timestamp>,
    /// The changes themselves.
    pub changes: Sides<C>,
    /// Identifiers in one request.
    pub batch_len_max: u64,
    /// Requests that the vendor takes in an hour.
    pub requests_per_hour: u64,
}

/// Something for each side of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides<T> {
    /// For those who leave.
    pub removes: T,
    /// For those who enter.
    pub adds: T,
}

impl<T> Sides<T> {
    /// The one of this side.
    pub fn of_mut(&mut self, op: ChangeOp) -> &mut T {
        match op {
            ChangeOp::Remove => &mut self.removes,
            ChangeOp::Add => &mut self.adds,
        }
    }

    /// The one of this side.
    pub fn of(&self, op: ChangeOp) -> &T {
        match op {
            ChangeOp::Remove => &self.removes,
            ChangeOp::Add => &self.adds,
        }
    }
}

/// A few changes of each side, packed.
pub type Samples = Sides<Vec<Box<[u8]>>>;

/// What a plan says of its changes, gathered while they stream by.
#[derive(Debug, Default)]
pub struct Draft {
    /// The first few of each side.
    pub samples: Samples,
    /// Fingerprints of the two sides.
    pub sums: Sides<ChangeSum>,
}

impl Draft {
    /// Takes note of one change.
    pub fn note(&mut self, op: ChangeOp, packed: &[u8]) {
        self.sums.of_mut(op).add(packed);
        let sample = self.samples.of_mut(op);
        if sample.len() < SAMPLE_LEN {
            sample.push(packed.into());
        }
    }
}

impl<C> MembershipPlan<C> {
    /// Whether applying the plan would send nothing at all.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.naming.is_none() && self.tally.removes() == 0 && self.tally.adds() == 0
    }

    /// The fingerprint of all that the plan would send if nothing of it were withheld: what a person approves.
    #[must_use]
    pub fn whole_digest(&self) -> PlanDigest {
        PlanDigest::of(&self.target, &self.cohort, self.naming.as_ref(), self.sums)
    }

    /// What sending the given sides would cost.
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
