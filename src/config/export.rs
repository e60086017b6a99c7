//! Exports as the rest of the program knows them.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::SecretRef;
use super::server::ScheduleConfig;
use crate::event_mapping::MappingSettings;
use crate::model::{ConnectionName, ExportId, Timestamp};

/// A flow of engagement events from Braze to Heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportConfig {
    /// Its stable id.
    pub id: ExportId,
    /// Where the events come from.
    pub source: ExportSource,
    /// The Heap that they go to.
    pub to: ConnectionName,
    /// What becomes of each event.
    pub settings: MappingSettings,
    /// How long events wait for a person to become known.
    pub hold_age_max: Duration,
    /// How many may wait.
    pub hold_len_max: u64,
    /// Events in one request.
    pub batch_len_max: usize,
    /// How long what is posted is gathered.
    pub flush_every: Duration,
    /// How long rejects are kept.
    pub rejects_kept: Duration,
    /// Events before this are left out.
    pub since: Option<Timestamp>,
    /// When `watch` looks at it again, if not when it looks at everything.
    pub schedule: Option<ScheduleConfig>,
    /// Where the config declares it, for messages: file and line.
    pub declared_at: String,
}

/// Where engagement events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportSource {
    /// Avro files.
    Storage(StorageSource),
    /// Posted to a door.
    Http(HttpSource),
}

impl ExportSource {
    /// The source as reports name it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Storage(StorageSource { place: StorageLocation::Folder { shown, .. }, .. }) => {
                shown.clone()
            }
            Self::Storage(StorageSource { place: StorageLocation::Bucket { url, .. }, .. }) => url.clone(),
            Self::Http(source) => source.path.clone(),
        }
    }
}

/// Avro files of Braze's Currents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSource {
    /// Where they are.
    pub place: StorageLocation,
    /// How long the rest of a file that ends too early is waited for.
    pub incomplete_after: Duration,
}

/// Where files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageLocation {
    /// In a folder.
    Folder {
        /// Its path.
        path: PathBuf,
        /// The path as the config has it.
        shown: String,
        /// The folders that it must be in, wherever links lead.
        roots: Vec<PathBuf>,
    },
    /// In a bucket.
    Bucket {
        /// `s3://bucket/prefix`, `gs://…` or `az://…`.
        url: String,
        /// The store's address, if it is not the vendor's own.
        endpoint: Option<String>,
        /// The bucket's region, for S3.
        region: Option<String>,
    },
}

/// A door for Braze's Currents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// Where the tokens are that Braze may send, the newest first. None: whoever reaches the door may speak.
    pub tokens: Vec<SecretRef>,
    /// The path of the door.
    pub path: String,
}
