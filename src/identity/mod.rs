//! Import of identity data into the identity map: mapping files, and Heap's `users` and `user_migrations` from Heap
//! Connect, as single files or as dumps. An import changes no cohort; the next plan does.
//!
//! # Guarantees
//! A file that cannot be read in full changes nothing. Every row is counted: as a link, as a merge, or as unused with a
//! reason.

mod connect;
mod declared;

pub use connect::{DumpImport, import_dumps};
pub use declared::{IdentityImport, from, has_changes, import_source};

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::FileSource;
use crate::connector::file::{self, FileError};
use crate::connector::heap_connect::DumpError;
use crate::connector::rows::{RowLocation, RowSink, SinkStopped, UnreadableRow};
use crate::model::{
    ALIAS_LEN_MAX, EXTERNAL_ID_LEN_MAX, Field, Fields, InvalidIdentifier, Timestamp, normalize_identifier,
};
use crate::state::{IdentityKey, IdentityMap, StateError};

/// A column with identifiers of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandleColumn {
    /// Device ids.
    DeviceId(Box<str>),
    /// Names of aliases with this label.
    Alias {
        /// The label.
        label: Box<str>,
        /// The column.
        column: Box<str>,
    },
}

/// The layout of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityLayout {
    /// Devices and aliases with their owner.
    Ties {
        /// The column with external ids.
        owner: Box<str>,
        /// The columns with devices and aliases.
        handles: Vec<HandleColumn>,
    },
    /// Merges of aliases, as in Heap's `user_migrations`.
    Joins {
        /// The label of both aliases.
        label: Box<str>,
        /// The column of the alias that was merged.
        from: Box<str>,
        /// The column of the alias that it was merged into.
        into: Box<str>,
    },
}

impl IdentityLayout {
    fn columns(&self) -> Vec<Box<str>> {
        match self {
            Self::Ties { owner, handles } => {
                let column = |handle: &HandleColumn| match handle {
                    HandleColumn::DeviceId(column) | HandleColumn::Alias { column, .. } => column.clone(),
                };
                std::iter::once(owner.clone()).chain(handles.iter().map(column)).collect()
            }
            Self::Joins { from, into, .. } => vec![from.clone(), into.clone()],
        }
    }
}

/// The result of importing a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Rows.
    pub rows: u64,
    /// Devices and aliases with an owner, new or known before.
    pub ties: u64,
    /// Merges of aliases.
    pub joins: u64,
    /// How often a device or alias had another owner before.
    pub conflicts: u64,
    /// Rows without usable data, by reason.
    pub unused: BTreeMap<&'static str, u64>,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The files cannot be read in full.
    #[error(transparent)]
    File(#[from] FileError),
    /// The dumps cannot be read in full.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// Other imports changed the same tables repeatedly.
    #[error("the identity map was changed while it was read")]
    Busy,
    /// The map cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

fn locked(map: &Mutex<IdentityMap>) -> MutexGuard<'_, IdentityMap> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Imports files into the map and commits it. `seen` is the time of observation.
///
/// # Errors
/// [`ImportError`]. Then the map is unchanged.
pub fn import_file(
    source: &FileSource,
    from: file::FileAccess<'_>,
    layout: &IdentityLayout,
    map: &mut IdentityMap,
    seen: Timestamp,
) -> Result<ImportSummary, ImportError> {
    let (before, columns) = (map.conflicts(), layout.columns());
    let mut importer =
        IdentityImporter { layout, map, seen, summary: ImportSummary::default(), failed: None };
    let read = file::read(source, from, &columns, &mut importer);
    let IdentityImporter { mut summary, failed, .. } = importer;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let (read, _) = read?;
    summary.rows = read.rows;
    map.settle()?;
    summary.conflicts = map.conflicts() - before;
    Ok(summary)
}

struct IdentityImporter<'a> {
    layout: &'a IdentityLayout,
    map: &'a mut IdentityMap,
    seen: Timestamp,
    summary: ImportSummary,
    failed: Option<StateError>,
}

impl IdentityImporter<'_> {
    fn ties(&mut self, fields: &impl Fields, handles: &[HandleColumn]) -> Result<(), RowRejectReason> {
        let Self { map, seen, .. } = self;
        self.summary.ties += ties(fields, handles, |handle, owner| map.link(handle, owner, *seen))?;
        Ok(())
    }

    fn join(&mut self, fields: &impl Fields, label: &str) -> Result<(), RowRejectReason> {
        let name = |at| text(fields, at, ALIAS_LEN_MAX)?.ok_or(RowRejectReason::Unused("no_alias"));
        self.map.join(label, name(0)?, name(1)?)?;
        self.summary.joins += 1;
        Ok(())
    }
}

/// Links a row's devices and aliases to its owner, which is in the first column. Returns how many, at least one.
fn ties(
    fields: &impl Fields,
    handles: &[HandleColumn],
    mut link: impl FnMut(IdentityKey<'_>, &str) -> Result<(), StateError>,
) -> Result<u64, RowRejectReason> {
    let owner = text(fields, 0, EXTERNAL_ID_LEN_MAX)?.ok_or(RowRejectReason::Unused("no_external_id"))?;
    let mut count = 0;
    for (at, column) in handles.iter().enumerate() {
        let handle = match column {
            HandleColumn::DeviceId(_) => {
                text(fields, at + 1, EXTERNAL_ID_LEN_MAX)?.map(IdentityKey::DeviceId)
            }
            HandleColumn::Alias { label, .. } => {
                text(fields, at + 1, ALIAS_LEN_MAX)?.map(|name| IdentityKey::Alias { label, name })
            }
        };
        if let Some(handle) = handle {
            link(handle, owner)?;
            count += 1;
        }
    }
    if count == 0 { Err(RowRejectReason::Unused("no_device_or_alias")) } else { Ok(count) }
}

/// Why a row is not used.
enum RowRejectReason {
    Unused(&'static str),
    Failed(StateError),
}

impl From<StateError> for RowRejectReason {
    fn from(error: StateError) -> Self {
        Self::Failed(error)
    }
}

/// Records the outcome of a row.
fn noted(
    done: Result<(), RowRejectReason>,
    summary: &mut ImportSummary,
    failed: &mut Option<StateError>,
) -> Result<(), SinkStopped> {
    match done {
        Ok(()) => Ok(()),
        Err(RowRejectReason::Unused(reason)) => {
            *summary.unused.entry(reason).or_default() += 1;
            Ok(())
        }
        Err(RowRejectReason::Failed(error)) => {
            *failed = Some(error);
            Err(SinkStopped)
        }
    }
}

/// Returns the normalized text of a field. `None`: it is empty.
fn text(fields: &impl Fields, at: usize, len_max: usize) -> Result<Option<&str>, RowRejectReason> {
    let bytes = match fields.field(at) {
        Field::Absent => return Ok(None),
        Field::Other(why, _) => return Err(RowRejectReason::Unused(why.as_str())),
        Field::Text(bytes) | Field::Whole { id: bytes, .. } => bytes,
    };
    let found = normalize_identifier(bytes, len_max, &[]).map_err(|unusable| {
        RowRejectReason::Unused(match unusable {
            InvalidIdentifier::Placeholder => "placeholder",
            InvalidIdentifier::Number(why) => why.as_str(),
            InvalidIdentifier::TooLong => "too_long",
            InvalidIdentifier::ControlCharacter => "control_character",
            InvalidIdentifier::NotUtf8 => "not_utf8",
        })
    })?;
    found.map(std::str::from_utf8).transpose().map_err(|_| RowRejectReason::Unused("not_utf8"))
}

impl RowSink for IdentityImporter<'_> {
    fn row(&mut self, fields: &impl Fields, _: RowLocation<'_>) -> Result<(), SinkStopped> {
        let done = match self.layout {
            IdentityLayout::Ties { handles, .. } => self.ties(fields, handles),
            IdentityLayout::Joins { label, .. } => self.join(fields, label),
        };
        noted(done, &mut self.summary, &mut self.failed)
    }

    fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        noted(Err(RowRejectReason::Unused(row.reason)), &mut self.summary, &mut self.failed)
    }
}
