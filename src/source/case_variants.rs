//! Counts members whose identifiers differ from others only by upper and lower case, by invisible characters or by
//! Unicode composition. To Braze they are different users; mostly they are one user. It changes no member.
//!
//! Only members whose identifier differs from its look are kept, by the key of the look: read beside all members in the
//! order of keys, it meets the member whose identifier is that look. The case of letters beyond ASCII is kept.

use std::io;

use super::{SortedMembers, SortedSet};
use crate::model::{Identifier, IdentifierError, MemberKey, is_ambiguous, look};

/// Memory for members with upper case; those beyond it lie in a temporary file.
pub(super) const MEMORY: usize = 16 << 20;
/// Spellings that are shown.
const SAMPLES_MAX: usize = 3;

/// Whether the value of a packed identifier differs from its look.
#[inline]
pub(super) fn is_written_otherwise(packed: &[u8]) -> bool {
    let value = packed.get(1).and_then(|label_len| packed.get(2 + usize::from(*label_len) + 2..));
    // Without a branch for each byte, so that many are looked at together.
    let value = value.unwrap_or_default();
    let (is_upper, tops) = value
        .iter()
        .fold((false, 0), |(found, tops), byte| (found | byte.is_ascii_uppercase(), tops | *byte));
    is_upper || (tops >= 0x80 && std::str::from_utf8(value).is_ok_and(is_ambiguous))
}

/// The packed identifier with the look of its value.
pub(super) fn lower<'a>(packed: &[u8], out: &'a mut Vec<u8>) -> Result<&'a [u8], IdentifierError> {
    let (Identifier { kind, label, value }, _) = Identifier::unpack(packed)?;
    out.clear();
    Identifier::pack(kind, label, look(value).as_bytes(), out);
    Ok(out)
}

/// Some members, packed.
pub type PackedList = Vec<Box<[u8]>>;

/// Counts them while the desired members pass by in the order of their keys.
#[derive(Debug)]
pub struct CaseVariants {
    members: SortedMembers,
    /// Those of one lower case, of whom the last was read already.
    group: Option<VariantGroup>,
    count: u64,
    samples: PackedList,
    failed: Option<io::Error>,
}

#[derive(Debug)]
struct VariantGroup {
    key: MemberKey,
    /// How they are written, one of them.
    one: Box<[u8]>,
    ways: u64,
    /// The first of the next group.
    next: Option<MemberKey>,
}

impl CaseVariants {
    pub(super) fn new(set: SortedSet) -> Self {
        let is_any = !set.is_empty();
        let mut spelled =
            Self { members: set.into_members(), group: None, count: 0, samples: Vec::new(), failed: None };
        if is_any {
            let first = spelled.advance();
            spelled.turn(first);
        }
        spelled
    }

    /// These members pass by.
    #[inline]
    pub fn pass(&mut self, keys: &[MemberKey]) {
        while let (Some(group), Some(last)) = (&self.group, keys.last()) {
            let key = group.key;
            let met = keys.binary_search(&key).is_ok();
            if let Some(group) = self.group.as_mut().filter(|_| met) {
                group.ways += 1;
            }
            if key > *last {
                return;
            }
            self.end_group();
        }
    }

    /// How many there are, and some of them, packed.
    ///
    /// # Errors
    /// When a temporary file could not be read.
    pub fn finish(mut self) -> io::Result<(u64, PackedList)> {
        while self.group.is_some() {
            self.end_group();
        }
        self.failed.map_or(Ok((self.count, self.samples)), Err)
    }

    fn end_group(&mut self) {
        let Some(group) = self.group.take() else { return };
        if group.ways > 1 {
            self.count += group.ways;
            if self.samples.len() < SAMPLES_MAX {
                self.samples.push(group.one);
            }
        }
        self.turn(group.next);
    }

    /// Gathers the group of the member that was read last, which has this key.
    fn turn(&mut self, first: Option<MemberKey>) {
        let Some(key) = first else { return };
        let (one, mut ways) = (self.members.packed().into(), 1);
        let next = loop {
            match self.advance() {
                Some(same) if same == key => ways += 1,
                next => break next,
            }
        };
        self.group = Some(VariantGroup { key, one, ways, next });
    }

    fn advance(&mut self) -> Option<MemberKey> {
        self.members.advance().unwrap_or_else(|error| {
            self.failed = Some(error);
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IdentifierKind, KeySeed};

    fn packed(kind: IdentifierKind, label: &str, value: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        Identifier { kind, label, value }.pack_into(&mut packed);
        packed
    }

    fn check(people: &[Vec<u8>], expected: u64) {
        let mut all = SortedSet::new(KeySeed(3), 1 << 20);
        let mut upper = SortedSet::by_lower_case(KeySeed(3), 1 << 20);
        for one in people {
            all.push(one).unwrap();
            if is_written_otherwise(one) {
                upper.push(one).unwrap();
            }
        }
        let mut keys = Vec::new();
        let mut members = all.into_members();
        while let Some(key) = members.advance().unwrap() {
            keys.push(key);
        }
        for portion in [1, 3, keys.len().max(1)] {
            let mut upper = SortedSet::by_lower_case(KeySeed(3), 1 << 20);
            people.iter().filter(|one| is_written_otherwise(one)).for_each(|one| upper.push(one).unwrap());
            let mut spelled = CaseVariants::new(upper);
            keys.chunks(portion).for_each(|keys| spelled.pass(keys));
            let (count, samples) = spelled.finish().unwrap();
            assert_eq!(count, expected, "{portion}");
            assert_eq!(samples.is_empty(), expected == 0);
        }
    }

    #[test]
    fn only_whoever_differs_by_case_alone_is_counted() {
        let id = |value| packed(IdentifierKind::ExternalId, "", value);
        check(&[], 0);
        check(&[id("u1"), id("u1"), id("U2"), id("U2"), id("u3")], 0);
        check(&[id("u1"), id("U1"), id("U1")], 2);
        check(&[id("AB"), id("aB"), id("Ab"), id("x"), id("AB")], 3);
        check(&[id("AB"), id("aB"), id("Ab"), id("ab"), id("Zed"), id("zed")], 6);
        check(&[id("ZOË"), id("zoë")], 0);
        check(&[id("u1"), id("u\u{200b}1"), id("\u{feff}u1"), id("u2\u{ad}")], 3);
        check(&[id("zo\u{eb}"), id("zoe\u{308}"), id("Zo\u{eb}")], 3);
        check(&[id("zo\u{eb}"), id("zoe\u{301}")], 0);
    }

    #[test]
    fn other_kinds_and_labels_are_others() {
        let alias = |label, value| packed(IdentifierKind::Alias, label, value);
        check(&[alias("Crm", "a"), alias("Crm", "A"), alias("crm", "A")], 2);
        check(&[packed(IdentifierKind::DeviceId, "", "A"), packed(IdentifierKind::ExternalId, "", "a")], 0);
        assert!(!is_written_otherwise(&alias("CRM", "a")));
    }

    #[test]
    fn many_of_them() {
        let id = |n: u32| packed(IdentifierKind::ExternalId, "", &format!("User-{n}"));
        let lower = |n: u32| packed(IdentifierKind::ExternalId, "", &format!("user-{n}"));
        let people: Vec<Vec<u8>> = (0..60_000).map(id).chain((0..60_000).step_by(3).map(lower)).collect();
        check(&people, 40_000);
    }
}
