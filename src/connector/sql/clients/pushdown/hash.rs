//! Hash of a member, equal to PostgreSQL's `hashtextextended`.

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
