//! Matches a source row to a Braze identifier by the cohort's `match` rules.
//!
//! Pure: no I/O. It runs once per row, for tens of millions of rows, so it allocates nothing. The first rule with a non-empty column
//! decides, even if its value is unusable: a user with the identity `[REDACTED]` is identified, and must not
//! be addressed by device.
//!
//! Braze documents its side under "Partner cohort import", user matching: identified users by `external_id` or alias,
//! anonymous users by `device_id`.

use crate::model::{
    DeliveryMethod, Field, Fields, Identifier, InvalidIdentifier, MatchRule, NonIdentifier,
    normalize_identifier,
};

/// The reason why a row has no usable identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// The columns of all rules are empty.
    NoIdentifier,
    /// A text that stands for a missing value, such as `null` or `[REDACTED]`.
    Placeholder,
    /// Longer than Braze accepts.
    TooLong,
    /// Contains a control character.
    ControlCharacter,
    /// Not UTF-8.
    NotUtf8,
    /// Neither text nor a whole number.
    NotText(NonIdentifier),
    /// Only a device id, and the cohort is delivered by attribute, which does not reach devices.
    DeviceIdByAttribute,
}

impl RejectReason {
    /// The stable code in rejects and JSON reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoIdentifier => "no_identifier",
            Self::Placeholder => "placeholder",
            Self::TooLong => "too_long",
            Self::ControlCharacter => "control_character",
            Self::NotUtf8 => "not_utf8",
            Self::NotText(why) => why.as_str(),
            Self::DeviceIdByAttribute => "device_id_by_attribute",
        }
    }

    /// Whether the row may name a user that could not be read.
    #[must_use]
    pub fn is_unreadable(self) -> bool {
        match self {
            Self::NotUtf8 | Self::ControlCharacter => true,
            Self::NotText(why) => why.is_unreadable(),
            Self::NoIdentifier | Self::Placeholder | Self::TooLong | Self::DeviceIdByAttribute => false,
        }
    }
}

impl From<InvalidIdentifier> for RejectReason {
    fn from(invalid: InvalidIdentifier) -> Self {
        match invalid {
            InvalidIdentifier::Placeholder => Self::Placeholder,
            InvalidIdentifier::Number(why) => Self::NotText(why),
            InvalidIdentifier::TooLong => Self::TooLong,
            InvalidIdentifier::ControlCharacter => Self::ControlCharacter,
            InvalidIdentifier::NotUtf8 => Self::NotUtf8,
        }
    }
}

/// A row without a usable identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmatched<'a> {
    /// The reason.
    pub reason: RejectReason,
    /// The column that decided; empty if all columns are empty.
    pub column: &'a str,
    /// The value of the column.
    pub value: &'a [u8],
}

/// The `match` rules of one cohort, prepared for many rows.
#[derive(Clone, Debug)]
pub struct Matcher {
    rules: Vec<(usize, MatchRule)>,
    columns: Vec<Box<str>>,
    null_values: Vec<Box<[u8]>>,
    delivery: DeliveryMethod,
}

impl Matcher {
    /// Prepares rules; `null_values` stand for "no value", besides the empty text.
    #[must_use]
    pub fn new(rules: &[MatchRule], null_values: &[String], delivery: &DeliveryMethod) -> Self {
        let mut columns: Vec<Box<str>> = Vec::new();
        let mut index_of = |column: &str| match columns.iter().position(|other| **other == *column) {
            Some(at) => at,
            None => {
                columns.push(column.into());
                columns.len() - 1
            }
        };
        let rules = rules.iter().map(|rule| (index_of(&rule.column), rule.clone())).collect();
        let null_values = null_values.iter().map(|text| text.as_bytes().into()).collect();
        Self { rules, columns, null_values, delivery: delivery.clone() }
    }

    /// The columns of the rules without duplicates. The fields of a row must have this order.
    #[must_use]
    pub fn columns(&self) -> &[Box<str>] {
        &self.columns
    }

    /// Matches one row and appends the packed identifier to `out`. Check [`Self::unreachable`] afterwards: a re-key may
    /// first replace a device by its owner.
    ///
    /// # Errors
    /// [`Unmatched`] when the row has no usable identifier. Nothing is appended.
    #[inline]
    pub fn pack<'a>(&'a self, fields: &'a impl Fields, out: &mut Vec<u8>) -> Result<(), Unmatched<'a>> {
        for (column, rule) in &self.rules {
            let bytes = match fields.field(*column) {
                Field::Absent => continue,
                Field::Other(_, text) if self.null_values.iter().any(|null| **null == *text) => continue,
                Field::Other(why, value) => {
                    return Err(Unmatched {
                        reason: RejectReason::NotText(why),
                        column: &rule.column,
                        value,
                    });
                }
                Field::Text(bytes) | Field::Whole { id: bytes, .. } => bytes,
            };
            match normalize_identifier(bytes, rule.kind.value_len_max(), &self.null_values) {
                Ok(None) => {}
                Ok(Some(value)) => {
                    Identifier::pack(rule.kind, &rule.label, value, out);
                    return Ok(());
                }
                Err(invalid) => {
                    return Err(Unmatched { reason: invalid.into(), column: &rule.column, value: bytes });
                }
            }
        }
        Err(Unmatched { reason: RejectReason::NoIdentifier, column: "", value: b"" })
    }

    /// Whether the delivery reaches every kind of identifier in the rules.
    #[must_use]
    pub fn reaches_all(&self) -> bool {
        self.rules.iter().all(|(_, rule)| self.delivery.reaches(rule.kind))
    }

    /// The reason why the delivery does not reach an identifier; none if it does.
    #[must_use]
    pub fn unreachable<'a>(&'a self, identifier: &Identifier<'a>) -> Option<Unmatched<'a>> {
        if self.delivery.reaches(identifier.kind) {
            return None;
        }
        let rule = self.rules.iter().find(|(_, rule)| rule.kind == identifier.kind);
        let column = rule.map_or("", |(_, rule)| &rule.column);
        Some(Unmatched {
            reason: RejectReason::DeviceIdByAttribute,
            column,
            value: identifier.value.as_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::IdentifierKind;

    fn matcher() -> Matcher {
        let rule =
            |kind, label: &str, column: &str| MatchRule { kind, label: label.into(), column: column.into() };
        let rules = [
            rule(IdentifierKind::ExternalId, "", "identity"),
            rule(IdentifierKind::Alias, "crm", "crm_id"),
            rule(IdentifierKind::DeviceId, "", "device"),
        ];
        Matcher::new(&rules, &["\\N".to_owned()], &DeliveryMethod::CohortImport)
    }

    fn check(row: [&str; 3], expected: Result<&str, (RejectReason, &str)>) {
        let matcher = matcher();
        let fields =
            row.map(|text| if text == "-absent" { Field::Absent } else { Field::Text(text.as_bytes()) });
        let mut packed = Vec::new();
        let found = matcher.pack(&fields, &mut packed);
        let found = found.map(|()| Identifier::unpack(&packed).unwrap().0.in_full());
        let expected = expected.map(str::to_owned);
        assert_eq!(found.map_err(|unmatched| (unmatched.reason, unmatched.column)), expected, "{row:?}");
    }

    #[test]
    fn the_first_rule_that_is_not_empty_decides() {
        check(["u1", "c1", "d1"], Ok("external_id u1"));
        check(["", "c1", "d1"], Ok("alias crm:c1"));
        check([" ", "\\N", "d1"], Ok("device_id d1"));
        check(["-absent", "-absent", " d1\t"], Ok("device_id d1"));
        check(["", "", ""], Err((RejectReason::NoIdentifier, "")));
    }

    #[test]
    fn an_identified_user_is_never_matched_by_device() {
        check(["[REDACTED]", "", "d1"], Err((RejectReason::Placeholder, "identity")));
        check(["null", "c1", "d1"], Err((RejectReason::Placeholder, "identity")));
        check([&"x".repeat(988), "", "d1"], Err((RejectReason::TooLong, "identity")));
        check(["", &"x".repeat(237), "d1"], Err((RejectReason::TooLong, "crm_id")));
        check([&"x".repeat(987), "", ""], Ok(&format!("external_id {}", "x".repeat(987))));
    }

    #[test]
    fn a_delivery_by_attribute_does_not_reach_devices() {
        let rules = matcher().rules.into_iter().map(|(_, rule)| rule).collect::<Vec<_>>();
        let identifier = Identifier { kind: IdentifierKind::DeviceId, label: "", value: "d1" };
        let matcher = Matcher::new(&rules, &[], &DeliveryMethod::Array("a".into()));
        let unmatched = matcher.unreachable(&identifier).unwrap();
        assert_eq!(
            (unmatched.reason, unmatched.column, unmatched.value),
            (RejectReason::DeviceIdByAttribute, "device", &b"d1"[..])
        );
        assert!(!matcher.reaches_all() && Matcher::new(&rules[..2], &[], &matcher.delivery).reaches_all());
        assert_eq!(
            matcher.unreachable(&Identifier { kind: IdentifierKind::Alias, label: "crm", value: "7" }),
            None
        );
    }

    #[test]
    fn columns_are_requested_once() {
        let rule = |kind| MatchRule { kind, label: "l".into(), column: "id".into() };
        assert_eq!(
            Matcher::new(
                &[rule(IdentifierKind::Alias), rule(IdentifierKind::DeviceId)],
                &[],
                &DeliveryMethod::CohortImport
            )
            .columns()
            .len(),
            1
        );
    }

    #[test]
    fn a_value_without_text_is_unreadable_and_not_absent() {
        let matcher = matcher();
        let row = [Field::Other(NonIdentifier::List, b""), Field::Absent, Field::Text(b"d1")];
        let unmatched = matcher.pack(&row, &mut Vec::new()).unwrap_err();
        assert_eq!((unmatched.reason.as_str(), unmatched.reason.is_unreadable()), ("list", true));
    }

    #[test]
    fn nan_and_infinity_are_equal_in_text_and_typed_columns() {
        let matcher = matcher();
        for (text, why) in [("NaN", NonIdentifier::NotANumber), ("-Infinity", NonIdentifier::Infinite)] {
            let typed = [Field::Other(why, text.as_bytes()), Field::Absent, Field::Text(b"d1")];
            let as_text = [Field::Text(text.as_bytes()), Field::Absent, Field::Text(b"d1")];
            for row in [typed, as_text] {
                let unmatched = matcher.pack(&row, &mut Vec::new()).unwrap_err();
                assert_eq!(
                    (unmatched.reason, unmatched.reason.is_unreadable()),
                    (RejectReason::NotText(why), false)
                );
            }
        }
    }

    #[test]
    fn null_values_apply_to_typed_columns() {
        let matcher =
            Matcher { null_values: vec![b"NaN".as_slice().into(), b"7".as_slice().into()], ..matcher() };
        let whole = Field::Whole { id: b"7", text: b"7.00" };
        let row = [Field::Other(NonIdentifier::NotANumber, b"NaN"), whole, Field::Text(b"d1")];
        let mut packed = Vec::new();
        matcher.pack(&row, &mut packed).unwrap();
        assert_eq!(Identifier::unpack(&packed).unwrap().0.in_full(), "device_id d1");
    }
}
