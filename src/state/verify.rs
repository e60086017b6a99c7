//! Verification of the whole state: checksums, order, and that every referenced file exists.
//!
//! It changes nothing. Each problem is a finding, and verification continues with the next file.

use std::collections::{BTreeMap, BTreeSet};

use super::immutable_file::{ImmutableFile, checksum};
use super::log_lines::{LineQuality, LogLines};
use super::membership;
use super::part::{self, PartCursor, PartFolder, PartRef};
use super::{Contents, OlderEntry, StateError, StateReader, checked};
use super::{exports, heap_segments, identity};
use crate::model::{CohortId, ConnectionName, EndpointName, ExportId};

/// The suffix of parts with members.
const MEMBERS: &str = ".parquet";

/// How deeply folders of JSON files are nested.
const FOLDERS_MAX: usize = 2;

/// A problem that verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyFinding {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
    /// No data is lost, and `gc` removes the file.
    pub harmless: bool,
}

/// Counts of the verified files, and the findings.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Cohorts.
    pub cohorts: u64,
    /// Versions.
    pub versions: u64,
    /// Parts.
    pub parts: u64,
    /// Bytes of the parts.
    pub bytes: u64,
    /// Problems.
    pub findings: Vec<VerifyFinding>,
}

impl Verification {
    /// Whether no needed file is damaged or missing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.harmless)
    }

    fn find(&mut self, path: String, problem: &dyn ToString, harmless: bool) {
        self.findings.push(VerifyFinding { path, problem: problem.to_string(), harmless });
    }
}

/// Verifies the whole state.
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
    for folder in ["approvals", "checks", "heads", "mirror_tables", "triggers", "unknown_users", "workspaces"]
    {
        checked_files(state, folder, FOLDERS_MAX, &mut found)?;
    }
    for path in super::heads::without_copy(&state.store)? {
        found.find(path, &"it is missing; its copy is used", true);
    }
    if state.exists() && !super::format::has_copy(&state.store)? {
        found.find(
            super::format::COPY.to_owned(),
            &"it is damaged or missing; the next run writes it again",
            true,
        );
    }
    for (folder, depth) in [("journal", 3), ("rejects", 1)] {
        lines(state, folder, depth, &mut found)?;
    }
    lease(state, &mut found)?;
    for OlderEntry { entry, found: newest, committed } in state.older_entries()? {
        let problem = format!(
            "older than the last commit: version {committed} was committed, the newest that exists is {newest}; \
             `syncline state accept {entry}` accepts it"
        );
        found.find(entry, &problem, false);
    }
    Ok(found)
}

/// Verifies every JSON file below a folder.
fn checked_files(
    state: &StateReader,
    folder: &str,
    depth: usize,
    found: &mut Verification,
) -> Result<(), StateError> {
    for file in state.store.files(folder)? {
        let path = format!("{folder}/{}", file.name);
        if !file.name.ends_with(".json") {
            found.find(path, &"incomplete file of a crash", true);
        } else if let Err(error) = checked::read::<serde_json::Value>(&state.store, &path) {
            // Each of these files has a copy. If both are damaged, that is another finding.
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

/// Verifies every line of the NDJSON files below a folder. They are logs: no part depends on them.
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
            let problem = match quality {
                LineQuality::Whole => continue,
                LineQuality::Damaged => format!("line {line} is damaged: its checksum does not match"),
                LineQuality::Unfinished => format!("line {line} is incomplete"),
            };
            // One finding per file is enough: a file of another run has thousands of such lines.
            found.find(path.clone(), &format!("{problem}; no run depends on it"), true);
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
        // In a folder the file lock is authoritative, and the next run rewrites the text.
        found.find("lease.json".to_owned(), &"it is damaged or missing", true);
    }
    Ok(())
}

/// The folders of one entry: its versions and its parts.
struct VerifiedFolder<'a> {
    versions: String,
    parts: String,
    /// The suffix of parts that do not hold members.
    suffix: &'a str,
    /// Returns the parts that a version names.
    named: &'a dyn Fn(u64) -> Result<Vec<NamedPart>, StateError>,
}

/// A part that a version names.
struct NamedPart {
    file: ImmutableFile,
    /// Set for parts with members, which are verified one by one.
    members: Option<PartRef>,
}

impl From<PartRef> for NamedPart {
    fn from(part: PartRef) -> Self {
        let (id, checksum) = (part.id.clone(), part.checksum);
        Self { file: ImmutableFile { id, rows: part.rows, bytes: part.bytes, checksum }, members: Some(part) }
    }
}

impl From<ImmutableFile> for NamedPart {
    fn from(file: ImmutableFile) -> Self {
        Self { file, members: None }
    }
}

fn all<T: Into<NamedPart>>(parts: Vec<T>) -> Vec<NamedPart> {
    parts.into_iter().map(Into::into).collect()
}

fn cohort(state: &StateReader, id: &CohortId, found: &mut Verification) -> Result<(), StateError> {
    let named = |number| {
        membership::read(&state.store, id, number).map(|version| all(version.all_parts().cloned().collect()))
    };
    let (versions, parts) = (membership::folder_of(id), part::folder_of(id));
    let folder = VerifiedFolder { versions, parts, suffix: MEMBERS, named: &named };
    let is_empty = verify_entry(state, &folder, found)?;
    if let Err(error @ StateError::Damaged { .. }) = state.version(id)
        && is_empty
    {
        found.find(membership::folder_of(id), &error, false);
    }
    Ok(())
}

fn segments_of(
    state: &StateReader,
    heap: &ConnectionName,
    found: &mut Verification,
) -> Result<(), StateError> {
    let named = |number| {
        let (parts, changes) = state.segment_files(heap, number)?;
        Ok(all(parts).into_iter().chain(all(changes)).collect())
    };
    let (versions, parts) = (heap_segments::folder_of(heap), part::folder_of(PartFolder::Segments(heap)));
    verify_entry(
        state,
        &VerifiedFolder { versions, parts, suffix: heap_segments::SUFFIX, named: &named },
        found,
    )?;
    inbox(state, &EndpointName::of_heap(heap), found)
}

fn export(state: &StateReader, id: &ExportId, found: &mut Verification) -> Result<(), StateError> {
    let named = |number| {
        let record = state.export_at(id, number)?;
        Ok(record.held.into_iter().map(|held| held.file.into()).collect())
    };
    let (versions, parts) = (exports::folder_of(id), exports::held_folder_of(id));
    verify_entry(
        state,
        &VerifiedFolder { versions, parts, suffix: exports::HELD_SUFFIX, named: &named },
        found,
    )?;
    inbox(state, &EndpointName::of_export(id), found)
}

fn identity_map(state: &StateReader, found: &mut Verification) -> Result<(), StateError> {
    let named = |number| identity::parts_at(&state.store, number).map(all);
    let (versions, parts) = (identity::VERSIONS.to_owned(), identity::PARTS.to_owned());
    verify_entry(state, &VerifiedFolder { versions, parts, suffix: identity::SUFFIX, named: &named }, found)
        .map(drop)
}

fn inbox(state: &StateReader, endpoint: &EndpointName, found: &mut Verification) -> Result<(), StateError> {
    for file in state.inbox(endpoint)? {
        let Contents { torn, damaged, .. } = state.deliveries(&file)?;
        if torn > 0 {
            let problem = format!("its last {torn} bytes are a partial delivery that was never acknowledged");
            found.find(file.path.clone(), &problem, true);
        }
        if !damaged.is_empty() {
            let problem = "a delivery in it is damaged; the next run keeps it as a reject";
            found.find(file.path, &problem, false);
        }
    }
    Ok(())
}

/// Verifies one entry. Returns whether its versions name no parts.
fn verify_entry(
    state: &StateReader,
    folder: &VerifiedFolder<'_>,
    found: &mut Verification,
) -> Result<bool, StateError> {
    let named = versions(state, folder, found)?;
    let mut present = BTreeSet::new();
    for file in state.store.files(&folder.parts)? {
        let id = file.name.strip_suffix(folder.suffix).or_else(|| file.name.strip_suffix(MEMBERS));
        match id.filter(|part| named.contains_key(*part)) {
            Some(part) => drop(present.insert(part.to_owned())),
            None => {
                let problem = "no version names it; a crash left it";
                found.find(format!("{}/{}", folder.parts, file.name), &problem, true);
            }
        }
    }
    for (part, newest) in named.values() {
        let suffix = if part.members.is_some() { MEMBERS } else { folder.suffix };
        let path = format!("{}/{}{suffix}", folder.parts, part.file.id);
        if present.contains(&*part.file.id) {
            found.parts += 1;
            found.bytes += part.file.bytes;
            if let Err(error) = whole(state, &path, part) {
                found.find(path, &error, false);
            }
        } else {
            // `gc` removes versions before their parts, so a crash may leave an unneeded version without them.
            found.find(path, &"it is missing, and a version names it", !newest);
        }
    }
    Ok(named.is_empty())
}

/// Returns the parts that versions name, each with whether the newest version names it.
fn versions(
    state: &StateReader,
    folder: &VerifiedFolder<'_>,
    found: &mut Verification,
) -> Result<BTreeMap<Box<str>, (NamedPart, bool)>, StateError> {
    let (mut named, mut last) = (BTreeMap::new(), None);
    let mut numbers = Vec::new();
    for file in state.store.files(&folder.versions)? {
        match membership::number_of(&file.name) {
            Some(number) => numbers.push(number),
            None => {
                let path = format!("{}/{}", folder.versions, file.name);
                found.find(path, &"incomplete file of a crash", true);
            }
        }
    }
    numbers.sort_unstable();
    let path_of = |number: u64| format!("{}/{number:012}.json", folder.versions);
    for number in &numbers {
        found.versions += 1;
        let newest = numbers.last() == Some(number);
        if last.is_some_and(|last: u64| last + 1 != *number) {
            found.find(path_of(number - 1), &"it is missing, and an older version exists", false);
        }
        last = Some(*number);
        match (folder.named)(*number) {
            Ok(parts) => named.extend(parts.into_iter().map(|part| (part.file.id.clone(), (part, newest)))),
            Err(error) => found.find(path_of(*number), &error, false),
        }
    }
    Ok(named)
}

/// Reads a whole part: its checksum, and for members the order and each identifier's key.
fn whole(state: &StateReader, path: &str, part: &NamedPart) -> Result<(), StateError> {
    let blob = state.store.open_blob(path)?;
    let damaged =
        |problem: &str| StateError::Damaged { path: blob.path().to_owned(), problem: problem.to_owned() };
    if checksum(&blob).map_err(StateError::TemporaryFile)? != part.file.checksum {
        return Err(damaged("its checksum does not match"));
    }
    let Some(part) = &part.members else {
        return if path.ends_with(identity::SUFFIX) { identity::MapPart::check(blob) } else { Ok(()) };
    };
    PartCursor::open(state.store.open_blob(path)?, part, state.seed())?.read_to_end()
}
