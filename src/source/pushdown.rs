//! Pushdown: the database compares a query's rows with the mirror table, and only the differences are read.
//!
//! Rows that the database cannot match are read as well, and matched here. Nothing is written to the database.
//!
//! # Guarantees
//! Members, rows, duplicates and rejects are the same as for a full read.

use std::fmt;

use super::match_rows::{MatchedRows, RowMatcher, match_source};
use super::matching::Matcher;
use super::reader::SourceInputs;
use super::sql_query::database;
use super::{DesiredError, MembersOverlay, SortedSet};
use crate::config::{CohortConfig, Config, SourceConfig, SqlConfig, SqlSource};
use crate::connector::rows::{CountingSink, RowSink};
use crate::connector::sql::pushdown::{
    self, Differences, MemberRules, MirrorTableName, MirrorUnusable, parse_member,
};
use crate::model::{ChangeOp, CohortId, PACKED_LEN_MAX, Progress};
use crate::state::{Membership, MirrorNote, StateReader};

/// Divisor: dropped members get this fraction of the memory.
const MEMORY_SHARE: usize = 4;

/// The desired members of a cohort, as a difference from its membership.
#[derive(Debug)]
pub struct PushdownResult {
    /// The members.
    pub members: MembersOverlay,
    /// Rows of the source.
    pub rows: u64,
    /// Members and rows that were transferred.
    pub transferred: u64,
    /// The rows that were matched here.
    pub matched: MatchedRows,
}

/// The reason why a source must be read in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushdownFallback {
    /// The state records no mirror table.
    NoTable,
    /// The mirror table is in another schema or database than the config says.
    OtherLocation,
    /// The membership has changed since the mirror table was written.
    Stale {
        /// The version in the mirror table.
        table: u64,
        /// The current version.
        current: u64,
    },
    /// The number of recorded members differs from the number written to the mirror table.
    CountMismatch {
        /// Members in the mirror table.
        table: u64,
        /// Recorded members.
        recorded: u64,
    },
    /// The mirror table cannot be compared.
    Unusable(MirrorUnusable),
}

impl fmt::Display for PushdownFallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => f.write_str("it has no mirror table yet"),
            Self::OtherLocation => f.write_str("the config names another location for its mirror table"),
            Self::Stale { table, current } => {
                write!(f, "its mirror table has version {table}, the membership has version {current}")
            }
            Self::CountMismatch { table, recorded } => {
                write!(f, "members in its mirror table: {table}, in the membership: {recorded}")
            }
            Self::Unusable(unusable) => unusable.fmt(f),
        }
    }
}

impl PushdownFallback {
    /// Whether a new mirror table would not help.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Unusable(unusable) if unusable.is_permanent())
    }
}

/// The source of a cohort with pushdown, and the schema for its mirror table; none for any other cohort.
#[must_use]
pub fn pushdown_source<'a>(cohort: &'a CohortConfig, config: &'a Config) -> Option<(&'a SqlSource, &'a str)> {
    let SourceConfig::Sql(source) = &cohort.source else { return None };
    match config.sql.get(&source.connection)? {
        SqlConfig::Postgres(settings) if source.pushdown => Some((source, settings.pushdown.as_deref()?)),
        _ => None,
    }
}

/// The name of a cohort's mirror table.
#[must_use]
pub fn mirror_table_of(cohort: &CohortId, schema: &str, state: &StateReader) -> MirrorTableName {
    MirrorTableName { schema: schema.to_owned(), name: state.mirror_table_name(cohort) }
}

/// The state's note of a mirror table, if the table has the current version.
fn current_note(
    cohort: &CohortConfig,
    table: &MirrorTableName,
    connection: &str,
    membership: Option<&Membership>,
    state: &StateReader,
) -> Result<Result<MirrorNote, PushdownFallback>, DesiredError> {
    let Some(note) = state.mirror_note(&cohort.id)? else { return Ok(Err(PushdownFallback::NoTable)) };
    let current = membership.map_or(0, |membership| membership.number);
    if note.connection != connection || note.schema != table.schema || note.table != table.name {
        return Ok(Err(PushdownFallback::OtherLocation));
    }
    if note.version != current {
        return Ok(Err(PushdownFallback::Stale { table: note.version, current }));
    }
    let (table, recorded) = (note.checksum.rows, membership.and_then(|membership| membership.members));
    match recorded.filter(|members| *members != table) {
        Some(recorded) => Ok(Err(PushdownFallback::CountMismatch { table, recorded })),
        None => Ok(Ok(note)),
    }
}

/// Reads the difference between a cohort's source and its membership, or returns why the source must be read in full.
///
/// # Errors
/// [`DesiredError`] when it cannot be read.
pub fn read_difference(
    cohort: &CohortConfig,
    (source, schema): (&SqlSource, &str),
    membership: Option<&Membership>,
    inputs: SourceInputs<'_>,
    progress: &dyn Progress,
) -> Result<Result<PushdownResult, PushdownFallback>, DesiredError> {
    let (state, database) = (inputs.state, database(source, inputs.access)?);
    let table = mirror_table_of(&cohort.id, schema, state);
    let note = match current_note(cohort, &table, source.connection.as_str(), membership, state)? {
        Ok(note) => note,
        // If the source cannot be compared, a new mirror table would not help.
        Err(why) => {
            let matcher = Matcher::new(&cohort.rules, &source.null_values, &cohort.delivery);
            let unsupported = pushdown::unsupported(source, database, matcher.columns())?;
            return Ok(Err(unsupported.map_or(why, PushdownFallback::Unusable)));
        }
    };
    let memory_max = inputs.access.config.memory_max;
    let mut drops = SortedSet::new(state.seed(), memory_max / MEMORY_SHARE);
    let memory_max = memory_max - memory_max / MEMORY_SHARE;
    let (added, matched, result) = match_source(cohort, state, memory_max, progress, |rows| {
        let rules = MemberRules {
            rules: &cohort.rules,
            columns: rows.matcher.columns(),
            delivery: &cohort.delivery,
            may_rekey: rows.may_rekey(),
        };
        let packed = Vec::with_capacity(PACKED_LEN_MAX);
        let counting = CountingSink::new(rows);
        let mut sink = DifferenceReader { rows: counting, drops: &mut drops, packed, failed: None };
        let counted = pushdown::difference(source, database, &rules, (&table, note.checksum), &mut sink);
        let DifferenceReader { rows: CountingSink { sink: rows, rows: transferred }, failed, .. } = sink;
        if let Some(failed) = failed {
            return Err(failed);
        }
        Ok(counted?.map(|(source_rows, shapes)| {
            rows.count_shapes(shapes.decimal, shapes.exponent);
            (source_rows, transferred)
        }))
    })?;
    let (rows, transferred) = match result? {
        Ok(counts) => counts,
        Err(unusable) => return Ok(Err(PushdownFallback::Unusable(unusable))),
    };
    let members = MembersOverlay::new(state.members(&cohort.id, membership)?, added.all, drops);
    Ok(Ok(PushdownResult { members, rows, transferred, matched }))
}

/// Receives the differences: added and dropped members, and rows to match.
struct DifferenceReader<'t, 'a> {
    rows: CountingSink<'t, RowMatcher<'a>>,
    drops: &'t mut SortedSet,
    packed: Vec<u8>,
    failed: Option<DesiredError>,
}

impl Differences for DifferenceReader<'_, '_> {
    fn rows(&mut self) -> &mut impl RowSink {
        &mut self.rows
    }

    fn differs(&mut self, op: ChangeOp, member: &str) -> bool {
        self.rows.rows += 1;
        let Some(identifier) = parse_member(member) else {
            self.failed = Some(std::io::Error::other("the mirror table holds an invalid member").into());
            return false;
        };
        self.packed.clear();
        identifier.pack_into(&mut self.packed);
        match op {
            ChangeOp::Add => self.rows.sink.add_member(&self.packed).is_ok(),
            ChangeOp::Remove => match self.drops.push(&self.packed) {
                Ok(()) => true,
                Err(error) => {
                    self.failed = Some(error.into());
                    false
                }
            },
        }
    }
}
