//! Looking at every file of a state: is each what was written, and does everything that is needed exist?
//!
//! Changes nothing, and stops at nothing: each trouble is a finding, and the next file is looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::log_lines::{LogLines, Quality};
use super::run::{self, Home, RunCursor};
use super::sealed::{SealedFile, checksum};
use super::version::{self, RunRef};
use super::{Contents, OlderPlace, StateError, StateReader, checked};
use super::{exports, identity, segments};
use crate::model::{CohortId, ConnectionName, DoorName, ExportId};

/// How the names of runs of members end.
const MEMBERS: &str = ".parquet";

/// How deep folders of JSON files are.
const FOLDERS_MAX: usize = 2;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
    /// Nothing is lost by it, and `gc` takes it away.
    pub harmless: bool,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Cohorts.
    pub cohorts: u64,
    /// Versions.
    pub versions: u64,
    /// Runs.
    pub runs: u64,
    /// Bytes of the runs.
    pub bytes: u64,
    /// Troubles.
    pub findings: Vec<Finding>,
}

impl Verification {
    /// Whether nothing needed is damaged or missing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.harmless)
    }

    fn find(&mut self, path: String, what: &dyn ToString, harmless: bool) {
        self.findings.push(Finding { path, what: what.to_string(), harmless });
    }
}

/// Looks at the whole state.
pub(super) fn verify(state: &StateReader) -> Result<Verification, StateError> {
    let mut found = Verification::default();
    for id in state.cohorts()? {
        found.cohorts += 1;
        cohort(state, &id, &mut found)?;
    }
    for heap in state.heaps()? {
        segments_of(state, &heap, &mut found)?;
    }
    for id in state.exports()? {
        export(state, &id, &mut found)?;
    }
    identity_map(state, &mut found)?;
    for folder in ["actions", "approvals", "checks", "heads", "pushdown", "unknown", "workspaces"] {
        checked_files(state, folder, FOLDERS_MAX, &mut found)?;
    }
    for path in super::heads::without_copy(&state.store)? {
        found.find(path, &"it is gone or was never written; its copy is used", true);
    }
    if state.exists() && !super::format::has_copy(&state.store)? {
        found.find(
            super::format::COPY.to_owned(),
            &"it is damaged or gone; the next run writes it again",
            true,
        );
    }
    for (folder, depth) in [("journal", 3), ("rejects", 1)] {
        lines(state, folder, depth, &mut found)?;
    }
    lease(state, &mut found)?;
    for OlderPlace { place, found: newest, known } in state.older_places()? {
        let what = format!(
            "it is older than what was committed: version {known} was committed, and the newest one there is {newest}; \
             `syncline state accept {place}` accepts it"
        );
        found.find(place, &what, false);
    }
    Ok(found)
}

/// Looks at every JSON file below a folder.
fn checked_files(
    state: &StateReader,
    folder: &str,
    depth: usize,
    found: &mut Verification,
) -> Result<(), StateError> {
    for file in state.store.files(folder)? {
        let path = format!("{folder}/{}", file.name);
        if !file.name.ends_with(".json") {
            found.find(path, &"it was never finished; a crash left it behind", true);
        } else if let Err(error) = checked::read::<serde_json::Value>(&state.store, &path) {
            // The numbers are there twice. If both files are damaged, that is a finding of its own.
            let is_spare = folder.starts_with("heads");
            found.find(path, &error, is_spare);
        }
    }
    for name in state.store.list(folder)? {
        if depth > 0 && !name.ends_with(".json") {
            checked_files(state, &format!("{folder}/{name}"), depth - 1, found)?;
        }
    }
    Ok(())
}

/// Looks at every line of the NDJSON files below a folder. They are logs, and no run depends on them.
fn lines(
    state: &StateReader,
    folder: &str,
    depth: usize,
    found: &mut Verification,
) -> Result<(), StateError> {
    for file in state.store.files(folder)? {
        let path = format!("{folder}/{}", file.name);
        let mut lines = LogLines::open(&state.store, &path)?;
        let mut is_empty = true;
        while let Some(quality) = lines.advance()? {
            is_empty = false;
            let line = lines.number();
            let what = match quality {
                Quality::Whole => continue,
                Quality::Damaged => format!("line {line} is damaged: its checksum does not match"),
                Quality::Unfinished => format!("line {line} was never finished"),
            };
            // One finding for each file: a file of another run has thousands of such lines.
            found.find(path.clone(), &format!("{what}; no run depends on it"), true);
            break;
        }
        if is_empty {
            found.find(path, &"it is empty", true);
        }
    }
    for name in state.store.list(folder)? {
        if depth > 0 && !name.ends_with(".ndjson") {
            lines(state, &format!("{folder}/{name}"), depth - 1, found)?;
        }
    }
    Ok(())
}

fn lease(state: &StateReader, found: &mut Verification) -> Result<(), StateError> {
    if state.exists() && !super::lease::is_whole(&state.store)? {
        // In a folder the lock itself counts, and the next run writes the text anew.
        found.find("lease.json".to_owned(), &"its text is damaged or gone", true);
    }
    Ok(())
}

/// Versions and runs that belong together.
struct Place<'a> {
    versions: String,
    runs: String,
    /// How the names of files end that are not runs of members.
    suffix: &'a str,
    /// The runs that a version names.
    named: &'a dyn Fn(u64) -> Result<Vec<Named>, StateError>,
}

/// A run that a version names.
struct Named {
    file: SealedFile,
    /// Set when it holds members, which are looked at one by one.
    members: Option<RunRef>,
}

impl From<RunRef> for Named {
    fn from(run: RunRef) -> Self {
        let (id, checksum) = (run.id.clone(), run.checksum);
        Self { file: SealedFile { id, rows: run.rows, bytes: run.bytes, checksum }, members: Some(run) }
    }
}

impl From<SealedFile> for Named {
    fn from(file: SealedFile) -> Self {
        Self { file, members: None }
    }
}

fn all<T: Into<Named>>(runs: Vec<T>) -> Vec<Named> {
    runs.into_iter().map(Into::into).collect()
}

fn cohort(state: &StateReader, id: &CohortId, found: &mut Verification) -> Result<(), StateError> {
    let named = |number| {
        version::read(&state.store, id, number).map(|version| all(version.all_runs().cloned().collect()))
    };
    let (versions, runs) = (version::folder_of(id), run::folder_of(id));
    let place = Place { versions, runs, suffix: MEMBERS, named: &named };
    let is_empty = one(state, &place, found)?;
    if let Err(error @ StateError::Damaged { .. }) = state.version(id)
        && is_empty
    {
        found.find(version::folder_of(id), &error, false);
    }
    Ok(())
}

fn segments_of(
    state: &StateReader,
    heap: &ConnectionName,
    found: &mut Verification,
) -> Result<(), StateError> {
    let named = |number| {
        let (runs, changes) = state.segment_files(heap, number)?;
        Ok(all(runs).into_iter().chain(all(changes)).collect())
    };
    let (versions, runs) = (segments::folder_of(heap), run::folder_of(Home::Segments(heap)));
    one(state, &Place { versions, runs, suffix: segments::SUFFIX, named: &named }, found)?;
    inbox(state, &DoorName::of_heap(heap), found)
}

fn export(state: &StateReader, id: &ExportId, found: &mut Verification) -> Result<(), StateError> {
    let named = |number| {
        let record = state.export_at(id, number)?;
        Ok(record.waiting.into_iter().map(|room| room.file.into()).collect())
    };
    let (versions, runs) = (exports::folder_of(id), exports::waiting_folder_of(id));
    one(state, &Place { versions, runs, suffix: exports::WAITING_SUFFIX, named: &named }, found)?;
    inbox(state, &DoorName::of_export(id), found)
}

fn identity_map(state: &StateReader, found: &mut Verification) -> Result<(), StateError> {
    let named = |number| identity::runs_at(&state.store, number).map(all);
    let (versions, runs) = (identity::VERSIONS.to_owned(), identity::RUNS.to_owned());
    one(state, &Place { versions, runs, suffix: identity::SUFFIX, named: &named }, found).map(drop)
}

fn inbox(state: &StateReader, door: &DoorName, found: &mut Verification) -> Result<(), StateError> {
    for file in state.inbox(door)? {
        let Contents { torn, damaged, .. } = state.deliveries(&file)?;
        if torn > 0 {
            let what =
                format!("its last {torn} bytes are no whole delivery; nobody was told that they are safe");
            found.find(file.path.clone(), &what, true);
        }
        if !damaged.is_empty() {
            let what = "a delivery in it is not what was received; it will be kept as a reject";
            found.find(file.path, &what, false);
        }
    }
    Ok(())
}

/// Looks at one place. Whether its versions name no run at all.
fn one(state: &StateReader, place: &Place<'_>, found: &mut Verification) -> Result<bool, StateError> {
    let named = versions(state, place, found)?;
    let mut present = BTreeSet::new();
    for file in state.store.files(&place.runs)? {
        let id = file.name.strip_suffix(place.suffix).or_else(|| file.name.strip_suffix(MEMBERS));
        match id.filter(|run| named.contains_key(*run)) {
            Some(run) => drop(present.insert(run.to_owned())),
            None => {
                let what = "no version names it; a crash left it behind";
                found.find(format!("{}/{}", place.runs, file.name), &what, true);
            }
        }
    }
    for (run, newest) in named.values() {
        let suffix = if run.members.is_some() { MEMBERS } else { place.suffix };
        let path = format!("{}/{}{suffix}", place.runs, run.file.id);
        if present.contains(&*run.file.id) {
            found.runs += 1;
            found.bytes += run.file.bytes;
            if let Err(error) = whole(state, &path, run) {
                found.find(path, &error, false);
            }
        } else {
            // `gc` takes versions before their runs; a crash in between leaves a version that nobody needs.
            found.find(path, &"it is gone, and a version names it", !newest);
        }
    }
    Ok(named.is_empty())
}

/// The runs that versions name, and whether the newest one does.
fn versions(
    state: &StateReader,
    place: &Place<'_>,
    found: &mut Verification,
) -> Result<BTreeMap<Box<str>, (Named, bool)>, StateError> {
    let (mut named, mut last) = (BTreeMap::new(), None);
    let mut numbers = Vec::new();
    for file in state.store.files(&place.versions)? {
        match version::number_of(&file.name) {
            Some(number) => numbers.push(number),
            None => {
                let path = format!("{}/{}", place.versions, file.name);
                found.find(path, &"it was never finished; a crash left it behind", true);
            }
        }
    }
    numbers.sort_unstable();
    let path_of = |number: u64| format!("{}/{number:012}.json", place.versions);
    for number in &numbers {
        found.versions += 1;
        let newest = numbers.last() == Some(number);
        if last.is_some_and(|last: u64| last + 1 != *number) {
            found.find(path_of(number - 1), &"it is gone, and an older one is there", false);
        }
        last = Some(*number);
        match (place.named)(*number) {
            Ok(runs) => named.extend(runs.into_iter().map(|run| (run.file.id.clone(), (run, newest)))),
            Err(error) => found.find(path_of(*number), &error, false),
        }
    }
    Ok(named)
}

/// Reads a run from end to end: its checksum, and of members their order and each identifier against its key.
fn whole(state: &StateReader, path: &str, run: &Named) -> Result<(), StateError> {
    let blob = state.store.open_blob(path)?;
    let damaged = |what: &str| StateError::Damaged { path: blob.path().to_owned(), what: what.to_owned() };
    if checksum(&blob).map_err(StateError::Scratch)? != run.file.checksum {
        return Err(damaged("its bytes are not those that were written"));
    }
    let Some(run) = &run.members else {
        return if path.ends_with(identity::SUFFIX) { identity::MapRun::check(blob) } else { Ok(()) };
    };
    let mut cursor = RunCursor::open(state.store.open_blob(path)?, run, state.seed())?;
    let mut packed = Vec::new();
    cursor.advance()?;
    while cursor.key().is_some() {
        packed.clear();
        cursor.identifier(&mut packed)?;
        cursor.advance()?;
    }
    Ok(())
}
