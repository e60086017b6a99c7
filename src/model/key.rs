//! The 128-bit key by which members are sorted, compared and looked up.
//!
//! Keys are hashes with a secret seed of the state, so identifiers cannot be crafted to collide. They are uniformly
//! distributed, so the first bits are a good partition.

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The seed of a state's keys. Two states sort the same members differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySeed(pub u64);

/// A member's key: the hash of its packed identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberKey(pub u128);

impl MemberKey {
    /// The key of a packed identifier (`Identifier::pack_into`).
    #[must_use]
    #[inline]
    pub fn of(seed: KeySeed, packed: &[u8]) -> Self {
        Self(xxh3_128_with_seed(packed, seed.0))
    }

    /// The first eight bits: the number of one of 256 partitions.
    #[must_use]
    #[inline]
    pub fn partition(self) -> usize {
        usize::from(self.0.to_be_bytes()[0])
    }

    /// The high and low halves, as parts store them.
    #[must_use]
    #[inline]
    pub fn halves(self) -> (u64, u64) {
        let bytes = self.0.to_be_bytes();
        let half = |at: usize| {
            let mut out = [0; 8];
            out.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(out)
        };
        (half(0), half(8))
    }

    /// The key from its halves.
    #[must_use]
    #[inline]
    pub fn from_halves(high: u64, low: u64) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_keep_the_order() {
        let key = MemberKey(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        assert_eq!(key.halves(), (0x0102_0304_0506_0708, 0x090a_0b0c_0d0e_0f10));
        assert_eq!(MemberKey::from_halves(key.halves().0, key.halves().1), key);
        assert_eq!(key.partition(), 1);
    }

    #[test]
    fn the_seed_matters() {
        assert_ne!(MemberKey::of(KeySeed(1), b"u1"), MemberKey::of(KeySeed(2), b"u1"));
    }
}
