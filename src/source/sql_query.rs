//! Source kind: a query to a database.

use super::DesiredError;
use super::reader::{ReadAccess, SourceCheck, SourceInputs, SourceReader, SourceRows};
use crate::config::SqlSource;
use crate::connector::rows::{ReadSummary, RowSink};
use crate::connector::sql::{self, Database, SqlError};

impl SourceReader for SqlSource {
    fn read(
        &self,
        inputs: SourceInputs<'_>,
        columns: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<SourceRows, DesiredError> {
        let rows = sql::read(self, database(self, inputs.access)?, columns, sink)?;
        Ok(SourceRows { summary: ReadSummary { rows, ..ReadSummary::default() }, fingerprint: None })
    }

    fn check(
        &self,
        access: ReadAccess<'_>,
        columns: &[Box<str>],
    ) -> Result<Option<SourceCheck>, DesiredError> {
        // `doctor` reports missing secrets with the connection.
        let Ok(database) = database(self, access) else { return Ok(None) };
        sql::try_source(self, database, columns)?;
        let summary = "the query is allowed and has the columns".to_owned();
        Ok(Some(SourceCheck { subject: "query", summary }))
    }
}

/// The database of a source's connection.
pub(super) fn database<'a>(source: &'a SqlSource, access: ReadAccess<'a>) -> Result<Database<'a>, SqlError> {
    let unknown = || SqlError::unknown(&source.connection);
    let settings = access.config.sql.get(&source.connection).ok_or_else(unknown)?;
    let secrets = access.secrets.databases.get(&source.connection).ok_or_else(unknown)?;
    Ok(Database { name: &source.connection, settings, secrets })
}
