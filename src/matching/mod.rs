//! A source row → the identifier by which Braze knows the person, or the reason why there is none.
//!
//! Pure, and called once for each of tens of millions of rows: nothing here allocates. Rules run in
//! order and the first whose column is not empty decides, also when what stands there is of no use: a
//! person whose identity is `[REDACTED]` is identified, and must not be looked for by device.
//!
//! Braze's rules are in its "Partner cohort import", user matching: identified people by `external_id`
//! or alias, people who are still anonymous by `device_id`.

use crate::model::{
    DeliveryMethod, Field, Fields, Identifier, InvalidIdentifier, MatchRule, NonIdentifier, usable,
};

/// Why a row names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// The columns of all rules are empty.
    NoIdentifier,
    /// A text that stands for "nobody", such as `null` or `[REDACTED]`.
    Placeholder,
    /// Longer than Braze takes.
    TooLong,
    /// Holds a control character.
    ControlCharacter,
    /// Not UTF-8.
    NotUtf8,
    /// Neither text nor a whole number.
    NotText(NonIdentifier),
    /// Known by device id only, and the cohort is delivered by attribute, which reaches no device.
    DeviceIdByAttribute,
}

impl RejectReason {
    /// The stable word for it, in rejects and reports.
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

    /// Whether there may well be a person in the row, whom we could not read.
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
    fn from(unusable: InvalidIdentifier) -> Self {
        match unusable {
            InvalidIdentifier::Placeholder => Self::Placeholder,
            InvalidIdentifier::Number(why) => Self::NotText(why),
            InvalidIdentifier::TooLong => Self::TooLong,
            InvalidIdentifier::ControlCharacter => Self::ControlCharacter,
            InvalidIdentifier::NotUtf8 => Self::NotUtf8,
        }
    }
}

/// A row that names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmatched<'a> {
    /// Why.
    pub reason: RejectReason,
    /// The column that decided; empty when none did.
    pub column: &'a str,
    /// What stands there.
    pub value: &'a [u8],
}

/// The rules of one cohort, ready to run.
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
        let mut place = |column: &str| match columns.iter().position(|known| **known == *column) {
            Some(at) => at,
            None => {
                columns.push(column.into());
                columns.len() - 1
            }
        };
        let rules = rules.iter().map(|rule| (place(&rule.column), rule.clone())).collect();
        let null_values = null_values.iter().map(|text| text.as_bytes().into()).collect();
        Self { rules, columns, null_values, delivery: delivery.clone() }
    }

    /// The columns that the rules name, each once: the fields of a row come in this order.
    #[must_use]
    pub fn columns(&self) -> &[Box<str>] {
        &self.columns
    }

    /// Matches one row, and appends the packed identifier to `out`. Whether the delivery reaches it is another
    /// question, [`Self::unreached`], since whoever is known by a device may be known otherwise as well.
    ///
    /// # Errors
    /// [`Unmatched`] when the row names nobody. Nothing is appended.
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
            match usable(bytes, rule.kind.value_len_max(), &self.null_values) {
                Ok(None) => {}
                Ok(Some(value)) => {
                    Identifier::pack(rule.kind, &rule.label, value, out);
                    return Ok(());
                }
                Err(no) => return Err(Unmatched { reason: no.into(), column: &rule.column, value: bytes }),
            }
        }
        Err(Unmatched { reason: RejectReason::NoIdentifier, column: "", value: b"" })
    }

    /// Whether the delivery reaches whoever is matched, however they are.
    #[must_use]
    pub fn reaches_all(&self) -> bool {
        self.rules.iter().all(|(_, rule)| self.delivery.reaches(rule.kind))
    }

    /// Why the delivery does not reach somebody who is known so; none if it does.
    #[must_use]
    pub fn unreached<'a>(&'a self, who: &Identifier<'a>) -> Option<Unmatched<'a>> {
        if self.delivery.reaches(who.kind) {
            return None;
        }
        let rule = self.rules.iter().find(|(_, rule)| rule.kind == who.kind);
        let column = rule.map_or("", |(_, rule)| &rule.column);
        Some(Unmatched { reason: RejectReason::DeviceIdByAttribute, column, value: who.value.as_bytes() })
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
        assert_eq!(found.map_err(|no| (no.reason, no.column)), expected, "{row:?}");
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
    fn an_identified_person_is_never_looked_for_by_device() {
        check(["[REDACTED]", "", "d1"], Err((RejectReason::Placeholder, "identity")));
        check(["null", "c1", "d1"], Err((RejectReason::Placeholder, "identity")));
        check([&"x".repeat(988), "", "d1"], Err((RejectReason::TooLong, "identity")));
        check(["", &"x".repeat(237), "d1"], Err((RejectReason::TooLong, "crm_id")));
        check([&"x".repeat(987), "", ""], Ok(&format!("external_id {}", "x".repeat(987))));
    }

    #[test]
    fn an_attribute_reaches_no_device() {
        let rules = matcher().rules.into_iter().map(|(_, rule)| rule).collect::<Vec<_>>();
        let who = Identifier { kind: IdentifierKind::DeviceId, label: "", value: "d1" };
        let matcher = Matcher::new(&rules, &[], &DeliveryMethod::Array("a".into()));
        let no = matcher.unreached(&who).unwrap();
        assert_eq!(
            (no.reason, no.column, no.value),
            (RejectReason::DeviceIdByAttribute, "device", &b"d1"[..])
        );
        assert!(!matcher.reaches_all() && Matcher::new(&rules[..2], &[], &matcher.delivery).reaches_all());
        assert_eq!(
            matcher.unreached(&Identifier { kind: IdentifierKind::Alias, label: "crm", value: "7" }),
            None
        );
    }

    #[test]
    fn columns_are_asked_for_once() {
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
    fn what_is_no_text_is_unreadable_rather_than_absent() {
        let matcher = matcher();
        let row = [Field::Other(NonIdentifier::List, b""), Field::Absent, Field::Text(b"d1")];
        let no = matcher.pack(&row, &mut Vec::new()).unwrap_err();
        assert_eq!((no.reason.as_str(), no.reason.is_unreadable()), ("list", true));
    }

    #[test]
    fn numbers_that_are_no_numbers_are_the_same_in_text_and_in_typed_columns() {
        let matcher = matcher();
        for (text, why) in [("NaN", NonIdentifier::NotANumber), ("-Infinity", NonIdentifier::Infinite)] {
            let typed = [Field::Other(why, text.as_bytes()), Field::Absent, Field::Text(b"d1")];
            let as_text = [Field::Text(text.as_bytes()), Field::Absent, Field::Text(b"d1")];
            for row in [typed, as_text] {
                let no = matcher.pack(&row, &mut Vec::new()).unwrap_err();
                assert_eq!((no.reason, no.reason.is_unreadable()), (RejectReason::NotText(why), false));
            }
        }
    }

    #[test]
    fn null_values_are_no_values_in_typed_columns_either() {
        let matcher =
            Matcher { null_values: vec![b"NaN".as_slice().into(), b"7".as_slice().into()], ..matcher() };
        let whole = Field::Whole { id: b"7", text: b"7.00" };
        let row = [Field::Other(NonIdentifier::NotANumber, b"NaN"), whole, Field::Text(b"d1")];
        let mut packed = Vec::new();
        matcher.pack(&row, &mut packed).unwrap();
        assert_eq!(Identifier::unpack(&packed).unwrap().0.in_full(), "device_id d1");
    }
}
