//! The fuzzer: libFuzzer with one of the targets, which `SYNCLINE_FUZZ_TARGET` names. `scripts/fuzz` builds and runs it.
//!
//! Without the variable it prints the names of all targets.

#![no_main]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a finding is a panic"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "it prints and reads the environment"
)]

#[path = "../targets/mod.rs"]
mod targets;

mod judge;

use std::sync::OnceLock;

use syncline::model::is_parser_panic;
use targets::TARGETS;

/// The most memory that one input may take.
const MEMORY_MAX: usize = 256 << 20;

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// The chosen target, with its second implementation.
static CHOSEN: OnceLock<(fn(&[u8]), fn(&[u8]))> = OnceLock::new();

fn choose() {
    let Ok(name) = std::env::var("SYNCLINE_FUZZ_TARGET") else {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        std::process::exit(0);
    };
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("no target {name}"));
    let judge: fn(&[u8]) = if name == "avro" { judge::avro } else { |_| {} };
    CHOSEN.get_or_init(|| (target.run, judge));
    // A panic that the code contains is no finding.
    std::panic::set_hook(Box::new(|info| {
        if !is_parser_panic() {
            eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
            std::process::abort();
        }
    }));
}

libfuzzer_sys::fuzz_target!(
    init: choose(),
    |data: &[u8]| {
        let (run, judge) = CHOSEN.get().unwrap();
        ALLOCATOR.set_limit(ALLOCATOR.allocated() + MEMORY_MAX).unwrap();
        run(data);
        ALLOCATOR.set_limit(usize::MAX).unwrap();
        judge(data);
    }
);
