//! A query whose rows are compared with the members in the database: only what differs is read, and what a database
//! cannot judge. It writes nothing there.
//!
//! # Guarantees
//! The members are those that reading the source in full would give, and so are rows, duplicates and rejects.

use std::fmt;
use std::thread;

use super::match_rows::{MatchCounts, MemberSets, RowMatcher};
use super::owners::{RekeyMap, RekeyedRows};
use super::{
    DesiredError, MembersOverlay, RowRejects, SortedSet, SourceInputs, case_variants as written, may_move,
};
use crate::config::{CohortConfig, Config, SourceConfig, SqlConfig, SqlSource};
use crate::connector::file::{FileError, RowLocation, RowSink};
use crate::connector::sql::pushdown::{
    self, Differences, MemberRules, MirrorTableName, MirrorUnusable, spelled,
};
use crate::connector::sql::{Database, SqlError};
use crate::matching::Matcher;
use crate::model::{ChangeOp, CohortId, Fields, PACKED_LEN_MAX, Progress};
use crate::state::{Membership, MirrorNote, Permit, StateReader};

/// One part in so many of the memory is for those who are dropped.
const MEMORY_SHARE: usize = 4;

/// Who should be in a cohort, by what differs from its record.
#[derive(Debug)]
pub struct PushdownResult {
    /// The members.
    pub members: MembersOverlay,
    /// The memory that they may take, to be kept for as long as they are in use.
    pub permit: Option<Permit<'static>>,
    /// Rows of the source.
    pub rows: u64,
    /// Members and rows that were read.
    pub crossed: u64,
    /// Rows that name nobody.
    pub rejects: RowRejects,
    /// Devices and aliases whose owners are the members now; none if no owners are known at all.
    pub moved: Option<SortedSet>,
    /// Rows in which they stood.
    pub moved_rows: u64,
    /// Rows of them where somebody else was said to be the owner as well.
    pub ambiguous_rows: u64,
}

/// Why a source must be read in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushdownFallback {
    /// The state does not know of a table.
    NoNote,
    /// The table lies elsewhere than the config says now.
    Elsewhere,
    /// The record has gone on since the table was written.
    Stale {
        /// The version of the table.
        table: u64,
        /// The version of the record.
        record: u64,
    },
    /// The record has another number of members than were put into the table: it began anew.
    Miscounted {
        /// Members in the table.
        table: u64,
        /// Members of the record.
        record: u64,
    },
    /// It cannot be compared with.
    Unusable(MirrorUnusable),
}

impl fmt::Display for PushdownFallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNote => f.write_str("there is no table of its members yet"),
            Self::Elsewhere => f.write_str("the table of its members is to be elsewhere now"),
            Self::Stale { table, record } => {
                write!(
                    f,
                    "the table of its members is of version {table}, and the record of version {record}"
                )
            }
            Self::Miscounted { table, record } => {
                write!(f, "{table} members were put into the table, and the record has {record}")
            }
            Self::Unusable(unusable) => unusable.fmt(f),
        }
    }
}

impl PushdownFallback {
    /// Whether building the table again would change nothing.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Unusable(unusable) if unusable.is_lasting())
    }
}

/// The source of a cohort whose rows are compared in the database, and the schema for its table.
#[must_use]
pub fn pushdown_of<'a>(cohort: &'a CohortConfig, config: &'a Config) -> Option<(&'a SqlSource, &'a str)> {
    let SourceConfig::Sql(source) = &cohort.source else { return None };
    match config.sql.get(&source.connection)? {
        SqlConfig::Postgres(settings) if source.pushdown => Some((source, settings.pushdown.as_deref()?)),
        _ => None,
    }
}

/// Where a cohort's table belongs.
#[must_use]
pub fn table_of(cohort: &CohortId, schema: &str, state: &StateReader) -> MirrorTableName {
    MirrorTableName { schema: schema.to_owned(), name: state.pushdown_table(cohort) }
}

/// The database of a connection.
///
/// # Errors
/// When the config does not have it.
pub fn database<'a>(source: &'a SqlSource, from: SourceInputs<'a>) -> Result<Database<'a>, SqlError> {
    let unknown = || SqlError::unknown(&source.connection);
    let settings = from.config.sql.get(&source.connection).ok_or_else(unknown)?;
    let secrets = from.secrets.databases.get(&source.connection).ok_or_else(unknown)?;
    Ok(Database { name: &source.connection, settings, secrets })
}

/// The note of a table that may be trusted, as far as the state can tell.
fn noted(
    cohort: &CohortConfig,
    table: &MirrorTableName,
    connection: &str,
    record: Option<&Membership>,
    state: &StateReader,
) -> Result<Result<MirrorNote, PushdownFallback>, DesiredError> {
    let Some(note) = state.pushdown(&cohort.id)? else { return Ok(Err(PushdownFallback::NoNote)) };
    let number = record.map_or(0, |record| record.number);
    if note.connection != connection || note.schema != table.schema || note.table != table.name {
        return Ok(Err(PushdownFallback::Elsewhere));
    }
    if note.version != number {
        return Ok(Err(PushdownFallback::Stale { table: note.version, record: number }));
    }
    let (table, record) = (note.tabled.rows, record.and_then(|record| record.members));
    match record.filter(|members| *members != table) {
        Some(record) => Ok(Err(PushdownFallback::Miscounted { table, record })),
        None => Ok(Ok(note)),
    }
}

/// Reads what differs between a cohort's source and its record, or says why it must be read in full. `record` is the
/// version that the members are compared with.
///
/// # Errors
/// [`DesiredError`] when it cannot be read.
pub fn pushed(
    cohort: &CohortConfig,
    (source, schema): (&SqlSource, &str),
    record: Option<&Membership>,
    from: SourceInputs<'_>,
    progress: &dyn Progress,
) -> Result<Result<PushdownResult, PushdownFallback>, DesiredError> {
    let table = table_of(&cohort.id, schema, from.state);
    let (matcher, database) =
        (Matcher::new(&cohort.rules, &source.null_values, &cohort.delivery), database(source, from)?);
    let note = match noted(cohort, &table, source.connection.as_str(), record, from.state)? {
        Ok(note) => note,
        // A table that would be of no use need not be made either.
        Err(why) => {
            let unfit = pushdown::unfit(source, database, matcher.columns())?;
            return Ok(Err(unfit.map_or(why, PushdownFallback::Unusable)));
        }
    };
    let (seed, memory_max) = (from.state.seed(), from.config.memory_max);
    let (for_drops, memory_max) = (memory_max / MEMORY_SHARE, memory_max - memory_max / MEMORY_SHARE);
    let owners = if may_move(cohort) { from.state.owners()? } else { None };
    let movers = owners.as_ref().map(|owners| RekeyMap::new(owners, seed, memory_max));
    let asking = MemberRules {
        rules: &cohort.rules,
        columns: matcher.columns(),
        delivery: &cohort.delivery,
        may_move: owners.is_some(),
    };
    let all = SortedSet::new(seed, movers.as_ref().map_or(memory_max, |_| RekeyMap::rest_of(memory_max)));
    let sets = MemberSets { all, upper: SortedSet::by_lower_case(seed, written::MEMORY) };
    let mut drops = SortedSet::new(seed, for_drops);
    thread::scope(|scope| {
        let (mut intake, partitioner) =
            RowMatcher::start(scope, &cohort.id, &matcher, progress, movers, sets)?;
        let packed = Vec::with_capacity(PACKED_LEN_MAX);
        let mut taking =
            PushdownSink { intake: &mut intake, drops: &mut drops, packed, crossed: 0, failed: None };
        let asked = pushdown::difference(source, database, &asking, (&table, note.tabled), &mut taking);
        let PushdownSink { crossed, failed, .. } = taking;
        let found = intake.finish();
        // Whatever stopped the partitioner or the rejects stopped the reading, and not the other way round.
        let MemberSets { all: adds, .. } =
            partitioner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let MatchCounts { permit, mut rejects, moved } = found?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        let (rows, shapes) = match asked? {
            Ok(counted) => counted,
            Err(unusable) => return Ok(Err(PushdownFallback::Unusable(unusable))),
        };
        rejects.shapes.decimal += shapes.decimal;
        rejects.shapes.exponent += shapes.exponent;
        let members = MembersOverlay::new(from.state.members(&cohort.id, record)?, adds, drops);
        let (moved_rows, ambiguous_rows) =
            moved.as_ref().map_or((0, 0), |moved| (moved.rows, moved.ambiguous));
        let moved = moved.map(|RekeyedRows { set, .. }| set);
        Ok(Ok(PushdownResult { members, permit, rows, crossed, rejects, moved, moved_rows, ambiguous_rows }))
    })
}

/// Takes what differs.
struct PushdownSink<'t, 'a> {
    intake: &'t mut RowMatcher<'a>,
    drops: &'t mut SortedSet,
    packed: Vec<u8>,
    crossed: u64,
    failed: Option<DesiredError>,
}

impl Differences for PushdownSink<'_, '_> {
    fn differs(&mut self, op: ChangeOp, member: &str) -> bool {
        self.crossed += 1;
        let Some(identifier) = spelled(member) else {
            self.failed = Some(std::io::Error::other("the table holds what is no member").into());
            return false;
        };
        self.packed.clear();
        identifier.pack_into(&mut self.packed);
        match op {
            ChangeOp::Add => self.intake.member(&self.packed).is_ok(),
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

impl RowSink for PushdownSink<'_, '_> {
    fn row(&mut self, fields: &impl Fields, place: RowLocation<'_>) -> Result<(), FileError> {
        self.crossed += 1;
        self.intake.row(fields, place)
    }

    fn unreadable(
        &mut self,
        reason: &'static str,
        detail: &str,
        place: RowLocation<'_>,
    ) -> Result<(), FileError> {
        self.crossed += 1;
        self.intake.unreadable(reason, detail, place)
    }
}
