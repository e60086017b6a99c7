//! A query over tables of Heap Connect's dumps: each as it stands after replay is lent to a database, as a temporary
//! table there, which is then asked as any other is.
//!
//! # Guarantees
//! A row that cannot be lent as it is means that there are no members at all: a query may ask for who is not in a
//! table. Memory is bounded here; what the database does with the rows is its own matter.

use super::dumps::{DumpReplay, DumpsRead};
use super::{DesiredError, SourceInputs, pushdown};
use crate::config::DumpQuery;
use crate::connector::file::{FileError, ReadSummary, RowLocation, RowSink};
use crate::connector::heap_connect::{DumpError, Dumps};
use crate::connector::sql::{TempTableWriter, TempTables};
use crate::model::Fields;

/// Lends the tables, and hands over every row of the query.
pub(super) fn read(
    source: &DumpQuery,
    from: SourceInputs<'_>,
    columns: &[Box<str>],
    sink: &mut impl RowSink,
) -> Result<ReadSummary, DesiredError> {
    let database = pushdown::database(&source.asked, from)?;
    let dumps = Dumps::find(&source.place, from.files())?;
    let mut lent = TempTables::open(database)?;
    for table in &source.tables {
        let replay = DumpReplay::new(&dumps, table)?;
        let columns = replay.columns()?;
        let mut lending = DumpTempTables { filling: lent.table(table, &columns)?, failed: None };
        let ran = replay.run(from, &columns, DumpsRead { within: None, is_text: true }, &mut lending);
        let DumpTempTables { filling, failed } = lending;
        failed.map_or(Ok(()), Err)?;
        ran?;
        filling.finish()?;
    }
    let rows = lent.read(&source.asked, columns, sink)?;
    Ok(ReadSummary { rows, ..ReadSummary::default() })
}

/// Rows on their way into a table.
struct DumpTempTables<'s, 'a> {
    filling: TempTableWriter<'s, 'a>,
    failed: Option<DesiredError>,
}

impl DumpTempTables<'_, '_> {
    fn fail(&mut self, error: impl Into<DesiredError>) -> Result<(), FileError> {
        self.failed = Some(error.into());
        Err(FileError::Stopped)
    }
}

impl RowSink for DumpTempTables<'_, '_> {
    fn row(&mut self, fields: &impl Fields, place: RowLocation<'_>) -> Result<(), FileError> {
        match self.filling.put(fields) {
            Ok(true) => Ok(()),
            Ok(false) => self.unreadable("not_text", "it has bytes that are no text", place),
            Err(error) => self.fail(error),
        }
    }

    fn unreadable(&mut self, _: &'static str, detail: &str, place: RowLocation<'_>) -> Result<(), FileError> {
        self.fail(DumpError::Row { file: place.file.to_owned(), line: place.line, what: detail.to_owned() })
    }
}
