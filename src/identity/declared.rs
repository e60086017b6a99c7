//! Import of the sources that `identity:` declares, when they have changed.
//!
//! A declared file is imported as a whole: rows that it no longer contains are removed, as with dumps.

use std::sync::Mutex;

use super::{
    DumpImport, HandleColumn, IdentityLayout, ImportError, ImportSummary, RowRejectReason, import_dumps,
    locked, noted, ties,
};
use crate::config::{Config, IdentityFileSource, IdentitySource};
use crate::connector::file::{self, FileError, fingerprint};
use crate::connector::rows::{RowLocation, RowSink, SinkStopped, UnreadableRow};
use crate::model::{Fields, Timestamp};
use crate::state::{
    IdentityMap, ReplayTable, SourceBookmark, SourceName, SourceTable, StateError, StateReader,
};

/// The result of importing a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityImport {
    /// The source is unchanged.
    Unchanged,
    /// Dumps.
    Dumps(DumpImport),
    /// Files.
    Files(ImportSummary),
}

/// Imports and commits a source of the config if it has changed.
///
/// # Errors
/// [`ImportError`]. Then the map is unchanged.
pub fn import_source(
    source: &IdentitySource,
    from: file::FileAccess<'_>,
    map: &Mutex<IdentityMap>,
    now: Timestamp,
) -> Result<IdentityImport, ImportError> {
    match source {
        IdentitySource::HeapConnect(source) => {
            let dumped = import_dumps(source, from, map)?;
            Ok(if dumped.read.is_empty() { IdentityImport::Unchanged } else { IdentityImport::Dumps(dumped) })
        }
        IdentitySource::File(source) => import_files(source, from, map, now),
    }
}

/// Whether a source has changed since its last import. Writes nothing and reads no row.
///
/// # Errors
/// When the source or the state cannot be read.
pub fn has_changes(
    source: &IdentitySource,
    from: file::FileAccess<'_>,
    state: &StateReader,
    now: Timestamp,
) -> Result<bool, ImportError> {
    match source {
        IdentitySource::HeapConnect(source) => super::connect::has_changes(source, from, state),
        IdentitySource::File(source) => {
            let known = state.bookmark(&name_of(source))?;
            let fingerprint = fingerprint_of(source, from, now)?;
            Ok(fingerprint.is_none() || known.map(|known| known.fingerprint) != fingerprint)
        }
    }
}

/// File access for the sources of a config.
#[must_use]
pub fn from<'a>(config: &'a Config, stores: &'a [(String, String)]) -> file::FileAccess<'a> {
    file::FileAccess { folder: &config.folder, roots: &config.roots, stores }
}

fn name_of(source: &IdentityFileSource) -> SourceName {
    let label = source.alias.as_ref().map_or("", |(label, _)| label);
    SourceName { address: source.files.pattern.clone(), label: label.to_owned() }
}

/// Returns a fingerprint of the files and of the settings. `None`: the files are too recent for one.
fn fingerprint_of(
    source: &IdentityFileSource,
    from: file::FileAccess<'_>,
    now: Timestamp,
) -> Result<Option<String>, FileError> {
    Ok(fingerprint(&source.files, from)?.text(&format!("{source:?}"), now))
}

fn import_files(
    source: &IdentityFileSource,
    from: file::FileAccess<'_>,
    map: &Mutex<IdentityMap>,
    now: Timestamp,
) -> Result<IdentityImport, ImportError> {
    let (name, fingerprint) = (name_of(source), fingerprint_of(source, from, now)?);
    let known = locked(map).bookmark(&name).map(|known| known.fingerprint.clone());
    if fingerprint.is_some() && known == fingerprint {
        return Ok(IdentityImport::Unchanged);
    }
    let (state, mut users, joins) = {
        let map = locked(map);
        (
            map.state(),
            map.table(&name, SourceTable::Users, true)?,
            map.table(&name, SourceTable::Joins, true)?,
        )
    };
    let handles = handles_of(source);
    let layout = IdentityLayout::Ties { owner: source.owner.as_str().into(), handles: handles.clone() };
    let columns = layout.columns();
    let mut mapper = MapUpdater {
        handles: &handles,
        table: &mut users,
        now,
        summary: ImportSummary::default(),
        failed: None,
    };
    let read = file::read(&source.files, from, &columns, &mut mapper);
    let MapUpdater { mut summary, failed, .. } = mapper;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let (read, fingerprint) = read?;
    summary.rows = read.rows;
    // The fingerprint of what was read, in case the files changed since the check.
    let fingerprint = fingerprint.text(&format!("{source:?}"), now).unwrap_or_default();
    let (users, joins) = (users.finish(&state)?, joins.finish(&state)?);
    let bookmark = SourceBookmark { fingerprint, ..SourceBookmark::default() };
    if locked(map).import(&name, bookmark, users, joins)? {
        Ok(IdentityImport::Files(summary))
    } else {
        Err(ImportError::Busy)
    }
}

fn handles_of(source: &IdentityFileSource) -> Vec<HandleColumn> {
    let device = source.device_id.iter().map(|column| HandleColumn::DeviceId(column.as_str().into()));
    let alias = source.alias.iter().map(|(label, column)| HandleColumn::Alias {
        label: label.as_str().into(),
        column: column.as_str().into(),
    });
    device.chain(alias).collect()
}

struct MapUpdater<'a> {
    handles: &'a [HandleColumn],
    table: &'a mut ReplayTable,
    now: Timestamp,
    summary: ImportSummary,
    failed: Option<StateError>,
}

impl RowSink for MapUpdater<'_> {
    fn row(&mut self, fields: &impl Fields, _: RowLocation<'_>) -> Result<(), SinkStopped> {
        let Self { handles, table, now, summary, failed } = self;
        let tied = ties(fields, handles, |handle, owner| table.link_key(handle, (owner, *now)));
        let tied = tied.map(|count| summary.ties += count);
        noted(tied, summary, failed)
    }

    fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        noted(Err(RowRejectReason::Unused(row.reason)), &mut self.summary, &mut self.failed)
    }
}
