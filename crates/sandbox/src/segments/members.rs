//! Members of a segment: the current ones, those of the last sync, and those of the acknowledged deliveries.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

/// From what a sync counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Basis {
    /// The previous sync: users of an abandoned page are never delivered again.
    #[default]
    Sync,
    /// The acknowledged deliveries: the next sync delivers the users of an abandoned page again.
    Delivered,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    member: bool,
    synced: bool,
    delivered: bool,
}

/// One entry for everybody who is on at least one of the three lists.
#[derive(Debug, Default)]
pub(super) struct Members(BTreeMap<Arc<str>, Place>);

/// Who entered and who left.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) add: Vec<Arc<str>>,
    pub(super) remove: Vec<Arc<str>>,
}

impl Members {
    fn set(&mut self, id: &Arc<str>, change: impl Fn(&mut Place)) {
        let place = self.0.entry(id.clone()).or_default();
        change(place);
        if *place == Place::default() {
            self.0.remove(id);
        }
    }

    /// Replaces who is in it.
    pub(super) fn define(&mut self, ids: Vec<String>) {
        self.0.values_mut().for_each(|place| place.member = false);
        self.change(ids, Vec::new());
        self.prune();
    }

    pub(super) fn change(&mut self, add: Vec<String>, remove: Vec<String>) {
        add.into_iter().for_each(|id| self.set(&id.into(), |place| place.member = true));
        remove.into_iter().for_each(|id| self.set(&id.into(), |place| place.member = false));
    }

    /// Who entered and left; from now on the next sync counts from here.
    pub(super) fn sync(&mut self, basis: Basis) -> Delta {
        let mut delta = Delta::default();
        for (id, place) in &mut self.0 {
            let before = match basis {
                Basis::Sync => place.synced,
                Basis::Delivered => place.delivered,
            };
            match (before, place.member) {
                (false, true) => delta.add.push(id.clone()),
                (true, false) => delta.remove.push(id.clone()),
                _ => {}
            }
            place.synced = place.member;
        }
        self.prune();
        delta
    }

    /// A page was acknowledged.
    pub(super) fn deliver(&mut self, add: &[Arc<str>], remove: &[Arc<str>]) {
        add.iter().for_each(|id| self.set(id, |place| place.delivered = true));
        remove.iter().for_each(|id| self.set(id, |place| place.delivered = false));
    }

    /// A drain is about to be sent: the next sync names everybody.
    pub(super) fn begin_drain(&mut self) {
        self.0.values_mut().for_each(|place| place.synced = false);
        self.prune();
    }

    /// A drain was acknowledged.
    pub(super) fn drained(&mut self) {
        self.0.values_mut().for_each(|place| place.delivered = false);
        self.prune();
    }

    fn prune(&mut self) {
        self.0.retain(|_, place| *place != Place::default());
    }

    pub(super) fn list(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, place)| place.member).map(|(id, _)| &**id)
    }

    pub(super) fn delivered_list(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, place)| place.delivered).map(|(id, _)| &**id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn sync(members: &mut Members, basis: Basis) -> (String, String) {
        let delta = members.sync(basis);
        (delta.add.join(" "), delta.remove.join(" "))
    }

    fn texts(add: &str, remove: &str) -> (String, String) {
        (add.to_owned(), remove.to_owned())
    }

    #[test]
    fn a_sync_counts_from_its_basis() {
        let mut members = Members::default();
        members.define(owned(&["a", "b"]));
        assert_eq!(sync(&mut members, Basis::Sync), texts("a b", ""));
        members.change(owned(&["c"]), owned(&["a"]));
        // No delivery was acknowledged, so every member is new.
        assert_eq!(sync(&mut members, Basis::Sync), texts("c", "a"));
        assert_eq!(sync(&mut members, Basis::Delivered), texts("b c", ""));
        members.deliver(&["b".into(), "x".into()], &[]);
        assert_eq!(sync(&mut members, Basis::Delivered), texts("c", "x"));
        assert_eq!(members.delivered_list().collect::<Vec<_>>(), ["b", "x"]);
        members.deliver(&[], &["x".into()]);
        assert_eq!(members.delivered_list().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_drain_empties_the_delivered_members_and_not_the_segment() {
        let mut members = Members::default();
        members.define(owned(&["a"]));
        let delta = members.sync(Basis::Sync);
        members.deliver(&delta.add, &delta.remove);
        members.begin_drain();
        members.drained();
        assert_eq!(members.delivered_list().count(), 0);
        assert_eq!(sync(&mut members, Basis::Sync), texts("a", ""));
        members.define(Vec::new());
        assert_eq!(sync(&mut members, Basis::Sync), texts("", "a"));
        assert!(members.0.is_empty(), "nobody is kept for nothing");
    }
}
