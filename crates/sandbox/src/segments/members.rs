//! Members of a segment: the current ones, those of the last sync, and those of the acknowledged deliveries.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

/// Baseline of the delta of a sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SyncBasis {
    /// The previous sync: users of an abandoned page are never delivered again.
    #[default]
    Sync,
    /// The acknowledged deliveries: the next sync delivers the users of an abandoned page again.
    Delivered,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct MemberFlags {
    member: bool,
    synced: bool,
    delivered: bool,
}

/// One entry per user who is on at least one of the three lists.
#[derive(Debug, Default)]
pub(super) struct Members(BTreeMap<Arc<str>, MemberFlags>);

/// Users who entered and left.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) add: Vec<Arc<str>>,
    pub(super) remove: Vec<Arc<str>>,
}

impl Members {
    fn set(&mut self, id: &Arc<str>, change: impl Fn(&mut MemberFlags)) {
        let flags = self.0.entry(id.clone()).or_default();
        change(flags);
        if *flags == MemberFlags::default() {
            self.0.remove(id);
        }
    }

    /// Replaces the current members.
    pub(super) fn define(&mut self, ids: Vec<String>) {
        self.0.values_mut().for_each(|flags| flags.member = false);
        self.change(ids, Vec::new());
        self.prune();
    }

    pub(super) fn change(&mut self, add: Vec<String>, remove: Vec<String>) {
        add.into_iter().for_each(|id| self.set(&id.into(), |flags| flags.member = true));
        remove.into_iter().for_each(|id| self.set(&id.into(), |flags| flags.member = false));
    }

    /// Returns the delta; the next sync starts from the current members.
    pub(super) fn sync(&mut self, basis: SyncBasis) -> Delta {
        let mut delta = Delta::default();
        for (id, flags) in &mut self.0 {
            let before = match basis {
                SyncBasis::Sync => flags.synced,
                SyncBasis::Delivered => flags.delivered,
            };
            match (before, flags.member) {
                (false, true) => delta.add.push(id.clone()),
                (true, false) => delta.remove.push(id.clone()),
                _ => {}
            }
            flags.synced = flags.member;
        }
        self.prune();
        delta
    }

    /// Records an acknowledged page.
    pub(super) fn deliver(&mut self, add: &[Arc<str>], remove: &[Arc<str>]) {
        add.iter().for_each(|id| self.set(id, |flags| flags.delivered = true));
        remove.iter().for_each(|id| self.set(id, |flags| flags.delivered = false));
    }

    /// Before a drain is sent: the next sync lists every member.
    pub(super) fn begin_drain(&mut self) {
        self.0.values_mut().for_each(|flags| flags.synced = false);
        self.prune();
    }

    /// Records an acknowledged drain.
    pub(super) fn drain_acknowledged(&mut self) {
        self.0.values_mut().for_each(|flags| flags.delivered = false);
        self.prune();
    }

    fn prune(&mut self) {
        self.0.retain(|_, flags| *flags != MemberFlags::default());
    }

    pub(super) fn list(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, flags)| flags.member).map(|(id, _)| &**id)
    }

    pub(super) fn delivered_list(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, flags)| flags.delivered).map(|(id, _)| &**id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn sync(members: &mut Members, basis: SyncBasis) -> (String, String) {
        let delta = members.sync(basis);
        (delta.add.join(" "), delta.remove.join(" "))
    }

    fn texts(add: &str, remove: &str) -> (String, String) {
        (add.to_owned(), remove.to_owned())
    }

    #[test]
    fn a_sync_delivers_the_changes_since_its_basis() {
        let mut members = Members::default();
        members.define(owned(&["a", "b"]));
        assert_eq!(sync(&mut members, SyncBasis::Sync), texts("a b", ""));
        members.change(owned(&["c"]), owned(&["a"]));
        // No delivery was acknowledged, so every member is new.
        assert_eq!(sync(&mut members, SyncBasis::Sync), texts("c", "a"));
        assert_eq!(sync(&mut members, SyncBasis::Delivered), texts("b c", ""));
        members.deliver(&["b".into(), "x".into()], &[]);
        assert_eq!(sync(&mut members, SyncBasis::Delivered), texts("c", "x"));
        assert_eq!(members.delivered_list().collect::<Vec<_>>(), ["b", "x"]);
        members.deliver(&[], &["x".into()]);
        assert_eq!(members.delivered_list().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_drain_empties_the_delivered_members_and_not_the_segment() {
        let mut members = Members::default();
        members.define(owned(&["a"]));
        let delta = members.sync(SyncBasis::Sync);
        members.deliver(&delta.add, &delta.remove);
        members.begin_drain();
        members.drain_acknowledged();
        assert_eq!(members.delivered_list().count(), 0);
        assert_eq!(sync(&mut members, SyncBasis::Sync), texts("a", ""));
        members.define(Vec::new());
        assert_eq!(sync(&mut members, SyncBasis::Sync), texts("", "a"));
        assert!(members.0.is_empty(), "users on no list are dropped");
    }
}
