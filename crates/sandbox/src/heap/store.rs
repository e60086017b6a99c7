//! State of the simulated Heap: events by idempotency key, users by identity, merged anonymous users. Pure;
//! only facts change it.
//!
//! Source: Heap, "Track" (a later call with the same idempotency key changes nothing), "Identify" (one identity
//! per user id, ten user ids per identity in a month; beyond that the call is silently ignored), "Add User
//! Properties" (an unknown identity creates a user; the same property is overwritten).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::check::USER_ID_MAX;

/// User ids that an identity can get in a month.
const USER_IDS_MAX: usize = 10;
/// A month, in milliseconds. Its start and length are not documented; 30 days, rolling.
const MONTH: u64 = 30 * 24 * 3600 * 1000;

/// The user of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HeapUserId {
    Identity(String),
    UserId(u64),
}

/// A stored event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HeapEvent {
    #[serde(flatten)]
    pub(super) user: HeapUserId,
    pub(super) event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_id: Option<String>,
    pub(super) properties: Map<String, Value>,
}

/// A change of the state, as it is logged; times in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(super) enum HeapFact {
    Tracked(HeapEvent),
    Identified { user_id: u64, identity: String, at: u64 },
    WithProperties { identity: String, properties: Map<String, Value> },
    Account { account_id: String, properties: Map<String, Value> },
    DeletionRequested { id: String, users: Vec<HeapUserId> },
    DeletionDone { id: String },
}

/// An event with its JSON form.
#[derive(Debug)]
pub(super) struct StoredEvent {
    pub(super) user: HeapUserId,
    pub(super) name: Arc<str>,
    /// The event as JSON.
    pub(super) text: Box<str>,
}

/// A user with an identity.
#[derive(Debug, Default)]
pub(super) struct HeapUser {
    pub(super) properties: Map<String, Value>,
    /// Anonymous users that were identified as this one, with the time.
    pub(super) user_ids: BTreeMap<u64, u64>,
}

/// A request to delete users.
#[derive(Debug)]
pub(super) struct DeletionRequest {
    pub(super) users: Vec<HeapUserId>,
    pub(super) complete: bool,
    /// Status requests so far.
    pub(super) status_requests: u64,
}

#[derive(Debug, Default)]
pub(super) struct HeapStore {
    pub(super) events: Vec<StoredEvent>,
    keys: HashSet<Box<str>>,
    pub(super) names: BTreeMap<Arc<str>, u64>,
    pub(super) users: BTreeMap<String, HeapUser>,
    owners: HashMap<u64, String>,
    pub(super) accounts: BTreeMap<String, Map<String, Value>>,
    pub(super) deletions: BTreeMap<String, DeletionRequest>,
    /// Events with a known idempotency key.
    pub(super) duplicates: u64,
    /// Identify calls that a cap ignored.
    pub(super) identifies_ignored: u64,
}

impl HeapStore {
    pub(super) fn apply(&mut self, fact: HeapFact) {
        match fact {
            HeapFact::Tracked(event) => self.track(event),
            HeapFact::Identified { user_id, identity, at } => self.identify(user_id, identity, at),
            HeapFact::WithProperties { identity, properties } => {
                self.users.entry(identity).or_default().properties.extend(properties);
            }
            HeapFact::Account { account_id, properties } => {
                self.accounts.entry(account_id).or_default().extend(properties);
            }
            HeapFact::DeletionRequested { id, users } => {
                self.deletions.insert(id, DeletionRequest { users, complete: false, status_requests: 0 });
            }
            HeapFact::DeletionDone { id } => self.delete(&id),
        }
    }

    /// Whether an event has this idempotency key. Keys are shared by the whole environment, single and bulk
    /// calls alike (not documented).
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    fn track(&mut self, event: HeapEvent) {
        if let Some(key) = &event.idempotency_key
            && !self.keys.insert(key.as_str().into())
        {
            self.duplicates += 1;
            return;
        }
        if let HeapUserId::Identity(identity) = &event.user
            && !self.users.contains_key(identity)
        {
            self.users.insert(identity.clone(), HeapUser::default());
        }
        let existing = self.names.get_key_value(event.event.as_str()).map(|(name, _)| Arc::clone(name));
        let name = existing.unwrap_or_else(|| event.event.as_str().into());
        *self.names.entry(Arc::clone(&name)).or_default() += 1;
        let text = serde_json::to_string(&event).unwrap_or_default().into_boxed_str();
        self.events.push(StoredEvent { user: event.user, name, text });
    }

    fn identify(&mut self, user_id: u64, identity: String, at: u64) {
        let user = self.users.entry(identity.clone()).or_default();
        let recent =
            user.user_ids.values().filter(|identified_at| at.saturating_sub(**identified_at) < MONTH).count();
        match self.owners.get(&user_id) {
            Some(owner) if *owner == identity => {}
            None if recent < USER_IDS_MAX => {
                user.user_ids.insert(user_id, at);
                self.owners.insert(user_id, identity);
            }
            _ => self.identifies_ignored += 1,
        }
    }

    /// The identity of a user, or the user id of an anonymous one.
    pub(super) fn owner<'a>(&'a self, user: &'a HeapUserId) -> Result<&'a str, u64> {
        match user {
            HeapUserId::Identity(identity) => Ok(identity),
            HeapUserId::UserId(id) => self.owners.get(id).map(String::as_str).ok_or(*id),
        }
    }

    /// All idempotency keys, sorted.
    pub(super) fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.keys.iter().map(|key| &**key).collect();
        keys.sort_unstable();
        keys
    }

    /// Deletes users and their events. The keys of the events stay, so that no event returns (not documented).
    fn delete(&mut self, id: &str) {
        let Some(deletion) = self.deletions.get_mut(id) else { return };
        deletion.complete = true;
        let users = deletion.users.clone();
        let deleted_users: BTreeSet<Result<String, u64>> =
            users.iter().map(|user| self.owner(user).map(str::to_owned)).collect();
        let events = std::mem::take(&mut self.events);
        let (remaining, deleted): (Vec<_>, Vec<_>) = events
            .into_iter()
            .partition(|event| !deleted_users.contains(&self.owner(&event.user).map(str::to_owned)));
        self.events = remaining;
        for event in deleted {
            if let Some(count) = self.names.get_mut(&event.name) {
                *count -= 1;
            }
        }
        self.names.retain(|_, count| *count > 0);
        let deleted_users: HashSet<String> = deleted_users.into_iter().flatten().collect();
        self.users.retain(|identity, _| !deleted_users.contains(identity));
        self.owners.retain(|_, owner| !deleted_users.contains(owner));
    }
}

/// The user id of an identity: a hash from 0 to 2^53 - 1. Heap's hash is not documented.
pub(super) fn user_id(identity: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(identity.as_bytes()).into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first) & USER_ID_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(user: HeapUserId, key: &str, name: &str) -> HeapFact {
        HeapFact::Tracked(HeapEvent {
            user,
            event: name.to_owned(),
            timestamp: None,
            idempotency_key: Some(key.to_owned()),
            session_id: None,
            properties: Map::new(),
        })
    }

    fn identified(user_id: u64, identity: &str, at: u64) -> HeapFact {
        HeapFact::Identified { user_id, identity: identity.to_owned(), at }
    }

    #[test]
    fn the_first_event_with_an_idempotency_key_wins() {
        let mut store = HeapStore::default();
        let user = || HeapUserId::Identity("a".to_owned());
        for (key, name) in [("k1", "first"), ("k1", "second"), ("k2", "first")] {
            store.apply(event(user(), key, name));
        }
        assert_eq!((store.events.len(), store.duplicates), (2, 1));
        assert_eq!(store.names.get("first"), Some(&2));
        assert_eq!(store.keys(), ["k1", "k2"]);
    }

    #[test]
    fn identify_has_silent_caps() {
        let mut store = HeapStore::default();
        store.apply(identified(1, "a", 0));
        store.apply(identified(1, "b", 0));
        assert_eq!(store.owner(&HeapUserId::UserId(1)), Ok("a"));
        for id in 2..=11 {
            store.apply(identified(id, "a", 1));
        }
        assert_eq!((store.users["a"].user_ids.len(), store.identifies_ignored), (10, 2));
        assert_eq!(store.owner(&HeapUserId::UserId(11)), Err(11));
        store.apply(identified(11, "a", MONTH));
        assert_eq!(store.owner(&HeapUserId::UserId(11)), Ok("a"), "the cap is per month");
    }

    #[test]
    fn deleting_a_user_deletes_the_events() {
        let mut store = HeapStore::default();
        store.apply(event(HeapUserId::UserId(7), "k1", "e"));
        store.apply(identified(7, "a", 0));
        store.apply(event(HeapUserId::Identity("b".to_owned()), "k2", "e"));
        let users = vec![HeapUserId::Identity("a".to_owned())];
        store.apply(HeapFact::DeletionRequested { id: "d".to_owned(), users });
        assert_eq!(store.events.len(), 2, "pending until the status was requested");
        store.apply(HeapFact::DeletionDone { id: "d".to_owned() });
        assert_eq!((store.events.len(), store.users.len()), (1, 1));
        store.apply(event(HeapUserId::UserId(7), "k1", "e"));
        assert_eq!(store.events.len(), 1, "its idempotency key stays known");
    }
}
