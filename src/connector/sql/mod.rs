//! Queries → rows, streaming: PostgreSQL and Amazon Redshift over their protocol, any other warehouse through an ADBC
//! driver.
//!
//! # Guarantees
//! A query can only read, and has a time limit. Either every row reaches the sink, or the read fails: a broken
//! connection is never taken as the end. Memory does not grow with the rows, because they arrive in batches.
//!
//! # Caveats
//! Calls block: a session runs on the caller's thread. A driver is third-party code in this process.

mod adbc;
mod database;
mod error;
mod inspect;
pub mod pushdown;
mod read;
mod session;
mod statement;
mod tables;
mod temp_tables;
mod tls;
mod values;

pub use database::Database;
pub use error::{SqlError, SqlErrorKind};
pub use inspect::{DatabaseInfo, look, try_source};
pub use read::read;
pub use tables::{SqlTable, tables};
pub use temp_tables::{TempTableWriter, TempTables};
