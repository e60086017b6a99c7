//! What a process takes: CPU, wall and memory of its own, as medians. Nothing here knows what is measured.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

pub(crate) const ROUNDS: usize = 5;

/// What a process took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
    pub(crate) mebibytes: f64,
}

/// The medians of some rounds.
pub(crate) fn rounds(mut round: impl FnMut() -> Cost) -> Cost {
    let costs: Vec<Cost> = (0..ROUNDS).map(|_| round()).collect();
    let median = |of: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    Cost { cpu: median(|c| c.cpu), wall: median(|c| c.wall), mebibytes: median(|c| c.mebibytes) }
}

pub(crate) fn heading() {
    println!("{:34} {:>8} {:>8} {:>8}", "", "CPU s", "wall s", "MiB");
}

pub(crate) fn report(what: &str, Cost { cpu, wall, mebibytes }: Cost) {
    println!("{what:34} {cpu:8.2} {wall:8.2} {mebibytes:8.0}");
}

/// Runs a program through a fresh process of this one, whose only child it is: so the figures are its own.
pub(crate) fn measure(home: &Path, program: &str, args: &[&str], says: &str) -> Cost {
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

/// The fresh process: runs the command, and prints what it took.
pub(crate) fn measure_child(command: &[String]) {
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
