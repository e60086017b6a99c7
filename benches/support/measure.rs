//! Measurement of a process: CPU, wall time and peak memory, as medians.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

pub(crate) const ROUNDS: usize = 5;

/// Cost of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
    pub(crate) mebibytes: f64,
}

/// The medians of all rounds.
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

pub(crate) fn report(name: &str, Cost { cpu, wall, mebibytes }: Cost) {
    println!("{name:34} {cpu:8.2} {wall:8.2} {mebibytes:8.0}");
}

/// Runs a program as the only child of a fresh process, so that the figures are its own.
pub(crate) fn measure(home: &Path, program: &str, args: &[&str], expected: &str) -> Cost {
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
    assert!(output.status.success() && text.contains(expected), "{text}");
    let figures: Vec<f64> = text.lines().last().unwrap().split(' ').map(|f| f.parse().unwrap()).collect();
    Cost { cpu: figures[0], wall: figures[1], mebibytes: figures[2] }
}

/// Runs the command in the fresh process and prints its cost.
pub(crate) fn measure_child(command: &[String]) {
    let began = Instant::now();
    let output = Command::new(&command[0]).args(&command[1..]).output().unwrap();
    let wall = began.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    #[allow(clippy::cast_precision_loss, reason = "printed figures may be rounded")]
    let (cpu, mebibytes) = (
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6,
        usage.max_rss() as f64 / 1024.0,
    );
    print!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{cpu} {wall} {mebibytes}");
}
