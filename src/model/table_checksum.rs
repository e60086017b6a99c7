//! What is in a table of members, in two numbers. It knows nothing of tables.

/// How many members, and the sum of their hashes. Two tables of the same members have the same numbers in whatever
/// order they lie there, and what comes and goes can be added and taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableChecksum {
    /// Members.
    pub rows: u64,
    /// The exact sum of hashes of 64 bits each.
    pub sum: i128,
}

impl TableChecksum {
    /// Takes note of one more member, by its hash.
    pub fn add(&mut self, hash: i64) {
        self.rows += 1;
        self.sum += i128::from(hash);
    }

    /// What is there once `gone` went and `come` came. None: more went than was there.
    #[must_use]
    pub fn after(self, gone: Self, come: Self) -> Option<Self> {
        let rows = (self.rows + come.rows).checked_sub(gone.rows)?;
        Some(Self { rows, sum: self.sum - gone.sum + come.sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_in_any_order_gives_the_same_numbers() {
        let of = |hashes: &[i64]| {
            let mut tabled = TableChecksum::default();
            hashes.iter().for_each(|hash| tabled.add(*hash));
            tabled
        };
        let before = of(&[i64::MIN, i64::MIN, 7]);
        assert_eq!(before.after(of(&[i64::MIN]), of(&[9, 3])), Some(of(&[3, 7, 9, i64::MIN])));
        assert_eq!(of(&[1]).after(of(&[1, 2]), of(&[])), None);
    }
}
