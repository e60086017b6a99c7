//! Random syncs, delivered in every order that Heap may use, compared with a naive implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{Clock, Identifier};
use crate::state::{Holder, Inbox, InboxQuota, Location, SegmentTable};

const NOW: i64 = 1_700_000_000_000;

/// A state with an inbox.
struct World {
    state: Arc<StateWriter>,
    heap: ConnectionName,
    run: RunId,
    inbox: Inbox,
    runtime: tokio::runtime::Runtime,
    home: tempfile::TempDir,
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let clock = Clock::new(|| Timestamp::from_millisecond(NOW).unwrap_or_default());
        let holder = Holder { host: "h".to_owned(), process: 1, since: at(NOW), renewal: None };
        let location = Location::Folder(home.path().to_owned());
        let state = Arc::new(StateWriter::open(&location, &holder, clock, 7).unwrap());
        let heap = ConnectionName::new("heap").unwrap();
        let inbox =
            Inbox::open(&state, &crate::model::EndpointName::of_heap(&heap), InboxQuota::new(1 << 30), clock)
                .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { state, heap, run: RunId::new(at(NOW), 1), inbox, runtime, home }
    }

    fn receive(&self, stamp: i64, received: i64, body: &str) {
        let delivery = Delivery { received: at(received), stamp, body: body.as_bytes().to_vec() };
        self.runtime.block_on(self.inbox.keep(delivery)).unwrap();
    }

    fn ingest(&self, now: i64) -> IngestReport {
        let files = self.runtime.block_on(self.inbox.close_file()).unwrap();
        let (state, heap, run) = (&self.state, &self.heap, &self.run);
        let incomplete_after = Duration::from_secs(3600);
        ingest(&files, IngestContext { state, heap, run, now: at(now), incomplete_after }).unwrap()
    }

    /// How many member files the newest version names.
    fn files(&self) -> usize {
        let tables = self.state.reader().segments(&self.heap).unwrap();
        let of = |segment: &SegmentTable| {
            let runs = segment.syncs.iter().map(|sync| sync.adds.len() + sync.removes.len());
            runs.sum::<usize>() + segment.changes.len() + usize::from(segment.base.is_some())
        };
        tables.by_id.values().map(of).sum()
    }

    fn members(&self, segment: u64) -> BTreeSet<String> {
        let tables = self.state.reader().segments(&self.heap).unwrap();
        let Some(segment) = tables.by_id.get(&segment) else { return BTreeSet::new() };
        let mut cursor = self.state.reader().segment_members(&self.heap, segment).unwrap();
        let mut members = BTreeSet::new();
        while cursor.advance().unwrap().is_some() {
            let (person, _) = Identifier::unpack(cursor.packed()).unwrap();
            members.insert(person.value.to_owned());
        }
        members
    }
}

fn body(sync: &str, page: usize, pages: usize, add: &[u8], remove: &[u8]) -> String {
    let people =
        |ids: &[u8]| ids.iter().map(|id| format!(r#"{{"id":"u{id}"}}"#)).collect::<Vec<_>>().join(",");
    let mut text = format!(
        r#"{{"action_type":"segment.users.sync","data":{{"segment":{{"id":7,"name":"S"}},"sync_info":{{"page_number":{page},"total_pages":{pages},"sync_task_id":"{sync}"}}"#
    );
    write!(text, r#","add":[{}],"remove":[{}]}}}}"#, people(add), people(remove)).unwrap();
    text
}

/// One sync: for each page the users who enter and leave.
type Pages = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Debug, Clone)]
struct Life {
    syncs: Vec<Pages>,
    /// The deliveries in order of arrival: the index of the sync and of the page.
    order: Vec<(usize, usize)>,
    /// After how many deliveries there is an ingest.
    ingests: Vec<usize>,
}

fn life() -> impl Strategy<Value = Life> {
    let ids = || proptest::collection::vec(0u8..30, 0..6);
    let page = (ids(), ids()).prop_map(|(add, remove)| {
        let remove = remove.into_iter().filter(|id| !add.contains(id)).collect();
        (add, remove)
    });
    let syncs = proptest::collection::vec(proptest::collection::vec(page, 1..4), 1..40);
    syncs.prop_flat_map(|syncs| {
        let all: Vec<(usize, usize)> =
            syncs.iter().enumerate().flat_map(|(s, pages)| (0..pages.len()).map(move |p| (s, p))).collect();
        // Heap sends one sync after the other; repetitions may arrive a few deliveries later.
        let late = proptest::collection::vec((0usize..4, any::<bool>()), all.len());
        let ingests = proptest::collection::vec(0..all.len() * 2 + 1, 0..12);
        (Just(syncs), late, ingests).prop_map(move |(syncs, late, ingests)| {
            let mut order: Vec<(usize, (usize, usize))> = Vec::new();
            for (position, (delivery, (late, twice))) in all.iter().zip(late).enumerate() {
                order.push((position * 2 + late * 2, *delivery));
                order.extend(twice.then_some((position * 2 + 5, *delivery)));
            }
            order.sort_by_key(|(position, _)| *position);
            Life { syncs, order: order.into_iter().map(|(_, delivery)| delivery).collect(), ingests }
        })
    })
}

/// The members after all syncs in the right order.
fn naive(syncs: &[Pages]) -> BTreeSet<String> {
    let mut members = BTreeSet::new();
    for pages in syncs {
        let entered = pages.iter().flat_map(|(add, _)| add).map(|id| format!("u{id}"));
        members.extend(entered);
        for id in pages.iter().flat_map(|(_, remove)| remove) {
            members.remove(&format!("u{id}"));
        }
    }
    members
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_table_equals_the_syncs_in_order_however_they_arrive(life in life()) {
        let world = World::new();
        for (position, (sync, page)) in life.order.iter().enumerate() {
            let pages = &life.syncs[*sync];
            let (add, remove) = &pages[*page];
            let stamp = NOW + i64::try_from(*sync).unwrap() * 1000;
            world.receive(stamp, NOW, &body(&format!("t{sync}"), page + 1, pages.len(), add, remove));
            for _ in life.ingests.iter().filter(|ingest| **ingest == position) {
                world.ingest(NOW);
            }
        }
        let report = world.ingest(NOW);
        prop_assert_eq!(report.next_deadline, None);
        prop_assert_eq!(world.members(7), naive(&life.syncs));
        let tables = world.state.reader().segments(&world.heap).unwrap();
        prop_assert_eq!(tables.invalid, 0);
        let verified = world.state.reader().verify().unwrap();
        prop_assert!(verified.is_clean(), "{:?}", verified.findings);
    }
}

/// A small delivery may announce a million pages.
#[test]
fn a_gap_lists_a_limited_number_of_missing_pages() {
    let world = World::new();
    world.receive(NOW, NOW, &body("t1", 2, 1_000_000, &[1], &[]));
    world.ingest(NOW);
    assert_eq!(world.ingest(NOW + 3_601_000).given_up, 1);
    let tables = world.state.reader().segments(&world.heap).unwrap();
    let gap = &tables.by_id[&7].gaps[0];
    assert_eq!((gap.missing.len(), gap.missing_count(), gap.pages), (20, 999_999, 1_000_000));
    assert_eq!(gap.missing[..3], [1, 3, 4]);
}

#[test]
fn a_sync_with_a_missing_page_removes_no_members_until_it_is_given_up() {
    let world = World::new();
    world.receive(NOW, NOW, &body("t0", 1, 1, &[1, 2, 3], &[]));
    world.receive(NOW + 1000, NOW, &body("t1", 1, 3, &[4], &[1]));
    world.receive(NOW + 1000, NOW + 500, &body("t1", 3, 3, &[], &[2]));
    let report = world.ingest(NOW);
    let names = |ids: &[u8]| ids.iter().map(|id| format!("u{id}")).collect::<BTreeSet<_>>();
    assert_eq!(world.members(7), names(&[1, 2, 3, 4]), "users enter immediately");
    assert_eq!(report.next_deadline, Some(at(NOW + 500 + 3_600_000)));
    assert_eq!(world.ingest(NOW + 3_600_000).given_up, 0);
    let report = world.ingest(NOW + 3_601_000);
    assert_eq!((report.given_up, report.segments.len()), (1, 1));
    assert_eq!(world.members(7), names(&[3, 4]));
    let gaps = world.state.reader().segments(&world.heap).unwrap().by_id[&7].gaps.clone();
    assert_eq!((&*gaps[0].sync, &*gaps[0].missing, gaps[0].pages), ("t1", &[2][..], 3));
    assert_eq!(gaps[0].missing_count(), 1);
    // If the page arrives later, the gap is closed.
    world.receive(NOW + 1000, NOW + 3_700_000, &body("t1", 2, 3, &[5], &[3]));
    world.ingest(NOW + 3_700_000);
    assert_eq!(world.members(7), names(&[4, 5]));
    assert_eq!(world.state.reader().segments(&world.heap).unwrap().by_id[&7].gaps, []);
}

#[test]
fn a_drain_removes_earlier_members_and_no_later_ones() {
    let world = World::new();
    let drain = r#"{"action_type":"segment.users.drain","data":{"segment":{"id":7,"name":"Old name"}}}"#;
    world.receive(NOW, NOW, &body("t0", 1, 1, &[1, 2], &[]));
    world.receive(NOW + 2000, NOW, &body("t2", 1, 1, &[3], &[]));
    world.receive(NOW + 1000, NOW, drain);
    world.receive(NOW + 1000, NOW, drain);
    world.receive(NOW + 500, NOW, &body("t1", 1, 1, &[9], &[]));
    let report = world.ingest(NOW);
    assert_eq!((report.deliveries, report.duplicates), (3, 2));
    assert_eq!(world.members(7), BTreeSet::from(["u3".to_owned()]));
}

#[test]
fn invalid_deliveries_and_users_are_kept_and_counted() {
    let world = World::new();
    world.receive(NOW, NOW, "{");
    world.receive(NOW, NOW, r#"{"action_type":"segment.users.join","data":{"segment":{"id":7}}}"#);
    let long = "x".repeat(988);
    let people = format!(r#"{{"id":""}},{{"id":null}},{{}},{{"id":"{long}"}},{{"id":" u1 "}}"#);
    world.receive(
        NOW,
        NOW,
        &format!(
            r#"{{"action_type":"segment.users.sync","data":{{"segment":{{"id":7}},"add":[{people}]}}}}"#
        ),
    );
    let report = world.ingest(NOW);
    assert_eq!((report.invalid, report.rejected, report.deliveries), (2, 4, 1));
    assert_eq!(world.members(7), BTreeSet::from(["u1".to_owned()]));
    let tables: BTreeMap<u64, _> = world.state.reader().segments(&world.heap).unwrap().by_id;
    assert_eq!(tables.keys().collect::<Vec<_>>(), [&7]);
}

#[test]
fn ingesting_the_same_file_twice_changes_nothing() {
    let world = World::new();
    let unnamed = r#"{"action_type":"segment.users.sync","data":{"segment":{"id":7},"add":[{"id":"u1"}]}}"#;
    world.receive(NOW, NOW, unnamed);
    world.receive(NOW, NOW, &body("t0", 1, 1, &[2], &[]));
    let files = world.runtime.block_on(world.inbox.close_file()).unwrap();
    let copy: Vec<Delivery> = world.state.reader().deliveries(&files[0]).unwrap().deliveries;
    world.ingest(NOW);
    // As after a crash between the commit and the removal of the file.
    copy.into_iter().for_each(|delivery| world.runtime.block_on(world.inbox.keep(delivery)).unwrap());
    let report = world.ingest(NOW);
    assert_eq!((report.deliveries, report.duplicates), (0, 2));
    assert_eq!(world.members(7).len(), 2);
}

/// An invalid delivery is the only copy, because it was acknowledged.
#[test]
fn invalid_deliveries_are_kept_whole_across_many_files() {
    let world = World::new();
    let long = |name: &str| format!(r#"{{"action_type":"{name}","data":{}}}"#, "x".repeat(12 << 20));
    for name in ["one", "two", "three"] {
        world.receive(NOW, NOW, &long(name));
        world.runtime.block_on(world.inbox.close_file()).unwrap();
    }
    let report = world.ingest(NOW);
    assert_eq!((report.invalid, report.used.len()), (3, 3));
    let path = world.home.path().join(format!("rejects/{}", world.run));
    let file = std::fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(file).unwrap();
    let values: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 3);
    for name in ["one", "two", "three"] {
        assert!(values.iter().any(|value| value["value"].as_str() == Some(&*long(name))), "{name}");
    }
}

#[test]
fn a_sync_with_an_impossible_number_of_pages_is_invalid() {
    let world = World::new();
    world.receive(NOW, NOW, &body("huge", 1, u32::MAX as usize, &[1], &[]));
    assert_eq!(world.ingest(NOW).invalid, 1);
    assert_eq!(world.ingest(NOW + 7_200_000).given_up, 0);
}

/// Without ids each delivery is a sync of its own.
#[test]
fn many_syncs_in_one_ingest_become_one_file() {
    let world = World::new();
    for (round, files) in [(0, 1), (1, 2), (2, 2), (3, 3)] {
        for n in round * 500..round * 500 + 500 {
            let text = body("", 1, 1, &[u8::try_from(n % 100).unwrap()], &[]);
            world.receive(NOW + n, NOW + n, &text);
        }
        assert_eq!(world.ingest(NOW + 5000).deliveries, 500);
        assert_eq!(world.members(7).len(), 100);
        assert_eq!(world.files(), files, "the base, and changes that are not merged yet");
    }
}

/// The same with syncs of two pages each: all first pages arrive before all second ones.
#[test]
fn many_unfinished_syncs_become_one_file_per_ingest() {
    let world = World::new();
    for page in 1..=2 {
        for n in 0..100_u8 {
            let (add, remove) = if page == 1 { ([n], [200]) } else { ([n + 100], [201]) };
            let text = body(&format!("t{n}"), page, 2, &add, &remove);
            world.receive(NOW + i64::from(n), NOW, &text);
        }
        assert_eq!(world.ingest(NOW).deliveries, 100);
        assert_eq!(world.files(), 1);
        assert_eq!(world.members(7).len(), 100 * page);
    }
}

/// Few deliveries at a time, very often: files are merged by their size.
#[test]
fn files_stay_few_with_frequent_ingests() {
    let world = World::new();
    for n in 0..40 {
        let text = body(&format!("s{n}"), 1, 1, &[u8::try_from(n).unwrap()], &[]);
        world.receive(NOW + n * 1000, NOW + n * 1000, &text);
        world.ingest(NOW + n * 1000);
        let tables = world.state.reader().segments(&world.heap).unwrap();
        assert!(tables.by_id[&7].changes.len() <= 8);
    }
    assert_eq!(world.members(7).len(), 40);
}

/// Deliveries and drains that were signed before already merged ones are too late.
#[test]
fn deliveries_after_later_syncs_were_merged_change_no_members() {
    let world = World::new();
    for n in 0..300 {
        let text = body(&format!("s{n}"), 1, 1, &[u8::try_from(n % 60).unwrap()], &[]);
        world.receive(NOW + n * 1000, NOW + n * 1000, &text);
        if n % 60 == 59 {
            world.ingest(NOW + 300_000);
        }
    }
    let drain = r#"{"action_type":"segment.users.drain","data":{"segment":{"id":7,"name":"S"}}}"#;
    world.receive(NOW - 1000, NOW + 300_000, drain);
    world.receive(NOW - 1000, NOW + 300_000, &body("late", 1, 1, &[61], &[3]));
    assert_eq!(world.ingest(NOW + 300_000).invalid, 2);
    assert_eq!(world.members(7).len(), 60);
}

/// Heap's timestamps may be whole seconds: within the same second the sync that arrived later wins.
#[test]
fn of_syncs_signed_for_the_same_time_the_last_to_arrive_wins() {
    let world = World::new();
    for (n, pages) in [(0, 1), (1, 2), (2, 1), (3, 2), (4, 1), (5, 2)] {
        let (add, remove): (&[u8], &[u8]) = if n % 3 == 1 { (&[1, 2], &[]) } else { (&[3], &[1, 2]) };
        for page in 1..=pages {
            // The order of the ids differs from the order of arrival.
            let (add, remove) = if page == 1 { (add, remove) } else { (&[9][..], &[][..]) };
            world.receive(NOW, NOW, &body(&format!("{}", 9 - n), page, pages, add, remove));
        }
        if n == 2 {
            world.ingest(NOW);
            assert_eq!(world.members(7), ["u3", "u9"].map(str::to_owned).into(), "{n}");
        }
    }
    world.ingest(NOW);
    assert_eq!(world.members(7), ["u3", "u9"].map(str::to_owned).into());
    world.receive(NOW, NOW, &body("last", 1, 2, &[1, 2], &[]));
    world.receive(NOW, NOW, &body("last", 2, 2, &[], &[3]));
    world.ingest(NOW);
    assert_eq!(world.members(7), ["u1", "u2", "u9"].map(str::to_owned).into());
}

/// A retry has a new signature and may arrive after a sync that contradicts it.
#[test]
fn a_repeated_page_does_not_override_later_syncs() {
    let world = World::new();
    let first = body("t0", 1, 1, &[1], &[]);
    world.receive(NOW, NOW, &first);
    world.ingest(NOW);
    world.receive(NOW + 1000, NOW, &body("t1", 1, 1, &[], &[1]));
    world.receive(NOW + 2000, NOW, &first);
    assert_eq!(world.ingest(NOW).duplicates, 1);
    assert_eq!(world.members(7), BTreeSet::new());
}

#[test]
fn a_drain_ends_a_sync_with_all_its_pages() {
    let world = World::new();
    // The second page is signed after the drain; its sync is older.
    world.receive(NOW, NOW, &body("t0", 1, 3, &[1], &[]));
    world.receive(NOW + 2000, NOW, &body("t0", 2, 3, &[2], &[]));
    world.ingest(NOW);
    assert_eq!(world.members(7).len(), 2);
    let drain = r#"{"action_type":"segment.users.drain","data":{"segment":{"id":7,"name":"S"}}}"#;
    world.receive(NOW + 1000, NOW, drain);
    world.receive(NOW + 1500, NOW, &body("t1", 1, 1, &[3], &[]));
    world.ingest(NOW);
    assert_eq!(world.members(7), BTreeSet::from(["u3".to_owned()]));
}

#[test]
fn damaged_changes_are_an_error_that_names_the_file() {
    let world = World::new();
    world.receive(NOW, NOW, &body("t0", 1, 1, &[1, 2], &[]));
    world.ingest(NOW);
    let folder = world.home.path().join("segments/heap/parts");
    let path = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[30] ^= 1;
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let tables = world.state.reader().segments(&world.heap).unwrap();
    let error = world.state.reader().segment_members(&world.heap, &tables.by_id[&7]).unwrap_err();
    assert!(matches!(&error, StateError::Damaged { path: named, .. } if *named == path), "{error}");
    assert!(!world.state.reader().verify().unwrap().is_clean());
}
