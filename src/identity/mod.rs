//! Files that say who is who → the identity map: mapping files, and Heap's `users` and `user_migrations` as Heap
//! Connect writes them, file by file or as its dumps leave them. It moves nobody; the next plan does.
//!
//! # Guarantees
//! A file that cannot be read in full teaches nothing. Every row is accounted for: it ties, it joins, or it is
//! counted as unused with its reason.

mod connect;
mod declared;

pub use connect::{DumpImport, learn_dumps};
pub use declared::{IdentityImport, from, has_news, learn};

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::FileSource;
use crate::connector::file::{self, FileError, RowLocation, RowSink};
use crate::connector::heap_connect::DumpError;
use crate::model::{ALIAS_LEN_MAX, EXTERNAL_ID_LEN_MAX, Field, Fields, InvalidIdentifier, Timestamp, usable};
use crate::state::{IdentityKey, IdentityMap, StateError};

/// A column, and what stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandleColumn {
    /// A device.
    DeviceId(Box<str>),
    /// The name of an alias with this label.
    Alias {
        /// The label.
        label: Box<str>,
        /// The column.
        column: Box<str>,
    },
}

/// What the rows of a file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityLayout {
    /// By what a person is known besides the customer's own id.
    Ties {
        /// The column of the customer's id.
        owner: Box<str>,
        /// The others.
        handles: Vec<HandleColumn>,
    },
    /// Which alias has become which other, as Heap's `user_migrations` has it.
    Joins {
        /// The label of both.
        label: Box<str>,
        /// The column of who is no more.
        from: Box<str>,
        /// The column of whom they are now.
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

/// What a file has taught.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Rows.
    pub rows: u64,
    /// Devices and aliases that have an owner now, or had the same before.
    pub ties: u64,
    /// Aliases that have become others.
    pub joins: u64,
    /// How often somebody else was said to own one than before.
    pub conflicts: u64,
    /// Rows that say nothing, by reason.
    pub unused: BTreeMap<&'static str, u64>,
}

/// Why a file has taught nothing.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read in full.
    #[error(transparent)]
    File(#[from] FileError),
    /// Dumps cannot be read in full.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// Somebody else changed the same part of the map, again and again.
    #[error("the identity map was changed while it was read")]
    Busy,
    /// The map cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

fn locked(map: &Mutex<IdentityMap>) -> MutexGuard<'_, IdentityMap> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Teaches the map what files say, as seen at this time, and makes it last.
///
/// # Errors
/// [`TeachError`]; then the map is as it was.
pub fn teach(
    source: &FileSource,
    from: file::FileAccess<'_>,
    layout: &IdentityLayout,
    map: &mut IdentityMap,
    seen: Timestamp,
) -> Result<ImportSummary, ImportError> {
    let (before, columns) = (map.conflicts(), layout.columns());
    let mut teacher = IdentityImporter { layout, map, seen, taught: ImportSummary::default(), failed: None };
    let read = file::read(source, from, &columns, &mut teacher);
    let IdentityImporter { mut taught, failed, .. } = teacher;
    if let Some(error) = failed {
        return Err(error.into());
    }
    taught.rows = read?.rows;
    map.settle()?;
    taught.conflicts = map.conflicts() - before;
    Ok(taught)
}

struct IdentityImporter<'a> {
    layout: &'a IdentityLayout,
    map: &'a mut IdentityMap,
    seen: Timestamp,
    taught: ImportSummary,
    failed: Option<StateError>,
}

impl IdentityImporter<'_> {
    fn ties(&mut self, fields: &impl Fields, handles: &[HandleColumn]) -> Result<(), RowRejectReason> {
        let Self { map, seen, .. } = self;
        self.taught.ties += ties(fields, handles, |handle, owner| map.tie(handle, owner, *seen))?;
        Ok(())
    }

    fn join(&mut self, fields: &impl Fields, label: &str) -> Result<(), RowRejectReason> {
        let name = |at| text(fields, at, ALIAS_LEN_MAX)?.ok_or(RowRejectReason::Unused("no_alias"));
        self.map.join(label, name(0)?, name(1)?)?;
        self.taught.joins += 1;
        Ok(())
    }
}

/// What a row ties to its owner, whose column is the first; how many that are, and never none.
fn ties(
    fields: &impl Fields,
    handles: &[HandleColumn],
    mut tie: impl FnMut(IdentityKey<'_>, &str) -> Result<(), StateError>,
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
            tie(handle, owner)?;
            count += 1;
        }
    }
    if count == 0 { Err(RowRejectReason::Unused("no_device_or_alias")) } else { Ok(count) }
}

/// Why a row says nothing.
enum RowRejectReason {
    Unused(&'static str),
    Failed(StateError),
}

impl From<StateError> for RowRejectReason {
    fn from(error: StateError) -> Self {
        Self::Failed(error)
    }
}

/// Takes note of what came of a row.
fn noted(
    done: Result<(), RowRejectReason>,
    taught: &mut ImportSummary,
    failed: &mut Option<StateError>,
) -> Result<(), FileError> {
    match done {
        Ok(()) => Ok(()),
        Err(RowRejectReason::Unused(reason)) => {
            *taught.unused.entry(reason).or_default() += 1;
            Ok(())
        }
        Err(RowRejectReason::Failed(error)) => {
            *failed = Some(error);
            Err(FileError::Stopped)
        }
    }
}

/// The text of a field; none if it is empty.
fn text(fields: &impl Fields, at: usize, len_max: usize) -> Result<Option<&str>, RowRejectReason> {
    let bytes = match fields.field(at) {
        Field::Absent => return Ok(None),
        Field::Other(why, _) => return Err(RowRejectReason::Unused(why.as_str())),
        Field::Text(bytes) | Field::Whole { id: bytes, .. } => bytes,
    };
    let found = usable(bytes, len_max, &[]).map_err(|unusable| {
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
    fn row(&mut self, fields: &impl Fields, _: RowLocation<'_>) -> Result<(), FileError> {
        let done = match self.layout {
            IdentityLayout::Ties { handles, .. } => self.ties(fields, handles),
            IdentityLayout::Joins { label, .. } => self.join(fields, label),
        };
        noted(done, &mut self.taught, &mut self.failed)
    }

    fn unreadable(&mut self, reason: &'static str, _: &str, _: RowLocation<'_>) -> Result<(), FileError> {
        noted(Err(RowRejectReason::Unused(reason)), &mut self.taught, &mut self.failed)
    }
}
