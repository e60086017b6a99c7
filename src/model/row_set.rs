//! A set of row numbers, stored as ranges.
//!
//! An apply acknowledges a part from front to back, so the set is nearly always one range, with a hole for each row that
//! Braze rejected or did not answer.

use std::ops::Range;

/// Row numbers as ordered, disjoint, non-adjacent ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSet(Vec<Range<u64>>);

impl RowSet {
    /// Creates the set of all rows below `len`.
    #[must_use]
    pub fn all(len: u64) -> Self {
        let mut set = Self::default();
        set.insert(0..len);
        set
    }

    /// Creates the set from ranges in any order.
    #[must_use]
    pub fn from_ranges(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }

    /// The ranges, sorted.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Whether every row is below `len`.
    #[must_use]
    pub fn is_within(&self, len: u64) -> bool {
        self.0.last().is_none_or(|last| last.end <= len)
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds every row of `range`.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|r| r.end < range.start);
        let last = self.0.partition_point(|r| r.start <= range.end);
        let start =
            self.0.get(first).filter(|_| first < last).map_or(range.start, |r| r.start.min(range.start));
        let end = if first < last { self.0[last - 1].end.max(range.end) } else { range.end };
        self.0.splice(first..last, std::iter::once(start..end));
    }

    /// Adds every row of another set.
    pub fn extend(&mut self, other: &Self) {
        other.0.iter().for_each(|range| self.insert(range.clone()));
    }

    /// Returns the rows below `len` that are not in the set.
    #[must_use]
    pub fn complement(&self, len: u64) -> Self {
        let mut rest = Vec::new();
        let mut start = 0;
        for range in &self.0 {
            rest.push(start..range.start.min(len));
            start = range.end;
        }
        rest.push(start..len);
        Self::from_ranges(rest)
    }

    /// Returns the set after `rows`, sorted, are deleted from the numbering: later rows move up.
    #[must_use]
    pub fn without(&self, rows: &[u64]) -> Self {
        let before = |row: u64| rows.partition_point(|taken| *taken < row) as u64;
        Self::from_ranges(
            self.0.iter().map(|range| range.start - before(range.start)..range.end - before(range.end)),
        )
    }

    /// Whether `row` is in the set.
    #[must_use]
    pub fn contains(&self, row: u64) -> bool {
        let at = self.0.partition_point(|r| r.end <= row);
        self.0.get(at).is_some_and(|r| r.start <= row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_set_equals_the_set_of_its_rows(ranges in proptest::collection::vec((0u64..60, 0u64..9), 0..12)) {
            let mut naive = std::collections::BTreeSet::new();
            let mut set = RowSet::default();
            for (start, len) in ranges {
                set.insert(start..start + len);
                naive.extend(start..start + len);
            }
            for row in 0..80 {
                prop_assert_eq!(set.contains(row), naive.contains(&row));
            }
            prop_assert_eq!(set.len(), naive.len() as u64);
            let taken: Vec<u64> = (0..80).filter(|row| row % 7 == 3).collect();
            let left = set.without(&taken);
            for (after, row) in (0..80u64).filter(|row| row % 7 != 3).enumerate() {
                prop_assert_eq!(left.contains(after as u64), naive.contains(&row));
            }
            let rest = set.complement(64);
            for row in 0..80 {
                prop_assert_eq!(rest.contains(row), row < 64 && !naive.contains(&row));
            }
            prop_assert!(set.ranges().windows(2).all(|w| w[0].end < w[1].start), "{:?}", set);
        }
    }
}
