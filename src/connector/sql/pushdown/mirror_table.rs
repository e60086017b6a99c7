//! A mirror table's name, its checksum, and the reasons why it cannot be compared with.

use std::fmt;

/// The oldest supported PostgreSQL: the query needs `materialized`.
pub(in super::super) const VERSION_MIN: u32 = 12;

/// A mirror table.
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

/// The reason why a mirror table cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorUnusable {
    /// The server is not supported: its description.
    Server(String),
    /// There is no table.
    Missing,
    /// It cannot be read.
    Unreadable(String),
    /// The table does not have the expected checksum.
    Differs {
        /// Members in the table.
        found: u64,
        /// Expected members.
        expected: u64,
    },
    /// A column holds bytes. The database does not know their encoding.
    Bytes(String),
}

impl MirrorUnusable {
    /// Whether a new mirror table would not help.
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
            Self::Missing => f.write_str("its mirror table does not exist"),
            Self::Unreadable(message) => write!(f, "its mirror table cannot be read: {message}"),
            Self::Differs { found, expected } if found == expected => {
                write!(f, "its mirror table holds other members than were written")
            }
            Self::Differs { found, expected } => {
                write!(f, "members in its mirror table: {found}, written: {expected}")
            }
            Self::Bytes(column) => {
                write!(f, "column `{column}` holds bytes, which only this machine reads as text")
            }
        }
    }
}
