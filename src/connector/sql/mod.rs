//! Queries → rows, streaming: PostgreSQL and Amazon Redshift over their protocol, any other warehouse through a
//! driver that is installed.
//!
//! # Guarantees
//! A query can only read, and is ended after a time. Either every row is handed over, or there is an error: a
//! connection that breaks never runs for the end. Memory does not grow with the rows, since some thousands are
//! asked for at a time.
//!
//! # Caveats
//! Callers block: the conversation runs on the caller's thread. A driver is code of others in this process.

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
