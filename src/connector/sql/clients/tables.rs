//! Tables of a database and their columns, as visible to the user. No row is read.

use adbc_core::Connection as _;
use adbc_core::options::ObjectDepth;
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, StringArray, StructArray};

use super::super::database::{Database, SqlTable};
use super::super::error::{SqlError, SqlErrorKind};
use super::adbc;
use super::runtime::runtime;
use super::session::PostgresSession;
use crate::config::SqlConfig;

/// System schemas.
const OWN: [&str; 3] = ["information_schema", "pg_catalog", "pg_internal"];

const COLUMNS: &str = "select c.table_schema::text, c.table_name::text, c.column_name::text,
    (select k.reltuples::bigint from pg_catalog.pg_class k join pg_catalog.pg_namespace n on n.oid = k.relnamespace
     where n.nspname = c.table_schema and k.relname = c.table_name) as about
    from information_schema.columns c
    where c.table_schema not in ('information_schema', 'pg_catalog', 'pg_internal')
    order by c.table_schema, c.table_name, c.ordinal_position";

/// All tables that the user may see.
///
/// # Errors
/// [`SqlError`] when they cannot be listed.
pub fn tables(database: Database<'_>) -> Result<Vec<SqlTable>, SqlError> {
    match database.settings {
        SqlConfig::Postgres(settings) => runtime(database)?.block_on(async {
            let session = PostgresSession::open(database, settings).await?;
            let mut tables: Vec<SqlTable> = Vec::new();
            for row in session.rows(COLUMNS).await? {
                let text = |at| row.try_get::<_, String>(at).unwrap_or_default();
                let about: Option<i64> = row.try_get(3).ok().flatten();
                let rows = about.and_then(|about| u64::try_from(about).ok());
                add(&mut tables, vec![text(0), text(1)], text(2), rows);
            }
            Ok(tables)
        }),
        SqlConfig::Adbc(settings) => {
            let session = adbc::AdbcSession::open(database, settings)?;
            let batches = session.connection.get_objects(ObjectDepth::All, None, None, None, None, None);
            let mut tables = Vec::new();
            for batch in batches.map_err(|e| session.error(&e, SqlErrorKind::Query))? {
                of_batch(&batch.map_err(|e| session.arrow_error(&e, true))?, &mut tables);
            }
            tables.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(tables)
        }
    }
}

fn add(tables: &mut Vec<SqlTable>, name: Vec<String>, column: String, rows: Option<u64>) {
    match tables.last_mut() {
        Some(table) if table.name == name => table.columns.push(column),
        _ => tables.push(SqlTable { name, columns: vec![column], rows }),
    }
}

/// The tables of one result: catalogs with schemas with tables with columns.
fn of_batch(batch: &RecordBatch, tables: &mut Vec<SqlTable>) {
    let catalogs = StructArray::from(batch.clone());
    for catalog in 0..catalogs.len() {
        let Some(schemas) = below(&catalogs, "catalog_db_schemas", catalog) else { continue };
        for schema in 0..schemas.len() {
            let name = text(&schemas, "db_schema_name", schema);
            let Some(found) = below(&schemas, "db_schema_tables", schema) else { continue };
            if OWN.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                continue;
            }
            for table in 0..found.len() {
                let Some(columns) = below(&found, "table_columns", table) else { continue };
                // SQLite has neither. A qualifier that all tables share is omitted.
                let name = [name.clone(), text(&found, "table_name", table)];
                let name = name.into_iter().filter(|part| !part.is_empty()).collect();
                let columns = (0..columns.len()).map(|at| text(&columns, "column_name", at)).collect();
                tables.push(SqlTable { name, columns, rows: None });
            }
        }
    }
}

fn below(of: &StructArray, name: &str, row: usize) -> Option<StructArray> {
    let list = of.column_by_name(name)?.as_any().downcast_ref::<ListArray>()?;
    let items: ArrayRef = list.is_valid(row).then(|| list.value(row))?;
    items.as_any().downcast_ref::<StructArray>().cloned()
}

fn text(of: &StructArray, name: &str, row: usize) -> String {
    let column = of.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<StringArray>());
    column
        .filter(|column| column.is_valid(row))
        .map(|column| column.value(row).to_owned())
        .unwrap_or_default()
}
