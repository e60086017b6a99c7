//! Amounts of memory and of disk, with their unit.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// An amount of memory, for example `256MiB` or `1GiB`: at least [`Self::MIN`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(in crate::config) struct Memory(pub(in crate::config) u64);

impl Memory {
    const MIB: u64 = 1 << 20;
    /// The minimum, which covers the buffers.
    pub(in crate::config) const MIN: u64 = 64 * Self::MIB;

    pub(in crate::config) const fn from_mebibytes(number: u64) -> Self {
        Self(number * Self::MIB)
    }
}

impl TryFrom<String> for Memory {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = [("MiB", 1), ("GiB", 1024)].into_iter().find(|(name, _)| *name == &text[digits..]);
        let number = text[..digits].parse::<u64>().ok().filter(|_| digits <= 6 && !text.starts_with('0'));
        let memory = number.zip(unit).map(|(number, (_, unit))| Self::from_mebibytes(number * unit));
        memory
            .filter(|memory| memory.0 >= Self::MIN)
            .ok_or_else(|| format!("expected {MEMORY_RULE}, found `{text}`"))
    }
}

const MEMORY_RULE: &str = "an amount of memory of at least `64MiB`, for example `256MiB` or `1GiB`";

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 / Self::MIB {
            mebibytes if mebibytes % 1024 == 0 => {
                serializer.collect_str(&format_args!("{}GiB", mebibytes / 1024))
            }
            mebibytes => serializer.collect_str(&format_args!("{mebibytes}MiB")),
        }
    }
}

impl JsonSchema for Memory {
    fn schema_name() -> Cow<'static, str> {
        "Memory".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An amount of memory of at least `64MiB`, for example `256MiB` or `1GiB`.",
            "pattern": "^((6[4-9]|[7-9][0-9]|[1-9][0-9]{2,5})MiB|[1-9][0-9]{0,5}GiB)$",
            "patternErrorMessage": MEMORY_RULE,
            "examples": ["256MiB", "1GiB"],
        })
    }
}

/// An amount of bytes, for example `64KiB`, `8MiB` or `4GiB`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(in crate::config) struct Amount(pub(in crate::config) u64);

/// The units, largest first.
const AMOUNTS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const AMOUNT_RULE: &str = "an amount of bytes with its unit, for example `64KiB`, `8MiB` or `4GiB`";

impl TryFrom<String> for Amount {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = AMOUNTS.into_iter().find(|(name, _)| *name == &text[digits..]);
        let number = text[..digits].parse::<u64>().ok().filter(|_| digits <= 6 && !text.starts_with('0'));
        let amount = number.zip(unit).map(|(number, (_, unit))| Self(number * unit));
        amount.ok_or_else(|| format!("expected {AMOUNT_RULE}, found `{text}`"))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fits = |&&(_, unit): &&(&str, u64)| self.0 >= unit && self.0.is_multiple_of(unit);
        let (name, unit) = AMOUNTS.iter().find(fits).copied().unwrap_or(("KiB", 1 << 10));
        serializer.collect_str(&format_args!("{}{name}", self.0 / unit))
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An amount of bytes with its unit, for example `64KiB`, `8MiB` or `4GiB`.",
            "pattern": "^[1-9][0-9]{0,5}(KiB|MiB|GiB)$",
            "patternErrorMessage": AMOUNT_RULE,
            "examples": ["8MiB", "4GiB"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_written_in_its_largest_unit() {
        for text in ["64MiB", "256MiB", "1GiB", "1500MiB", "32GiB"] {
            let memory = Memory::try_from(text.to_owned()).unwrap();
            assert_eq!(serde_json::to_value(memory).unwrap(), text);
        }
        for text in
            ["", "MiB", "256", "63MiB", "0GiB", "064MiB", "256 MiB", "256MB", "1.5GiB", "-1GiB", "1TiB"]
        {
            assert!(Memory::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_written_in_their_largest_unit() {
        for text in ["64KiB", "8MiB", "1GiB", "1500MiB"] {
            let amount = Amount::try_from(text.to_owned()).unwrap();
            assert_eq!(serde_json::to_value(amount).unwrap(), text);
        }
        for text in ["", "KiB", "8", "0MiB", "08MiB", "8 MiB", "8MB", "1.5GiB", "-1GiB", "1234567KiB"] {
            assert!(Amount::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
