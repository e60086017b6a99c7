//! Looking at every file of a state: is each what was written, and does everything that is needed exist?
//!
//! Changes nothing, and stops at nothing: each trouble is a finding, and the next file is looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::immutable_file::{ImmutableFile, checksum};
use super::log_lines::{LogLines, Quality};
use super::membership::{self, PartRef};
use super::part::{self, PartCursor, PartFolder};
use super::{Contents, OlderPlace, StateError, StateReader, checked};
use super::{exports, heap_segments, identity};
use crate::model::{CohortId, ConnectionName, EndpointName, ExportId};

/// How the names of parts of members end.
const MEMBERS: &str = ".parquet";

/// How deep folders of JSON files are.
const FOLDERS_MAX: usize = 2;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyFinding {
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
    /// Parts.
    pub parts: u64,
    /// Bytes of the parts.
    pub bytes: u64,
    /// Troubles.
    pub findings: Vec<VerifyFinding>,
}

impl Verification {
    /// Whether nothing needed is damaged or missing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.harmless)
    }

    fn find(&mut self, path: String, what: &dyn ToString, harmless: bool) {
        self.findings.push(VerifyFinding { path, what: what.to_string(), harmless });
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

/// Looks at every line of the NDJSON files below a folder. They are logs, and no part depends on them.
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

/// Versions and parts that belong together.
struct VerifiedFolder<'a> {
    versions: String,
    parts: String,
    /// How the names of files end that are not parts of members.
    suffix: &'a str,
    /// The parts that a version names.
    named: &'a dyn Fn(u64) -> Result<Vec<NamedPart>, StateError>,
}

/// A part that a version names.
struct NamedPart {
    file: ImmutableFile,
    /// Set when it holds members, which are looked at one by one.
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
    let place = VerifiedFolder { versions, parts, suffix: MEMBERS, named: &named };
    let is_empty = one(state, &place, found)?;
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
    one(state, &VerifiedFolder { versions, parts, suffix: heap_segments::SUFFIX, named: &named }, found)?;
    inbox(state, &EndpointName::of_heap(heap), found)
}

fn export(state: &StateReader, id: &ExportId, found: &mut Verification) -> Result<(), StateError> {
    let named = |number| {
        let record = state.export_at(id, number)?;
        Ok(record.waiting.into_iter().map(|room| room.file.into()).collect())
    };
    let (versions, parts) = (exports::folder_of(id), exports::waiting_folder_of(id));
    one(state, &VerifiedFolder { versions, parts, suffix: exports::WAITING_SUFFIX, named: &named }, found)?;
    inbox(state, &EndpointName::of_export(id), found)
}

fn identity_map(state: &StateReader, found: &mut Verification) -> Result<(), StateError> {
    let named = |number| identity::parts_at(&state.store, number).map(all);
    let (versions, parts) = (identity::VERSIONS.to_owned(), identity::PARTS.to_owned());
    one(state, &VerifiedFolder { versions, parts, suffix: identity::SUFFIX, named: &named }, found).map(drop)
}

fn inbox(state: &StateReader, door: &EndpointName, found: &mut Verification) -> Result<(), StateError> {
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

/// Looks at one place. Whether its versions name no part at all.
fn one(
    state: &StateReader,
    place: &VerifiedFolder<'_>,
    found: &mut Verification,
) -> Result<bool, StateError> {
    let named = versions(state, place, found)?;
    let mut present = BTreeSet::new();
    for file in state.store.files(&place.parts)? {
        let id = file.name.strip_suffix(place.suffix).or_else(|| file.name.strip_suffix(MEMBERS));
        match id.filter(|part| named.contains_key(*part)) {
            Some(part) => drop(present.insert(part.to_owned())),
            None => {
                let what = "no version names it; a crash left it behind";
                found.find(format!("{}/{}", place.parts, file.name), &what, true);
            }
        }
    }
    for (part, newest) in named.values() {
        let suffix = if part.members.is_some() { MEMBERS } else { place.suffix };
        let path = format!("{}/{}{suffix}", place.parts, part.file.id);
        if present.contains(&*part.file.id) {
            found.parts += 1;
            found.bytes += part.file.bytes;
            if let Err(error) = whole(state, &path, part) {
                found.find(path, &error, false);
            }
        } else {
            // `gc` takes versions before their parts; a crash in between leaves a version that nobody needs.
            found.find(path, &"it is gone, and a version names it", !newest);
        }
    }
    Ok(named.is_empty())
}

/// The parts that versions name, and whether the newest one does.
fn versions(
    state: &StateReader,
    place: &VerifiedFolder<'_>,
    found: &mut Verification,
) -> Result<BTreeMap<Box<str>, (NamedPart, bool)>, StateError> {
    let (mut named, mut last) = (BTreeMap::new(), None);
    let mut numbers = Vec::new();
    for file in state.store.files(&place.versions)? {
        match membership::number_of(&file.name) {
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
            Ok(parts) => named.extend(parts.into_iter().map(|part| (part.file.id.clone(), (part, newest)))),
            Err(error) => found.find(path_of(*number), &error, false),
        }
    }
    Ok(named)
}

/// Reads a part from end to end: its checksum, and of members their order and each identifier against its key.
fn whole(state: &StateReader, path: &str, part: &NamedPart) -> Result<(), StateError> {
    let blob = state.store.open_blob(path)?;
    let damaged = |what: &str| StateError::Damaged { path: blob.path().to_owned(), what: what.to_owned() };
    if checksum(&blob).map_err(StateError::Scratch)? != part.file.checksum {
        return Err(damaged("its bytes are not those that were written"));
    }
    let Some(part) = &part.members else {
        return if path.ends_with(identity::SUFFIX) { identity::MapPart::check(blob) } else { Ok(()) };
    };
    let mut cursor = PartCursor::open(state.store.open_blob(path)?, part, state.seed())?;
    let mut packed = Vec::new();
    cursor.advance()?;
    while cursor.key().is_some() {
        packed.clear();
        cursor.identifier(&mut packed)?;
        cursor.advance()?;
    }
    Ok(())
}
