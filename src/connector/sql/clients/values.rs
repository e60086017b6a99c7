//! Values of PostgreSQL and Redshift → fields, by column type: the same fields as from typed files.
//!
//! Most types are requested as text. Floating-point numbers, dates and timestamps are requested in binary, since their
//! text depends on settings of the server.

use tokio_postgres::types::{Oid, Type};

use crate::connector::cells::ColumnCells;
use crate::connector::iso8601::{self, DurationUnit};
use crate::model::{Field, Fields, NonIdentifier};

/// Days and microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH_DAYS: i64 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS * 86_400_000_000;

/// How the values of a column are requested and parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnKind {
    /// As text that is the value.
    Text,
    /// Raw bytes of text.
    Bytes,
    /// In binary.
    Single,
    Double,
    Date,
    Time,
    /// With or without a time zone.
    Timestamp(bool),
    /// As text.
    Numeric,
    Json,
    Other(NonIdentifier),
}

impl ColumnKind {
    /// The kind of a type. `category` is the type's `typcategory`, for types that are not built in.
    pub(super) fn of(oid: Oid, category: char) -> Self {
        match Type::from_oid(oid) {
            Some(Type::BYTEA) => Self::Bytes,
            Some(Type::FLOAT4) => Self::Single,
            Some(Type::FLOAT8) => Self::Double,
            Some(Type::NUMERIC) => Self::Numeric,
            Some(Type::JSON | Type::JSONB) => Self::Json,
            Some(Type::DATE) => Self::Date,
            Some(Type::TIME) => Self::Time,
            Some(Type::TIMETZ) => Self::Other(NonIdentifier::Time),
            Some(Type::TIMESTAMP) => Self::Timestamp(false),
            Some(Type::TIMESTAMPTZ) => Self::Timestamp(true),
            Some(Type::INTERVAL) => Self::Other(NonIdentifier::Duration),
            Some(Type::MONEY | Type::TS_VECTOR | Type::TSQUERY | Type::RECORD) => {
                Self::Other(NonIdentifier::Unsupported)
            }
            _ => match category {
                'A' => Self::Other(NonIdentifier::List),
                'C' => Self::Other(NonIdentifier::Object),
                'R' | 'G' => Self::Other(NonIdentifier::Unsupported),
                _ => Self::Text,
            },
        }
    }

    /// Whether the value is requested in binary, without a cast to text.
    pub(super) fn is_binary(self) -> bool {
        matches!(
            self,
            Self::Bytes | Self::Single | Self::Double | Self::Date | Self::Time | Self::Timestamp(_)
        )
    }

    /// Adds a value in the server's format, or a floating-point number as hexadecimal digits of its binary format.
    fn cell(self, raw: &[u8], cells: &mut ColumnCells) {
        match self {
            Self::Text | Self::Bytes => cells.text(raw),
            Self::Numeric => cells.numeric(raw),
            Self::Json => cells.json_text(raw),
            Self::Single => match binary(raw) {
                Some(bytes) => cells.single(f32::from_be_bytes(bytes)),
                None => cells.other(NonIdentifier::Unsupported, b""),
            },
            Self::Double => match binary(raw) {
                Some(bytes) => cells.double(f64::from_be_bytes(bytes)),
                None => cells.other(NonIdentifier::Unsupported, b""),
            },
            Self::Date => {
                let days = binary(raw).map(i32::from_be_bytes).filter(|days| !is_infinite(*days, i32::MAX));
                let text = days.and_then(|days| iso8601::date(i64::from(days) + EPOCH_DAYS));
                cells.other(NonIdentifier::Date, text.unwrap_or_default().as_bytes());
            }
            Self::Time => {
                let text = binary(raw)
                    .and_then(|bytes| iso8601::time(i64::from_be_bytes(bytes), DurationUnit::Micros));
                cells.other(NonIdentifier::Time, text.unwrap_or_default().as_bytes());
            }
            Self::Timestamp(has_zone) => {
                let micros =
                    binary(raw).map(i64::from_be_bytes).filter(|micros| !is_infinite(*micros, i64::MAX));
                let micros = micros.and_then(|micros| micros.checked_add(EPOCH_MICROS));
                let text = if has_zone { iso8601::timestamp } else { iso8601::local_timestamp };
                let text = micros.and_then(|micros| text(micros, DurationUnit::Micros));
                cells.other(NonIdentifier::Timestamp, text.unwrap_or_default().as_bytes());
            }
            Self::Other(why @ (NonIdentifier::Time | NonIdentifier::Duration)) => cells.other(why, raw),
            Self::Other(why) => cells.other(why, b""),
        }
    }
}

/// `infinity` and `-infinity` are the largest and the smallest number.
fn is_infinite<T: PartialEq + std::ops::Not<Output = T> + Copy>(number: T, largest: T) -> bool {
    number == largest || number == !largest
}

/// The bytes of a binary value, or of its hexadecimal digits.
fn binary<const N: usize>(raw: &[u8]) -> Option<[u8; N]> {
    if raw.len() == N {
        return raw.try_into().ok();
    }
    if raw.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(raw.as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The columns of a query, with memory for the values of one row.
pub(super) struct RowReader {
    kinds: Vec<ColumnKind>,
    cells: Vec<ColumnCells>,
}

impl RowReader {
    pub(super) fn new(kinds: impl IntoIterator<Item = ColumnKind>) -> Self {
        let kinds: Vec<ColumnKind> = kinds.into_iter().collect();
        let cells = kinds.iter().map(|_| ColumnCells::with_capacity(1)).collect();
        Self { kinds, cells }
    }

    /// Reads a row. Its first requested value is at `first`.
    pub(super) fn read<'r>(&'r mut self, raw: &'r SqlValues<'r>, first: usize) -> TypedRow<'r> {
        for (at, (kind, cells)) in self.kinds.iter().zip(&mut self.cells).enumerate() {
            if *kind == ColumnKind::Text {
                continue;
            }
            cells.clear();
            match raw.raw(first + at) {
                Some(bytes) => kind.cell(bytes, cells),
                None => cells.absent(),
            }
        }
        TypedRow { reader: self, raw, first }
    }
}

/// The requested fields of one row.
pub(super) struct TypedRow<'r> {
    reader: &'r RowReader,
    raw: &'r SqlValues<'r>,
    first: usize,
}

impl Fields for TypedRow<'_> {
    fn field(&self, at: usize) -> Field<'_> {
        match self.reader.kinds.get(at) {
            Some(ColumnKind::Text) => self.raw.raw(self.first + at).map_or(Field::Absent, Field::Text),
            Some(_) => self.reader.cells.get(at).map_or(Field::Absent, |cells| cells.field(0)),
            None => Field::Absent,
        }
    }
}

/// The values of one row in the server's format.
pub(super) struct SqlValues<'a>(pub(super) &'a tokio_postgres::Row);

impl SqlValues<'_> {
    /// The bytes of a value; none if it is null.
    pub(super) fn raw(&self, at: usize) -> Option<&[u8]> {
        self.0.try_get::<_, Option<RawValue<'_>>>(at).ok().flatten().map(|RawValue(bytes)| bytes)
    }
}

/// The bytes of a value of any type.
struct RawValue<'a>(&'a [u8]);

impl<'a> tokio_postgres::types::FromSql<'a> for RawValue<'a> {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: ColumnKind, raw: &[u8], expected: Field<'_>) {
        let mut cells = ColumnCells::default();
        kind.cell(raw, &mut cells);
        assert_eq!(cells.field(0), expected, "{kind:?} {raw:?}");
    }

    #[test]
    fn binary_values_and_their_digits() {
        check(ColumnKind::Double, &1e15_f64.to_be_bytes(), Field::Text(b"1000000000000000"));
        check(ColumnKind::Double, b"3ff8000000000000", Field::Other(NonIdentifier::Fraction, b"1.5"));
        check(ColumnKind::Single, &5_f32.to_be_bytes(), Field::Text(b"5"));
        check(ColumnKind::Single, b"4b800000", Field::Other(NonIdentifier::Imprecise, b"16777216"));
        check(ColumnKind::Date, &9_497_i32.to_be_bytes(), Field::Other(NonIdentifier::Date, b"2026-01-01"));
        check(ColumnKind::Date, &i32::MAX.to_be_bytes(), Field::Other(NonIdentifier::Date, b""));
        check(ColumnKind::Date, b"2026-01-01", Field::Other(NonIdentifier::Date, b""));
        let zoned = ColumnKind::Timestamp(true);
        check(zoned, &0_i64.to_be_bytes(), Field::Other(NonIdentifier::Timestamp, b"2000-01-01T00:00:00Z"));
        check(zoned, &i64::MIN.to_be_bytes(), Field::Other(NonIdentifier::Timestamp, b""));
    }

    #[test]
    fn kinds_of_types() {
        let of = |of: Type, category| ColumnKind::of(of.oid(), category);
        assert_eq!(of(Type::INT8, 'N'), ColumnKind::Text);
        assert_eq!(of(Type::UUID, 'U'), ColumnKind::Text);
        assert_eq!(of(Type::TEXT_ARRAY, 'A'), ColumnKind::Other(NonIdentifier::List));
        assert_eq!(of(Type::INT4_RANGE, 'R'), ColumnKind::Other(NonIdentifier::Unsupported));
        assert_eq!(ColumnKind::of(1_000_000, 'E'), ColumnKind::Text);
        assert_eq!(ColumnKind::of(1_000_000, 'C'), ColumnKind::Other(NonIdentifier::Object));
    }
}
