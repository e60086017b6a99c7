//! User identifiers, and the packed form in which the engine processes them.
//!
//! The packed form is hashed, spilled and compared. Tens of millions exist at once, so it is a byte string instead of a
//! struct: `kind`, length of the label, label, length of the value (two bytes, little-endian), value.

use std::fmt;

/// Longest `external_id` in bytes (Braze, `/users/track` item errors: `EXTERNAL_USER_ID_TOO_LARGE`).
pub const EXTERNAL_ID_LEN_MAX: usize = 987;
/// Longest alias name, and longest alias label, in bytes (Braze, user alias object).
pub const ALIAS_LEN_MAX: usize = 236;
/// Longest packed identifier in bytes.
pub const PACKED_LEN_MAX: usize = 1 + 1 + ALIAS_LEN_MAX + 2 + EXTERNAL_ID_LEN_MAX;

/// The kinds of identifiers that Braze's cohort import accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentifierKind {
    /// The `external_id` of an identified user.
    ExternalId,
    /// A user alias: a label (the kind of alias) and a name (its value).
    Alias,
    /// A device of an anonymous user.
    DeviceId,
}

impl IdentifierKind {
    /// Every kind, in the order of reports.
    pub const ALL: [Self; 3] = [Self::ExternalId, Self::Alias, Self::DeviceId];

    /// The name in the config, parts and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExternalId => "external_id",
            Self::Alias => "alias",
            Self::DeviceId => "device_id",
        }
    }

    /// The kind of a packed identifier, by its first byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// Maximum length of a value in bytes. Braze documents limits for external ids and aliases; for device ids that of
    /// external ids is used.
    #[must_use]
    pub fn value_len_max(self) -> usize {
        match self {
            Self::Alias => ALIAS_LEN_MAX,
            Self::ExternalId | Self::DeviceId => EXTERNAL_ID_LEN_MAX,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::ExternalId => 0,
            Self::Alias => 1,
            Self::DeviceId => 2,
        }
    }
}

impl fmt::Display for IdentifierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why bytes are not a packed identifier: the data is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged identifier: {0}")]
pub struct IdentifierError(&'static str);

/// One identifier, borrowed. `label` is empty unless the kind is [`IdentifierKind::Alias`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier<'a> {
    /// The kind, which selects one of Braze's three arrays.
    pub kind: IdentifierKind,
    /// The alias label, empty for the other kinds.
    pub label: &'a str,
    /// The external id, alias name or device id.
    pub value: &'a str,
}

impl<'a> Identifier<'a> {
    /// Appends the packed form to `out`.
    ///
    /// The caller has checked the lengths ([`ALIAS_LEN_MAX`], [`EXTERNAL_ID_LEN_MAX`]). Longer texts are a bug, and are
    /// truncated so that the lengths stay correct.
    #[inline]
    pub fn pack_into(&self, out: &mut Vec<u8>) {
        Self::pack(self.kind, self.label, self.value.as_bytes(), out);
    }

    /// Appends the packed form of an identifier. `value` must be UTF-8.
    #[inline]
    pub fn pack(kind: IdentifierKind, label: &str, value: &[u8], out: &mut Vec<u8>) {
        debug_assert!(label.len() <= usize::from(u8::MAX) && value.len() <= usize::from(u16::MAX));
        let label = &label.as_bytes()[..label.len().min(usize::from(u8::MAX))];
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        let ([label_len, ..], [low, high, ..]) = (label.len().to_le_bytes(), value.len().to_le_bytes());
        if label.is_empty() {
            out.extend_from_slice(&[kind.byte(), 0, low, high]);
        } else {
            out.extend_from_slice(&[kind.byte(), label_len]);
            out.extend_from_slice(label);
            out.extend_from_slice(&[low, high]);
        }
        out.extend_from_slice(value);
    }

    /// Reads one identifier from the start of `bytes`, and returns its packed length.
    ///
    /// # Errors
    /// [`IdentifierError`] when the bytes were not written by [`Identifier::pack_into`].
    pub fn unpack(bytes: &'a [u8]) -> Result<(Self, usize), IdentifierError> {
        let len = Self::packed_len(bytes)?;
        let label_end = 2 + usize::from(bytes[1]);
        let text = |part| std::str::from_utf8(part).map_err(|_| IdentifierError("not UTF-8"));
        let kind = IdentifierKind::from_byte(bytes[0]).ok_or(IdentifierError("unknown kind"))?;
        let identifier =
            Self { kind, label: text(&bytes[2..label_end])?, value: text(&bytes[label_end + 2..len])? };
        Ok((identifier, len))
    }

    /// Returns the length of the packed identifier at the start of `bytes`, without reading its text.
    ///
    /// # Errors
    /// [`IdentifierError`] when `bytes` is too short.
    #[inline]
    pub fn packed_len(bytes: &[u8]) -> Result<usize, IdentifierError> {
        const SHORT: IdentifierError = IdentifierError("truncated");
        let label_end = 2 + usize::from(*bytes.get(1).ok_or(SHORT)?);
        let len = bytes.get(label_end..label_end + 2).ok_or(SHORT)?;
        let end = label_end + 2 + usize::from(u16::from_le_bytes([len[0], len[1]]));
        if bytes.len() < end { Err(SHORT) } else { Ok(end) }
    }

    /// A shortened form that is recognizable but not complete. Reports show it by default.
    #[must_use]
    pub fn shortened(&self) -> String {
        let (local, at) = match self.value.split_once('@') {
            Some((local, _)) => (local, "@…"),
            None => (self.value, ""),
        };
        let chars: Vec<char> = local.chars().collect();
        let (head, tail) = match chars.len() {
            // The one character of a local part is not the whole address.
            0..=1 => (if at.is_empty() { 0 } else { chars.len() }, 0),
            // Numbered ids, such as `u1`, differ in their last character.
            2..=3 if chars.last().is_some_and(char::is_ascii_digit) => (0, 1),
            2..=3 => (1, 0),
            len @ 4..=11 => (len / 3, len / 4),
            _ => (4, 4),
        };
        let head: String = chars[..head].iter().collect();
        let tail: String = chars[chars.len() - tail..].iter().collect();
        self.with_value(&format!("{head}…{tail}{at}"))
    }

    /// The complete identifier, for `--show-identifiers`.
    #[must_use]
    pub fn in_full(&self) -> String {
        self.with_value(self.value)
    }

    fn with_value(&self, value: &str) -> String {
        match self.kind {
            IdentifierKind::Alias => format!("alias {}:{value}", self.label),
            kind => format!("{kind} {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id<'a>(kind: IdentifierKind, label: &'a str, value: &'a str) -> Identifier<'a> {
        Identifier { kind, label, value }
    }

    proptest! {
        #[test]
        fn packing_is_reversible_and_self_delimiting(
            kind in 0usize..3, label in ".{0,20}", value in ".{1,60}", rest in proptest::collection::vec(any::<u8>(), 0..9)
        ) {
            let kind = IdentifierKind::ALL[kind];
            let label = if kind == IdentifierKind::Alias { label } else { String::new() };
            let identifier = id(kind, &label, &value);
            let mut bytes = Vec::new();
            identifier.pack_into(&mut bytes);
            let len = bytes.len();
            bytes.extend(&rest);
            prop_assert_eq!(Identifier::unpack(&bytes).unwrap(), (identifier, len));
            for cut in 0..len {
                prop_assert!(Identifier::unpack(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_shortened_identifier_never_shows_everything() {
        assert_eq!(id(IdentifierKind::ExternalId, "", "user-000123").shortened(), "external_id use…23");
        assert_eq!(
            id(IdentifierKind::ExternalId, "", "shopper-01238@example.com").shortened(),
            "external_id shop…1238@…"
        );
        assert_eq!(id(IdentifierKind::Alias, "email", "a@x.test").shortened(), "alias email:a…@…");
        assert_eq!(id(IdentifierKind::DeviceId, "", "d1").shortened(), "device_id …1");
        assert_eq!(id(IdentifierKind::ExternalId, "", "u12").shortened(), "external_id …2");
        assert_eq!(id(IdentifierKind::ExternalId, "", "7").shortened(), "external_id …");
        assert_eq!(id(IdentifierKind::ExternalId, "", "ada@x.test").shortened(), "external_id a…@…");
        assert_eq!(id(IdentifierKind::Alias, "email", "a@x.test").in_full(), "alias email:a@x.test");
    }
}
