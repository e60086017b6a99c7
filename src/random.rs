//! Random numbers, for unique names and for waits. The simulation seeds them, so that a run can be repeated.

use uuid::Uuid;

#[cfg(test)]
thread_local! {
    /// The state of the generator of a simulated process. `None`: numbers are random.
    static SEEDED: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// Makes the numbers of this thread repeatable.
#[cfg(test)]
pub(crate) fn seed(seed: u64) {
    SEEDED.set(Some(seed));
}

/// The next number of a generator (SplitMix64; Steele, Lea and Flood, 2014).
#[cfg(test)]
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The next number of a seeded thread.
#[cfg(test)]
fn seeded() -> Option<u64> {
    let mut state = SEEDED.get()?;
    let number = next(&mut state);
    SEEDED.set(Some(state));
    Some(number)
}

#[cfg(not(test))]
fn seeded() -> Option<u64> {
    None
}

/// A unique id.
#[must_use]
pub fn unique_id() -> Uuid {
    match (seeded(), seeded()) {
        (Some(high), Some(low)) => Uuid::from_u64_pair(high, low),
        _ => Uuid::new_v4(),
    }
}

/// A random number for a unique name.
#[must_use]
pub fn unique_number() -> u64 {
    seeded().unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0)
}

/// A random number from 0 to 1. Without a source of random numbers it is 0.
#[must_use]
pub fn share() -> f64 {
    let number = seeded().and_then(|number| u32::try_from(number >> 32).ok());
    f64::from(number.unwrap_or_else(|| getrandom::u32().unwrap_or(0))) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_the_numbers_and_without_one_they_differ() {
        let draw = || (unique_id(), unique_number(), share());
        assert_ne!(draw().0, draw().0);
        seed(7);
        let first = [draw(), draw()];
        seed(7);
        assert_eq!([draw(), draw()], first);
        assert_ne!(first[0], first[1]);
        assert!((0.0..=1.0).contains(&first[0].2));
    }
}
