//! The checksum of a mirror table, as the server computes it.

use crate::model::TableChecksum;

/// Number of rows and sum of hashes. An invalid sum becomes one that never matches.
pub(super) fn tabled(row: &tokio_postgres::Row) -> Result<TableChecksum, tokio_postgres::Error> {
    let (rows, sum): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(TableChecksum { rows: rows.unsigned_abs(), sum: sum.parse().unwrap_or(i128::MAX) })
}
