//! Pushdown: PostgreSQL compares the rows of a query with a mirror table of the recorded members.
//!
//! # Guarantees
//! [`difference()`] only reads, in one snapshot: the checksum of the table is computed in the snapshot of the
//! comparison. A table with an unexpected checksum is reported and not compared.
//!
//! # Caveats
//! The caller decides which members the table holds. PostgreSQL 12 or newer only, in UTF-8.

mod difference;
mod keep;
mod member;
mod mirror_table;
mod query;
mod server;

pub use difference::{Differences, difference, unsupported};
pub use keep::{drop_table, rebuild, update};
pub use member::{format_member, parse_member};
pub use mirror_table::{MirrorTableName, MirrorUnusable};
pub use query::MemberRules;
pub use server::{Rights, rights};
