//! Forgetting somebody: out of the identity map, the events that wait, the inbox and the rejects.
//!
//! # Caveats
//! The id that is given is looked for, as the customer's id, Braze's id, a device or an alias, and what has no id of
//! the customer's but one that the identity map knows to be theirs. What a cohort's source or a Heap still says of a
//! person is only told: it would be back with the next pass.

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::Value;

use super::batch::named_in;
use crate::model::{CohortId, ConnectionName, Identifier, Kind};
use crate::state::{
    Awaited, ClosedFile, Contents, Delivery, IdentityMap, PushdownNote, StateError, StateWriter, Waiting,
};

/// What was erased of somebody, and what is left to others to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Entries of the identity map.
    pub identity: u64,
    /// Events that waited.
    pub waiting: u64,
    /// Events of inboxes.
    pub inbox: u64,
    /// Rejects.
    pub rejects: u64,
    /// Entries of what is to be triggered, of what lately was, and of whom Braze did not know.
    pub actions: u64,
    /// Cohorts whose record has them: their sources still name them, or the next pass takes them out.
    pub cohorts: Vec<CohortId>,
    /// Segments of which a Heap has told that they are in them.
    pub segments: Vec<(ConnectionName, u64)>,
    /// Tables beside the sources of cohorts in which they may be.
    pub tables: Vec<(CohortId, PushdownNote)>,
}

impl Forgotten {
    /// Whether there was nothing to erase.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.identity + self.waiting + self.inbox + self.rejects + self.actions == 0
    }
}

/// Erases everything about an id. `labels` are those of the aliases that cohorts use.
///
/// # Errors
/// When a part of the state cannot be read or written; what came before it is erased.
pub fn forget(state: &Arc<StateWriter>, id: &str, labels: &[&str]) -> Result<Forgotten, StateError> {
    let person = Person { id, map: IdentityMap::open(state)?.into(), failed: RefCell::default() };
    let mut forgotten = Forgotten::default();
    state.remove_half_written()?;
    for export in state.reader().exports()? {
        let mut record = state.reader().export(&export)?;
        forgotten.waiting +=
            state.erase_waiting(&export, &mut record, &|waiting| person.is_awaited(waiting))?;
        person.check()?;
    }
    for (door, files) in state.reader().inboxes()? {
        let erase = if door.starts_with("currents.") { Person::erase_events } else { Person::erase_added };
        for file in &files {
            forgotten.inbox += from_file(state, file, &|delivery| erase(&person, delivery), &person)?;
        }
    }
    for file in state.reader().reject_files(None)? {
        let lines = state.reader().reject_lines(&file)?;
        let kept: Vec<String> = lines.iter().filter(|line| !person.is_of_line(line)).cloned().collect();
        person.check()?;
        if kept.len() < lines.len() {
            state.keep_rejects(&file, &kept)?;
            forgotten.rejects += (lines.len() - kept.len()) as u64;
        }
    }
    // Last, since it tells what is theirs.
    forgotten.identity = state.erase_identity(&mut person.map.borrow_mut(), id)?;
    let by = |kind, label| Identifier { kind, label, value: id };
    let mut identifiers = vec![by(Kind::ExternalId, ""), by(Kind::DeviceId, "")];
    identifiers.extend(labels.iter().map(|label| by(Kind::Alias, label)));
    forgotten.actions = state.erase_actions(&identifiers)? + state.erase_strangers(&identifiers)?;
    forgotten.cohorts = state.reader().cohorts_of(&identifiers)?;
    forgotten.tables = state.reader().pushdown_tables(&forgotten.cohorts)?;
    forgotten.segments = state.reader().segments_of(id)?;
    Ok(forgotten)
}

/// Takes what is of somebody out of a file of an inbox. How much that was.
fn from_file(
    state: &StateWriter,
    file: &ClosedFile,
    erase: &dyn Fn(&mut Delivery) -> u64,
    person: &Person<'_>,
) -> Result<u64, StateError> {
    let mut contents: Contents = state.reader().deliveries(file)?;
    let mut erased: u64 = contents.deliveries.iter_mut().map(erase).sum();
    person.check()?;
    // Whose they are cannot be read off any more, but that they name the id.
    let damaged = contents.damaged.len();
    contents.damaged.retain(|bytes| !names(&String::from_utf8_lossy(bytes), person.id));
    erased += (damaged - contents.damaged.len()) as u64;
    // Nobody was told that what is torn is safe, and it may be theirs.
    if erased > 0 || contents.torn > 0 {
        state.replace_deliveries(file, &contents)?;
    }
    Ok(erased)
}

/// Whoever is to be forgotten.
struct Person<'a> {
    id: &'a str,
    map: RefCell<IdentityMap>,
    /// The map could not be read.
    failed: RefCell<Option<StateError>>,
}

impl Person<'_> {
    fn check(&self) -> Result<(), StateError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Whether the map knows one of these as theirs.
    fn owns(&self, user_id: &str, device_id: &str) -> bool {
        match self.map.borrow_mut().owner(user_id, device_id) {
            Ok(owner) => owner.is_some_and(|owner| owner == self.id),
            Err(error) => {
                self.failed.replace(Some(error));
                false
            }
        }
    }

    fn is_awaited(&self, waiting: &Waiting<'_>) -> bool {
        match waiting.awaited {
            Awaited::Person { user_id, device_id } => {
                user_id == self.id || device_id == self.id || self.owns(user_id, device_id)
            }
            Awaited::Limit { who } => who == self.id || named_in(waiting.event) == self.id,
        }
    }

    /// Takes the events about them out of a delivery of Braze's. How many these were.
    fn erase_events(&self, delivery: &mut Delivery) -> u64 {
        let Ok(events) = crate::events::pieces(&delivery.body) else {
            // It will be a reject as it is.
            let is_theirs = names(&String::from_utf8_lossy(&delivery.body), self.id);
            delivery.body.truncate(if is_theirs { 0 } else { usize::MAX });
            return u64::from(is_theirs);
        };
        let kept: Vec<&str> = events.iter().filter(|event| !self.is_of_event(event)).copied().collect();
        let erased = (events.len() - kept.len()) as u64;
        if erased > 0 {
            delivery.body = format!("{{\"events\":[{}]}}", kept.join(",")).into_bytes();
        }
        erased
    }

    /// Takes them out of those whom a Heap has added. That it has removed them stays: it takes them out of the
    /// segment.
    fn erase_added(&self, delivery: &mut Delivery) -> u64 {
        let Ok(mut body) = serde_json::from_slice::<Value>(&delivery.body) else { return 0 };
        let wrapped = body.get("heap").is_some();
        let inner = if wrapped { body.get_mut("heap") } else { Some(&mut body) };
        let added = inner.and_then(|inner| inner.pointer_mut("/data/add")).and_then(Value::as_array_mut);
        let Some(added) = added else { return 0 };
        let before = added.len();
        added.retain(|member| member.get("id").is_none_or(|value| !is_id(value, self.id)));
        let erased = (before - added.len()) as u64;
        if erased > 0 {
            delivery.body = body.to_string().into_bytes();
        }
        erased
    }

    /// Whether an event is about them, or says the id anywhere.
    fn is_of_event(&self, event: &str) -> bool {
        match serde_json::from_str::<Value>(event) {
            Ok(event) => says(&event, self.id) || self.is_of_keys(&event),
            // A reader of ours takes more than this one.
            Err(_) => names(event, self.id),
        }
    }

    /// Whether something without a customer's id has another that is theirs.
    fn is_of_keys(&self, event: &Value) -> bool {
        let text = |name: &str| {
            let found = event.get(name).or_else(|| event.get("user")?.get(name));
            found.and_then(Value::as_str).map(str::trim).unwrap_or_default()
        };
        text("external_user_id").is_empty() && self.owns(text("user_id"), text("device_id"))
    }

    /// Whether a reject is about them: rather one too many is erased than one too few.
    fn is_of_line(&self, line: &str) -> bool {
        let Ok(reject) = serde_json::from_str::<Value>(line) else { return names(line, self.id) };
        let part = |name: &str| reject.get(name).and_then(Value::as_str);
        let is_in = |text: &str| names(text, self.id) || self.is_of_event(text);
        ["value", "event", "sent", "detail"].into_iter().filter_map(part).any(is_in)
    }
}

fn is_id(value: &Value, id: &str) -> bool {
    match value {
        Value::String(text) => text.trim() == id,
        Value::Number(number) => {
            let text = number.to_string();
            text == id
        }
        _ => false,
    }
}

/// Whether a text of it is the id, or holds JSON that says it.
fn says(value: &Value, id: &str) -> bool {
    match value {
        Value::Array(all) => all.iter().any(|value| says(value, id)),
        Value::Object(all) => {
            let ids = ["external_user_id", "user_id", "device_id", "orphaned_by_id"];
            all.iter().any(|(key, value)| says(value, id) || ids.contains(&key.as_str()) && is_id(value, id))
        }
        Value::String(text) if text.trim() == id => true,
        Value::String(text) if text.trim_start().starts_with(['{', '[']) => {
            serde_json::from_str(text).is_ok_and(|value: Value| says(&value, id))
        }
        _ => false,
    }
}

/// Whether a text has the id as a word of its own.
fn names(text: &str, id: &str) -> bool {
    let escaped = Value::from(id).to_string();
    let escaped = escaped.get(1..escaped.len() - 1).unwrap_or_default();
    let is_part =
        |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || "_-.@".contains(char));
    text.match_indices(escaped).any(|(at, found)| {
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + found.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Timestamp};
    use crate::state::{Handle, Holder, Location};

    /// Whoever the customer calls `id`; `b1` is theirs.
    fn person<'a>(home: &tempfile::TempDir, id: &'a str) -> Person<'a> {
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let holder = Holder { host: String::new(), process: 1, since: clock.now(), heard: None };
        let location = Location::Folder(home.path().to_owned());
        let state = Arc::new(StateWriter::open(&location, &holder, clock, 7).unwrap());
        let mut map = IdentityMap::open(&state).unwrap();
        map.tie(Handle::BrazeId("b1"), id, Timestamp::UNIX_EPOCH).unwrap();
        Person { id, map: map.into(), failed: RefCell::default() }
    }

    #[test]
    fn a_line_is_theirs_that_names_them_in_any_form() {
        let home = tempfile::tempdir().unwrap();
        let person = person(&home, "ü1");
        for (line, expected) in [
            (r#"{"value":"ü1"}"#, true),
            (r#"{"event":"{\"external_user_id\":\"ü1\"}"}"#, true),
            (r#"{"event":"{\"external_user_id\":\"\\u00fc1\"}"}"#, true),
            (r#"{"event":"{\"properties\":\"{\\\"mail\\\":\\\"\\\\u00fc1\\\"}\"}"}"#, true),
            (r#"{"value":"external_id ü1"}"#, true),
            (r#"{"event":"{\"user\":{\"user_id\":\"b1\"}}"}"#, true),
            (r#"{"value":"{\"user_id\":\"b1\",\"device_id\":\"\"}","sent":"{}"}"#, true),
            (r#"{"event":"{\"user\":{\"user_id\":\"b1\",\"external_user_id\":\"u2\"}}"}"#, false),
            (r#"{"event":"{\"user\":{\"user_id\":\"b2\"}}"}"#, false),
            (r#"{"value":"ü12"}"#, false),
            (r#"{"value":"x-ü1"}"#, false),
            (r#"{"value":"ü1@example.com"}"#, false),
        ] {
            assert_eq!(person.is_of_line(line), expected, "{line}");
        }
        person.check().unwrap();
        let other = Person { id: "7", ..person };
        assert!(!other.is_of_line(r#"{"reason":"no_id","line":7,"event":"{\"time\":77}"}"#));
    }

    fn delivery(body: &str) -> Delivery {
        Delivery { received: Timestamp::UNIX_EPOCH, stamp: 0, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn only_events_about_the_person_leave_a_delivery() {
        let home = tempfile::tempdir().unwrap();
        let person = person(&home, "u1");
        let check = |body: &str, erased: u64, left: &str| {
            let mut delivery = delivery(body);
            assert_eq!(person.erase_events(&mut delivery), erased, "{body}");
            assert_eq!(String::from_utf8(delivery.body).unwrap(), left);
        };
        check(r#"{"events":[{"id":"a","user_id":"b2"}]}"#, 0, r#"{"events":[{"id":"a","user_id":"b2"}]}"#);
        check(
            r#"{"events":[{"id":"a","user":{"external_user_id":"u1"}},{"id":"b","user_id":"u2"},{"user_id":"b1"},
                {"properties":{"orphaned_by_id":"u1"}},{"user":{"user_id":"b1","external_user_id":"u2"}}]}"#,
            3,
            r#"{"events":[{"id":"b","user_id":"u2"},{"user":{"user_id":"b1","external_user_id":"u2"}}]}"#,
        );
        // What another reader would not take.
        check(r#"{"events":[{"external_user_id":"u1","x":1e999,"y":"\ud800"}]}"#, 1, r#"{"events":[]}"#);
    }

    #[test]
    fn a_heap_adds_them_to_nothing_and_still_takes_them_out() {
        let home = tempfile::tempdir().unwrap();
        let person = person(&home, "u1");
        let mut told = delivery(r#"{"data":{"add":[{"id":"u1"},{"id":"u2"}],"remove":[{"id":"u1"}]}}"#);
        assert_eq!(person.erase_added(&mut told), 1);
        assert_eq!(told.body, br#"{"data":{"add":[{"id":"u2"}],"remove":[{"id":"u1"}]}}"#);
        assert_eq!(person.erase_added(&mut told), 0);
        let mut told = delivery(r#"{"heap":{"data":{"add":[{"id":"u1"}]}}}"#);
        assert_eq!(person.erase_added(&mut told), 1);
    }
}
