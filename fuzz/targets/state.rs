//! Targets of the state's JSON files and logs, each with its checksum made correct, so that inputs reach the parser.
//!
//! The checksums are computed here again, from the description in `src/state/checked.rs` and `log_lines.rs`.

use std::path::{Path, PathBuf};

use syncline::model::{
    ChangeOp, CohortId, ConnectionName, EndpointName, ExportId, Identifier, IdentifierKind, SegmentId,
};
use syncline::state::{Holder, IdentityKey, Location, Membership, StateError, StateReader, StateWriter};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{CLOCK, now, states, write};

/// The seed of the keys. The parts in the corpus were written with it.
pub(super) const KEY_SEED: u64 = 0xe4ae_5de1_4f25_dbad;

fn folder() -> PathBuf {
    states().join("state")
}

fn holder() -> Holder {
    Holder { host: "fuzz".to_owned(), process: 1, since: now(), renewal: None }
}

/// Creates the state, if this thread has none.
pub(super) fn create() -> PathBuf {
    let folder = folder();
    if !folder.join("format.json").exists() {
        drop(writer().expect("a new state"));
    }
    folder
}

pub(super) fn writer() -> Result<StateWriter, StateError> {
    StateWriter::open(&Location::Folder(folder()), &holder(), CLOCK, KEY_SEED)
}

pub(super) fn reader() -> Result<StateReader, StateError> {
    StateReader::open(&Location::Folder(folder()))
}

/// Runs `work` while the state has this file.
pub(super) fn with_file(relative: &str, bytes: &[u8], work: impl FnOnce()) {
    let path = create().join(relative);
    write(&path, bytes);
    work();
    let _ = std::fs::remove_file(path);
}

/// An object with its checksum, as `checked.rs` describes it.
pub(super) fn sealed(relative: &str, object: &[u8]) -> Vec<u8> {
    let object = object.trim_ascii_end();
    let text = object.strip_suffix(b"}").unwrap_or(object).trim_ascii_end();
    let mut hash = Xxh3::new();
    hash.update(relative.as_bytes());
    hash.update(b"\n");
    hash.update(text);
    let end = format!(",\n  \"checksum\": \"{:032x}\"\n}}", hash.digest128());
    [text, end.as_bytes()].concat()
}

/// Lines with their checksums, as `log_lines.rs` describes them. Each third line keeps its own.
fn sealed_lines(subject: &str, lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        if number % 3 == 2 {
            out.extend_from_slice(line);
        } else if !line.is_empty() {
            let text = line.strip_suffix(b"}").unwrap_or(line);
            let sum = xxh3_64(&[subject.as_bytes(), b"\n", text].concat());
            out.extend_from_slice(text);
            out.extend_from_slice(format!(",\"checksum\":\"{sum:016x}\"}}").as_bytes());
        }
        out.push(b'\n');
    }
    out
}

pub(super) fn cohort_id() -> CohortId {
    CohortId::new("vip").expect("an id")
}

pub(super) fn export_id() -> ExportId {
    ExportId::new("engagement").expect("an id")
}

pub(super) fn connection() -> ConnectionName {
    ConnectionName::new("heap").expect("a name")
}

/// Opens the state and verifies it. Damage is a finding, and never a panic.
fn json(relative: &str, data: &[u8], read: impl FnOnce(&StateReader)) {
    with_file(relative, &sealed(relative, data), || {
        let Ok(reader) = reader() else { return };
        read(&reader);
        check_all(&reader);
    });
}

/// Runs the commands that read all files.
pub(super) fn check_all(reader: &StateReader) {
    if let Ok(found) = reader.verify() {
        assert!(found.findings.iter().all(|finding| !finding.problem.is_empty()));
    }
    let _ = reader.garbage(now());
    let _ = reader.older_entries();
}

/// A version of a membership.
pub(crate) fn membership(data: &[u8]) {
    json("cohorts/vip/versions/000000000001.json", data, |reader| {
        let cohort = cohort_id();
        let _ = reader.versions(&cohort);
        if let Ok(Some(version)) = reader.version(&cohort) {
            read_members(reader, &cohort, &version);
        }
    });
}

/// Reads the members of a version in every manner.
pub(super) fn read_members(reader: &StateReader, cohort: &CohortId, version: &Membership) {
    let _ = version.is_vacant();
    for part in version.all_parts() {
        assert!(part.in_doubt() <= part.rows);
    }
    for op in [ChangeOp::Add, ChangeOp::Remove] {
        let _ = reader.late(cohort, version, op, now());
    }
    if let Ok(mut members) = reader.members(cohort, Some(version)) {
        let mut last = None;
        while let Ok(Some((key, _))) = members.advance() {
            assert!(last < Some(key), "keys ascend");
            last = Some(key);
            let _ = members.packed().map(|packed| Identifier::unpack(packed).expect("an identifier"));
        }
    }
    if let Ok(mut members) = reader.members(cohort, Some(version)) {
        while let Ok(Some(_)) = members.advance_any() {
            let ahead = members.ahead().len();
            members.skip(ahead / 2);
        }
    }
}

/// The journal of a run, and a merged one.
pub(crate) fn journal(data: &[u8]) {
    const RUN: &str = "20261123t191611250z-4b1d9c";
    let merged = format!("{RUN}_20261124t191611250z-4b1d9c");
    for (name, subject) in
        [(format!("{RUN}.ndjson"), RUN), (format!("{merged}.0123456789abcdef.ndjson"), &merged)]
    {
        let path = format!("journal/2026/11/23/{name}");
        with_file(&path, &sealed_lines(subject, data), || {
            let Ok(reader) = reader() else { return };
            for run in reader.runs(50).unwrap_or_default() {
                let summary = run.summary();
                let _ = (summary.added(), summary.removed());
            }
            check_all(&reader);
        });
    }
}

/// The rejects of a run.
pub(crate) fn rejects(data: &[u8]) {
    let lines = sealed_lines("20261123t191611250z-4b1d9c/vip", data);
    with_file("rejects/20261123t191611250z-4b1d9c/vip.ndjson", &lines, || {
        let Ok(reader) = reader() else { return };
        for file in reader.reject_files(None).unwrap_or_default() {
            let mut count = 0;
            let _ = reader.each_reject(&file, &mut |_| count += 1);
            let read = reader.reject_lines(&file).unwrap_or_default();
            assert_eq!(read.iter().filter(|line| line.is_whole).count(), count);
        }
        let _ = reader.cohort_rejects();
        check_all(&reader);
    });
}

/// Approvals of a plan.
pub(crate) fn approval(data: &[u8]) {
    json("approvals/vip/xxh3-0123.json", data, |reader| {
        let _ = reader.approvals(&cohort_id(), now());
    });
}

/// Triggers.
pub(crate) fn outbox(data: &[u8]) {
    json("triggers/vip/000000000001.json", data, |reader| {
        if let Ok(outbox) = reader.outbox(&cohort_id()) {
            for trigger in outbox.due.iter().chain(&outbox.in_flight) {
                let _ = trigger.user.identifier().shortened();
            }
        }
    });
}

/// Users without a profile.
pub(crate) fn unknown_users(data: &[u8]) {
    json("unknown_users/vip/000000000001.json", data, |reader| {
        let _ = reader.unknown_users(&cohort_id());
    });
}

/// Contents of a mirror table.
pub(crate) fn mirror_note(data: &[u8]) {
    json("mirror_tables/vip/000000000001.json", data, |reader| {
        let _ = reader.mirror_note(&cohort_id());
        let _ = reader.mirror_tables_of(&[cohort_id()]);
    });
}

/// Results of a segment check.
pub(crate) fn check(data: &[u8]) {
    json("checks/buyers/versions/000000000001.json", data, |reader| {
        let _ = reader.check_of(&SegmentId::new("buyers").expect("an id"));
    });
}

/// Fingerprints of keys.
pub(crate) fn workspace(data: &[u8]) {
    json("workspaces/heap/versions/000000000001.json", data, |reader| {
        let _ = reader.key_fingerprints([&connection()]);
    });
}

/// Last outcomes.
pub(crate) fn outcomes(data: &[u8]) {
    json("outcomes/000000000001.json", data, |reader| {
        if let Ok(outcomes) = reader.last_outcomes() {
            for outcome in outcomes.all() {
                let _ = outcome.blocked_since();
            }
        }
    });
}

/// Progress of an export.
pub(crate) fn export(data: &[u8]) {
    json("exports/engagement/versions/000000000001.json", data, |reader| {
        let export = export_id();
        let Ok(mut progress) = reader.export(&export) else { return };
        let _ = progress.held_len();
        progress.count("sent", 1);
        for file in &mut progress.held {
            let _ = (file.held(), file.awaiting_limit());
            let _ = reader.held_events(&export, file).err();
            file.settle(0, true);
        }
    });
}

/// A version of the identity map.
pub(crate) fn identity(data: &[u8]) {
    json("identity/versions/000000000001.json", data, |reader| read_identity(reader, "device-1"));
}

/// Looks up identities in the map.
pub(super) fn read_identity(reader: &StateReader, value: &str) {
    let _ = (reader.identity_len(), reader.identity_stats(), reader.identity_version());
    let Ok(Some(owners)) = reader.owners() else { return };
    let mut answers = owners.answers();
    for key in [
        IdentityKey::DeviceId(value),
        IdentityKey::BrazeId(value),
        IdentityKey::Alias { label: "crm", name: value },
    ] {
        let _ = answers.evidence(key);
    }
    let member = Identifier { kind: IdentifierKind::DeviceId, label: "", value };
    if let Some(query) = owners.query(&member) {
        let _ = answers.owner(query, &member);
    }
}

/// A version of the segment tables.
pub(crate) fn segments(data: &[u8]) {
    json("segments/heap/versions/000000000001.json", data, read_segments);
}

/// Reads the members of every segment.
pub(super) fn read_segments(reader: &StateReader) {
    let heap = connection();
    let Ok(segments) = reader.segments(&heap) else { return };
    for segment in segments.by_id.values() {
        let _ = (segment.fingerprint(), segment.in_effect());
        for sync in &segment.syncs {
            assert!(sync.missing().len() <= sync.pages as usize);
        }
        let _ = reader.segment_changes(&heap, segment);
        if let Ok(mut members) = reader.segment_members(&heap, segment) {
            let mut last = None;
            while let Ok(Some((key, _))) = members.advance() {
                assert!(last < Some(key), "keys ascend");
                last = Some(key);
                Identifier::unpack(members.packed()).expect("an identifier");
            }
        }
    }
    let _ = reader.inbox(&EndpointName::of_heap(&heap));
}

/// Runs `work` with a state that has these files and nothing else, because the run writes to it.
fn with_own_state(files: &[(&str, &[u8])], work: impl FnOnce()) {
    let folder = create();
    for (relative, data) in files {
        write(&folder.join(relative), &sealed(relative, data));
    }
    work();
    remove(&folder);
}

fn remove(folder: &Path) {
    std::fs::remove_dir_all(folder).expect("the state's folder");
}

/// Newest version numbers of all entries.
pub(crate) fn heads(data: &[u8]) {
    with_own_state(&[("heads/000000000001.json", data)], open_and_accept);
}

/// The lease.
pub(crate) fn lease(data: &[u8]) {
    with_own_state(&[("lease.json", data)], open_and_accept);
}

/// Reads the state, takes its lease, and accepts entries that are older than the last commit.
fn open_and_accept() {
    if let Ok(reader) = reader() {
        if let Ok(Some(holder)) = reader.holder(now()) {
            assert!(!holder.to_string().is_empty());
        }
        let _ = reader.version(&cohort_id());
        check_all(&reader);
    }
    if let Ok(writer) = writer() {
        for older in writer.reader().older_entries().unwrap_or_default() {
            let _ = writer.accept(&older);
        }
    }
}

/// Format number and seed.
pub(crate) fn format(data: &[u8]) {
    with_own_state(&[("format.json", data)], || {
        if let Ok(reader) = reader() {
            let _ = reader.signing_key("fuzz");
            check_all(&reader);
        }
        drop(writer());
    });
}
