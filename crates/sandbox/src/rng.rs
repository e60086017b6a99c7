//! Deterministic random numbers: the same seed gives the same sequence on every machine.
//!
//! SplitMix64 (Steele, Lea and Flood, 2014): one addition and a mix of bits per number. Good enough to spread
//! test data; never used for secrets.

#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An independent sequence for item `n` of a seed.
    pub(super) fn of(seed: u64, n: u64) -> Self {
        let mut own = Self(n.wrapping_mul(0xd134_2543_de82_ef95) ^ Self(seed).draw());
        Self::new(own.draw())
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..end`; 0 if the range is empty.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        u64::try_from((u128::from(self.draw()) * u128::from(end)) >> 64).unwrap_or(0)
    }

    /// An index into a list of this length.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// A number in `0.0..1.0`.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(super) fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.index(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_repeat_with_their_seed_and_are_spread_evenly() {
        let draws = |seed| std::array::from_fn::<u64, 4, _>(|n| Rng::of(seed, n as u64).draw());
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        let mut rng = Rng::new(7);
        let hits = (0..10_000).filter(|_| rng.chance(0.2)).count();
        assert!((1_900..2_100).contains(&hits), "{hits}");
        let mut list: Vec<u32> = (0..100).collect();
        rng.shuffle(&mut list);
        assert_ne!(list, (0..100).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..100).collect::<Vec<_>>());
        assert_eq!(Rng::new(3).below(0), 0);
    }
}
