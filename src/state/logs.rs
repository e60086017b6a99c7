//! Retention, merging and size limits of the journal and of rejects.
//!
//! Each run writes one journal file, and one rejects file per cohort with rejects. After `FILES_MAX` runs the journal
//! files of a day are merged. Of each cohort the rejects of the newest [`KEPT_MAX`] runs are kept. Rejects of exports and
//! webhooks cannot be read from a source again, so they are merged and not dropped.
//!
//! # Guarantees
//! A merged file is on disk before its inputs are removed. A crash in between leaves both: journal readers show such a
//! run once, and a reject may exist twice. Files of runs that have not ended are not changed. A journal is removed only
//! after `heads` has its commits on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::time::Duration;

use super::gc::Garbage;
use super::journal::{RunFiles, each_day, folder_of, units};
use super::log_lines::{self, LineQuality, LogLines, owner_of};
use super::store::{Store, StoredFile, TEMPORARY};
use super::{StateError, StateReader, StateWriter, rejects_of};
use crate::model::{ExportId, RunId, Timestamp};
use crate::random;

/// How many files of one kind may exist before they are merged, and how many runs pass between two checks.
const FILES_MAX: usize = 64;
/// How many small merged files of a day may exist before they are merged again.
const MERGED_MAX: usize = 16;
/// A merged file of this length is not merged again.
const MERGED_LEN: usize = 8 << 20;
/// Size limit of the journal in bytes. The oldest runs beyond it are removed before their retention ends.
const JOURNAL_LEN_MAX: u64 = 64 << 20;
/// For how many newest runs of a cohort rejects are kept.
const KEPT_MAX: usize = 32;

/// How long journal and rejects are kept.
#[derive(Clone, Debug)]
pub struct LogRetention {
    /// The journal, and rejects of cohorts and webhooks.
    pub logs: Duration,
    /// Rejects of exports with a retention of their own.
    pub exports: BTreeMap<ExportId, Duration>,
}

/// When journal and rejects were last merged and pruned by this process.
#[derive(Debug, Default)]
pub(super) struct TidyTimes {
    /// Runs since then. `None`: never.
    runs: Option<usize>,
    /// The folder of the journal's day at that time.
    day: String,
    /// How many folders of rejects were left.
    rejects: usize,
}

/// The smallest id of a run within the retention.
fn cutoff(now: Timestamp, age: Duration) -> RunId {
    RunId::new(now.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH), 0)
}

impl StateReader {
    /// Finds journal and rejects files beyond their retention, and journals beyond the size limit.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn old_logs(&self, retention: &LogRetention, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
        let mut old = self.old_journals(retention, now)?;
        for file in self.journals_beyond(JOURNAL_LEN_MAX)? {
            if !old.iter().any(|other| other.path == file.path) {
                old.push(file);
            }
        }
        let names = RejectNames::read(&self.store)?;
        old.extend(names.old(retention, now));
        Ok(old)
    }

    fn old_journals(&self, retention: &LogRetention, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
        let before = cutoff(now, retention.logs);
        let last_day = folder_of(now.checked_sub(retention.logs).unwrap_or(Timestamp::UNIX_EPOCH));
        let (store, open, mut old) = (&self.store, self.heads.open(), Vec::new());
        each_day(store, false, &mut |day| {
            if day > last_day.as_str() {
                return Ok(ControlFlow::Break(()));
            }
            let files = store.files(day)?;
            let is_left = |file: &&StoredFile| file.name.starts_with(TEMPORARY) && day < last_day.as_str();
            old.extend(files.iter().filter(is_left).map(|file| {
                let path = format!("{day}/{}", file.name);
                Garbage { path, bytes: file.bytes, why: "temporary file of a crash" }
            }));
            for unit in units(day, files.iter().map(|file| file.name.as_str())) {
                if unit.last.as_str() < before.as_str() && !is_open(&open, &unit) {
                    old.extend(garbage_of(&unit, day, &files, OLD));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(old)
    }
}

impl StateReader {
    /// Finds the oldest journals beyond a total size.
    fn journals_beyond(&self, max: u64) -> Result<Vec<Garbage>, StateError> {
        let (store, open, mut beyond, mut total) = (&self.store, self.heads.open(), Vec::new(), 0_u64);
        each_day(store, true, &mut |day| {
            let files = store.files(day)?;
            for unit in units(day, files.iter().map(|file| file.name.as_str())) {
                let garbage = garbage_of(&unit, day, &files, BEYOND);
                total = total.saturating_add(garbage.iter().map(|file| file.bytes).sum());
                if total > max && !is_open(&open, &unit) {
                    beyond.extend(garbage);
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(beyond)
    }
}
fn is_open(open: &BTreeSet<RunId>, unit: &RunFiles) -> bool {
    open.iter().any(|run| run.as_str() == unit.last)
}

const OLD: &str = "older than `retention`";
const BEYOND: &str = "the journal is larger than 64 MiB";

fn garbage_of(unit: &RunFiles, day: &str, files: &[StoredFile], why: &'static str) -> Vec<Garbage> {
    let bytes = |path: &String| {
        let is_it = |file: &&StoredFile| path.strip_prefix(day).is_some_and(|name| name[1..] == file.name);
        files.iter().find(is_it).map_or(0, |file| file.bytes)
    };
    let item = |path: &String| Garbage { path: path.clone(), bytes: bytes(path), why };
    unit.paths.iter().map(item).collect()
}

impl StateWriter {
    /// Merges and prunes journal and rejects when due: at the first run of a process or of a day, and then once in
    /// `FILES_MAX` runs.
    ///
    /// # Errors
    /// When the state cannot be read or written. Then the next run tries again.
    pub fn tidy_logs(&self, retention: &LogRetention, now: Timestamp) -> Result<(), StateError> {
        let Ok(mut tidied) = self.logs.try_lock() else { return Ok(()) };
        let today = folder_of(now);
        let is_new_day = tidied.day != today;
        if let Some(runs) = tidied.runs.as_mut().filter(|runs| **runs + 1 < FILES_MAX && !is_new_day) {
            *runs += 1;
            return Ok(());
        }
        self.lease.check()?;
        // The commits in the journal must be in `heads` before journal files are removed.
        self.note_heads();
        if !self.reader.heads.is_written() {
            return Ok(());
        }
        let is_first_of_day = is_new_day && (tidied.runs.is_some() || self.is_first_run_of(&today)?);
        let has_merged = self.merge_journal(&today, false)?;
        if is_first_of_day {
            self.end_day(&today)?;
            self.remove_logs(&self.reader.old_journals(retention, now)?)?;
        }
        if is_first_of_day || has_merged {
            self.remove_logs(&self.reader.journals_beyond(JOURNAL_LEN_MAX)?)?;
        }
        let folders = self.reader.store.list("rejects")?.len();
        let are_many = match tidied.runs {
            // A process with a single run cannot count runs, so it checks at multiples of FILES_MAX.
            None => folders > 0 && folders % FILES_MAX == 0,
            Some(_) => folders >= tidied.rejects + FILES_MAX,
        };
        tidied.rejects = match (is_first_of_day || are_many, tidied.runs) {
            (true, _) => self.tidy_rejects(retention, now)?,
            (false, None) => folders,
            (false, Some(_)) => tidied.rejects,
        };
        (tidied.runs, tidied.day) = (Some(0), today);
        Ok(())
    }

    /// Merges and prunes journal and rejects immediately.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn tidy_logs_now(&self, retention: &LogRetention, now: Timestamp) -> Result<(), StateError> {
        *self.logs.lock().unwrap_or_else(PoisonError::into_inner) = TidyTimes::default();
        self.tidy_logs(retention, now)?;
        self.tidy_rejects(retention, now).map(drop)
    }

    /// Whether no earlier run of the day has a journal.
    fn is_first_run_of(&self, day: &str) -> Result<bool, StateError> {
        let (names, open) = (self.reader.store.list(day)?, self.reader.heads.open());
        Ok(units(day, names.iter().map(String::as_str)).iter().all(|unit| is_open(&open, unit)))
    }

    /// Merges the remaining journals of the newest day before today.
    fn end_day(&self, today: &str) -> Result<(), StateError> {
        let mut before = None;
        each_day(&self.reader.store, true, &mut |day| {
            if day >= today {
                return Ok(ControlFlow::Continue(()));
            }
            before = Some(day.to_owned());
            Ok(ControlFlow::Break(()))
        })?;
        before.map_or(Ok(()), |day| self.merge_journal(&day, true).map(drop))
    }

    /// Merges the journals of a day: all if the day is over, otherwise once there are many. Returns whether it did.
    fn merge_journal(&self, day: &str, is_over: bool) -> Result<bool, StateError> {
        let (store, open) = (&self.reader.store, self.reader.heads.open());
        let files = store.files(day)?;
        let bytes = |unit: &RunFiles| -> u64 {
            garbage_of(unit, day, &files, OLD).iter().map(|file| file.bytes).sum()
        };
        let mut inputs = units(day, files.iter().map(|file| file.name.as_str()));
        inputs.retain(|unit| match unit.is_merged {
            true => bytes(unit) < MERGED_LEN as u64,
            false => !is_open(&open, unit),
        });
        let merged = inputs.iter().filter(|unit| unit.is_merged).count();
        if !is_over && inputs.len() - merged < FILES_MAX {
            return Ok(false);
        }
        if !is_over && merged < MERGED_MAX {
            inputs.retain(|unit| !unit.is_merged);
        }
        inputs.sort_by(|a, b| a.first.cmp(&b.first));
        let mut output = MergedJournal::default();
        for unit in inputs {
            output.add(store, unit)?;
            if output.bytes.len() >= MERGED_LEN {
                std::mem::take(&mut output).finish(self, day)?;
            }
        }
        output.finish(self, day).map(|()| true)
    }

    fn remove_logs(&self, old: &[Garbage]) -> Result<(), StateError> {
        self.remove(old)?;
        let folders: BTreeSet<&str> =
            old.iter().filter_map(|file| Some(file.path.rsplit_once('/')?.0)).collect();
        for folder in folders {
            // A folder that is not empty is kept.
            let above = folder.match_indices('/').map(|(at, _)| &folder[..at]).skip(1);
            let above: Vec<&str> = above.chain([folder]).collect();
            above.into_iter().rev().for_each(|folder| self.reader.store.remove_empty(folder));
        }
        Ok(())
    }

    /// Merges and prunes rejects. Returns how many folders are left.
    fn tidy_rejects(&self, retention: &LogRetention, now: Timestamp) -> Result<usize, StateError> {
        let mut names = RejectNames::read(&self.reader.store)?;
        self.remove_logs(&names.old(retention, now))?;
        names.forget_old(retention, now);
        let open = self.reader.heads.open();
        for (of, runs) in &names.by_owner {
            let beyond = runs.len().saturating_sub(KEPT_MAX);
            let old: Vec<&RejectFiles> = runs
                .iter()
                .take(beyond)
                .filter(|run| open.iter().all(|open| open.as_str() != run.run))
                .collect();
            if !of.contains('.') {
                let files: Vec<Garbage> =
                    old.iter().flat_map(|run| run.garbage("newer runs have rejects")).collect();
                self.remove_logs(&files)?;
            } else if runs.len() > FILES_MAX {
                self.merge_rejects(of, &old)?;
            }
        }
        Ok(self.reader.store.list("rejects")?.len())
    }

    /// Merges the rejects of runs of the same day into the folder of the newest run.
    fn merge_rejects(&self, of: &str, runs: &[&RejectFiles]) -> Result<(), StateError> {
        for day in runs.chunk_by(|a, b| a.run.get(..8) == b.run.get(..8)) {
            let (mut bytes, mut chunk) = (0, Vec::new());
            for (at, run) in day.iter().enumerate() {
                let len: u64 = run.files.iter().map(|(_, bytes)| bytes).sum();
                if len < MERGED_LEN as u64 {
                    bytes += len;
                    chunk.push(*run);
                }
                if bytes >= MERGED_LEN as u64 || at + 1 == day.len() {
                    bytes = 0;
                    self.replace_rejects(of, &std::mem::take(&mut chunk))?;
                }
            }
        }
        Ok(())
    }

    fn replace_rejects(&self, of: &str, inputs: &[&RejectFiles]) -> Result<(), StateError> {
        let Some(newest) = inputs.last().filter(|_| inputs.len() > 1) else { return Ok(()) };
        self.lease.check()?;
        let random = random::unique_number();
        let path = format!("rejects/{}/{of}.{random:016x}.ndjson", newest.run);
        let (subject, mut bytes) = (log_lines::subject_of(&path), Vec::new());
        for (input, _) in inputs.iter().flat_map(|run| &run.files) {
            let mut lines = LogLines::open(&self.reader.store, input)?;
            while let Some(quality) = lines.advance()? {
                match (quality, lines.text()) {
                    (LineQuality::Whole, Some(text)) => log_lines::seal(&subject, text, &mut bytes),
                    // A damaged line is copied as it is, because no other copy exists.
                    _ => bytes.extend(lines.line().iter().chain(b"\n")),
                }
            }
        }
        self.reader.store.create(&path, &bytes)?;
        let files: Vec<Garbage> = inputs.iter().flat_map(|run| run.garbage("merged")).collect();
        self.remove_logs(&files)
    }
}

/// Builds a merged journal file.
#[derive(Default)]
struct MergedJournal {
    /// Its lines without their checksums and closing braces.
    bytes: Vec<u8>,
    inputs: Vec<RunFiles>,
    runs: BTreeSet<String>,
}

impl MergedJournal {
    fn add(&mut self, store: &Store, unit: RunFiles) -> Result<(), StateError> {
        // A crash left this single file beside the merged one with the same run.
        let is_left = !unit.is_merged && self.runs.contains(&unit.first);
        for path in unit.paths.iter().filter(|_| !is_left) {
            let mut lines = LogLines::of_bytes(store, path, store.read(path)?.unwrap_or_default());
            while lines.advance_whole()? {
                let text = lines.text().unwrap_or_default();
                if !unit.is_merged {
                    self.bytes.extend(format!("{{\"run\":\"{}\",", unit.first).as_bytes());
                }
                self.bytes.extend(text.get(usize::from(!unit.is_merged)..).unwrap_or_default());
                self.bytes.push(b'\n');
            }
        }
        self.runs.insert(unit.first.clone());
        self.inputs.push(unit);
        Ok(())
    }

    fn finish(self, state: &StateWriter, day: &str) -> Result<(), StateError> {
        let first = self.inputs.iter().map(|unit| &unit.first).min();
        let last = self.inputs.iter().map(|unit| &unit.last).max();
        let (Some(first), Some(last), true) = (first, last, self.inputs.len() > 1) else { return Ok(()) };
        state.lease.check()?;
        let random = random::unique_number();
        let (subject, mut sealed) = (format!("{first}_{last}"), Vec::new());
        for line in self.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            log_lines::seal(&subject, line, &mut sealed);
        }
        state.reader.store.create(&format!("{day}/{subject}.{random:016x}.ndjson"), &sealed)?;
        for path in self.inputs.iter().flat_map(|unit| &unit.paths) {
            state.lease.check()?;
            state.reader.store.remove(path)?;
        }
        Ok(())
    }
}

/// The rejects files of one cohort, export or webhook in one run.
struct RejectFiles {
    run: String,
    /// Their paths and lengths.
    files: Vec<(String, u64)>,
}

impl RejectFiles {
    fn garbage(&self, why: &'static str) -> impl Iterator<Item = Garbage> {
        self.files.iter().map(move |(path, bytes)| Garbage { path: path.clone(), bytes: *bytes, why })
    }
}

/// All rejects files by cohort, export or webhook, the oldest first.
struct RejectNames {
    by_owner: BTreeMap<String, Vec<RejectFiles>>,
}

impl RejectNames {
    fn read(store: &Store) -> Result<Self, StateError> {
        let mut by_owner: BTreeMap<String, Vec<RejectFiles>> = BTreeMap::new();
        for run in store.list("rejects")? {
            let mut files: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
            for file in store.files(&format!("rejects/{run}"))? {
                let owner = owner_of(&file.name).to_owned();
                files.entry(owner).or_default().push((format!("rejects/{run}/{}", file.name), file.bytes));
            }
            for (owner, files) in files {
                by_owner.entry(owner).or_default().push(RejectFiles { run: run.clone(), files });
            }
        }
        Ok(Self { by_owner })
    }

    fn old(&self, retention: &LogRetention, now: Timestamp) -> Vec<Garbage> {
        let of_owner = |(owner, runs): (&String, &Vec<RejectFiles>)| {
            let before = before(owner, retention, now);
            let old = runs.iter().take_while(|run| run.run.as_str() < before.as_str());
            old.flat_map(|run| run.garbage(OLD)).collect::<Vec<_>>()
        };
        self.by_owner.iter().flat_map(of_owner).collect()
    }

    fn forget_old(&mut self, retention: &LogRetention, now: Timestamp) {
        for (owner, runs) in &mut self.by_owner {
            let before = before(owner, retention, now);
            runs.retain(|run| run.run.as_str() >= before.as_str());
        }
    }
}

fn before(owner: &str, retention: &LogRetention, now: Timestamp) -> RunId {
    let own = retention.exports.iter().find(|(export, _)| rejects_of(export) == owner);
    cutoff(now, own.map_or(retention.logs, |(_, age)| *age))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::{Holder, JournalEntry, JournalEvent, Location};
    use super::*;
    use crate::model::{Clock, timestamp_text};

    fn retention() -> LogRetention {
        LogRetention { logs: Duration::from_secs(30 * 24 * 60 * 60), exports: BTreeMap::new() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn state(home: &tempfile::TempDir) -> StateWriter {
        let holder = Holder { host: String::new(), process: 1, since: at(0), renewal: None };
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        StateWriter::open(&Location::Folder(home.path().to_owned()), &holder, clock, 7).unwrap()
    }

    /// Writes the log files of a run, without syncs because there are many runs.
    fn run(state: &StateWriter, home: &std::path::Path, second: i64) {
        let run = RunId::new(at(second), 7);
        let ended = JournalEvent::Ended { result: "in_sync".to_owned(), requests: second.unsigned_abs() };
        let entry = JournalEntry { at: timestamp_text(at(second)), event: ended };
        let object = serde_json::to_vec(&entry).unwrap();
        for (folder, name) in [
            (home.join(folder_of(at(second))), format!("{run}.ndjson")),
            (home.join(format!("rejects/{run}")), "carts.ndjson".to_owned()),
        ] {
            let mut line = Vec::new();
            log_lines::seal(run.as_str(), &object, &mut line);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::File::create(folder.join(name)).unwrap().write_all(&line).unwrap();
        }
        state.tidy_logs(&retention(), at(second)).unwrap();
    }

    fn files_below(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
    }

    #[test]
    fn the_number_of_files_is_bounded_while_one_process_runs_for_days() {
        let home = tempfile::tempdir().unwrap();
        let state = state(&home);
        // Three days, with one run that does not end.
        let open = state.journal(&RunId::new(at(-1), 7), at(-1)).unwrap();
        let seconds: Vec<i64> = (0..1300).map(|n| n * 200).collect();
        let (mut journals, mut rejects) = (0, 0);
        for second in &seconds {
            run(&state, home.path(), *second);
            journals = files_below(&home.path().join("journal")).max(journals);
            rejects = files_below(&home.path().join("rejects")).max(rejects);
        }
        assert!(journals <= 2 * FILES_MAX + MERGED_MAX + 8, "{journals}");
        assert!(rejects <= KEPT_MAX + 2 * FILES_MAX, "{rejects}");
        let runs = state.reader().runs(5000).unwrap();
        let requests = runs.iter().filter_map(|run| match run.entries.as_slice() {
            [entry] => Some(&entry.event),
            _ => None,
        });
        let requests: Vec<i64> = requests
            .map(|event| match event {
                JournalEvent::Ended { requests, .. } => i64::try_from(*requests).unwrap(),
                _ => -1,
            })
            .collect();
        assert!(requests.iter().rev().eq(&seconds), "each run once, the newest first");
        assert_eq!(runs.len(), seconds.len() + 1, "the open run has its own file");
        open.append(at(0), JournalEvent::Ended { result: "applied".to_owned(), requests: 1 }).unwrap();
        assert_eq!(state.reader().runs(5000).unwrap().last().unwrap().entries.len(), 1);
    }

    #[test]
    fn the_oldest_runs_are_removed_when_the_journal_is_too_large() {
        let home = tempfile::tempdir().unwrap();
        let state = state(&home);
        let open = state.journal(&RunId::new(at(-1), 7), at(-1)).unwrap();
        open.append(at(-1), JournalEvent::Ended { result: "in_sync".to_owned(), requests: 0 }).unwrap();
        // Two days within the retention.
        (0..20).for_each(|n| run(&state, home.path(), n * 9000));
        let path = home.path().join("journal");
        let bytes = |second| {
            let run = RunId::new(at(second), 7);
            let file = home.path().join(format!("{}/{run}.ndjson", folder_of(at(second))));
            std::fs::metadata(file).map_or(0, |file| file.len())
        };
        let kept = bytes(19 * 9000) + bytes(18 * 9000) + bytes(17 * 9000);
        assert!(kept > 0);
        let all = files_below(&path);
        let beyond = state.reader().journals_beyond(kept + 1).unwrap();
        state.remove_logs(&beyond).unwrap();
        assert_eq!((files_below(&path), all - beyond.len()), (4, 4), "the newest, and the open run");
        let runs = state.reader().runs(100).unwrap();
        let newest: Vec<String> = (17..20).rev().map(|n| RunId::new(at(n * 9000), 7).to_string()).collect();
        let shown: Vec<&String> = runs.iter().take(3).map(|run| &run.run).collect();
        assert_eq!((shown, runs.len()), (newest.iter().collect(), 4));
        assert!(beyond.iter().all(|file| file.why == BEYOND));
    }

    #[test]
    fn the_owner_of_rejects_is_read_from_the_file_name() {
        let names =
            ["carts.ndjson", "carts.2.ndjson", "exports.e.0123456789abcdef.ndjson", "inbox.heap.ndjson"];
        assert_eq!(names.map(owner_of), ["carts", "carts", "exports.e", "inbox.heap"]);
        let of_cohorts = ["exports.ndjson", "inbox.ndjson", "exports.0123456789abcdef.ndjson"];
        assert_eq!(of_cohorts.map(owner_of), ["exports", "inbox", "exports"]);
    }
}
