//! Files of Braze's Currents: their storage, their Avro content, and the event type of each file.
//!
//! The meaning of events is the concern of `event_mapping`; records are passed on unchanged.

mod path;
mod storage;

pub use path::{type_from_path, type_from_schema};
pub use storage::{EventFile, KnownFolders, Storage, StorageAccess, StorageError, day_in};
