//! Rejects: one NDJSON file per run and cohort with every rejected row, identifier or event and its reason.

use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, Write as _};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::log_lines::{self, LineQuality, LogLines};
use super::store::{GrowingFile, PendingFile, Store, StoreError};
use super::{StateError, StateReader, StateWriter};
use crate::model::{CohortId, ExportId, RunId, Timestamp};
use crate::random;

/// One rejected row, identifier or event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reject<'a> {
    /// The reason, as a stable code.
    pub reason: &'a str,
    /// The reason in the words of the system that rejected it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub detail: &'a str,
    /// The source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<&'a str>,
    /// The line in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column, or the kind of identifier.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub column: &'a str,
    /// The rejected value.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub value: &'a str,
    /// The event as Braze sent it, so that it can be replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a str>,
    /// The event or the user properties that Heap rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<&'a str>,
    /// How many rejects this line represents: itself and following ones with the same reason. `None`: only itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// The rejects of one cohort, export or endpoint in one run. The first reject creates the file.
pub struct RejectLog {
    store: Store,
    relative: String,
    file: Option<GrowingFile>,
    /// Lines without checksums. The last one may be incomplete.
    buffer: Vec<u8>,
    /// Whether lines were written since the last sync.
    dirty: bool,
}

const BUFFER_LEN: usize = 64 << 10;

impl RejectLog {
    pub(super) fn new(store: &Store, run: &RunId, of: &str) -> Self {
        let relative = format!("rejects/{run}/{of}.ndjson");
        Self { store: store.clone(), relative, file: None, buffer: Vec::new(), dirty: false }
    }

    /// Appends lines made by [`Reject::line`]. A line may arrive in several pieces.
    ///
    /// # Errors
    /// When the write fails.
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

    /// Flushes everything to disk, so that a version may then record the rejects.
    ///
    /// # Errors
    /// When the write fails.
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

    /// Flushes everything to disk and returns the file's path. `None`: there were no rejects.
    ///
    /// # Errors
    /// When the write fails.
    pub fn finish(mut self) -> Result<Option<PathBuf>, StateError> {
        self.sync()?;
        Ok(self.file.is_some().then(|| self.store.at(&self.relative)))
    }
}

/// The name of an export's rejects within a run. Cohort ids contain no dot.
#[must_use]
pub fn rejects_of(export: &ExportId) -> String {
    format!("exports.{export}")
}

/// A line of a rejects file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectLine {
    /// The line as the file has it.
    pub bytes: Vec<u8>,
    /// Whether its checksum matches.
    pub is_whole: bool,
}

/// A rejects file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectFile {
    /// The run.
    pub run: String,
    /// Its path in the state.
    pub path: String,
}

impl StateReader {
    /// Returns the rejects files of an export, or all of them, the oldest first.
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

    /// Returns the rejects files of cohorts, the newest first.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn cohort_rejects(&self) -> Result<BTreeMap<CohortId, Vec<RejectFile>>, StateError> {
        let mut found: BTreeMap<CohortId, Vec<RejectFile>> = BTreeMap::new();
        for file in self.reject_files(None)?.into_iter().rev() {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            // Exports and endpoints have a name with a dot, which no cohort id has.
            if let Ok(cohort) = CohortId::new(log_lines::owner_of(name)) {
                found.entry(cohort).or_default().push(file);
            }
        }
        Ok(found)
    }

    /// Calls `visit` with each intact line of a rejects file, one at a time. Damaged lines are logged. A file that was
    /// deleted since it was listed has none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn each_reject(&self, file: &RejectFile, visit: &mut dyn FnMut(&[u8])) -> Result<(), StateError> {
        let read = LogLines::open(&self.store, &file.path).and_then(|mut lines| {
            while lines.advance_whole()? {
                visit(lines.line());
            }
            Ok(())
        });
        match read {
            Err(StateError::Store(error)) if error.kind() == ErrorKind::NotFound => Ok(()),
            read => read,
        }
    }

    /// Returns the lines of a rejects file; none if it does not exist. Damaged lines are logged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn reject_lines(&self, file: &RejectFile) -> Result<Vec<RejectLine>, StateError> {
        let Some(bytes) = self.store.read(&file.path)? else { return Ok(Vec::new()) };
        let (mut lines, mut found) = (LogLines::of_bytes(&self.store, &file.path, bytes), Vec::new());
        while let Some(quality) = lines.advance()? {
            let is_whole = quality == LineQuality::Whole;
            if !is_whole {
                lines.note_damage();
            }
            found.push(RejectLine { bytes: lines.line().to_vec(), is_whole });
        }
        lines.log_damage();
        Ok(found)
    }
}

/// Whether a text has the id as a word of its own, plain or as JSON writes it.
#[must_use]
pub fn has_word(text: &str, id: &str) -> bool {
    let escaped = Value::from(id).to_string();
    let escaped = escaped.get(1..escaped.len() - 1).unwrap_or_default();
    let is_part =
        |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || "_-.@".contains(char));
    text.match_indices(escaped).any(|(at, found)| {
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + found.len()..].chars().next())
    })
}

/// Decides whether to pick a line, given its text and whether its checksum matches.
pub type RejectLineFilter<'a> = &'a dyn Fn(&str, bool) -> bool;

/// Copies the lines that are not picked. Returns how many are picked.
fn copy_others(
    mut lines: LogLines,
    is_picked: RejectLineFilter<'_>,
    file: Option<&PendingFile>,
) -> Result<u64, StateError> {
    let failed = |e| match file {
        Some(file) => StoreError::new("write", &file.path(), e).into(),
        None => StateError::TemporaryFile(e),
    };
    let writer = file.map(PendingFile::writer).transpose().map_err(failed)?;
    let (mut out, mut picked) = (writer.map(BufWriter::new), 0);
    while let Some(quality) = lines.advance()? {
        if is_picked(&String::from_utf8_lossy(lines.line()), quality == LineQuality::Whole) {
            picked += 1;
        } else if let Some(out) = &mut out {
            out.write_all(lines.line()).and_then(|()| out.write_all(b"\n")).map_err(failed)?;
        }
    }
    out.map_or(Ok(()), |mut out| out.flush()).map_err(failed)?;
    Ok(picked)
}

/// The path without `.ndjson` and without the random suffix of an earlier replacement.
fn stem(path: &str) -> &str {
    let stem = path.strip_suffix(".ndjson").unwrap_or(path);
    stem.rsplit_once('.').filter(|(_, part)| log_lines::is_random(part)).map_or(stem, |(stem, _)| stem)
}

/// The path of a file that replaces a rejects file.
fn replacement_of(file: &RejectFile) -> String {
    let random = random::unique_number();
    format!("{}.{random:016x}.ndjson", stem(&file.path))
}

impl StateWriter {
    /// Replaces the content of a rejects file by these lines. The new file is written before the old one is removed.
    ///
    /// # Errors
    /// When the write fails. Then a line may exist twice.
    pub fn keep_rejects(&self, file: &RejectFile, lines: &[RejectLine]) -> Result<(), StateError> {
        self.check_lease()?;
        let store = &self.reader().store;
        if !lines.is_empty() {
            let text = lines.iter().flat_map(|line| [&line.bytes[..], b"\n"]).collect::<Vec<_>>().concat();
            store.create(&replacement_of(file), &text)?;
        }
        Ok(store.remove(&file.path)?)
    }

    /// Erases the picked lines from a rejects file. Returns how many there were. A file without such lines is not
    /// rewritten. Memory is bounded by one line.
    ///
    /// # Errors
    /// When the file cannot be read or written. Then a line may exist twice.
    pub fn erase_rejects(
        &self,
        file: &RejectFile,
        is_picked: RejectLineFilter<'_>,
    ) -> Result<u64, StateError> {
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
        // Run ids are sorted by time, so younger folders are not listed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Clock;
    use crate::state::{Holder, Location};

    #[test]
    fn a_file_that_was_deleted_since_it_was_listed_has_no_rejects() {
        let home = tempfile::tempdir().unwrap();
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let holder = Holder { host: String::new(), process: 1, since: clock.now(), renewal: None };
        let location = Location::Folder(home.path().to_owned());
        let state = StateWriter::open(&location, &holder, clock, 7).unwrap();
        let mut log = state.rejects(&RunId::new(clock.now(), 0), "exports");
        log.push(&Reject { reason: "placeholder", value: "null", ..Reject::default() }.line()).unwrap();
        let path = log.finish().unwrap().unwrap();
        let mut files = state.reader().cohort_rejects().unwrap();
        let files = files.remove(&CohortId::new("exports").unwrap()).unwrap();
        let count = || {
            let mut lines = 0;
            state.reader().each_reject(&files[0], &mut |_| lines += 1).map(|()| lines)
        };
        assert_eq!((files.len(), count().unwrap()), (1, 1));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(count().unwrap(), 0);
        std::fs::create_dir(&path).unwrap();
        assert!(count().is_err(), "an unreadable file is not empty");
    }
}
