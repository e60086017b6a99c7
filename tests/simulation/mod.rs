//! Deterministic simulation: the real program under faults, with simulated time, disk and network.
//!
//! A seed decides everything: the users, the sources and their changes, when processes start, which of them runs at each
//! step, and every fault. A run of the same seed repeats all of it. Processes are threads that take turns
//! ([`schedule`]); at each step of the state and each request, another one may continue, and the process may be paused
//! or killed ([`world`]). Braze and Heap are the sandbox, called directly. A judge ([`judge`]) follows all requests and
//! knows the truth.
//!
//! ```text
//! SYNCLINE_SEED=7 cargo test --lib simulation::one_seed -- --ignored --nocapture      one seed, with all steps
//! SYNCLINE_SECONDS=3600 cargo test --release --lib simulation::fresh_seeds -- --ignored --nocapture
//! python3 scripts/planted-bugs.py                                       how many seeds each planted bug takes
//! ```

#![allow(clippy::print_stderr, reason = "it prints its figures")]

mod bucket;
mod clock;
mod damage;
mod dice;
mod faults;
mod features;
mod figures;
mod judge;
mod network;
mod process;
mod scenario;
mod schedule;
mod vendor;
mod world;

use scenario::simulate;

/// The seeds of each run of the tests.
const SEEDS: std::ops::Range<u64> = 0..40;

#[test]
fn no_fault_harms_an_audience() {
    let bad: Vec<_> = SEEDS
        .map(|seed| (seed, simulate(seed, false).violations))
        .filter(|(_, violations)| !violations.is_empty())
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn a_seed_repeats_everything() {
    for seed in [3, 8] {
        assert_eq!(simulate(seed, false).digest, simulate(seed, false).digest, "seed {seed}");
    }
}

#[test]
#[ignore = "it runs for as many seconds as SYNCLINE_SECONDS says"]
#[allow(clippy::disallowed_methods, reason = "the duration is given by the environment")]
fn fresh_seeds() {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = variable("SYNCLINE_SECONDS").unwrap();
    let first = variable("SYNCLINE_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    let figures = figures::simulate_for(std::time::Duration::from_secs(seconds), first, 2);
    eprintln!("{figures}");
    assert!(figures.violations.is_empty());
}

#[test]
#[ignore = "it is for a program with a planted bug"]
#[allow(clippy::disallowed_methods, reason = "the number of seeds is given by the environment")]
fn until_found() {
    let seeds: u64 = std::env::var("SYNCLINE_SEEDS").unwrap().parse().unwrap();
    let found =
        (0..seeds).find_map(|seed| Some((seed, simulate(seed, false).violations.into_iter().next()?)));
    match found {
        Some((seed, violation)) => eprintln!("found: {} seeds: {violation}", seed + 1),
        None => eprintln!("not found: {seeds} seeds"),
    }
}

#[test]
#[ignore = "it prints every step of one seed"]
#[allow(clippy::disallowed_methods, reason = "the seed is given by the environment")]
fn one_seed() {
    let seed = std::env::var("SYNCLINE_SEED").unwrap().parse().unwrap();
    let outcome = simulate(seed, true);
    eprintln!("{outcome:#?}");
    assert!(outcome.violations.is_empty());
}
