//! Pushdown on PostgreSQL: comparison with a mirror table, and its maintenance.

mod checksum;
mod difference;
mod hash;

mod query;
mod server;
mod write_mirror_table;

pub use difference::{difference, unsupported};
pub use server::rights;
pub use write_mirror_table::{drop_table, rebuild, update};
