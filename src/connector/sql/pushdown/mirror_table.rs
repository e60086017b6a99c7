//! A mirror table's name, its checksum, and the reasons why it cannot be compared with.

use std::fmt;

use crate::model::TableChecksum;

/// The oldest PostgreSQL that can do it: it has `materialized`.
pub(super) const VERSION_MIN: u32 = 12;

/// A table of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorTableName {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for MirrorTableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Why a table cannot be compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorUnusable {
    /// The server cannot do it: what it is.
    Server(String),
    /// There is no table.
    Missing,
    /// It cannot be read.
    Unreadable(String),
    /// There are other members in it than expected: so many, where so many should be.
    Differs {
        /// In the table.
        found: u64,
        /// Expected.
        expected: u64,
    },
    /// A column holds bytes, of which a database does not know which text they are.
    Bytes(String),
}

impl MirrorUnusable {
    /// Whether it will be so again, whatever is done to the table.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Server(_) | Self::Bytes(_))
    }
}

impl fmt::Display for MirrorUnusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(what) => {
                write!(f, "pushdown needs PostgreSQL {VERSION_MIN} in UTF-8, and this is {what}")
            }
            Self::Missing => f.write_str("the table of its members is not there"),
            Self::Unreadable(message) => write!(f, "the table of its members cannot be read: {message}"),
            Self::Differs { found, expected } if found == expected => {
                write!(f, "the table of its members holds others than were put there")
            }
            Self::Differs { found, expected } => {
                write!(f, "the table of its members holds {found} of them, where {expected} were put there")
            }
            Self::Bytes(column) => {
                write!(f, "column `{column}` holds bytes, which only this machine reads as text")
            }
        }
    }
}

/// Two numbers that the server gave; numbers that are none are nobody's.
pub(super) fn tabled(row: &tokio_postgres::Row) -> Result<TableChecksum, tokio_postgres::Error> {
    let (rows, sum): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(TableChecksum { rows: rows.unsigned_abs(), sum: sum.parse().unwrap_or(i128::MAX) })
}
