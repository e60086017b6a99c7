//! Logical types of Avro (Avro 1.11, "Logical Types"): what a schema adds to a value's encoding, and the value's text. A
//! logical type that does not fit its encoding is ignored, as the specification demands.

use serde_json::{Map, Value};

use crate::connector::iso8601::{self, DurationUnit};
use crate::model::NonIdentifier;

/// The longest unscaled decimal in bytes, and the largest scale. Larger decimals have no text.
const DECIMAL_LEN_MAX: usize = 128;
const SCALE_MAX: u64 = 1_000;

/// A logical type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogicalType {
    /// A big-endian number in two's complement with this scale.
    Decimal(usize),
    /// A decimal that is followed by its own scale.
    BigDecimal,
    /// The 16 bytes of a UUID.
    Uuid,
    /// Days.
    Date,
    Time(DurationUnit),
    Timestamp(DurationUnit),
    LocalTimestamp(DurationUnit),
    /// Months, days and milliseconds.
    Duration,
}

/// The encoding of a type that may have a logical type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PhysicalType {
    Int,
    Long,
    Bytes,
    Fixed(usize),
}

/// The logical type of a schema object, if it fits the encoding.
pub(super) fn of(object: &Map<String, Value>, physical: PhysicalType) -> Option<LogicalType> {
    let number = |name: &str| object.get(name).map_or(Some(0), Value::as_u64);
    let decimal = || {
        let (precision, scale) = (number("precision")?, number("scale")?);
        let fits = precision > 0 && scale <= precision && scale <= SCALE_MAX;
        Some(LogicalType::Decimal(usize::try_from(scale).ok().filter(|_| fits)?))
    };
    match (object.get("logicalType")?.as_str()?, physical) {
        ("decimal", PhysicalType::Bytes | PhysicalType::Fixed(_)) => decimal(),
        ("big-decimal", PhysicalType::Bytes) => Some(LogicalType::BigDecimal),
        ("uuid", PhysicalType::Fixed(16)) => Some(LogicalType::Uuid),
        ("date", PhysicalType::Int) => Some(LogicalType::Date),
        ("time-millis", PhysicalType::Int) => Some(LogicalType::Time(DurationUnit::Millis)),
        ("time-micros", PhysicalType::Long) => Some(LogicalType::Time(DurationUnit::Micros)),
        ("timestamp-millis", PhysicalType::Long) => Some(LogicalType::Timestamp(DurationUnit::Millis)),
        ("timestamp-micros", PhysicalType::Long) => Some(LogicalType::Timestamp(DurationUnit::Micros)),
        ("timestamp-nanos", PhysicalType::Long) => Some(LogicalType::Timestamp(DurationUnit::Nanos)),
        ("local-timestamp-millis", PhysicalType::Long) => {
            Some(LogicalType::LocalTimestamp(DurationUnit::Millis))
        }
        ("local-timestamp-micros", PhysicalType::Long) => {
            Some(LogicalType::LocalTimestamp(DurationUnit::Micros))
        }
        ("local-timestamp-nanos", PhysicalType::Long) => {
            Some(LogicalType::LocalTimestamp(DurationUnit::Nanos))
        }
        ("duration", PhysicalType::Fixed(12)) => Some(LogicalType::Duration),
        _ => None,
    }
}

/// The meaning of a value with a logical type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogicalMeaning {
    Decimal,
    Text,
    Moment(NonIdentifier),
}

impl LogicalType {
    /// The meaning and the text of a value that is stored as a number.
    pub(super) fn of_number(self, number: i64) -> (LogicalMeaning, String) {
        let (of, text) = match self {
            Self::Time(unit) => (NonIdentifier::Time, iso8601::time(number, unit)),
            Self::Timestamp(unit) => (NonIdentifier::Timestamp, iso8601::timestamp(number, unit)),
            Self::LocalTimestamp(unit) => (NonIdentifier::Timestamp, iso8601::local_timestamp(number, unit)),
            _ => (NonIdentifier::Date, iso8601::date(number)),
        };
        (LogicalMeaning::Moment(of), text.unwrap_or_default())
    }

    /// The meaning and the text of a value that is stored as bytes.
    pub(super) fn of_bytes(self, bytes: &[u8]) -> (LogicalMeaning, String) {
        let unsupported = (LogicalMeaning::Moment(NonIdentifier::Unsupported), String::new());
        match self {
            Self::Decimal(scale) => {
                decimal(bytes, scale).map_or(unsupported, |text| (LogicalMeaning::Decimal, text))
            }
            Self::Uuid => uuid::Uuid::from_slice(bytes)
                .map_or(unsupported, |id| (LogicalMeaning::Text, id.hyphenated().to_string())),
            Self::Duration => {
                (LogicalMeaning::Moment(NonIdentifier::Duration), duration(bytes).unwrap_or_default())
            }
            _ => unsupported,
        }
    }

    /// The meaning and the text of a decimal with a scale of its own.
    pub(super) fn of_big_decimal(bytes: &[u8], scale: i64) -> (LogicalMeaning, String) {
        let scale = usize::try_from(scale).ok().filter(|scale| *scale as u64 <= SCALE_MAX);
        let text = scale.and_then(|scale| decimal(bytes, scale));
        text.map_or((LogicalMeaning::Moment(NonIdentifier::Unsupported), String::new()), |text| {
            (LogicalMeaning::Decimal, text)
        })
    }
}

/// Months, days and milliseconds, as three little-endian numbers of four bytes.
fn duration(bytes: &[u8]) -> Option<String> {
    let part = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (months, days, millis) = (part(0)?, part(4)?, part(8)?);
    Some(format!("P{months}M{days}DT{}.{:03}S", millis / 1000, millis % 1000))
}

/// The digits of a big-endian number in two's complement.
fn decimal(bytes: &[u8], scale: usize) -> Option<String> {
    const BASE: u64 = 1_000_000_000;
    if bytes.is_empty() || bytes.len() > DECIMAL_LEN_MAX {
        return None;
    }
    let is_negative = bytes[0] >= 0x80;
    // Groups of nine digits, the lowest first.
    let mut digits: Vec<u64> = vec![0];
    let mut add = |factor: u64, addend: u64| {
        let mut carry = addend;
        for nine in &mut digits {
            let sum = *nine * factor + carry;
            (*nine, carry) = (sum % BASE, sum / BASE);
        }
        if carry > 0 {
            digits.push(carry);
        }
    };
    for byte in bytes {
        add(256, u64::from(if is_negative { !*byte } else { *byte }));
    }
    if is_negative {
        add(1, 1);
    }
    let mut text: String = digits.iter().rev().map(|nine| format!("{nine:09}")).collect();
    let leading = text.len() - text.trim_start_matches('0').len();
    text.drain(..leading.min(text.len().saturating_sub(scale + 1)));
    while text.len() <= scale {
        text.insert(0, '0');
    }
    if scale > 0 {
        text.insert(text.len() - scale, '.');
    }
    if is_negative {
        text.insert(0, '-');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decimals_are_the_numbers(number in any::<i128>(), shift in 0u32..127, scale in 0usize..45) {
            let number = number >> shift;
            let found = decimal(&number.to_be_bytes(), scale).unwrap();
            let (whole, places) = found.split_once('.').unwrap_or((&found, ""));
            prop_assert_eq!(places.len(), scale);
            prop_assert_eq!(format!("{whole}{places}").parse::<i128>().unwrap(), number);
            prop_assert!(!whole.is_empty() && !whole.trim_start_matches('-').starts_with("00"));
        }
    }

    #[test]
    fn texts() {
        assert_eq!(decimal(&[0x32, 0x73], 2).as_deref(), Some("129.15"));
        assert_eq!(decimal(&[0xff], 2).as_deref(), Some("-0.01"));
        assert_eq!(decimal(&[0], 0).as_deref(), Some("0"));
        assert_eq!(decimal(&[0x80, 0], 0).as_deref(), Some("-32768"));
        assert_eq!(decimal(&[], 0), None);
        assert_eq!(duration(&[1, 0, 0, 0, 2, 0, 0, 0, 0xdc, 5, 0, 0]).as_deref(), Some("P1M2DT1.500S"));
    }
}
