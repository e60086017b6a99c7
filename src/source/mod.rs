//! A source → the desired members of a cohort: read once, matched, sorted, each member once.
//!
//! Two threads share the work: one reads and matches, the other partitions what was matched; later one
//! sorts a partition while the other compares the one before.
//!
//! # Guarantees
//! Memory stays within a bound whatever the source's size; what is beyond it lies in a temporary file.
//! Every row is accounted for: it is a member, a duplicate of one, or a reject with its reason.
//!
//! # Errors
//! A source that cannot be read in full gives no members at all.

mod case_variants;
mod dump_query;
mod dumps;
mod heap_segment;
mod match_rows;
mod overlay;
mod owners;
mod properties;
mod pushdown;
mod rejects;
mod sorted_members;
mod sorted_set;
mod spill;

pub use case_variants::{CaseVariants, PackedList};
pub use overlay::MembersOverlay;
pub use properties::{PROPERTIES_LEN_MAX, UserProperties, VALUE_LEN_MAX, properties};
pub use pushdown::{PushdownFallback, PushdownResult, database, pushdown_of, pushed, table_of};
pub use rejects::RowRejects;
pub use sorted_members::SortedMembers;
pub use sorted_set::SortedSet;

use std::thread;

use xxhash_rust::xxh3::xxh3_128;

use crate::config::{CohortConfig, Config, SourceAccess, SourceConfig};
use crate::connector::file::{self, FileError};
use crate::connector::heap_connect::DumpError;
use crate::connector::sql::{self, SqlError};
use crate::matching::Matcher;
use crate::model::{IdentifierKind, Progress, Timestamp};
use crate::state::{Permit, StateError, StateReader};
use match_rows::{MatchCounts, MemberSets, RowMatcher};
use owners::{RekeyError, RekeyMap, RekeyedRows};

/// Who should be in a cohort, and what was found on the way there.
#[derive(Debug)]
pub struct DesiredMembers {
    /// The members, not yet sorted.
    pub set: SortedSet,
    /// The memory that they may take, to be kept for as long as they are in use.
    pub permit: Option<Permit<'static>>,
    /// Counts those of them who differ from others by upper and lower case only.
    pub spelled: CaseVariants,
    /// Files and rows.
    pub reading: file::ReadSummary,
    /// What tells this source from what it will be.
    pub fingerprint: Option<SourceFingerprint>,
    /// Rows that name nobody.
    pub rejects: RowRejects,
    /// Devices and aliases whose owners are the members now; none if no owners are known at all.
    pub moved: Option<SortedSet>,
    /// Rows in which they stood.
    pub moved_rows: u64,
    /// Rows of them where somebody else was said to be the owner as well.
    pub ambiguous_rows: u64,
}

/// Why there are no desired members.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// The source cannot be read in full.
    #[error(transparent)]
    Source(#[from] FileError),
    /// A temporary file failed.
    #[error("a temporary file failed: {0}")]
    Scratch(#[from] std::io::Error),
    /// The database gave no rows, or not all of them.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Heap Connect's dumps cannot be read in full.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// What Heap has told cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Heap has told nothing of the segment.
    #[error("Heap has not told of segment {segment} yet{}", heap_segment::others(.known))]
    Untold {
        /// The segment.
        segment: u64,
        /// Segments of which it has, with their names.
        known: Vec<(u64, String)>,
    },
}

/// What tells a source from what it was, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceFingerprint {
    /// By its files.
    Files(file::FileFingerprint),
    /// By what Heap has told.
    Told(String),
}

impl SourceFingerprint {
    /// The fingerprint as a version keeps it; none while files are too fresh to be told by it. `rules` is
    /// whatever else decides what the rows mean.
    #[must_use]
    pub fn text(&self, rules: &str, now: Timestamp) -> Option<String> {
        match self {
            Self::Files(files) => files.text(rules, now),
            Self::Told(told) => {
                let [told, rules] = [told, rules].map(|text| xxh3_128(text.as_bytes()));
                Some(format!("{told:032x}{rules:032x}"))
            }
        }
    }
}

/// What sources are read from.
#[derive(Clone, Copy)]
pub struct SourceInputs<'a> {
    /// The config.
    pub config: &'a Config,
    /// The state, for what Heaps have told.
    pub state: &'a StateReader,
    /// What it takes to read sources, beside the config.
    pub secrets: &'a SourceAccess,
    /// The time now, for rows that grow old.
    pub now: Timestamp,
}

impl<'a> SourceInputs<'a> {
    fn files(self) -> file::FileAccess<'a> {
        file::FileAccess {
            folder: &self.config.folder,
            roots: &self.config.roots,
            stores: &self.secrets.stores,
        }
    }
}

/// The fingerprint of a cohort's source as it is now; none if only reading it tells.
///
/// # Errors
/// As for reading it.
pub fn fingerprint(
    cohort: &CohortConfig,
    from: SourceInputs<'_>,
) -> Result<Option<SourceFingerprint>, DesiredError> {
    Ok(match &cohort.source {
        SourceConfig::File(source) => {
            Some(SourceFingerprint::Files(file::fingerprint(source, from.files())?))
        }
        SourceConfig::HeapSegment(source) => {
            Some(SourceFingerprint::Told(heap_segment::segment(source, from.state)?.fingerprint()))
        }
        SourceConfig::HeapConnect(source) => dumps::fingerprint(source, from)?.map(SourceFingerprint::Told),
        // What a query would give, only asking it tells.
        SourceConfig::Sql(_) | SourceConfig::DumpQuery(_) => None,
    })
}

/// Whether a cohort's members may be known by a device or an alias, whose owner may become known.
#[must_use]
pub fn may_move(cohort: &CohortConfig) -> bool {
    cohort.rules.iter().any(|rule| rule.kind != IdentifierKind::ExternalId)
}

impl std::convert::From<RekeyError> for DesiredError {
    fn from(error: RekeyError) -> Self {
        match error {
            RekeyError::Scratch(error) => Self::Scratch(error),
            RekeyError::State(error) => Self::State(error),
        }
    }
}

/// Reads a cohort's source.
///
/// # Errors
/// [`DesiredError`] when it cannot be read in full.
pub fn read(
    cohort: &CohortConfig,
    from: SourceInputs<'_>,
    progress: &dyn Progress,
) -> Result<DesiredMembers, DesiredError> {
    let matcher = Matcher::new(&cohort.rules, cohort.source.null_values(), &cohort.delivery);
    let (seed, memory_max) = (from.state.seed(), from.config.memory_max);
    let owners = if may_move(cohort) { from.state.owners()? } else { None };
    let movers = owners.as_ref().map(|owners| RekeyMap::new(owners, seed, memory_max));
    let all = SortedSet::new(seed, movers.as_ref().map_or(memory_max, |_| RekeyMap::rest_of(memory_max)));
    let sets = MemberSets { all, upper: SortedSet::by_lower_case(seed, case_variants::MEMORY) };
    thread::scope(|scope| {
        let (mut intake, partitioner) =
            RowMatcher::start(scope, &cohort.id, &matcher, progress, movers, sets)?;
        let reading = rows(cohort, from, matcher.columns(), &mut intake);
        let found = intake.finish();
        // Whatever stopped the partitioner or the rejects stopped the reading, and not the other way round.
        let MemberSets { all: set, upper } =
            partitioner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let MatchCounts { permit, rejects, moved } = found?;
        let (reading, fingerprint) = reading?;
        let (moved_rows, ambiguous_rows) =
            moved.as_ref().map_or((0, 0), |moved| (moved.rows, moved.ambiguous));
        let moved = moved.map(|RekeyedRows { set, .. }| set);
        let spelled = CaseVariants::new(upper);
        Ok(DesiredMembers {
            set,
            permit,
            spelled,
            reading,
            fingerprint,
            rejects,
            moved,
            moved_rows,
            ambiguous_rows,
        })
    })
}

fn rows(
    cohort: &CohortConfig,
    from: SourceInputs<'_>,
    columns: &[Box<str>],
    sink: &mut impl file::RowSink,
) -> Result<(file::ReadSummary, Option<SourceFingerprint>), DesiredError> {
    match &cohort.source {
        SourceConfig::File(source) => {
            let reading = file::read(source, from.files(), columns, sink)?;
            let fingerprint = reading.fingerprint.map(SourceFingerprint::Files);
            Ok((reading, fingerprint))
        }
        SourceConfig::HeapSegment(source) => {
            let segment = heap_segment::segment(source, from.state)?;
            let reading = heap_segment::read(source, &segment, from.state, sink)?;
            Ok((reading, Some(SourceFingerprint::Told(segment.fingerprint()))))
        }
        SourceConfig::HeapConnect(source) => {
            let (reading, fingerprint) = dumps::read(source, from, columns, sink)?;
            Ok((reading, fingerprint.map(SourceFingerprint::Told)))
        }
        SourceConfig::DumpQuery(source) => Ok((dump_query::read(source, from, columns, sink)?, None)),
        SourceConfig::Sql(source) => {
            let rows = sql::read(source, database(source, from)?, columns, sink)?;
            Ok((file::ReadSummary { rows, ..file::ReadSummary::default() }, None))
        }
    }
}
