//! Who should be in a cohort: the source read in full, or what differs from the record where the database can tell.
//! It compares with nothing.

use super::PlanInputs;
use super::cursors::{All, WantedMembers};
use super::plan_error::PlanError;
use super::rekeyed::RekeyedMembers;
use crate::config::CohortConfig;
use crate::connector::rows::ReadSummary;
use crate::model::MatchTally;
use crate::source::{
    self, DesiredError, DesiredMembers, PackedList, PushdownFallback, PushdownResult, RowRejects,
    SourceFingerprint,
};
use crate::state::{Membership, Permit};

/// How a source with `diff: pushdown` was compared with the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushdownReport {
    /// In the database.
    There {
        /// Members and rows that were read.
        transferred: u64,
        /// Rows of the source.
        rows: u64,
    },
    /// Here, with every row read.
    Here {
        /// Why.
        why: PushdownFallback,
    },
}

/// What there is to compare with the record.
pub(super) struct SourceRead {
    pub(super) wanted: WantedMembers,
    /// Dropped with the members: the memory that they may take.
    pub(super) permit: Option<Permit<'static>>,
    pub(super) reading: ReadSummary,
    pub(super) fingerprint: Option<SourceFingerprint>,
    pub(super) rejects: RowRejects,
    /// Devices and aliases whose owners are the members now.
    pub(super) moved: Option<RekeyedMembers>,
    rekeyed_rows: u64,
    ambiguous_rows: u64,
    /// None where the config does not ask for it.
    pub(super) compared: Option<PushdownReport>,
}

impl SourceRead {
    /// The numbers of the whole source, once those wanted have been walked, and some of the members who differ from
    /// others by upper and lower case only.
    ///
    /// # Errors
    /// When a temporary file cannot be read.
    pub(super) fn matched(&mut self) -> Result<(MatchTally, PackedList), PlanError> {
        let duplicates = self.wanted.duplicates(self.reading.rows, self.rejects.rows());
        let matched = self.rejects.tally(&self.reading, duplicates, self.rekeyed_rows);
        let matched = MatchTally { ambiguous: self.ambiguous_rows, ..matched };
        match std::mem::replace(&mut self.wanted, WantedMembers::Nobody) {
            WantedMembers::All(all) => {
                let (count, some) = all.case_variants.finish().map_err(DesiredError::Scratch)?;
                Ok((MatchTally { case_colliding: Some(count), ..matched }, some))
            }
            // Whoever was not read is not looked at.
            WantedMembers::Nobody | WantedMembers::Overlay(_) => Ok((matched, Vec::new())),
        }
    }
}

/// Reads a cohort's source. `record` is the version that it will be compared with.
pub(super) fn gather(
    cohort: &CohortConfig,
    record: Option<&Membership>,
    inputs: PlanInputs<'_>,
) -> Result<SourceRead, PlanError> {
    let Some(source) = source::pushdown_source(cohort, inputs.config) else {
        return in_full(cohort, None, inputs);
    };
    let difference = source::read_difference(cohort, source, record, inputs.from(), inputs.progress)?;
    let PushdownResult { members, permit, rows, transferred, rejects, rekeyed, rekeyed_rows, ambiguous_rows } =
        match difference {
            Ok(difference) => difference,
            Err(why) => return in_full(cohort, Some(PushdownReport::Here { why }), inputs),
        };
    Ok(SourceRead {
        wanted: WantedMembers::Overlay(Box::new(members)),
        permit,
        reading: ReadSummary { rows, ..ReadSummary::default() },
        fingerprint: None,
        rejects,
        moved: rekeyed.map(|rekeyed| RekeyedMembers::new(rekeyed, inputs.state.seed())),
        rekeyed_rows,
        ambiguous_rows,
        compared: Some(PushdownReport::There { transferred, rows }),
    })
}

fn in_full(
    cohort: &CohortConfig,
    compared: Option<PushdownReport>,
    inputs: PlanInputs<'_>,
) -> Result<SourceRead, PlanError> {
    let read = source::read(cohort, inputs.from(), inputs.progress)?;
    let DesiredMembers {
        set,
        permit,
        case_variants,
        summary,
        fingerprint,
        rejects,
        rekeyed,
        rekeyed_rows,
        ambiguous_rows,
    } = read;
    Ok(SourceRead {
        wanted: WantedMembers::All(Box::new(All { members: set.into_members(), case_variants })),
        permit,
        reading: summary,
        fingerprint,
        rejects,
        moved: rekeyed.map(|rekeyed| RekeyedMembers::new(rekeyed, inputs.state.seed())),
        rekeyed_rows,
        ambiguous_rows,
        compared,
    })
}
