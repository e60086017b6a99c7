//! Exports, typed.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::SecretRef;
use super::watch::ScheduleConfig;
use crate::event_mapping::MappingSettings;
use crate::model::{ConnectionName, ExportId, Timestamp};

/// An export of engagement events from Braze to Heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportConfig {
    /// Stable id.
    pub id: ExportId,
    /// Source of the events.
    pub source: ExportSource,
    /// Heap connection that receives the events.
    pub to: ConnectionName,
    /// Mapping of events.
    pub settings: MappingSettings,
    /// How long events wait for an identity.
    pub hold_age_max: Duration,
    /// Maximum number of waiting events.
    pub hold_len_max: u64,
    /// Maximum number of events per request.
    pub batch_len_max: usize,
    /// How long posted events are collected before they are sent.
    pub flush_every: Duration,
    /// How long rejects are kept.
    pub rejects_kept: Duration,
    /// Earliest time of events.
    pub since: Option<Timestamp>,
    /// Schedule in `watch`. Default: the schedule of `watch`.
    pub schedule: Option<ScheduleConfig>,
    /// File and line of the declaration, for messages.
    pub declared_at: String,
}

/// Source of engagement events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportSource {
    /// Avro files.
    Storage(StorageSource),
    /// HTTP posts to an endpoint.
    Http(HttpSource),
}

impl ExportSource {
    /// Name of the source in reports.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Storage(StorageSource { location: StorageLocation::Folder { shown, .. }, .. }) => {
                shown.clone()
            }
            Self::Storage(StorageSource { location: StorageLocation::Bucket { url, .. }, .. }) => url.clone(),
            Self::Http(source) => source.path.clone(),
        }
    }
}

/// Avro files of Braze Currents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSource {
    /// Location of the files.
    pub location: StorageLocation,
    /// How long to wait for the rest of a truncated file.
    pub incomplete_after: Duration,
}

/// Location of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageLocation {
    /// A folder.
    Folder {
        /// Path of the folder.
        path: PathBuf,
        /// Path in the config.
        shown: String,
        /// Folders that must contain it after links are resolved.
        roots: Vec<PathBuf>,
    },
    /// A bucket.
    Bucket {
        /// `s3://bucket/prefix`, `gs://…` or `az://…`.
        url: String,
        /// Address of the object store, if it is not the vendor's.
        endpoint: Option<String>,
        /// Region of the bucket, for S3.
        region: Option<String>,
    },
}

/// An HTTP endpoint for Braze Currents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// Locations of the accepted tokens, newest first. If empty, requests need no token.
    pub tokens: Vec<SecretRef>,
    /// Path of the endpoint.
    pub path: String,
}
