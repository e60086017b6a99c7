//! Serde forms of values in the state's files: numbers as hex text, times as text, sets of rows as pairs.
//!
//! Large numbers are text, because many JSON readers lose bits of them.

/// An unsigned number as hex digits of its full width.
pub(super) mod hex {
    use std::fmt::LowerHex;

    use serde::de::{Deserialize as _, Deserializer, Error as _};
    use serde::ser::Serializer;

    pub(in super::super) fn serialize<T: LowerHex, S: Serializer>(
        number: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:0width$x}", width = 2 * size_of::<T>()))
    }

    pub(in super::super) fn deserialize<'de, T: TryFrom<u128>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).ok().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| D::Error::custom(format_args!("`{text}` is not a number in hex")))
    }
}

/// A number of rows, members or bytes. It is limited, so that sums of such numbers do not overflow.
pub(super) mod count {
    use serde::de::{Deserialize as _, Deserializer, Error as _};
    use serde::ser::Serializer;

    const COUNT_MAX: u64 = 1 << 48;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference to the field")]
    pub(in super::super) fn serialize<S: Serializer>(count: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(*count)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let count = u64::deserialize(deserializer)?;
        let is_possible = count <= COUNT_MAX;
        is_possible.then_some(count).ok_or_else(|| D::Error::custom(format_args!("{count} is out of range")))
    }
}

/// Sets of numbers as lists of hex text.
pub(super) mod hex_sets {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct HexNumber(#[serde(with = "super::hex")] u64);

    pub(in super::super) fn serialize<S: Serializer>(
        sets: &BTreeMap<u32, BTreeSet<u64>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let list = |set: &BTreeSet<u64>| set.iter().copied().map(HexNumber).collect::<Vec<_>>();
        serializer.collect_map(sets.iter().map(|(key, set)| (key, list(set))))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u32, BTreeSet<u64>>, D::Error> {
        let lists = BTreeMap::<u32, Vec<HexNumber>>::deserialize(deserializer)?;
        let set = |list: Vec<HexNumber>| list.into_iter().map(|number| number.0).collect();
        Ok(lists.into_iter().map(|(key, list)| (key, set(list))).collect())
    }
}

/// A set of rows as pairs of start and end.
pub(super) mod rows {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::model::RowSet;

    pub(in super::super) fn serialize<S: Serializer>(
        rows: &RowSet,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(rows.ranges().iter().map(|range| [range.start, range.end]))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<RowSet, D::Error> {
        let pairs = Vec::<[u64; 2]>::deserialize(deserializer)?;
        Ok(RowSet::from_ranges(pairs.into_iter().map(|[start, end]| start..end)))
    }
}

/// A time in UTC, to the millisecond.
pub(super) mod time {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::model::Timestamp;
    use crate::state::checks::CheckTime;

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        CheckTime(*time).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        CheckTime::deserialize(deserializer).map(|time| time.0)
    }
}

/// A time in UTC that may be missing.
pub(super) mod optional_time {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::model::Timestamp;
    use crate::state::checks::CheckTime;

    #[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(in super::super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(CheckTime).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<CheckTime>::deserialize(deserializer)?.map(|time| time.0))
    }
}
