//! Members compared where the rows are: a table of them beside the source, and what differs.
//!
//! # Guarantees
//! [`difference`] only reads, and from one moment: the table is counted and hashed in the snapshot in which it is
//! compared. A table that is not exactly what the caller expects is told, and never compared with.
//!
//! # Caveats
//! What is in the table is the caller's matter: nothing here knows a record. PostgreSQL 12 or newer only, in UTF-8.

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
