//! Prints how many tests were skipped for the lack of a server or a tool, and why. Cargo runs this program after the tests.

#![allow(clippy::print_stdout, reason = "it prints a summary")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::parent_id;
use std::path::Path;

fn main() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    // `skip_test` writes a file for each skipped test, in the folder of the Cargo process that runs both.
    let files = fs::read_dir(folder.join(parent_id().to_string())).into_iter().flatten().flatten();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for reason in files.filter_map(|file| fs::read_to_string(file.path()).ok()) {
        *reasons.entry(reason).or_default() += 1;
    }
    let _ = fs::remove_dir_all(folder);
    println!("{} tests were skipped", reasons.values().sum::<usize>());
    for (reason, count) in reasons {
        println!("{count:6}  {reason}");
    }
}
