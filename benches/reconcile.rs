//! Benchmark of `reconcile`: one million members, end to end, with the real program and the sandbox over
//! loopback.
//!
//! It reports CPU seconds, wall seconds and peak memory of the program alone, as medians of five; the sandbox
//! is a process of its own. For comparison, a short Python script does the same work in the same run, without
//! state, guard or retries (`benches/yardstick.py`).
//!
//! `cargo bench --bench reconcile`, or with a number of members: `cargo bench --bench reconcile -- 200000`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that fails panics")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it prints its results and reads its arguments"
)]

#[path = "support/measure.rs"]
mod measure;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use measure::{Cost, ROUNDS, heading, measure, measure_child, report, rounds};
use support::{SYNCLINE, Sandbox};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "--measure") {
        return measure_child(&args[2..]);
    }
    let members = args.iter().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let home = tempfile::tempdir().unwrap();
    let python = Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok();
    println!("{members} members of 36 characters, medians of {ROUNDS}\n");
    heading();

    write_list(&home.path().join("people.csv"), 0, members);
    write_list(&home.path().join("changed.csv"), members / 100, members);
    let ours = rounds(|| first_import(home.path()));
    report("first import, all added", ours);
    if python {
        let theirs = rounds(|| yardstick_send(home.path()));
        report("  yardstick: Python, sends only", theirs);
        ratio(theirs, ours);
    }

    // The state is that of the last import. Its sandbox has stopped, so a request would fail.
    let url = fs::read_to_string(home.path().join("last")).unwrap();
    config(home.path(), &url, "people.csv");
    report("unchanged, no request", rounds(|| reconcile(home.path(), "In sync: 1 cohort")));
    config(home.path(), &url, "changed.csv");
    let ours = rounds(|| measure(home.path(), SYNCLINE, &["plan"], "to change"));
    report("plan, 1% in and 1% out", ours);
    if python {
        let script = yardstick();
        let theirs =
            rounds(|| measure(home.path(), "python3", &[&script, "diff", "people.csv", "changed.csv"], ""));
        report("  yardstick: Python, two sets", theirs);
        ratio(theirs, ours);
    }
    rekeys(home.path(), members);
}

/// Measures re-keys: 30% of the members have only a device, and 1% of all members, among them, get an owner.
fn rekeys(home: &Path, members: u64) {
    let people = fs::read_to_string(home.join("people.csv")).unwrap();
    let (mut list, mut owners) = (String::from("identity,device\n"), String::from("id,device\n"));
    for (n, id) in people.lines().skip(1).enumerate() {
        match n % 100 {
            0 => {
                writeln!(list, ",{id}").unwrap();
                writeln!(owners, "u-{id},{id}").unwrap();
            }
            1..30 => writeln!(list, ",{id}").unwrap(),
            _ => writeln!(list, "{id},").unwrap(),
        }
    }
    fs::write(home.join("mixed.csv"), list).unwrap();
    fs::write(home.join("owners.csv"), owners).unwrap();
    let sandbox = Sandbox::start();
    let _ = fs::remove_dir_all(home.join(".syncline"));
    config(home, &sandbox.1, "mixed.csv");
    let text = fs::read_to_string(home.join("sync.yaml")).unwrap();
    let text = text.replace("{ external_id: identity }", "{ external_id: identity }, { device_id: device }");
    fs::write(home.join("sync.yaml"), text).unwrap();
    reconcile(home, "Applied: 1 cohort");
    // Changes the file, so that it is read again.
    let list = fs::read_to_string(home.join("mixed.csv")).unwrap();
    fs::write(home.join("mixed.csv"), list + "one-more,\n").unwrap();
    let plain = rounds(|| measure(home, SYNCLINE, &["plan"], "to change"));
    report("plan, 30% by device", plain);
    let import = ["identity", "import", "owners.csv", "--external-id", "id", "--device-id", "device"];
    let imported = measure(home, SYNCLINE, &import, "with an owner");
    report("  import owners of 1%", imported);
    let rekeyed = rounds(|| measure(home, SYNCLINE, &["plan"], "re-keyed"));
    report("plan, 1% of all re-keyed", rekeyed);
    println!(
        "{:34} {:7.1}x {:7.1}x  for {} re-keys",
        "  re-keyed / plain",
        rekeyed.cpu / plain.cpu,
        rekeyed.wall / plain.wall,
        members / 100
    );
}

fn yardstick() -> String {
    format!("{}/benches/yardstick.py", env!("CARGO_MANIFEST_DIR"))
}

/// Writes `members` identifiers from number `from` on, in pseudo-random order.
fn write_list(path: &Path, from: u64, members: u64) {
    let mut text = String::from("identity\n");
    // An odd step visits every number below a power of two once.
    let (step, mask) = (0x9e37_79b1_u64, members.next_power_of_two() - 1);
    let numbers = (0..=mask).map(|n| n.wrapping_mul(step) & mask).filter(|n| *n < members);
    for number in numbers {
        let id = (number + from + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (a, b) = (id >> 32, id & 0xffff_ffff);
        writeln!(
            text,
            "{a:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            b >> 16,
            b & 0xfff,
            id % 0xfff,
            id >> 16 & 0xffff_ffff_ffff
        )
        .unwrap();
    }
    fs::write(path, text).unwrap();
}

fn config(home: &Path, url: &str, source: &str) {
    let text = format!(
        "version: 1
connections:
  braze: {{ kind: braze, endpoint: '{url}', data_import_key: {{ env: K }}, partner_api_key: {{ env: P }} }}
cohorts:
  - {{ id: million, name: Million, to: braze, source: {{ kind: file, path: {source} }}, match: [ {{ external_id: identity }} ] }}
"
    );
    fs::write(home.join("sync.yaml"), text).unwrap();
}

fn first_import(home: &Path) -> Cost {
    let sandbox = Sandbox::start();
    let _ = fs::remove_dir_all(home.join(".syncline"));
    config(home, &sandbox.1, "people.csv");
    fs::write(home.join("last"), &sandbox.1).unwrap();
    reconcile(home, "Applied: 1 cohort")
}

fn reconcile(home: &Path, expected: &str) -> Cost {
    measure(home, SYNCLINE, &["reconcile"], expected)
}

fn yardstick_send(home: &Path) -> Cost {
    let sandbox = Sandbox::start();
    measure(home, "python3", &[&yardstick(), "send", &sandbox.1, "people.csv"], "")
}

fn ratio(theirs: Cost, ours: Cost) {
    println!("{:34} {:7.1}x {:7.1}x", "  yardstick / ours", theirs.cpu / ours.cpu, theirs.wall / ours.wall);
}
