//! Counts members with identifiers that differ only by upper and lower case, by invisible characters or by Unicode
//! composition. To Braze they are different users; usually they are one user. No member is changed.
//!
//! Only members that differ from their caseless form are kept, sorted by the key of that form. A merge with all members
//! in key order finds the member that has the caseless form as its identifier. Letters beyond ASCII keep their case.

use std::io;

use super::{SortedMembers, SortedSet};
use crate::model::MemberKey;

/// Most groups that are shown.
const SAMPLES_MAX: usize = 3;

/// Packed identifiers of some members.
pub type PackedList = Vec<Box<[u8]>>;

/// Counts case variants while the desired members are visited in key order.
#[derive(Debug)]
pub struct CaseVariants {
    members: SortedMembers,
    /// The current group of members with one caseless form.
    group: Option<VariantGroup>,
    count: u64,
    samples: PackedList,
    failed: Option<io::Error>,
}

#[derive(Debug)]
struct VariantGroup {
    /// Key of the caseless form.
    key: MemberKey,
    /// One member of the group.
    sample: Box<[u8]>,
    members: u64,
    /// Key of the next group: its first member has been read already.
    next: Option<MemberKey>,
}

impl CaseVariants {
    pub(super) fn new(set: SortedSet) -> Self {
        let is_empty = set.is_empty();
        let members = set.into_members();
        let mut variants = Self { members, group: None, count: 0, samples: Vec::new(), failed: None };
        if !is_empty {
            let first = variants.advance();
            variants.read_group(first);
        }
        variants
    }

    /// Visits the next desired members, by their keys.
    #[inline]
    pub fn visit(&mut self, keys: &[MemberKey]) {
        while let (Some(group), Some(last)) = (&self.group, keys.last()) {
            let key = group.key;
            let is_member = keys.binary_search(&key).is_ok();
            if let Some(group) = self.group.as_mut().filter(|_| is_member) {
                group.members += 1;
            }
            if key > *last {
                return;
            }
            self.end_group();
        }
    }

    /// The number of case variants, and one packed sample each of some groups.
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
        if group.members > 1 {
            self.count += group.members;
            if self.samples.len() < SAMPLES_MAX {
                self.samples.push(group.sample);
            }
        }
        self.read_group(group.next);
    }

    /// Reads the group of the current member, which has the key `first`.
    fn read_group(&mut self, first: Option<MemberKey>) {
        let Some(key) = first else { return };
        let (sample, mut members) = (self.members.packed().into(), 1);
        let next = loop {
            match self.advance() {
                Some(same) if same == key => members += 1,
                next => break next,
            }
        };
        self.group = Some(VariantGroup { key, sample, members, next });
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
    use super::super::caseless::is_caseless;
    use super::*;
    use crate::model::{Identifier, IdentifierKind, KeySeed};

    fn packed(kind: IdentifierKind, label: &str, value: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        Identifier { kind, label, value }.pack_into(&mut packed);
        packed
    }

    fn check(people: &[Vec<u8>], expected: u64) {
        let mut all = SortedSet::new(KeySeed(3), 1 << 20);
        let mut cased = SortedSet::by_caseless_form(KeySeed(3), 1 << 20);
        for packed in people {
            all.push(packed).unwrap();
            if !is_caseless(packed) {
                cased.push(packed).unwrap();
            }
        }
        let mut keys = Vec::new();
        let mut members = all.into_members();
        while let Some(key) = members.advance().unwrap() {
            keys.push(key);
        }
        for portion in [1, 3, keys.len().max(1)] {
            let mut cased = SortedSet::by_caseless_form(KeySeed(3), 1 << 20);
            people
                .iter()
                .filter(|packed| !is_caseless(packed))
                .for_each(|packed| cased.push(packed).unwrap());
            let mut variants = CaseVariants::new(cased);
            keys.chunks(portion).for_each(|keys| variants.visit(keys));
            let (count, samples) = variants.finish().unwrap();
            assert_eq!(count, expected, "{portion}");
            assert_eq!(samples.is_empty(), expected == 0);
        }
    }

    #[test]
    fn only_identifiers_that_differ_by_case_alone_are_counted() {
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
    fn identifiers_of_other_kinds_or_labels_are_no_variants() {
        let alias = |label, value| packed(IdentifierKind::Alias, label, value);
        check(&[alias("Crm", "a"), alias("Crm", "A"), alias("crm", "A")], 2);
        check(&[packed(IdentifierKind::DeviceId, "", "A"), packed(IdentifierKind::ExternalId, "", "a")], 0);
        assert!(is_caseless(&alias("CRM", "a")));
    }

    #[test]
    fn many_variants_are_counted() {
        let id = |n: u32| packed(IdentifierKind::ExternalId, "", &format!("User-{n}"));
        let lower = |n: u32| packed(IdentifierKind::ExternalId, "", &format!("user-{n}"));
        let people: Vec<Vec<u8>> = (0..60_000).map(id).chain((0..60_000).step_by(3).map(lower)).collect();
        check(&people, 40_000);
    }
}
