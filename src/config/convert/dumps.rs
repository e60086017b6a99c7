//! Converts sources of `kind: heap_connect`.

use super::sql;
use crate::config::dumps::{DumpFolder, DumpQuery, DumpTableSource};
use crate::config::spec;
use crate::config::types::SourceConfig;
use crate::model::IdError;

/// A table or a query. `text` is the content of `query_file`.
pub(super) fn source(shape: spec::DumpTableSpec, text: Option<String>) -> Result<SourceConfig, IdError> {
    let folder = DumpFolder { path: shape.path.0, endpoint: shape.endpoint, region: shape.region };
    let Some(connection) = shape.connection else {
        let table = shape.table.map(|table| table.0.trim().to_owned()).unwrap_or_default();
        return Ok(SourceConfig::HeapConnect(DumpTableSource {
            folder,
            table,
            within: shape.within.map(|within| within.0),
        }));
    };
    let query = sql::source(
        spec::SqlSourceSpec {
            connection,
            query: shape.query,
            query_file: None,
            table: None,
            params: shape.params,
            null_values: Vec::new(),
            diff: spec::DiffSpec::Local,
        },
        text,
    )?;
    let tables = shape.tables.into_iter().map(|table| table.0.trim().to_owned()).collect();
    Ok(SourceConfig::DumpQuery(DumpQuery { folder, tables, query }))
}
