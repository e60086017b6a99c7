//! Benchmark of `plan`: lists of 1 and 10 million members with 1% changes, and runs without changes.
//!
//! The benchmark generates its lists deterministically and creates the state by a real first import into the
//! sandbox. The new list has another random order than the old one. It reports medians of five.
//!
//! `cargo bench --bench scale`, or with sizes: `cargo bench --bench scale -- 1000000 50000000`. For a
//! comparison with other tools: `python3 benches/yardsticks.py`, which uses the modes below that measure
//! nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that fails panics")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it prints its results and reads its arguments"
)]

#[path = "support/measure.rs"]
mod measure;
mod support;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use measure::{ROUNDS, heading, measure, measure_child, report, rounds};
use support::{SYNCLINE, Sandbox};

const SIZES: [u64; 2] = [1_000_000, 10_000_000];
const COHORTS: u64 = 50;
const COHORT_LEN: u64 = 100_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["--measure", command @ ..] => {
            measure_child(&command.iter().map(|&part| part.to_owned()).collect::<Vec<_>>());
        }
        ["--make", members, home] => {
            drop(Scene::one_column(Path::new(home), members.parse().unwrap()).import());
        }
        ["--naive", old, new] => naive(Path::new(old), Path::new(new)),
        ["--cohorts", cohorts, members] => unchanged(cohorts.parse().unwrap(), members.parse().unwrap()),
        sizes => measure_all(sizes),
    }
}

fn measure_all(sizes: &[&str]) {
    let sizes: Vec<u64> = sizes.iter().map(|size| size.parse().unwrap()).collect();
    println!("A plan, 1% in and 1% out, members of 36 characters, medians of {ROUNDS}\n");
    heading();
    for members in if sizes.is_empty() { SIZES.to_vec() } else { sizes } {
        let home = tempfile::tempdir().unwrap();
        plan(&Scene::one_column(home.path(), members), &format!("{members}, one column"));
        let home = tempfile::tempdir().unwrap();
        plan(&Scene::three_columns(home.path(), members), &format!("{members}, three columns and rules"));
    }
    unchanged(COHORTS, COHORT_LEN);
}

/// Measures the plan, and then how much an apply writes.
fn plan(scene: &Scene<'_>, name: &str) {
    let sandbox = scene.import();
    report(name, rounds(|| measure(scene.home, SYNCLINE, &["plan"], "to change")));
    let base = part_bytes(scene.home);
    measure(scene.home, SYNCLINE, &["reconcile"], "Applied: 1 cohort");
    drop(sandbox);
    let written = part_bytes(scene.home) - base;
    println!("    the apply adds {written} bytes to a state of {base}: {:.1}%", percent(written, base));
}

#[allow(clippy::cast_precision_loss, reason = "the printed figure may be rounded")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}

/// Bytes of all parts.
fn part_bytes(home: &Path) -> u64 {
    let runs = fs::read_dir(home.join(".syncline/cohorts/scale/parts")).unwrap();
    runs.map(|run| run.unwrap().metadata().unwrap().len()).sum()
}

/// Measures a run with many cohorts and unchanged sources, which are not read.
fn unchanged(cohorts: u64, members: u64) {
    let home = tempfile::tempdir().unwrap();
    write_list(&home.path().join("old.csv"), "identity", order(0, members, 1), one_column);
    std::thread::sleep(Duration::from_secs(3)); // a recently changed file would be read again
    let sandbox = Sandbox::start();
    let mut text = connection(&sandbox.1);
    for cohort in 0..cohorts {
        writeln!(
            text,
            "  - {{ id: c{cohort}, name: C {cohort}, to: braze, source: {{ kind: file, path: old.csv }}, match: [ {{ external_id: identity }} ] }}"
        )
        .unwrap();
    }
    fs::write(home.path().join("sync.yaml"), text).unwrap();
    measure(home.path(), SYNCLINE, &["reconcile"], "Applied: ");
    let cost = rounds(|| measure(home.path(), SYNCLINE, &["reconcile"], "In sync: "));
    println!(
        "{:34} {:8.3} {:8.3} {:8.0}",
        format!("{cohorts} x {members}, unchanged"),
        cost.cpu,
        cost.wall,
        cost.mebibytes
    );
}

/// A folder with an old list, which is in the state, and a new one.
struct Scene<'a> {
    home: &'a Path,
    rules: &'static str,
}

impl<'a> Scene<'a> {
    fn one_column(home: &'a Path, members: u64) -> Self {
        Self { home, rules: "[ { external_id: identity } ]" }.with_lists("identity", members, one_column)
    }

    fn three_columns(home: &'a Path, members: u64) -> Self {
        let rules =
            "[ { external_id: identity }, { alias: { label: crm, name: user } }, { device_id: device } ]";
        Self { home, rules }.with_lists("identity,user,device", members, three_columns)
    }

    fn with_lists(self, header: &str, members: u64, row: fn(&mut String, u64)) -> Self {
        write_list(&self.home.join("old.csv"), header, order(0, members, 0x9e37_79b1), row);
        write_list(&self.home.join("new.csv"), header, order(members / 100, members, 0x85eb_ca6b), row);
        self
    }

    /// Records the old list by a real first import.
    fn import(&self) -> Sandbox {
        let sandbox = Sandbox::start();
        self.configure(&sandbox.1, "old.csv");
        measure(self.home, SYNCLINE, &["reconcile"], "Applied: 1 cohort");
        self.configure(&sandbox.1, "new.csv");
        sandbox
    }

    fn configure(&self, url: &str, source: &str) {
        let (head, rules) = (connection(url), self.rules);
        let text = format!(
            "{head}  - {{ id: scale, name: Scale, to: braze, source: {{ kind: file, path: {source} }}, match: {rules} }}\n"
        );
        fs::write(self.home.join("sync.yaml"), text).unwrap();
    }
}

fn connection(url: &str) -> String {
    format!(
        "version: 1
connections:
  braze: {{ kind: braze, endpoint: '{url}', data_import_key: {{ env: K }}, partner_api_key: {{ env: P }} }}
cohorts:
"
    )
}

/// `members` numbers from `from` on, in an order that depends on `step`.
fn order(from: u64, members: u64, step: u64) -> impl Iterator<Item = u64> + use<> {
    // An odd step visits every number below a power of two once; the shifts make it look random.
    let mask = members.next_power_of_two() - 1;
    let mixed = move |n: u64| {
        let n = n.wrapping_mul(step | 1) & mask;
        let n = (n ^ n >> (mask.count_ones() / 2 + 1)).wrapping_mul(0xc2b2_ae35) & mask;
        n ^ n >> (mask.count_ones() / 2 + 1)
    };
    (0..=mask).map(mixed).filter(move |n| *n < members).map(move |n| from + n)
}

fn write_list(path: &Path, header: &str, order: impl Iterator<Item = u64>, row: fn(&mut String, u64)) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    writeln!(file, "{header}").unwrap();
    let mut text = String::new();
    for number in order {
        text.clear();
        row(&mut text, number);
        file.write_all(text.as_bytes()).unwrap();
    }
    file.flush().unwrap();
}

fn one_column(text: &mut String, number: u64) {
    id(text, number);
    text.push('\n');
}

/// Every second user has an external id; the others have an alias or only a device, alternating.
fn three_columns(text: &mut String, number: u64) {
    let has = [number.is_multiple_of(2), number.is_multiple_of(4) || number % 4 == 1, true];
    for (column, has) in (0..).zip(has) {
        if has {
            id(text, number << 2 | column);
        }
        text.push(if column == 2 { '\n' } else { ',' });
    }
}

/// Appends 36 characters that look like a random UUID.
fn id(text: &mut String, number: u64) {
    let mix = |n: u64| {
        let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ n >> 31
    };
    let (a, b) = (mix(number), mix(!number));
    write!(
        text,
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
    .unwrap();
}

/// Baseline for comparison: the old list in a hash set, from which the new one is removed.
fn naive(old: &Path, new: &Path) {
    let lines = |path| BufReader::new(File::open(path).unwrap()).lines().skip(1).map(Result::unwrap);
    let mut old_ids: HashSet<String> = lines(old).collect();
    let added = lines(new).filter(|id| !old_ids.remove(id)).count();
    println!("{added} {}", old_ids.len());
}
