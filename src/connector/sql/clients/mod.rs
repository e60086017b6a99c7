//! Clients of databases: PostgreSQL's protocol, and ADBC drivers.

mod adbc;
mod inspect;
pub(super) mod pushdown;
mod read;
mod runtime;
mod server_error;
mod session;
mod statement;
mod tables;
mod temp_tables;
mod tls;
mod values;

pub use inspect::{inspect_database, try_source};
pub use read::read;
pub use tables::tables;
pub use temp_tables::{TempTableWriter, TempTables};
