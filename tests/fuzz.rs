//! Replay of the fuzzer's inputs: those that reach most of the code, and those that once were findings.
//!
//! A process of its own replays the inputs of one target after the other, so that a crash names its input, and limits of
//! memory and CPU time concern the replay alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};

use crate::support::{files_below, root};

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use targets::TARGETS;

/// The most memory that one input may take.
const MEMORY_MAX: u64 = 256 << 20;
/// CPU seconds of one input, without optimization.
const CPU_SECONDS_MAX: u64 = 3;
const CORPUS: &str = "fuzz/corpus";
/// All inputs in the repository.
const CORPUS_LEN_MAX: u64 = 2 << 20;
/// The file that the replay names its current input in.
const CURRENT: &str = "SYNCLINE_REPLAY_CURRENT";

fn inputs(target: &str) -> Vec<PathBuf> {
    let mut paths = files_below(&root().join(CORPUS).join(target));
    paths.sort();
    paths
}

#[test]
fn inputs_of_the_fuzzer_are_replayed_within_the_limits() {
    let home = tempfile::tempdir().unwrap();
    let memory = Path::new("/dev/shm");
    let states = tempfile::tempdir_in(if memory.is_dir() { memory } else { home.path() }).unwrap();
    let current = home.path().join("current");
    let replay = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fuzz::replay", "--ignored", "--test-threads=1"])
        .env(CURRENT, &current)
        .env("TMPDIR", home.path())
        .env("SYNCLINE_FUZZ_STATES", states.path())
        .output()
        .unwrap();
    let text = [&replay.stdout[..], &replay.stderr[..]].map(String::from_utf8_lossy).concat();
    let input = fs::read_to_string(&current).unwrap_or_default();
    assert!(replay.status.success(), "{input}: {}\n{text}", replay.status);
    assert!(text.contains("1 passed"), "{text}");
}

/// Run by the test above, in a process of its own.
#[allow(clippy::disallowed_methods, reason = "the variable names a file of the test")]
#[test]
#[ignore = "ends its process at the limits"]
fn replay() {
    let Some(current) = std::env::var_os(CURRENT) else { return };
    // Later allocations fail, which ends the process.
    let used = data_len();
    setrlimit(Resource::RLIMIT_DATA, used + MEMORY_MAX, used + MEMORY_MAX).unwrap();
    for target in TARGETS {
        for input in inputs(target.name) {
            let cpu = cpu_seconds() + CPU_SECONDS_MAX;
            setrlimit(Resource::RLIMIT_CPU, cpu, nix::libc::RLIM_INFINITY).unwrap();
            fs::write(&current, input.display().to_string()).unwrap();
            (target.run)(&fs::read(&input).unwrap());
        }
    }
}

/// Bytes of the data segment, which `RLIMIT_DATA` limits.
fn data_len() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
}

fn cpu_seconds() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    u64::try_from(usage.user_time().tv_sec() + usage.system_time().tv_sec()).unwrap()
}

#[test]
fn every_target_has_inputs_and_every_input_a_target() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert!(names.is_sorted(), "{names:?}");
    for name in &names {
        assert!(inputs(name).len() > 1, "{name} has no inputs");
    }
    let folders = fs::read_dir(root().join(CORPUS)).unwrap();
    for folder in folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert!(names.contains(&folder.as_str()), "{CORPUS}/{folder} belongs to no target");
    }
    let len = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let total: u64 = files_below(Path::new(&root().join(CORPUS))).iter().map(len).sum();
    assert!(total < CORPUS_LEN_MAX, "{total} bytes");
}
