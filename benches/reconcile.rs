//! One million members, end to end: the real program against the sandbox over loopback.
//!
//! Prints CPU seconds, wall seconds and peak memory of the program alone (the sandbox is a process of its
//! own), as medians of five, beside a yardstick that does the same work in the same run: a short Python
//! script without state, guard or retries (`benches/yardstick.py`).
//!
//! `cargo bench --bench reconcile`, or with a number of members: `cargo bench --bench reconcile -- 200000`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that fails panics")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it prints its results and reads its arguments"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

const SYNCLINE: &str = env!("CARGO_BIN_EXE_syncline");
const ROUNDS: usize = 5;

/// What a process took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    cpu: f64,
    wall: f64,
    mebibytes: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "--measure") {
        return measure_child(&args[2..]);
    }
    let members = args.iter().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let home = tempfile::tempdir().unwrap();
    let python = Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok();
    println!("{members} members of 36 characters, medians of {ROUNDS}\n");
    println!("{:34} {:>8} {:>8} {:>8}", "", "CPU s", "wall s", "MiB");

    write_list(&home.path().join("people.csv"), 0, members);
    write_list(&home.path().join("changed.csv"), members / 100, members);
    let ours = rounds(|| first_import(home.path()));
    report("first import, all added", ours);
    if python {
        let theirs = rounds(|| yardstick_send(home.path()));
        report("  yardstick: Python, sends only", theirs);
        ratio(theirs, ours);
    }

    // The record is that of the last import. Its sandbox is gone: a request would fail.
    let url = fs::read_to_string(home.path().join("last")).unwrap();
    config(home.path(), &url, "people.csv");
    report("unchanged, no request", rounds(|| reconcile(home.path(), "In step: 1 cohort")));
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
}

fn yardstick() -> String {
    format!("{}/benches/yardstick.py", env!("CARGO_MANIFEST_DIR"))
}

/// `members` identifiers, of which the first is number `from`, in an order that is not theirs.
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

struct Sandbox(Child, String);

impl Sandbox {
    fn start() -> Self {
        let mut child = Command::new(SYNCLINE)
            .args(["sandbox", "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim().strip_prefix("sandbox on ").unwrap().to_owned())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn first_import(home: &Path) -> Cost {
    let sandbox = Sandbox::start();
    let _ = fs::remove_dir_all(home.join(".syncline"));
    config(home, &sandbox.1, "people.csv");
    fs::write(home.join("last"), &sandbox.1).unwrap();
    reconcile(home, "Applied: 1 cohort")
}

fn reconcile(home: &Path, says: &str) -> Cost {
    measure(home, SYNCLINE, &["reconcile"], says)
}

fn yardstick_send(home: &Path) -> Cost {
    let sandbox = Sandbox::start();
    measure(home, "python3", &[&yardstick(), "send", &sandbox.1, "people.csv"], "")
}

fn rounds(mut round: impl FnMut() -> Cost) -> Cost {
    let costs: Vec<Cost> = (0..ROUNDS).map(|_| round()).collect();
    let median = |of: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    Cost { cpu: median(|c| c.cpu), wall: median(|c| c.wall), mebibytes: median(|c| c.mebibytes) }
}

fn report(what: &str, Cost { cpu, wall, mebibytes }: Cost) {
    println!("{what:34} {cpu:8.2} {wall:8.2} {mebibytes:8.0}");
}

fn ratio(theirs: Cost, ours: Cost) {
    println!("{:34} {:7.1}x {:7.1}x", "  yardstick / ours", theirs.cpu / ours.cpu, theirs.wall / ours.wall);
}

/// Runs a program through a fresh process of this one, whose only child it is: so the figures are its own.
fn measure(home: &Path, program: &str, args: &[&str], says: &str) -> Cost {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--measure", program])
        .args(args)
        .current_dir(home)
        .env("K", "sandbox-data-import-key")
        .env("P", "sandbox-partner-api-key")
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains(says), "{text}");
    let figures: Vec<f64> = text.lines().last().unwrap().split(' ').map(|f| f.parse().unwrap()).collect();
    Cost { cpu: figures[0], wall: figures[1], mebibytes: figures[2] }
}

fn measure_child(command: &[String]) {
    let began = Instant::now();
    let output = Command::new(&command[0]).args(&command[1..]).output().unwrap();
    let wall = began.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let (cpu, mebibytes) = (
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6,
        usage.max_rss() as f64 / 1024.0,
    );
    print!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{cpu} {wall} {mebibytes}");
}
