//! Benchmark of segment sizes: expected size by set algebra on five recorded memberships of ten million members
//! each, with overlapping neighbors.
//!
//! The benchmark writes the state deterministically in another process, and checks the count. It reports
//! medians of five.
//!
//! `cargo bench --bench segments`, or with a number of members: `cargo bench --bench segments -- 100000`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that fails panics")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it prints its results and reads its arguments"
)]

#[path = "support/measure.rs"]
mod measure;

use std::path::Path;
use std::process::Command;

use measure::{heading, measure, measure_child, report, rounds};
use syncline::config::{BrazeObject, KeyLines, SegmentConfig, SizeLimits};
use syncline::model::{
    ChangeOp, Clock, CohortId, ConnectionName, Identifier, IdentifierKind, MemberKey, RowSet, RunId,
    SegmentId, Timestamp,
};
use syncline::segment_check::expected;
use syncline::state::{Holder, Location, Membership, RecordedWorkspace, StateReader, StateWriter};

const MEMBERS: u64 = 10_000_000;
/// Number of included and of excluded cohorts.
const COHORTS: [usize; 2] = [3, 2];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--measure", command @ ..] => {
            measure_child(&command.iter().map(|&part| part.to_owned()).collect::<Vec<_>>());
        }
        ["--make", home, members] => make(Path::new(home), members.parse().unwrap()),
        ["--count", home, all] => count(Path::new(home), *all == "all"),
        [] => run(MEMBERS),
        [members] => run(members.parse().unwrap()),
        _ => panic!("{args:?}"),
    }
}

fn run(members: u64) {
    let home = tempfile::tempdir().unwrap();
    let (path, program) = (home.path().to_str().unwrap(), std::env::current_exe().unwrap());
    let status = Command::new(&program).args(["--make", path, &members.to_string()]).status().unwrap();
    assert!(status.success());
    let program = program.to_str().unwrap();
    println!("The size of a segment of {} cohorts of {members}\n", COHORTS[0] + COHORTS[1]);
    heading();
    // Each cohort starts a quarter of its length after the previous one.
    let step = members / 4;
    let any = format!("{} users", step * 3);
    report(
        "in any of 3, in none of 2",
        rounds(|| measure(home.path(), program, &["--count", path, "any"], &any)),
    );
    let all = format!("{step} users");
    report(
        "in all of 3, in none of 2",
        rounds(|| measure(home.path(), program, &["--count", path, "all"], &all)),
    );
}

fn cohort(at: usize) -> CohortId {
    CohortId::new(&format!("c{at}")).unwrap()
}

fn location(home: &Path) -> Location {
    Location::Folder(home.join("state"))
}

/// Writes the recorded membership of all cohorts, as if Braze had accepted every member.
fn make(home: &Path, members: u64) {
    let clock = Clock::new(Timestamp::now);
    let holder = Holder { host: "bench".to_owned(), process: 1, since: clock.now(), renewal: None };
    let state = StateWriter::open(&location(home), &holder, clock, 7).unwrap();
    for at in 0..COHORTS[0] + COHORTS[1] {
        let from = at as u64 * (members / 4);
        let mut keys: Vec<(MemberKey, u64)> = (from..from + members).map(|n| (key(&state, n), n)).collect();
        keys.sort_unstable();
        let mut part = state.part(&cohort(at), ChangeOp::Add).unwrap();
        keys.iter().for_each(|(_, n)| part.push(&packed(*n)).unwrap());
        let mut part = part.finish().unwrap();
        part.acknowledged = RowSet::all(part.rows);
        let workspace = RecordedWorkspace {
            connection: "braze".to_owned(),
            endpoint: String::new(),
            partner: String::new(),
            delivery: syncline::model::DeliveryMethod::CohortImport,
        };
        let first = Membership::first(&RunId::new(clock.now(), 0), clock.now(), workspace);
        let version = Membership { number: 1, members: Some(members), parts: vec![part], ..first };
        state.commit(&cohort(at), &version).unwrap();
    }
}

fn packed(n: u64) -> Vec<u8> {
    let mut packed = Vec::new();
    Identifier { kind: IdentifierKind::ExternalId, label: "", value: &format!("{n:012}") }
        .pack_into(&mut packed);
    packed
}

fn key(state: &StateWriter, n: u64) -> MemberKey {
    MemberKey::of(state.reader().seed(), &packed(n))
}

/// Computes the expected size, in a process of its own.
fn count(home: &Path, all: bool) {
    let state = StateReader::open(&location(home)).unwrap();
    let [include, exclude] = COHORTS;
    let segment = SegmentConfig {
        id: SegmentId::new("s").unwrap(),
        connection: ConnectionName::new("braze").unwrap(),
        named: BrazeObject::Name("S".to_owned()),
        include: (0..include).map(cohort).collect(),
        all,
        exclude: (include..include + exclude).map(cohort).collect(),
        campaigns: Vec::new(),
        canvases: Vec::new(),
        tag: None,
        size: SizeLimits::default(),
        canaries: Vec::new(),
        check: None,
        declared_at: String::new(),
        key_lines: KeyLines::default(),
    };
    let counted = expected(&segment, &state).unwrap();
    assert_eq!(counted.min, counted.max);
    println!("{} users", counted.min);
}
