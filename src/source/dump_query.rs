//! Source kind: a query over tables of Heap Connect's dumps. Each table is replayed into a temporary table of the
//! database, which then runs the query.
//!
//! # Guarantees
//! A row that does not fit into the temporary table fails the read, because a query may select the users who are
//! missing from a table. Memory is bounded here, but not in the database.

use super::DesiredError;
use super::dump_replay::{DumpReplay, DumpsRead};
use super::heap_connect::check_dumps;
use super::reader::{ReadAccess, SourceCheck, SourceInputs, SourceReader, SourceRows};
use super::sql_query::database;
use crate::config::DumpQuery;
use crate::connector::file::AvroValues;
use crate::connector::heap_connect::{DumpError, Dumps};
use crate::connector::rows::{ReadSummary, RowLocation, RowSink, SinkStopped, UnreadableRow};
use crate::connector::sql::{TempTableWriter, TempTables};
use crate::model::Fields;

impl SourceReader for DumpQuery {
    fn read(
        &self,
        inputs: SourceInputs<'_>,
        columns: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<SourceRows, DesiredError> {
        let database = database(&self.query, inputs.access)?;
        let dumps = Dumps::find(&self.folder, inputs.access.files())?;
        let mut tables = TempTables::open(database)?;
        for table in &self.tables {
            let replay = DumpReplay::new(&dumps, table)?;
            let columns = replay.columns()?;
            let mut copy = TempTableCopy { writer: tables.table(table, &columns)?, failed: None };
            let replayed =
                replay.run(inputs, &columns, DumpsRead { within: None, values: AvroValues::Text }, &mut copy);
            let TempTableCopy { writer, failed } = copy;
            failed.map_or(Ok(()), Err)?;
            replayed?;
            writer.finish()?;
        }
        let rows = tables.read(&self.query, columns, sink)?;
        Ok(SourceRows { summary: ReadSummary { rows, ..ReadSummary::default() }, fingerprint: None })
    }

    fn check(&self, access: ReadAccess<'_>, _: &[Box<str>]) -> Result<Option<SourceCheck>, DesiredError> {
        Ok(Some(check_dumps(&self.folder, access)?))
    }
}

/// Copies rows into a temporary table.
struct TempTableCopy<'s, 'a> {
    writer: TempTableWriter<'s, 'a>,
    failed: Option<DesiredError>,
}

impl TempTableCopy<'_, '_> {
    fn fail(&mut self, error: impl Into<DesiredError>) -> Result<(), SinkStopped> {
        self.failed = Some(error.into());
        Err(SinkStopped)
    }
}

impl RowSink for TempTableCopy<'_, '_> {
    fn row(&mut self, fields: &impl Fields, location: RowLocation<'_>) -> Result<(), SinkStopped> {
        match self.writer.put(fields) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let detail = "it contains bytes that are not UTF-8 text";
                self.unreadable(UnreadableRow { reason: "not_text", detail, location })
            }
            Err(error) => self.fail(error),
        }
    }

    fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        let RowLocation { file, line } = row.location;
        self.fail(DumpError::Row { file: file.to_owned(), line, what: row.detail.to_owned() })
    }
}
