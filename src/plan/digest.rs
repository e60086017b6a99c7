//! Digests of plans, for `--expect`, approvals and plan files: equal if and only if the plans send the same.
//!
//! The digest of a side does not depend on the order of its changes. That order follows the seed of the state, and
//! plans made on two machines must be equal. It is the sum of the SHA-256 hashes of the changes, modulo 2^256.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::{CohortNaming, Sides};
use crate::model::CohortId;

/// Order-independent digest of a set of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeSum {
    words: [u64; 4],
    count: u64,
}

impl ChangeSum {
    /// Adds the packed identifier of one change. Returns the start of its hash.
    pub fn add(&mut self, packed: &[u8]) -> u64 {
        let hash = Sha256::digest(packed);
        let (mut carry, mut start) = (false, None);
        for (word, bytes) in self.words.iter_mut().zip(hash.chunks_exact(8)) {
            let mut wide = [0; 8];
            wide.copy_from_slice(bytes);
            let value = u64::from_le_bytes(wide);
            start.get_or_insert(value);
            let (sum, first) = word.overflowing_add(value);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, first || second);
        }
        self.count += 1;
        start.unwrap_or_default()
    }

    /// How many changes were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn feed(&self, hasher: &mut Sha256) {
        hasher.update(self.count.to_le_bytes());
        self.words.iter().for_each(|word| hasher.update(word.to_le_bytes()));
    }
}

/// The digest of a plan, displayed as `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PlanDigest([u8; 32]);

impl PlanDigest {
    /// The digest of one cohort's plan. The caller passes blocked sides as empty.
    #[must_use]
    pub fn of(
        target: &str,
        cohort: &CohortId,
        naming: Option<&CohortNaming>,
        sums: Sides<ChangeSum>,
    ) -> Self {
        let mut hasher = Sha256::new();
        for text in [target, cohort.as_str(), naming.map(CohortNaming::name).unwrap_or_default()] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        sums.removes.feed(&mut hasher);
        sums.adds.feed(&mut hasher);
        Self(hasher.finalize().into())
    }
}

/// The digest of the plans of a run, in any order.
#[must_use]
pub fn of_all(plans: impl IntoIterator<Item = PlanDigest>) -> PlanDigest {
    let mut digests: Vec<[u8; 32]> = plans.into_iter().map(|digest| digest.0).collect();
    digests.sort_unstable();
    let mut hasher = Sha256::new_with_prefix("syncline plan");
    digests.iter().for_each(|digest| hasher.update(digest));
    PlanDigest(hasher.finalize().into())
}

impl fmt::Display for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PlanDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a plan digest is `sha256:` and 64 hex digits, as `syncline plan` prints it";
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or(FORM)?;
        let mut digest = [0; 32];
        for (at, byte) in digest.iter_mut().enumerate() {
            let pair = hex.get(2 * at..2 * at + 2).ok_or(FORM)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| FORM)?;
        }
        Ok(Self(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(changes: &[&str]) -> ChangeSum {
        let mut sum = ChangeSum::default();
        for change in changes {
            sum.add(change.as_bytes());
        }
        sum
    }

    fn digest(cohort: &str, name: Option<&str>, removes: &[&str], adds: &[&str]) -> PlanDigest {
        let naming = name.map(|name| CohortNaming::Create { name: name.to_owned() });
        let sums = Sides { removes: sum(removes), adds: sum(adds) };
        PlanDigest::of("here", &CohortId::new(cohort).unwrap(), naming.as_ref(), sums)
    }

    #[test]
    fn a_digest_depends_on_everything_but_the_order() {
        let plan = digest("c", Some("C"), &["a", "b"], &["x"]);
        assert_eq!(plan, digest("c", Some("C"), &["b", "a"], &["x"]));
        for other in [
            digest("d", Some("C"), &["a", "b"], &["x"]),
            digest("c", Some("D"), &["a", "b"], &["x"]),
            digest("c", None, &["a", "b"], &["x"]),
            digest("c", Some("C"), &["a"], &["x"]),
            digest("c", Some("C"), &["x"], &["a", "b"]),
            digest("c", Some("C"), &["a", "b", "b"], &["x"]),
        ] {
            assert_ne!(plan, other);
        }
        assert_eq!(plan.to_string().parse(), Ok(plan));
        assert_eq!(of_all([plan, digest("d", None, &[], &[])]), of_all([digest("d", None, &[], &[]), plan]));
    }

    #[test]
    fn an_invalid_digest_is_rejected() {
        let text = digest("c", None, &[], &[]).to_string();
        for bad in ["", "sha256:", &text[7..], &text[..70], &format!("{text}0"), &text.replace('a', "ä")] {
            assert!(bad.parse::<PlanDigest>().is_err(), "{bad}");
        }
    }
}
