//! Targets of what Heap sends: webhook deliveries and manifests of Heap Connect.

use std::time::Duration;

use syncline::config::DumpFolder;
use syncline::connector::file::FileAccess;
use syncline::connector::heap_connect::Dumps;
use syncline::heap_segments::{IngestContext, drained_segments, ingest};
use syncline::model::{EndpointName, RunId};
use xxhash_rust::xxh3::xxh3_64;

use super::{home, now, state, write};

const RECEIVED: i64 = 1_763_924_400_000;

/// An inbox file with these bodies, as `inbox/delivery.rs` describes it.
fn inbox_file<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, body) in (0..).zip(bodies) {
        let stamp = RECEIVED + number;
        let mut rest = RECEIVED.to_le_bytes().to_vec();
        rest.extend_from_slice(&stamp.to_le_bytes());
        rest.extend_from_slice(body);
        out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&xxh3_64(&rest).to_le_bytes());
        out.extend_from_slice(&rest);
    }
    out
}

/// Deliveries, one in each line: they are ingested twice, and the second time changes nothing.
pub(crate) fn delivery(data: &[u8]) {
    let folder = state::create();
    let endpoint = EndpointName::of_heap(&state::connection());
    let inbox = folder.join(format!("inbox/{endpoint}/1763924400000-0123456789abcdef.log"));
    let bytes = inbox_file(data.split(|byte| *byte == b'\n').filter(|body| !body.is_empty()));
    let Ok(writer) = state::writer() else { return };
    let mut tables = Vec::new();
    for run in ["first", "second"] {
        write(&inbox, &bytes);
        let files = writer.reader().inbox(&endpoint).expect("the inbox");
        drained_segments(&files, writer.reader()).expect("the inbox");
        let context = IngestContext {
            state: &writer,
            heap: &state::connection(),
            run: &RunId::named(run),
            now: now(),
            incomplete_after: Duration::from_secs(3600),
        };
        let report = ingest(&files, context).expect("a sound state");
        assert_eq!(report.used.len(), files.len());
        state::read_segments(writer.reader());
        let read = writer.reader().segments(&state::connection()).expect("the segment tables");
        let members = read.by_id.values().map(|segment| {
            let mut members =
                writer.reader().segment_members(&state::connection(), segment).expect("members");
            let mut keys = Vec::new();
            while let Some((key, _)) = members.advance().expect("members") {
                keys.push(key);
            }
            keys
        });
        tables.push(members.collect::<Vec<_>>());
    }
    assert_eq!(tables[0], tables[1], "a repeated delivery has no further effect");
    drop(writer);
    std::fs::remove_dir_all(folder).expect("the state's folder");
}

/// A manifest of a dump.
pub(crate) fn manifest(data: &[u8]) {
    write(&home().join("dumps/manifests/sync_12.json"), data);
    let home = home();
    let access = FileAccess { folder: &home, roots: std::slice::from_ref(&home), stores: &[] };
    let folder = DumpFolder { path: "dumps".to_owned(), endpoint: None, region: None };
    let dumps = Dumps::find(&folder, access).expect("a dump");
    let dump = dumps.get(12).expect("the dump");
    let Ok(manifest) = dumps.manifest(dump) else { return };
    for table in &manifest.tables {
        assert!(manifest.table(&table.name).is_some());
        for file in table.files.iter().take(4) {
            assert!(!file.path.split('/').any(|part| part == ".."), "it stays in the bucket");
            assert!(dumps.open(dump, table, file).is_err(), "there is no such file");
        }
    }
}
