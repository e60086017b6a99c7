//! What Heap holds to be true: events by idempotency key, users by identity, who became whom. Pure; changed
//! by facts only.
//!
//! Source: Heap, "Track" (a later call with the same idempotency key changes nothing), "Identify" (one
//! identity a user id, ten user ids an identity in a month; beyond that nothing happens and nothing is
//! said), "Add User Properties" (an unknown identity makes a user, the same property is overwritten).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::check::USER_ID_MAX;

/// User ids that an identity can take in within a month.
const USER_IDS_MAX: usize = 10;
/// A month, in milliseconds. Its start and length are not documented; 30 days, rolling.
const MONTH: u64 = 30 * 24 * 3600 * 1000;

/// Whose an event is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Who {
    Identity(String),
    UserId(u64),
}

/// An event as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    #[serde(flatten)]
    pub(super) who: Who,
    pub(super) event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_id: Option<String>,
    pub(super) properties: Map<String, Value>,
}

/// Something that happened, at a time in milliseconds where that matters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(super) enum Fact {
    Tracked(Event),
    Identified { user_id: u64, identity: String, at: u64 },
    Described { identity: String, properties: Map<String, Value> },
    Account { account_id: String, properties: Map<String, Value> },
    DeletionAsked { id: String, users: Vec<Who> },
    DeletionDone { id: String },
}

/// An event, ready to be shown.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) who: Who,
    pub(super) name: Arc<str>,
    /// The event as JSON.
    pub(super) text: Box<str>,
}

/// Somebody with an identity.
#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) properties: Map<String, Value>,
    /// Anonymous users that became this one, and when.
    pub(super) user_ids: BTreeMap<u64, u64>,
}

/// A request to delete users.
#[derive(Debug)]
pub(super) struct Deletion {
    pub(super) users: Vec<Who>,
    pub(super) complete: bool,
    /// How often its status was asked.
    pub(super) asked: u64,
}

#[derive(Debug, Default)]
pub(super) struct HeapStore {
    pub(super) events: Vec<Stored>,
    keys: HashSet<Box<str>>,
    pub(super) names: BTreeMap<Arc<str>, u64>,
    pub(super) users: BTreeMap<String, User>,
    owners: HashMap<u64, String>,
    pub(super) accounts: BTreeMap<String, Map<String, Value>>,
    pub(super) deletions: BTreeMap<String, Deletion>,
    /// Events that were there already.
    pub(super) duplicates: u64,
    /// Identify calls that changed nothing because of a cap.
    pub(super) identifies_ignored: u64,
}

impl HeapStore {
    pub(super) fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Tracked(event) => self.track(event),
            Fact::Identified { user_id, identity, at } => self.identify(user_id, identity, at),
            Fact::Described { identity, properties } => {
                self.users.entry(identity).or_default().properties.extend(properties);
            }
            Fact::Account { account_id, properties } => {
                self.accounts.entry(account_id).or_default().extend(properties);
            }
            Fact::DeletionAsked { id, users } => {
                self.deletions.insert(id, Deletion { users, complete: false, asked: 0 });
            }
            Fact::DeletionDone { id } => self.delete(&id),
        }
    }

    /// Whether an event with this key is there already. Keys are of the whole environment: single calls and
    /// bulk calls share them (not documented).
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    fn track(&mut self, event: Event) {
        if let Some(key) = &event.idempotency_key
            && !self.keys.insert(key.as_str().into())
        {
            self.duplicates += 1;
            return;
        }
        if let Who::Identity(identity) = &event.who
            && !self.users.contains_key(identity)
        {
            self.users.insert(identity.clone(), User::default());
        }
        let known = self.names.get_key_value(event.event.as_str()).map(|(name, _)| Arc::clone(name));
        let name = known.unwrap_or_else(|| event.event.as_str().into());
        *self.names.entry(Arc::clone(&name)).or_default() += 1;
        let text = serde_json::to_string(&event).unwrap_or_default().into_boxed_str();
        self.events.push(Stored { who: event.who, name, text });
    }

    fn identify(&mut self, user_id: u64, identity: String, at: u64) {
        let user = self.users.entry(identity.clone()).or_default();
        let lately = user.user_ids.values().filter(|then| at.saturating_sub(**then) < MONTH).count();
        match self.owners.get(&user_id) {
            Some(owner) if *owner == identity => {}
            None if lately < USER_IDS_MAX => {
                user.user_ids.insert(user_id, at);
                self.owners.insert(user_id, identity);
            }
            _ => self.identifies_ignored += 1,
        }
    }

    /// The identity behind a user id, or the id itself while it is anonymous.
    pub(super) fn owner<'a>(&'a self, who: &'a Who) -> Result<&'a str, u64> {
        match who {
            Who::Identity(identity) => Ok(identity),
            Who::UserId(id) => self.owners.get(id).map(String::as_str).ok_or(*id),
        }
    }

    /// All keys, sorted.
    pub(super) fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.keys.iter().map(|key| &**key).collect();
        keys.sort_unstable();
        keys
    }

    /// Users and their events go; the keys of the events stay, so that none comes back (not documented).
    fn delete(&mut self, id: &str) {
        let Some(deletion) = self.deletions.get_mut(id) else { return };
        deletion.complete = true;
        let users = deletion.users.clone();
        let gone: BTreeSet<Result<String, u64>> =
            users.iter().map(|who| self.owner(who).map(str::to_owned)).collect();
        let events = std::mem::take(&mut self.events);
        let (kept, deleted): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| !gone.contains(&self.owner(&event.who).map(str::to_owned)));
        self.events = kept;
        for event in deleted {
            if let Some(count) = self.names.get_mut(&event.name) {
                *count -= 1;
            }
        }
        self.names.retain(|_, count| *count > 0);
        let gone: HashSet<String> = gone.into_iter().flatten().collect();
        self.users.retain(|identity, _| !gone.contains(identity));
        self.owners.retain(|_, owner| !gone.contains(owner));
    }
}

/// The user id that an identity has: a hash of it, within 0 to 2^53 - 1. Heap's hash is not documented.
pub(super) fn user_id(identity: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(identity.as_bytes()).into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first) & USER_ID_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(who: Who, key: &str, name: &str) -> Fact {
        Fact::Tracked(Event {
            who,
            event: name.to_owned(),
            timestamp: None,
            idempotency_key: Some(key.to_owned()),
            session_id: None,
            properties: Map::new(),
        })
    }

    fn identified(user_id: u64, identity: &str, at: u64) -> Fact {
        Fact::Identified { user_id, identity: identity.to_owned(), at }
    }

    #[test]
    fn the_first_event_of_a_key_wins() {
        let mut store = HeapStore::default();
        let who = || Who::Identity("a".to_owned());
        for (key, name) in [("k1", "first"), ("k1", "second"), ("k2", "first")] {
            store.learn(event(who(), key, name));
        }
        assert_eq!((store.events.len(), store.duplicates), (2, 1));
        assert_eq!(store.names.get("first"), Some(&2));
        assert_eq!(store.keys(), ["k1", "k2"]);
    }

    #[test]
    fn identify_has_silent_caps() {
        let mut store = HeapStore::default();
        store.learn(identified(1, "a", 0));
        store.learn(identified(1, "b", 0));
        assert_eq!(store.owner(&Who::UserId(1)), Ok("a"));
        for id in 2..=11 {
            store.learn(identified(id, "a", 1));
        }
        assert_eq!((store.users["a"].user_ids.len(), store.identifies_ignored), (10, 2));
        assert_eq!(store.owner(&Who::UserId(11)), Err(11));
        store.learn(identified(11, "a", MONTH));
        assert_eq!(store.owner(&Who::UserId(11)), Ok("a"), "a month later there is room");
    }

    #[test]
    fn a_deleted_user_takes_the_events_along() {
        let mut store = HeapStore::default();
        store.learn(event(Who::UserId(7), "k1", "e"));
        store.learn(identified(7, "a", 0));
        store.learn(event(Who::Identity("b".to_owned()), "k2", "e"));
        let users = vec![Who::Identity("a".to_owned())];
        store.learn(Fact::DeletionAsked { id: "d".to_owned(), users });
        assert_eq!(store.events.len(), 2, "not yet");
        store.learn(Fact::DeletionDone { id: "d".to_owned() });
        assert_eq!((store.events.len(), store.users.len()), (1, 1));
        store.learn(event(Who::UserId(7), "k1", "e"));
        assert_eq!(store.events.len(), 1, "its key is still taken");
    }
}
