//! Queries → rows, streaming: PostgreSQL and Amazon Redshift over their protocol, any other warehouse through an ADBC
//! driver.
//!
//! # Guarantees
//! A query can only read, and has a time limit. Either every row reaches the sink, or the read fails: a broken
//! connection is never taken as the end. Memory does not grow with the rows, because they arrive in batches.
//!
//! # Caveats
//! Calls block: a session runs on the caller's thread. A driver is third-party code in this process.

#[cfg_attr(not(feature = "warehouse"), path = "no_clients.rs")]
mod clients;
mod database;
mod error;
pub mod pushdown;

pub use clients::{TempTableWriter, TempTables, inspect_database, read, tables, try_source};
pub use database::{Database, DatabaseInfo, SqlTable};
pub use error::{SqlError, SqlErrorKind};
