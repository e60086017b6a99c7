//! Order-independent checksum of a set of members: count and sum of hashes.

/// The number of members and the sum of their hashes. Equal sets have equal checksums in any order, and the checksum of
/// a change can be added or subtracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableChecksum {
    /// Number of members.
    pub rows: u64,
    /// The exact sum of the 64-bit hashes.
    pub sum: i128,
}

impl TableChecksum {
    /// Adds one member by its hash.
    pub fn add(&mut self, hash: i64) {
        self.rows += 1;
        self.sum += i128::from(hash);
    }

    /// Returns the checksum after removing `gone` and adding `come`. `None`: more would be removed than
    /// exists, or a number is out of range.
    #[must_use]
    pub fn after(self, gone: Self, come: Self) -> Option<Self> {
        let rows = self.rows.checked_add(come.rows)?.checked_sub(gone.rows)?;
        Some(Self { rows, sum: self.sum.checked_sub(gone.sum)?.checked_add(come.sum)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_in_any_order_give_the_same_checksum() {
        let of = |hashes: &[i64]| {
            let mut checksum = TableChecksum::default();
            hashes.iter().for_each(|hash| checksum.add(*hash));
            checksum
        };
        let before = of(&[i64::MIN, i64::MIN, 7]);
        assert_eq!(before.after(of(&[i64::MIN]), of(&[9, 3])), Some(of(&[3, 7, 9, i64::MIN])));
        assert_eq!(of(&[1]).after(of(&[1, 2]), of(&[])), None);
    }
}
