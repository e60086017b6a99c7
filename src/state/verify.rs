//! Verification of the whole state: checksums, order, and that every referenced file exists.
//!
//! It changes nothing. Each problem is a finding, and verification continues with the next file.

use std::collections::{BTreeMap, BTreeSet};

use super::entry_files::{EntryFiles, NamedPart};
use super::immutable_file::checksum;
use super::log_lines::{LineQuality, LogLines};
use super::part::PartCursor;
use super::store::Store;
use super::versioned_json::VersionFiles;
use super::{DeliveryContents, OlderEntry, StateError, StateReader, checked, identity};
use crate::model::{CohortId, EndpointName};

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
        verify_entry(state, &EntryFiles::of_segments(state, &heap), &mut found)?;
        inbox(state, &EndpointName::of_heap(&heap), &mut found)?;
    }
    for id in state.exports()? {
        verify_entry(state, &EntryFiles::of_export(state, &id), &mut found)?;
        inbox(state, &EndpointName::of_export(&id), &mut found)?;
    }
    verify_entry(state, &EntryFiles::of_identity(state), &mut found)?;
    for folder in [
        "approvals",
        "checks",
        "heads",
        "mirror_tables",
        "outcomes",
        "triggers",
        "unknown_users",
        "workspaces",
    ] {
        each_file(&state.store, folder, FOLDERS_MAX, ".json", &mut |path| {
            checked_file(state, path, &mut found);
            Ok(())
        })?;
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
        each_file(&state.store, folder, depth, ".ndjson", &mut |path| lines(state, path, &mut found))?;
    }
    lease(state, &mut found)?;
    for OlderEntry { entry, found: newest, committed } in state.older_entries()? {
        let problem = format!(
            "older than the last commit: version {committed} was committed, the newest that exists is {newest}; \
             `state accept {entry}` accepts it"
        );
        found.find(entry, &problem, false);
    }
    Ok(found)
}

/// Calls `visit` with the path of every file below a folder. A name that ends with `suffix` is no folder.
fn each_file(
    store: &Store,
    folder: &str,
    depth: usize,
    suffix: &str,
    visit: &mut dyn FnMut(String) -> Result<(), StateError>,
) -> Result<(), StateError> {
    for file in store.files(folder)? {
        visit(format!("{folder}/{}", file.name))?;
    }
    for name in store.list(folder)? {
        if depth > 0 && !name.ends_with(suffix) {
            each_file(store, &format!("{folder}/{name}"), depth - 1, suffix, visit)?;
        }
    }
    Ok(())
}

/// Verifies a JSON file.
fn checked_file(state: &StateReader, path: String, found: &mut Verification) {
    if !path.ends_with(".json") {
        found.find(path, &"incomplete file of a crash", true);
    } else if let Err(error) = checked::read::<serde_json::Value>(&state.store, &path) {
        // Each of these files has a copy. If both are damaged, that is another finding.
        // No plan depends on outcomes.
        let is_spare = path.starts_with("heads") || path.starts_with("outcomes");
        found.find(path, &error, is_spare);
    }
}

/// Verifies every line of an NDJSON file. No part depends on such a log.
fn lines(state: &StateReader, path: String, found: &mut Verification) -> Result<(), StateError> {
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
    Ok(())
}

fn lease(state: &StateReader, found: &mut Verification) -> Result<(), StateError> {
    if state.exists() && !super::lease::is_whole(&state.store)? {
        // In a folder the file lock is authoritative, and the next run rewrites the text.
        found.find("lease.json".to_owned(), &"it is damaged or missing", true);
    }
    Ok(())
}

fn cohort(state: &StateReader, id: &CohortId, found: &mut Verification) -> Result<(), StateError> {
    let entry = EntryFiles::of_cohort(state, id);
    let is_empty = verify_entry(state, &entry, found)?;
    if let Err(error @ StateError::Damaged { .. }) = state.version(id)
        && is_empty
    {
        found.find(entry.versions.folder().to_owned(), &error, false);
    }
    Ok(())
}

fn inbox(state: &StateReader, endpoint: &EndpointName, found: &mut Verification) -> Result<(), StateError> {
    for file in state.inbox(endpoint)? {
        let DeliveryContents { torn, damaged, .. } = state.deliveries(&file)?;
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
    entry: &EntryFiles<'_>,
    found: &mut Verification,
) -> Result<bool, StateError> {
    let named = versions(entry, found)?;
    let mut present = BTreeSet::new();
    for file in state.store.files(&entry.parts)? {
        match entry.id_of(&file.name).filter(|part| named.contains_key(*part)) {
            Some(part) => drop(present.insert(part.to_owned())),
            None => {
                let problem = "no version names it; a crash left it";
                found.find(format!("{}/{}", entry.parts, file.name), &problem, true);
            }
        }
    }
    for (part, newest) in named.values() {
        let path = entry.path_of(part);
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
    entry: &EntryFiles<'_>,
    found: &mut Verification,
) -> Result<BTreeMap<Box<str>, (NamedPart, bool)>, StateError> {
    let (mut named, mut last) = (BTreeMap::new(), None);
    let VersionFiles { versions, others } = entry.versions.files()?;
    for file in others {
        let path = format!("{}/{}", entry.versions.folder(), file.name);
        found.find(path, &"incomplete file of a crash", true);
    }
    let (path_of, newest) =
        (|number| entry.versions.path_of(number), versions.last().map(|(number, _)| *number));
    for (number, _) in &versions {
        found.versions += 1;
        let is_newest = newest == Some(*number);
        if last.is_some_and(|last: u64| last + 1 != *number) {
            found.find(path_of(number - 1), &"it is missing, and an older version exists", false);
        }
        last = Some(*number);
        match (entry.named)(*number) {
            Ok(parts) => {
                named.extend(parts.into_iter().map(|part| (part.file.id.clone(), (part, is_newest))));
            }
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
