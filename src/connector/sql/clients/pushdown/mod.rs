//! Pushdown on PostgreSQL: comparison with a mirror table, and its maintenance.

mod checksum;
mod difference;
mod hash;
mod keep;
mod query;
mod server;

pub use difference::{difference, unsupported};
pub use keep::{drop_table, rebuild, update};
pub use server::rights;
