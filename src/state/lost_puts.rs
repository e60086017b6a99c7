//! Test: committing a version number that another process has taken is an error for every kind of entry.

use std::sync::Arc;

use super::*;
use crate::model::{ConnectionName, DeliveryMethod, ExportId};

#[test]
fn a_write_with_a_taken_number_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let holder = Holder { host: "h".to_owned(), process: 1, since: Timestamp::UNIX_EPOCH, renewal: None };
    let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
    let location = Location::Folder(home.path().to_owned());
    let state = Arc::new(StateWriter::open(&location, &holder, clock, 7).unwrap());
    let (cohort, export) = (CohortId::new("c").unwrap(), ExportId::new("e").unwrap());
    let heap = ConnectionName::new("heap").unwrap();
    let workspace = RecordedWorkspace {
        connection: "braze".to_owned(),
        endpoint: "sandbox".to_owned(),
        partner: "heap".to_owned(),
        delivery: DeliveryMethod::CohortImport,
    };
    let run = RunId::new(Timestamp::UNIX_EPOCH, 1);
    let version = Membership { number: 1, ..Membership::first(&run, Timestamp::UNIX_EPOCH, workspace) };
    let segments = HeapSegments { number: 1, ..HeapSegments::default() };
    let record = ExportProgress { number: 1, ..ExportProgress::default() };
    // Two writers that have read the same version.
    let mut maps = [(); 2].map(|()| IdentityMap::open(&state).unwrap());
    for (map, owner) in maps.iter_mut().zip(["u1", "u2"]) {
        map.link(IdentityKey::BrazeId("b1"), owner, Timestamp::UNIX_EPOCH).unwrap();
    }
    let mut write = |map: usize| {
        [
            ("version", state.commit(&cohort, &version)),
            ("segments", state.commit_segments(&heap, &segments)),
            ("export", state.commit_export(&export, &record)),
            ("outbox", state.put_outbox(&cohort, &mut Outbox::default())),
            ("unknown users", state.put_unknown_users(&cohort, &mut UnknownUsers::default())),
            ("identity map", maps[map].commit()),
        ]
    };
    for (entry, first) in write(0) {
        assert!(first.is_ok(), "{entry}: {first:?}");
    }
    for (entry, second) in write(1) {
        let is_noticed = matches!(second, Err(StateError::LeaseLost | StateError::Conflict { .. }));
        assert!(is_noticed, "{entry}: {second:?}");
    }
}
