//! Targets of the state's binary files: parts, segment changes, held events, parts of the identity map, inboxes.
//!
//! Each input stands in a file that a version names with its correct checksum, so that inputs reach the parser.

use syncline::model::RunId;
use syncline::model::{ChangeOp, EndpointName, RowSet};
use syncline::state::{
    ClosedFile, HeldEventsFile, ImmutableFile, Membership, PartFooter, PartRef, RecordedWorkspace,
    StateReader, acknowledge_all,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use super::now;
use super::state::{self, check_all, with_file};

const ID: &str = "b8347174-6944-4db1-84d0-dae8ead406af";

fn immutable(data: &[u8], rows: u64) -> ImmutableFile {
    ImmutableFile { id: ID.into(), rows, bytes: data.len() as u64, checksum: xxh3_128(data) }
}

/// A part of a membership. The first byte is the number of rows that the version claims.
pub(crate) fn part(data: &[u8]) {
    let Some((rows, file)) = data.split_first() else { return };
    // The length of the metadata stands before the last four bytes.
    let end = file.len().saturating_sub(8);
    let metadata = file[end..].first_chunk::<4>().map_or(0, |len| u32::from_le_bytes(*len) as usize + 8);
    let footer = &file[file.len() - metadata.min(file.len())..];
    let part = PartRef {
        id: ID.into(),
        op: ChangeOp::Add,
        rows: u64::from(*rows),
        bytes: file.len() as u64,
        checksum: xxh3_128(file),
        footer: PartFooter { bytes: footer.len() as u64, checksum: xxh3_64(footer) },
        acknowledged: RowSet::default(),
        rejected: RowSet::default(),
        noted: false,
    };
    let workspace = RecordedWorkspace {
        connection: "braze".to_owned(),
        endpoint: "sandbox".to_owned(),
        partner: "heap".to_owned(),
        delivery: syncline::model::DeliveryMethod::CohortImport,
    };
    let mut version = Membership::first(&RunId::named("fuzz"), now(), workspace);
    version.parts = vec![acknowledge_all(part.clone()), part];
    with_file(&format!("cohorts/vip/parts/{ID}.parquet"), file, || {
        let Ok(reader) = state::reader() else { return };
        state::read_members(&reader, &state::cohort_id(), &version);
    });
}

/// Changes of small syncs.
pub(crate) fn changes(data: &[u8]) {
    let file = serde_json::to_string(&immutable(data, 1)).expect("JSON");
    let version = format!(
        r#"{{"format":2,"version":1,"segments":{{"7":{{"name":"Buyers","delivered_at":"2026-11-23T19:16:11.250Z","syncs":[],"arrived":1,"changes":[{file}]}}}},"invalid":0}}"#
    );
    with_version("segments/heap", &version, &format!("segments/heap/parts/{ID}.changes"), data, |reader| {
        state::read_segments(reader);
        check_all(reader);
    });
}

/// A file of held events.
pub(crate) fn held(data: &[u8]) {
    let file = HeldEventsFile {
        file: immutable(data, 2),
        oldest: now(),
        awaiting_user: 1,
        settled: RowSet::default(),
    };
    with_file(&format!("exports/engagement/held/{ID}.events"), data, || {
        let Ok(reader) = state::reader() else { return };
        let Ok(mut rows) = reader.held_events(&state::export_id(), &file) else { return };
        let mut next = 0;
        while let Ok(Some((row, event))) = rows.advance() {
            assert_eq!(row, next);
            assert!(event.event.len() <= data.len());
            next += 1;
        }
    });
}

/// A part of the identity map. Its checksums are made correct.
pub(crate) fn identity_part(data: &[u8]) {
    let mut bytes = data.to_vec();
    if mend_identity_part(&mut bytes).is_none() {
        bytes = data.to_vec();
    }
    let file = serde_json::to_string(&immutable(&bytes, 1)).expect("JSON");
    let version = format!(r#"{{"format":2,"version":1,"parts":[{file}]}}"#);
    with_version("identity", &version, &format!("identity/parts/{ID}.map"), &bytes, |reader| {
        state::read_identity(reader, "device-1");
        state::read_identity(reader, "");
        check_all(reader);
    });
}

/// Computes the checksums that `map_part.rs` describes. `None`: the trailer does not fit.
fn mend_identity_part(bytes: &mut [u8]) -> Option<()> {
    const ENTRY_LEN: usize = 32;
    let at = bytes.len().checked_sub(32)?;
    let end = usize::try_from(u64::from_le_bytes(*bytes[at..].first_chunk::<8>()?)).ok()?;
    let blocks = u32::from_le_bytes(*bytes[at + 8..].first_chunk::<4>()?) as usize;
    let start_of = |bytes: &[u8], block: usize| -> Option<usize> {
        let entry = bytes.get(end.checked_add(block.checked_mul(ENTRY_LEN)?)?..at)?;
        usize::try_from(u64::from_le_bytes(*entry.get(16..)?.first_chunk::<8>()?)).ok()
    };
    for block in 0..blocks.min(64) {
        let start = start_of(bytes, block)?;
        let stop = if block + 1 < blocks { start_of(bytes, block + 1)? } else { end };
        let sum = xxh3_64(bytes.get(start..stop)?);
        let place = end + block * ENTRY_LEN + 24;
        bytes.get_mut(place..place + 8)?.copy_from_slice(&sum.to_le_bytes());
    }
    let mut hash = Xxh3::new();
    hash.update(ID.as_bytes());
    hash.update(bytes.get(end..at + 16)?);
    bytes[at + 16..at + 24].copy_from_slice(&hash.digest().to_le_bytes());
    Some(())
}

/// Runs `read` on a state with a version of an entry and a file that it names.
fn with_version(entry: &str, version: &str, path: &str, data: &[u8], read: impl FnOnce(&StateReader)) {
    let version_path = format!("{entry}/versions/000000000001.json");
    with_file(&version_path, &state::sealed(&version_path, version.as_bytes()), || {
        with_file(path, data, || {
            if let Ok(reader) = state::reader() {
                read(&reader);
            }
        });
    });
}

/// A file of an inbox: deliveries are found behind damage.
pub(crate) fn inbox(data: &[u8]) {
    let path =
        format!("inbox/{}/1763000000000-0123456789abcdef.log", EndpointName::of_heap(&state::connection()));
    with_file(&path, data, || {
        let Ok(reader) = state::reader() else { return };
        let Ok(contents) = reader.deliveries(&ClosedFile { path: path.clone(), bytes: data.len() as u64 })
        else {
            return;
        };
        let bodies: usize = contents.deliveries.iter().map(|delivery| 28 + delivery.body.len()).sum();
        let damaged: usize = contents.damaged.iter().map(Vec::len).sum();
        assert_eq!(bodies + damaged + contents.torn, data.len(), "every byte is accounted for");
        let _ = reader.inboxes();
    });
}
