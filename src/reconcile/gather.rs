//! Who should be in a cohort: the source read in full, or what differs from the record where the database can tell.
//! It compares with nothing.

use super::Inputs;
use super::failed::PlanError;
use super::moved::Moved;
use super::streams::{All, Wanted};
use crate::config::Cohort;
use crate::connector::file::Reading;
use crate::desired::{self, Desired, DesiredError, Fingerprint, PackedList, Pushed, Rejects, Unpushed};
use crate::model::Matched;
use crate::state::{Permit, Version};

/// How a source with `diff: pushdown` was compared with the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// In the database.
    There {
        /// Members and rows that were read.
        crossed: u64,
        /// Rows of the source.
        rows: u64,
    },
    /// Here, with every row read.
    Here {
        /// Why.
        why: Unpushed,
    },
}

/// What there is to compare with the record.
pub(super) struct Gathered {
    pub(super) wanted: Wanted,
    /// Dropped with the members: the memory that they may take.
    pub(super) permit: Option<Permit<'static>>,
    pub(super) reading: Reading,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) rejects: Rejects,
    /// Devices and aliases whose owners are the members now.
    pub(super) moved: Option<Moved>,
    moved_rows: u64,
    ambiguous_rows: u64,
    /// None where the config does not ask for it.
    pub(super) compared: Option<Compared>,
}

impl Gathered {
    /// The numbers of the whole source, once those wanted have been walked, and some of the members who differ from
    /// others by upper and lower case only.
    ///
    /// # Errors
    /// When a temporary file cannot be read.
    pub(super) fn matched(&mut self) -> Result<(Matched, PackedList), PlanError> {
        let duplicates = self.wanted.duplicates(self.reading.rows, self.rejects.rows());
        let matched = self.rejects.matched(&self.reading, duplicates, self.moved_rows);
        let matched = Matched { ambiguous: self.ambiguous_rows, ..matched };
        match std::mem::replace(&mut self.wanted, Wanted::Nobody) {
            Wanted::All(all) => {
                let (count, some) = all.spelled.finish().map_err(DesiredError::Scratch)?;
                Ok((Matched { case_colliding: Some(count), ..matched }, some))
            }
            // Whoever was not read is not looked at.
            Wanted::Nobody | Wanted::Overlay(_) => Ok((matched, Vec::new())),
        }
    }
}

/// Reads a cohort's source. `record` is the version that it will be compared with.
pub(super) fn gather(
    cohort: &Cohort,
    record: Option<&Version>,
    inputs: Inputs<'_>,
) -> Result<Gathered, PlanError> {
    let Some(source) = desired::pushdown_of(cohort, inputs.config) else {
        return in_full(cohort, None, inputs);
    };
    let pushed = desired::pushed(cohort, source, record, inputs.from(), inputs.progress)?;
    let Pushed { members, permit, rows, crossed, rejects, moved, moved_rows, ambiguous_rows } = match pushed {
        Ok(pushed) => pushed,
        Err(why) => return in_full(cohort, Some(Compared::Here { why }), inputs),
    };
    Ok(Gathered {
        wanted: Wanted::Overlay(Box::new(members)),
        permit,
        reading: Reading { rows, ..Reading::default() },
        fingerprint: None,
        rejects,
        moved: moved.map(|moved| Moved::new(moved, inputs.state.seed())),
        moved_rows,
        ambiguous_rows,
        compared: Some(Compared::There { crossed, rows }),
    })
}

fn in_full(cohort: &Cohort, compared: Option<Compared>, inputs: Inputs<'_>) -> Result<Gathered, PlanError> {
    let read = desired::read(cohort, inputs.from(), inputs.progress)?;
    let Desired { set, permit, spelled, reading, fingerprint, rejects, moved, moved_rows, ambiguous_rows } =
        read;
    Ok(Gathered {
        wanted: Wanted::All(Box::new(All { members: set.into_members(), spelled })),
        permit,
        reading,
        fingerprint,
        rejects,
        moved: moved.map(|moved| Moved::new(moved, inputs.state.seed())),
        moved_rows,
        ambiguous_rows,
        compared,
    })
}
