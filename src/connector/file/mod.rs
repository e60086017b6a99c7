//! Source files → rows, streaming: CSV, TSV, NDJSON, Parquet and Avro, plain or compressed; one file or a glob,
//! local, in a bucket, or on a web server.
//!
//! # Guarantees
//! Either every row of every file reaches the sink, as fields or as unreadable with its reason, or the read fails. A
//! file that is truncated, replaced or changed during the read is never taken as a shorter file. Memory does not grow
//! with the files.
//!
//! # Assumptions
//! Writers write to a temporary name and rename the file. Otherwise the read may fail.

mod avro;
mod content;
mod csv;
mod error;
mod find;
mod fingerprint;
mod found;
mod header;
mod json_values;
mod lines;
mod ndjson;
mod open;
#[cfg_attr(not(feature = "warehouse"), path = "no_parquet.rs")]
mod parquet;
mod read;
mod remote;
mod separator;
mod stamp;

pub(in crate::connector) use avro::AvroFile;
pub use avro::AvroValues;
pub use error::FileError;
pub use find::FileAccess;
pub(in crate::connector) use find::real;
pub use fingerprint::{FileFingerprint, fingerprint};
pub(in crate::connector) use found::FoundFile;
pub use header::REPEATED_HEADER;
#[cfg(feature = "warehouse")]
pub(in crate::connector) use header::is_plausible_name;
pub(in crate::connector) use open::{open_file, read_whole};
pub use read::read;
pub use separator::{CsvHeader, csv_headers, no_such_column};
