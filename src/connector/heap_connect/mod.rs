//! Heap Connect dumps in a bucket or a copied folder: complete dumps, their manifests, and the rows of their files.
//! Callers choose the dumps and interpret the rows.
//!
//! Source: Heap Connect, S3 specification: `manifests/sync_<dump_id>.json`, which appears when the dump is complete,
//! and `sync_<dump_id>/<table>/part-<number>-<guid>-c000.avro`.
//!
//! # Guarantees
//! Dumps are sorted by their id. Files outside of the bucket are never read. A dump without a manifest is incomplete and
//! ignored. A file that is replaced or truncated while it is read is an error.

mod error;
mod location;
mod manifest;

pub use error::DumpError;
pub use manifest::{DumpFile, DumpTable, Manifest};

use std::path::{Path, PathBuf};

use location::DumpLocation;

use super::file::{AvroFile, AvroValues, FileAccess, FileError};
use crate::config::DumpFolder;
use crate::connector::rows::RowSink;

/// A complete dump.
#[derive(Clone, Debug)]
pub struct Dump {
    /// Its id.
    pub id: u64,
    /// A fingerprint of its manifest.
    pub mark: u64,
    manifest: location::DumpObject,
}

/// The dumps of a bucket.
#[derive(Debug)]
pub struct Dumps {
    location: DumpLocation,
    dumps: Vec<Dump>,
}

impl Dumps {
    /// Finds the complete dumps.
    ///
    /// # Errors
    /// [`DumpError`] when the location cannot be listed or has no dump.
    pub fn find(folder: &DumpFolder, from: FileAccess<'_>) -> Result<Self, DumpError> {
        let location = DumpLocation::open(folder, from)?;
        let mut dumps = location.manifests()?;
        dumps.sort_by_key(|dump| dump.id);
        if let Some(pair) = dumps.windows(2).find(|pair| pair[0].id == pair[1].id) {
            let path = pair[1].manifest.path().to_owned();
            return Err(DumpError::TwoManifests { path, dump: pair[1].id });
        }
        if dumps.is_empty() {
            return Err(DumpError::NoDump { path: location.manifests_path() });
        }
        Ok(Self { location, dumps })
    }

    /// All dumps, sorted by id; at least one.
    #[must_use]
    pub fn all(&self) -> &[Dump] {
        &self.dumps
    }

    /// The folder of manifests, for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.location.manifests_path()
    }

    /// The manifest of a dump.
    ///
    /// # Errors
    /// [`DumpError`] when the manifest cannot be read or is damaged.
    pub fn manifest(&self, dump: &Dump) -> Result<Manifest, DumpError> {
        let text = dump.manifest.read()?;
        Manifest::parse(&text, dump.id, dump.manifest.path())
    }

    /// Opens a file of a table.
    ///
    /// # Errors
    /// [`DumpError`] when the file is missing or not an Avro file.
    pub fn open(&self, dump: &Dump, table: &DumpTable, file: &DumpFile) -> Result<DumpRows, DumpError> {
        let gone = || DumpError::Gone {
            manifest: dump.manifest.path().to_owned(),
            table: table.name.clone(),
            file: file.address.clone(),
        };
        let found = self.location.file(&file.path)?.ok_or_else(gone)?;
        AvroFile::open(&found.0).map(DumpRows).map_err(|error| match error {
            FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => gone(),
            error => error.into(),
        })
    }

    /// The dump with this id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Dump> {
        self.dumps.iter().find(|dump| dump.id == id)
    }
}

/// The rows of a file.
pub struct DumpRows(AvroFile);

impl DumpRows {
    /// Whether the file's schema has this column.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.0.has(column)
    }

    /// The columns of the file's schema, in order.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        self.0.columns()
    }

    /// The path of the file, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Calls the sink with every row: required and optional columns. Returns the number of rows.
    ///
    /// # Errors
    /// [`DumpError`] when the file cannot be read completely or lacks a column.
    pub fn read(
        self,
        required: &[Box<str>],
        optional: &[Box<str>],
        values: AvroValues,
        sink: &mut impl RowSink,
    ) -> Result<u64, DumpError> {
        Ok(self.0.read(required, optional, values, sink)?)
    }
}
