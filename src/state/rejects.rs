//! Rejects: what could not be used, each with its reason, so that nothing is lost in silence.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use serde::Serialize;

use super::log_lines::{self, LogLines, Quality};
use super::store::{Growing, PendingFile, Store, StoreError};
use super::{StateError, StateReader, StateWriter};
use crate::model::{ExportId, RunId, Timestamp};

/// One row or identifier that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reject<'a> {
    /// Why, as a stable word.
    pub reason: &'a str,
    /// Why, in the words of whoever refused it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub detail: &'a str,
    /// The source's file, if it comes from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<&'a str>,
    /// The line in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column, or the kind of identifier.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub column: &'a str,
    /// What stood there.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub value: &'a str,
    /// The event as Braze gave it, so that it can be replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a str>,
    /// The event, or the user, as Heap refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<&'a str>,
    /// How many rejects this one stands for: itself, and those after it with the same reason. None: only itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// The rejects of one cohort, or one door, in one run. The file appears with the first of them.
pub struct RejectLog {
    store: Store,
    relative: String,
    file: Option<Growing>,
    /// Lines without checksums, the last of which may not be complete.
    buffer: Vec<u8>,
    /// Something was written since it was last put on disk.
    dirty: bool,
}

const BUFFER_LEN: usize = 64 << 10;

impl RejectLog {
    pub(super) fn new(store: &Store, run: &RunId, of: &str) -> Self {
        let relative = format!("rejects/{run}/{of}.ndjson");
        Self { store: store.clone(), relative, file: None, buffer: Vec::new(), dirty: false }
    }

    /// Adds lines of JSON, each made by [`Reject::line`]. A line may come in several pieces.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn push(&mut self, lines: &[u8]) -> Result<(), StateError> {
        self.buffer.extend_from_slice(lines);
        if self.buffer.len() >= BUFFER_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StateError> {
        let Some(end) = self.buffer.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let (subject, mut sealed) = (log_lines::subject_of(&self.relative), Vec::new());
        for line in self.buffer[..end].split(|byte| *byte == b'\n') {
            log_lines::seal(&subject, line, &mut sealed);
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.store.growing(&self.relative)?),
        };
        file.append(&sealed)?;
        self.buffer.drain(..=end);
        self.dirty = true;
        Ok(())
    }

    /// Puts what was pushed on disk, so that a version may say that somebody was refused.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn sync(&mut self) -> Result<(), StateError> {
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        if let Some(file) = self.file.as_mut().filter(|_| self.dirty) {
            file.sync()?;
        }
        self.dirty = false;
        Ok(())
    }

    /// Puts the log on disk and says where; none if there was nothing to put.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn finish(mut self) -> Result<Option<PathBuf>, StateError> {
        self.sync()?;
        Ok(self.file.is_some().then(|| self.store.at(&self.relative)))
    }
}

/// What the rejects of an export are called among those of a run. No cohort's id has a dot.
#[must_use]
pub fn rejects_of(export: &ExportId) -> String {
    format!("exports.{export}")
}

/// A line of a file of rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectLine {
    /// The line as the file has it.
    pub bytes: Vec<u8>,
    /// Whether it is what was written.
    pub is_whole: bool,
}

/// A file of rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectFile {
    /// The run.
    pub run: String,
    /// Its path in the state.
    pub path: String,
}

impl StateReader {
    /// The files of rejects of an export, or of everything, the oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn reject_files(&self, of: Option<&ExportId>) -> Result<Vec<RejectFile>, StateError> {
        let wanted = of.map(|export| format!("{}.", rejects_of(export)));
        let mut found = Vec::new();
        for run in self.store.list("rejects")? {
            let folder = format!("rejects/{run}");
            for name in self.store.list(&folder)? {
                if wanted.as_ref().is_none_or(|wanted| name.starts_with(wanted.as_str())) {
                    found.push(RejectFile { run: run.clone(), path: format!("{folder}/{name}") });
                }
            }
        }
        Ok(found)
    }

    /// The lines of a file of rejects; none if it is gone. Damaged lines are logged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn reject_lines(&self, file: &RejectFile) -> Result<Vec<RejectLine>, StateError> {
        let Some(bytes) = self.store.read(&file.path)? else { return Ok(Vec::new()) };
        let (mut lines, mut found) = (LogLines::of_bytes(&self.store, &file.path, bytes), Vec::new());
        while let Some(quality) = lines.advance()? {
            let is_whole = quality == Quality::Whole;
            if !is_whole {
                lines.note_damage();
            }
            found.push(RejectLine { bytes: lines.line().to_vec(), is_whole });
        }
        lines.log_damage();
        Ok(found)
    }
}

/// The cohort, export or webhook by the name of a file: `exports.<id>`, `inbox.<connection>`, or a cohort's id.
pub(super) fn owner_of(name: &str) -> &str {
    let parts = if name.starts_with("exports.") || name.starts_with("inbox.") { 2 } else { 1 };
    name.match_indices('.').nth(parts - 1).map_or(name, |(at, _)| &name[..at])
}

/// Takes a line, and whether it is what was written. Returns whether it is meant.
pub type IsPicked<'a> = &'a dyn Fn(&str, bool) -> bool;

/// Copies the lines that are not picked. Returns how many are.
fn copy_others(
    mut lines: LogLines,
    is_picked: IsPicked<'_>,
    file: Option<&PendingFile>,
) -> Result<u64, StateError> {
    let failed = |e| match file {
        Some(file) => StoreError::new("write", &file.path(), e).into(),
        None => StateError::Scratch(e),
    };
    let writer = file.map(PendingFile::writer).transpose().map_err(failed)?;
    let (mut out, mut picked) = (writer.map(BufWriter::new), 0);
    while let Some(quality) = lines.advance()? {
        if is_picked(&String::from_utf8_lossy(lines.line()), quality == Quality::Whole) {
            picked += 1;
        } else if let Some(out) = &mut out {
            out.write_all(lines.line()).and_then(|()| out.write_all(b"\n")).map_err(failed)?;
        }
    }
    out.map_or(Ok(()), |mut out| out.flush()).map_err(failed)?;
    Ok(picked)
}

/// A file's path without its suffix, and without what an earlier replacement has added.
fn stem(path: &str) -> &str {
    let stem = path.strip_suffix(".ndjson").unwrap_or(path);
    let is_added = |part: &str| part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    stem.rsplit_once('.').filter(|(_, part)| is_added(part)).map_or(stem, |(stem, _)| stem)
}

/// The path of a file that takes the place of a file of rejects.
fn replacement_of(file: &RejectFile) -> String {
    let random = uuid::Uuid::new_v4().as_u64_pair().0;
    format!("{}.{random:016x}.ndjson", stem(&file.path))
}

impl StateWriter {
    /// Takes all lines out of a file of rejects but these. Before the old file is gone, the new one is there.
    ///
    /// # Errors
    /// When the disk does not take it; then a line may be there twice.
    pub fn keep_rejects(&self, file: &RejectFile, lines: &[RejectLine]) -> Result<(), StateError> {
        self.check_lease()?;
        let store = &self.reader().store;
        if !lines.is_empty() {
            let text = lines.iter().flat_map(|line| [&line.bytes[..], b"\n"]).collect::<Vec<_>>().concat();
            store.create(&replacement_of(file), &text)?;
        }
        Ok(store.remove(&file.path)?)
    }

    /// Erases the lines that are picked from a file of rejects. Returns how many these were. It holds one line in
    /// memory. A file without such lines is not written anew.
    ///
    /// # Errors
    /// When the file cannot be read or written; then a line may be there twice.
    pub fn erase_rejects(&self, file: &RejectFile, is_picked: IsPicked<'_>) -> Result<u64, StateError> {
        let store = &self.reader().store;
        let picked = copy_others(LogLines::open(store, &file.path)?, is_picked, None)?;
        if picked > 0 {
            self.check_lease()?;
            let others = store.pending(&replacement_of(file))?;
            copy_others(LogLines::open(store, &file.path)?, is_picked, Some(&others))?;
            others.commit_new()?;
            store.remove(&file.path)?;
        }
        Ok(picked)
    }

    pub(super) fn remove_rejects_before(
        &self,
        export: &ExportId,
        before: Timestamp,
    ) -> Result<(), StateError> {
        let (store, before) = (&self.reader().store, RunId::new(before, 0));
        let wanted = format!("{}.", rejects_of(export));
        // Runs are in the order of their time: what is younger is not looked into.
        for run in store.list("rejects")?.iter().take_while(|run| run.as_str() < before.as_str()) {
            let folder = format!("rejects/{run}");
            let names = store.list(&folder)?;
            for name in names.iter().filter(|name| name.starts_with(&wanted)) {
                self.check_lease()?;
                store.remove(&format!("{folder}/{name}"))?;
            }
            if names.iter().all(|name| name.starts_with(&wanted)) {
                store.remove_empty(&folder);
            }
        }
        Ok(())
    }
}

impl Reject<'_> {
    /// The reject as a line of JSON.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}
