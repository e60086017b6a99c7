//! Source files → rows, streaming: CSV, TSV and NDJSON, plain or compressed, Parquet and Avro; one file or a
//! glob, on this machine, in a bucket, or on a web server.
//!
//! # Guarantees
//! Either every row of every file is handed over, each as fields or as unreadable with its reason, or
//! there is an error: a file that is cut short, replaced, or changed while it is read never runs for
//! a smaller one. Memory does not grow with the files.
//!
//! # Assumptions
//! Whoever writes a file writes it under another name first and renames it, or the reading fails.

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
mod parquet;
mod read;
mod remote;
mod stamp;

pub(in crate::connector) use avro::AvroFile;
pub use error::FileError;
pub use find::FileAccess;
pub(in crate::connector) use find::real;
pub use fingerprint::{FileFingerprint, fingerprint};
pub(in crate::connector) use found::FoundFile;
pub use header::REPEATED_HEADER;
pub(in crate::connector) use open::{open_file, read_whole};
pub use read::read;
