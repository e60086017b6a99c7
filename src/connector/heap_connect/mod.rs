//! Heap Connect's dumps in a bucket, or in a folder that is a copy of one: which there are, what each says it has,
//! and the rows of its files. Which of them to read, and what rows mean, is for others to decide.
//!
//! Source: Heap Connect, S3 specification: `manifests/sync_<dump_id>.json`, which appears when the dump is complete,
//! and `sync_<dump_id>/<table>/part-<number>-<guid>-c000.avro`.
//!
//! # Guarantees
//! Dumps come in the order of their numbers. Nothing outside of the bucket is read. A dump without a manifest is
//! none. A file that is replaced or cut short while it is read is an error, never a smaller one.

mod error;
mod manifest;
mod place;

pub use error::DumpError;
pub use manifest::{DumpFile, DumpTable, Manifest};

use std::path::{Path, PathBuf};

use place::DumpLocation;

use super::file::{AvroFile, FileAccess, FileError, RowSink};
use crate::config::DumpFolder;

/// A complete dump.
#[derive(Clone, Debug)]
pub struct Dump {
    /// Its number.
    pub id: u64,
    /// Tells what its manifest says from anything else that it could say.
    pub mark: u64,
    manifest: place::DumpObject,
}

/// The dumps of a bucket.
#[derive(Debug)]
pub struct Dumps {
    place: DumpLocation,
    dumps: Vec<Dump>,
}

impl Dumps {
    /// Finds the dumps that are complete.
    ///
    /// # Errors
    /// [`DumpError`] when the place cannot be listed, or has none.
    pub fn find(place: &DumpFolder, from: FileAccess<'_>) -> Result<Self, DumpError> {
        let place = DumpLocation::open(place, from)?;
        let mut dumps = place.manifests()?;
        dumps.sort_by_key(|dump| dump.id);
        if let Some(pair) = dumps.windows(2).find(|pair| pair[0].id == pair[1].id) {
            let path = pair[1].manifest.path().to_owned();
            return Err(DumpError::TwoManifests { path, dump: pair[1].id });
        }
        if dumps.is_empty() {
            return Err(DumpError::NoDump { path: place.manifests_path() });
        }
        Ok(Self { place, dumps })
    }

    /// All of them, in the order of their numbers; never none.
    #[must_use]
    pub fn all(&self) -> &[Dump] {
        &self.dumps
    }

    /// Where manifests are, as messages name it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place.manifests_path()
    }

    /// What a dump says it has.
    ///
    /// # Errors
    /// [`DumpError`] when its manifest cannot be read or is damaged.
    pub fn manifest(&self, dump: &Dump) -> Result<Manifest, DumpError> {
        let text = dump.manifest.read()?;
        Manifest::parse(&text, dump.id, dump.manifest.path())
    }

    /// Opens a file of a table of a dump.
    ///
    /// # Errors
    /// [`DumpError`] when it is not there, or is no Avro file.
    pub fn open(&self, dump: &Dump, table: &DumpTable, file: &DumpFile) -> Result<DumpRows, DumpError> {
        let gone = || DumpError::Gone {
            manifest: dump.manifest.path().to_owned(),
            table: table.name.clone(),
            file: file.address.clone(),
        };
        let found = self.place.file(&file.path)?.ok_or_else(gone)?;
        AvroFile::open(&found.0).map(DumpRows).map_err(|error| match error {
            FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => gone(),
            error => error.into(),
        })
    }

    /// The dump of this number.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Dump> {
        self.dumps.iter().find(|dump| dump.id == id)
    }
}

/// The rows of a file.
pub struct DumpRows(AvroFile);

impl DumpRows {
    /// Whether its own schema has this column.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.0.has(column)
    }

    /// The columns of its own schema, in their order.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        self.0.columns()
    }

    /// Where it is, as messages name it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Hands over all rows: of each the columns that must be there, and those that may be. How many there were.
    ///
    /// # Errors
    /// [`DumpError`] when the file cannot be read in full, or lacks a column.
    pub fn read(
        self,
        required: &[Box<str>],
        optional: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<u64, DumpError> {
        Ok(self.0.read(required, optional, sink)?)
    }

    /// The same, with each value as its text, whatever it is.
    ///
    /// # Errors
    /// As for [`DumpRows::read`].
    pub fn read_as_text(
        self,
        required: &[Box<str>],
        optional: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<u64, DumpError> {
        Ok(self.0.read_as_text(required, optional, sink)?)
    }
}
