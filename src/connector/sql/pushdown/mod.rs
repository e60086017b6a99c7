//! Pushdown: PostgreSQL compares the rows of a query with a mirror table of the recorded members.
//!
//! # Guarantees
//! [`difference()`] only reads, in one snapshot: the checksum of the table is computed in the snapshot of the
//! comparison. A table with an unexpected checksum is reported and not compared.
//!
//! # Caveats
//! The caller decides which members the table holds. PostgreSQL 12 or newer only, in UTF-8.

mod interface;
pub(super) mod member;
pub(super) mod mirror_table;

pub use self::interface::{Differences, MemberRules, Rights};
pub use self::member::{format_member, parse_member};
pub use self::mirror_table::{MirrorTableName, MirrorUnusable};
pub use super::clients::pushdown::{difference, drop_table, rebuild, rights, unsupported, update};
