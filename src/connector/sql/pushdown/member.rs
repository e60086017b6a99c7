//! Text form of a member in a mirror table.
//!
//! ```text
//! e:u1           an external id
//! d:D-7          a device id
//! a3:crm:4711    an alias: the length of its label in bytes, the label, the name
//! ```
//! Different members always have different text forms.

use crate::model::{Identifier, IdentifierError, IdentifierKind};

/// The part before the value.
pub(in super::super) fn prefix(kind: IdentifierKind, label: &str) -> String {
    match kind {
        IdentifierKind::ExternalId => "e:".to_owned(),
        IdentifierKind::DeviceId => "d:".to_owned(),
        IdentifierKind::Alias => format!("a{}:{label}:", label.len()),
    }
}

/// Writes the text form of a packed identifier.
///
/// # Errors
/// When the packed data is damaged.
pub fn format_member(packed: &[u8], out: &mut String) -> Result<(), IdentifierError> {
    let (Identifier { kind, label, value }, _) = Identifier::unpack(packed)?;
    out.clear();
    match kind {
        IdentifierKind::ExternalId => out.push_str("e:"),
        IdentifierKind::DeviceId => out.push_str("d:"),
        IdentifierKind::Alias => out.push_str(&prefix(kind, label)),
    }
    out.push_str(value);
    Ok(())
}

/// Parses a text form; none if it is invalid.
#[must_use]
pub fn parse_member(text: &str) -> Option<Identifier<'_>> {
    let of = |kind, value| Some(Identifier { kind, label: "", value });
    match text.split_at_checked(1)? {
        ("e", rest) => of(IdentifierKind::ExternalId, rest.strip_prefix(':')?),
        ("d", rest) => of(IdentifierKind::DeviceId, rest.strip_prefix(':')?),
        ("a", rest) => {
            let (len, rest) = rest.split_once(':')?;
            let (label, rest) = rest.split_at_checked(len.parse().ok()?)?;
            Some(Identifier { kind: IdentifierKind::Alias, label, value: rest.strip_prefix(':')? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_spelled_apart_and_read_back() {
        let all = [
            (IdentifierKind::ExternalId, "", "u1"),
            (IdentifierKind::DeviceId, "", "u1"),
            (IdentifierKind::Alias, "crm", "u1"),
            (IdentifierKind::Alias, "crm:", "u1"),
            (IdentifierKind::Alias, "crm", ":u1"),
            (IdentifierKind::Alias, "ü:3", "a:b"),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for (kind, label, value) in all {
            let (mut packed, mut text) = (Vec::new(), String::new());
            let identifier = Identifier { kind, label, value };
            identifier.pack_into(&mut packed);
            format_member(&packed, &mut text).unwrap();
            assert_eq!(text, format!("{}{value}", prefix(kind, label)));
            assert_eq!(parse_member(&text), Some(identifier), "{text}");
            assert!(seen.insert(text));
        }
        for none in ["", "e", "u1", "x:u1", "a:u1", "a9:crm:u1", "a1:ü:u1"] {
            assert_eq!(parse_member(none), None, "{none}");
        }
    }
}
