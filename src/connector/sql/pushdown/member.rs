//! Text form of a member in a mirror table, and its hash, equal to PostgreSQL's `hashtextextended`.
//!
//! ```text
//! e:u1           an external id
//! d:D-7          a device id
//! a3:crm:4711    an alias: the length of its label in bytes, the label, the name
//! ```
//! Different members always have different text forms.

use crate::model::{Identifier, IdentifierError, IdentifierKind};

/// The part before the value.
pub(super) fn prefix(kind: IdentifierKind, label: &str) -> String {
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

/// `hashtextextended(member, 0)` of PostgreSQL 11 and newer on little-endian processors: the second and third word of
/// Bob Jenkins' `lookup3` (`hash_bytes_extended` in `src/common/hashfn.c`).
pub(super) fn hash(member: &str) -> i64 {
    let bytes = member.as_bytes();
    let start = 0x9e37_79b9_u32.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let start = start.wrapping_add(3_923_095);
    let (mut a, mut b, mut c) = (start, start, start);
    let (whole, rest) = bytes.as_chunks::<12>();
    for twelve in whole {
        a = a.wrapping_add(word(&twelve[..4]));
        b = b.wrapping_add(word(&twelve[4..8]));
        c = c.wrapping_add(word(&twelve[8..]));
        (a, b, c) = mix(a, b, c);
    }
    // The lowest byte of the third word is reserved for the length.
    let part = |from: usize, to: usize| word(rest.get(from..rest.len().min(to)).unwrap_or_default());
    a = a.wrapping_add(part(0, 4));
    b = b.wrapping_add(part(4, 8));
    c = c.wrapping_add(part(8, 11) << 8);
    let (b, c) = last(a, b, c);
    (u64::from(b) << 32 | u64::from(c)).cast_signed()
}

/// Up to four bytes as a little-endian word.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

fn last(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32) {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    (b, c)
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

    /// Values from PostgreSQL 15.
    #[test]
    fn the_hash_is_postgresqls() {
        for (text, hash) in [
            ("", -6_939_563_903_564_495_251),
            ("a", 3_591_986_179_850_072_241),
            ("ab", 2_833_316_173_711_343_549),
            ("abc", -6_747_756_470_228_489_321),
            ("abcd", -1_038_429_303_365_892_052),
            ("abcdefgh", -8_882_191_227_074_733_005),
            ("abcdefghi", -3_278_210_106_038_014_113),
            ("abcdefghijk", 3_112_909_444_737_856_467),
            ("abcdefghijkl", -7_556_637_188_122_330_412),
            ("abcdefghijklm", 8_871_624_171_452_417_744),
            ("e:user-4711 with some more ü", 1_518_078_740_801_055_396),
        ] {
            assert_eq!(super::hash(text), hash, "{text}");
        }
    }
}
