//! Strings with a pattern: ids, names, and values with a unit such as `30%` and `15m`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use crate::model::{CohortId, Percentage};

/// The form of ids and names, for messages.
pub(in crate::config) const SLUG_RULE: &str =
    "1 to 100 characters of a-z, 0-9, `_` and `-`, starting with a letter or digit";

/// Defines a string type with a rule: a pattern for the schema and a predicate for parsing. A test checks that both
/// accept the same strings.
macro_rules! patterned {
    ($name:ident, $doc:literal, $pattern:literal, $rule:expr, $fits:expr) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
        #[serde(try_from = "String")]
        pub(in crate::config) struct $name(pub(in crate::config) String);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let fits: fn(&str) -> bool = $fits;
                if fits(&text) { Ok(Self(text)) } else { Err(format!("expected {}, found `{text}`", $rule)) }
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "patternErrorMessage": $rule })
            }
        }
    };
}

mod choice;
mod net;
mod units;

pub(in crate::config) use choice::{AppIdText, Bound, OneOrMany, OptionalLength};
pub(in crate::config) use net::{BucketUrl, Cron, SocketAddress, TableName, TimeZone, UrlPath};
pub(in crate::config) use units::{Amount, Memory};

patterned!(Slug, "An id or a name in the config.", "^[a-z0-9][a-z0-9_-]{0,99}$", SLUG_RULE, |text| {
    CohortId::new(text).is_ok()
});
patterned!(Text, "A string that is not blank.", r"\S", "a string that is not blank", |text| !text
    .trim()
    .is_empty());
patterned!(
    Label,
    "An alias label.",
    r"^\s*\S.{0,235}$",
    "1 to 236 characters that are not all blank",
    |text| { (1..=236).contains(&text.trim_start().chars().count()) && !text.contains('\n') }
);
patterned!(
    StatePath,
    "A folder or a bucket.",
    r"^((s3|gs|az)://[^/\s]+(/.*)?|(?!.*://).*\S.*)$",
    "a local folder, or `s3://bucket/prefix`, `gs://…` or `az://…`",
    |text| match text.split_once("://") {
        None => !text.trim().is_empty(),
        Some((scheme, rest)) => {
            let bucket = rest.split('/').next().unwrap_or_default();
            matches!(scheme, "s3" | "gs" | "az")
                && !bucket.is_empty()
                && !bucket.contains(char::is_whitespace)
        }
    }
);
patterned!(
    Variable,
    "The name of an environment variable.",
    "^[A-Za-z_][A-Za-z0-9_]*$",
    "the name of an environment variable, never the secret itself",
    crate::config::mask::is_variable
);
patterned!(
    Identity,
    "The field that becomes the Heap identity.",
    r"^(external_user_id|braze_user_id|property:.*\S.*)$",
    "`external_user_id`, `braze_user_id`, or `property:<name>`, for example `property:custom_properties.email`",
    |text| matches!(text, "external_user_id" | "braze_user_id")
        || text.strip_prefix("property:").is_some_and(|name| !name.trim().is_empty())
);
patterned!(
    Since,
    "A date or a time in UTC.",
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z)?$",
    "a date, for example `2026-11-01`, or a time, for example `2026-11-01T06:00Z`",
    |text| crate::model::parse_time(text).is_some()
);
patterned!(
    PathPart,
    "A segment of a URL path.",
    "^[A-Za-z0-9._~-]{1,100}$",
    "only letters, digits, `.`, `_`, `~` and `-`, because it is part of a URL path",
    |text| (1..=100).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b))
);
patterned!(
    AttributeName,
    "The name of a custom attribute.",
    "^[A-Za-z][A-Za-z0-9_-]{0,99}$",
    "1 to 100 characters of A-Z, a-z, 0-9, `_` and `-`, starting with a letter",
    |text| text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 100
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
);
patterned!(
    ClockTime,
    "A time of day.",
    "^([01][0-9]|2[0-3]):[0-5][0-9]$",
    "hours and minutes, for example `21:00`",
    |text| text.len() == 5
        && text.as_bytes()[2] == b':'
        && text[..2].parse::<u8>().is_ok_and(|hour| hour < 24)
        && text[3..].parse::<u8>().is_ok_and(|minute| minute < 60)
        && text.bytes().all(|b| b.is_ascii_digit() || b == b':')
);
patterned!(
    PascalCase,
    "A name in Pascal case.",
    "^[A-Z][A-Za-z0-9]{0,63}$",
    "one word in Pascal case, for example `Acme` or `AcmeData`",
    |text| text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
);
patterned!(
    Delimiter,
    "The field separator of a CSV file.",
    r"^[ !#-~\t]$",
    "one ASCII character other than a quote",
    |text| text.len() == 1
        && text.bytes().all(|b| (b.is_ascii_graphic() || b == b' ' || b == b'\t') && b != b'"')
);

/// An integer from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(try_from = "u64")]
pub(in crate::config) struct WholeNumber<const MIN: u64, const MAX: u64>(pub(in crate::config) u64);

impl<const MIN: u64, const MAX: u64> TryFrom<u64> for WholeNumber<MIN, MAX> {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("expected an integer from {MIN} to {MAX}, found {number}"))
        }
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for WholeNumber<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Whole{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A list of 1 to `MAX` items.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<T>", bound = "T: Deserialize<'de>")]
pub(in crate::config) struct NonEmpty<T, const MAX: usize>(pub(in crate::config) Vec<T>);

impl<T, const MAX: usize> TryFrom<Vec<T>> for NonEmpty<T, MAX> {
    type Error = String;

    fn try_from(list: Vec<T>) -> Result<Self, String> {
        if (1..=MAX).contains(&list.len()) {
            Ok(Self(list))
        } else {
            Err(format!("expected a list of 1 to {MAX} items"))
        }
    }
}

impl<T: JsonSchema, const MAX: usize> JsonSchema for NonEmpty<T, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}1To{MAX}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        json_schema!({ "type": "array", "items": items, "minItems": 1, "maxItems": MAX })
    }
}

/// A percentage, for example `30%`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::config) struct Percent(pub(in crate::config) Percentage);

impl TryFrom<String> for Percent {
    type Error = crate::model::PercentageError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A percentage with at most two decimals, for example `30%` or `12.5%`.",
            "pattern": r"^[0-9]{1,6}(\.[0-9]{1,2})?%$",
            "patternErrorMessage": "a percentage with at most two decimals, for example `30%` or `12.5%`",
            "examples": ["30%", "12.5%"],
        })
    }
}

/// A duration, for example `500ms`, `30s`, `15m`, `4h` or `7d`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(in crate::config) struct Length(pub(in crate::config) Duration);

/// The units, longest first, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("ms", 1), ("m", 60_000), ("s", 1_000)];

impl Length {
    pub(in crate::config) const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(in crate::config) const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl TryFrom<String> for Length {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = UNITS.iter().find(|(name, _)| *name == &text[digits..]);
        let number = text[..digits].parse::<u64>().ok().filter(|_| digits <= 9);
        match (number, unit) {
            (Some(number), Some((_, millis))) => Ok(Self::from_millis(number * millis)),
            _ => Err(format!("expected a duration with its unit, for example `30s` or `7d`, found `{text}`")),
        }
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = |&&(_, length): &&(&str, u64)| millis >= length && millis % length == 0;
        let mut units = UNITS;
        units.sort_by_key(|(_, length)| std::cmp::Reverse(*length));
        let (name, length) = units.iter().find(fits).copied().unwrap_or(("s", 1_000));
        serializer.collect_str(&format_args!("{}{name}", millis / length))
    }
}

impl JsonSchema for Length {
    fn schema_name() -> Cow<'static, str> {
        "Length".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration with its unit, for example `500ms`, `30s`, `15m`, `4h` or `7d`.",
            "pattern": "^[0-9]{1,9}(ms|s|m|h|d)$",
            "patternErrorMessage": "a duration with its unit, for example `500ms`, `30s`, `15m`, `4h` or `7d`",
            "examples": ["30s", "15m"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_their_largest_unit() {
        for text in ["500ms", "30s", "15m", "4h", "7d", "90s", "1500ms"] {
            let length = Length::try_from(text.to_owned()).unwrap();
            assert_eq!(serde_json::to_value(length).unwrap(), text);
        }
        for text in ["", "s", "10", "10 s", "1.5s", "-1s", "10w", "9999999999s"] {
            assert!(Length::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
