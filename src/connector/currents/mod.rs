//! Braze's Currents, as files: what is in an object, and of what type its events are.
//!
//! What an event means is not known here; records are handed on as they stand.

pub mod avro;
mod path;
mod storage;

pub use path::{type_from_path, type_from_schema};
pub use storage::{EventFile, KnownFolders, Storage, StorageAccess, StorageError, day_in};
