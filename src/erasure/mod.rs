//! Erasure of one user from every file of the state.
//!
//! # Guarantees
//! A user who is recorded as a member of a cohort, or may be one, is not erased: then nothing is changed. Otherwise every
//! file is written anew without the user, and superseded files are removed. Erasing again completes what a crash has
//! stopped.
//!
//! # Caveats
//! The id that is given is looked for as the customer's id, Braze's id, a device or an alias, and with it the devices
//! and aliases that the identity map knows to be the user's. It cannot see sources: a user that a source still lists
//! comes back with the next run.

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::Value;

use crate::export::user_in;
use crate::model::{CohortId, ConnectionName, Identifier, IdentifierKind, Timestamp};
use crate::state::{
    ClosedFile, Delivery, DeliveryContents, ErasedFile, HeldEvent, HoldReason, IdentityMap, KnownHandles,
    MirrorNote, RecordedUser, StateError, StateWriter, has_word,
};

/// What was erased of one user, and what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasureReport {
    /// Cohorts that record the user as a member, or in doubt. If there are any, nothing was erased.
    pub member_of: Vec<CohortId>,
    /// Entries of recorded memberships.
    pub members: u64,
    /// Entries of segment tables.
    pub segments: u64,
    /// Entries of the identity map.
    pub identity: u64,
    /// Held events.
    pub waiting: u64,
    /// Events of inboxes.
    pub inbox: u64,
    /// Rejects.
    pub rejects: u64,
    /// Entries of triggers and of unknown users.
    pub triggers: u64,
    /// The files from which entries were erased, and those that were removed as superseded.
    pub files: Vec<ErasedFile>,
    /// Segments that listed the user. Heap sends the user again as long as its segment has them.
    pub listed: Vec<(ConnectionName, u64)>,
    /// Cohorts in which a late request may still add the user, and until when.
    pub late: Vec<(CohortId, Timestamp)>,
    /// Mirror tables that are not up to date, so that the user may be in them.
    pub tables: Vec<(CohortId, MirrorNote)>,
}

impl ErasureReport {
    /// Whether there was nothing to erase.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.members
            + self.segments
            + self.identity
            + self.waiting
            + self.inbox
            + self.rejects
            + self.triggers
            == 0
    }

    /// Whether something of the user is left.
    #[must_use]
    pub fn is_left(&self) -> bool {
        !(self.late.is_empty() && self.tables.is_empty())
    }

    /// Entries were erased from a file. How many.
    fn note(&mut self, path: String, entries: u64) -> u64 {
        if entries > 0 {
            self.files.push(ErasedFile { path, entries: Some(entries) });
        }
        entries
    }

    /// Files were written anew. How many entries were erased from them.
    fn note_files(&mut self, files: Vec<ErasedFile>) -> u64 {
        let entries = files.iter().filter_map(|file| file.entries).sum();
        self.files.extend(files);
        entries
    }
}

/// Erases one user from the state, unless the user is a member of a cohort.
///
/// # Errors
/// When a part of the state cannot be read or written; what came before it is erased.
pub fn forget(state: &Arc<StateWriter>, id: &str, now: Timestamp) -> Result<ErasureReport, StateError> {
    let mut map = IdentityMap::open(state)?;
    let handles = map.handles_of(id)?;
    let user = ErasedUser { id, handles, map: map.into(), failed: RefCell::default() };
    let is_theirs = |identifier: &Identifier<'_>| identifier.value == id || user.handles.contains(identifier);
    let mut forgotten = ErasureReport::default();
    let mut recorded: Vec<(CohortId, RecordedUser)> = Vec::new();
    for cohort in state.reader().cohorts()? {
        let found = state.reader().recorded(&cohort, &is_theirs)?;
        recorded.push((cohort, found));
    }
    let is_member = |(_, found): &&(CohortId, RecordedUser)| found.is_member;
    forgotten.member_of = recorded.iter().filter(is_member).map(|(cohort, _)| cohort.clone()).collect();
    if !forgotten.member_of.is_empty() {
        return Ok(forgotten);
    }
    state.remove_half_written()?;
    erase_events(state, &user, &mut forgotten)?;
    for (cohort, found) in recorded {
        let files = state.erase_recorded(&cohort, &found, now)?;
        forgotten.members += forgotten.note_files(files);
        let triggers = state.erase_triggers(&cohort, &is_theirs)?;
        forgotten.triggers += forgotten.note(format!("triggers/{cohort}"), triggers);
        let unknown = state.erase_unknown(&cohort, &is_theirs)?;
        forgotten.triggers += forgotten.note(format!("unknown_users/{cohort}"), unknown);
        forgotten.late.extend(found.late_until.map(|until| (cohort, until)));
    }
    for heap in state.reader().heaps()? {
        let (files, listed) = state.erase_from_segments(&heap, &is_theirs)?;
        forgotten.segments += forgotten.note_files(files);
        forgotten.listed.extend(listed.into_iter().map(|segment| (heap.clone(), segment)));
    }
    // Last, since it knows what is the user's: erasing again after a crash needs it.
    let identity = state.erase_identity(&mut user.map.borrow_mut(), id)?;
    forgotten.identity = forgotten.note("identity".to_owned(), identity);
    forgotten.tables = state.reader().mirror_tables_of(&[])?;
    Ok(forgotten)
}

/// Erases the user from held events, inboxes and rejects.
fn erase_events(
    state: &StateWriter,
    user: &ErasedUser<'_>,
    forgotten: &mut ErasureReport,
) -> Result<(), StateError> {
    for export in state.reader().exports()? {
        let mut record = state.reader().export(&export)?;
        let erased = state.erase_held_events(&export, &mut record, &|waiting| user.is_awaited(waiting))?;
        forgotten.waiting += forgotten.note(format!("exports/{export}"), erased);
        user.check()?;
    }
    for (endpoint, files) in state.reader().inboxes()? {
        let erase = if endpoint.starts_with("currents.") {
            ErasedUser::erase_events
        } else {
            ErasedUser::erase_members
        };
        for file in &files {
            let erased = from_file(state, file, &|delivery| erase(user, delivery), user)?;
            forgotten.inbox += forgotten.note(file.path.clone(), erased);
        }
    }
    for file in state.reader().reject_files(None)? {
        // What a damaged line says cannot be relied on, but that it names the id.
        let is_theirs =
            |line: &str, is_whole: bool| user.is_of_line(line) || (!is_whole && has_word(line, user.id));
        let erased = state.erase_rejects(&file, &is_theirs)?;
        user.check()?;
        forgotten.rejects += forgotten.note(file.path.clone(), erased);
    }
    Ok(())
}

/// Removes a user's deliveries from a file of an inbox. Returns the number of removed events.
fn from_file(
    state: &StateWriter,
    file: &ClosedFile,
    erase: &dyn Fn(&mut Delivery) -> u64,
    user: &ErasedUser<'_>,
) -> Result<u64, StateError> {
    let mut contents: DeliveryContents = state.reader().deliveries(file)?;
    let mut erased: u64 = contents.deliveries.iter_mut().map(erase).sum();
    user.check()?;
    // The owner of a damaged delivery cannot be read, but the text may contain the id.
    let damaged = contents.damaged.len();
    contents.damaged.retain(|bytes| !has_word(&String::from_utf8_lossy(bytes), user.id));
    erased += (damaged - contents.damaged.len()) as u64;
    // A torn delivery was never acknowledged and may be the user's.
    if erased > 0 || contents.torn > 0 {
        state.replace_deliveries(file, &contents)?;
    }
    Ok(erased)
}

/// The user who is to be erased.
struct ErasedUser<'a> {
    id: &'a str,
    handles: KnownHandles,
    map: RefCell<IdentityMap>,
    /// The map could not be read.
    failed: RefCell<Option<StateError>>,
}

impl ErasedUser<'_> {
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

    fn is_awaited(&self, waiting: &HeldEvent<'_>) -> bool {
        let is_awaited = match waiting.awaited {
            HoldReason::Unidentified { user_id, device_id } => {
                user_id == self.id || device_id == self.id || self.owns(user_id, device_id)
            }
            HoldReason::Limit { who } => who == self.id || user_in(waiting.event) == self.id,
        };
        is_awaited || self.is_of_event(&String::from_utf8_lossy(waiting.event))
    }

    /// Takes the events about them out of a delivery of Braze's. How many these were.
    fn erase_events(&self, delivery: &mut Delivery) -> u64 {
        let Ok(events) = crate::event_mapping::pieces(&delivery.body) else {
            // It will be a reject as it is.
            let is_theirs = has_word(&String::from_utf8_lossy(&delivery.body), self.id);
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

    /// Takes the user out of the users that Heap added or removed. The segment tables have them no more, so that
    /// a removal would change nothing. How many entries there were.
    fn erase_members(&self, delivery: &mut Delivery) -> u64 {
        let Ok(mut body) = serde_json::from_slice::<Value>(&delivery.body) else {
            // It will be a reject as it is.
            let is_theirs = has_word(&String::from_utf8_lossy(&delivery.body), self.id);
            delivery.body.truncate(if is_theirs { 0 } else { usize::MAX });
            return u64::from(is_theirs);
        };
        let mut erased = 0;
        for side in ["add", "remove"] {
            let wrapped = body.get("heap").is_some();
            let inner = if wrapped { body.get_mut("heap") } else { Some(&mut body) };
            let members = inner.and_then(|inner| inner.get_mut("data")?.get_mut(side)?.as_array_mut());
            let Some(members) = members else { continue };
            let before = members.len();
            members.retain(|member| member.get("id").is_none_or(|value| !is_id(value, self.id)));
            erased += (before - members.len()) as u64;
        }
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
            Err(_) => has_word(event, self.id),
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

    /// Whether a text is a device or an alias of the user, as rejects write identifiers, or a device's bare id.
    fn is_handle(&self, text: &str) -> bool {
        let is_known = |kind, label, value| self.handles.contains(&Identifier { kind, label, value });
        let device = text.strip_prefix("device_id ").unwrap_or(text);
        let alias = text.strip_prefix("alias ").unwrap_or_default();
        // A label may have a colon.
        is_known(IdentifierKind::DeviceId, "", device)
            || alias
                .match_indices(':')
                .any(|(at, _)| is_known(IdentifierKind::Alias, &alias[..at], &alias[at + 1..]))
    }

    /// Whether a reject is about them: rather one too many is erased than one too few.
    fn is_of_line(&self, line: &str) -> bool {
        let Ok(reject) = serde_json::from_str::<Value>(line) else { return has_word(line, self.id) };
        let part = |name: &str| reject.get(name).and_then(Value::as_str);
        let is_in = |text: &str| has_word(text, self.id) || self.is_handle(text) || self.is_of_event(text);
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

/// Whether a text in the value is the id or JSON that contains it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Timestamp};
    use crate::state::{Holder, IdentityKey, Location};

    /// A user with the external id `id` and the Braze id `b1`.
    fn user<'a>(home: &tempfile::TempDir, id: &'a str) -> ErasedUser<'a> {
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let holder = Holder { host: String::new(), process: 1, since: clock.now(), renewal: None };
        let location = Location::Folder(home.path().to_owned());
        let state = Arc::new(StateWriter::open(&location, &holder, clock, 7).unwrap());
        let mut map = IdentityMap::open(&state).unwrap();
        for handle in [
            IdentityKey::BrazeId("b1"),
            IdentityKey::DeviceId("d1"),
            IdentityKey::Alias { label: "c:rm", name: "a1" },
        ] {
            map.link(handle, id, Timestamp::UNIX_EPOCH).unwrap();
        }
        let handles = map.handles_of(id).unwrap();
        ErasedUser { id, handles, map: map.into(), failed: RefCell::default() }
    }

    #[test]
    fn a_line_with_the_id_in_any_form_is_erased() {
        let home = tempfile::tempdir().unwrap();
        let user = user(&home, "ü1");
        for (line, expected) in [
            (r#"{"value":"ü1"}"#, true),
            (r#"{"event":"{\"external_user_id\":\"ü1\"}"}"#, true),
            (r#"{"event":"{\"external_user_id\":\"\\u00fc1\"}"}"#, true),
            (r#"{"event":"{\"properties\":\"{\\\"mail\\\":\\\"\\\\u00fc1\\\"}\"}"}"#, true),
            (r#"{"value":"external_id ü1"}"#, true),
            (r#"{"value":"device_id d1"}"#, true),
            (r#"{"value":"d1"}"#, true),
            (r#"{"value":"alias c:rm:a1"}"#, true),
            (r#"{"value":"alias crm:a1"}"#, false),
            (r#"{"value":"device_id d2"}"#, false),
            (r#"{"event":"{\"user\":{\"user_id\":\"b1\"}}"}"#, true),
            (r#"{"value":"{\"user_id\":\"b1\",\"device_id\":\"\"}","sent":"{}"}"#, true),
            (r#"{"event":"{\"user\":{\"user_id\":\"b1\",\"external_user_id\":\"u2\"}}"}"#, false),
            (r#"{"event":"{\"user\":{\"user_id\":\"b2\"}}"}"#, false),
            (r#"{"value":"ü12"}"#, false),
            (r#"{"value":"x-ü1"}"#, false),
            (r#"{"value":"ü1@example.com"}"#, false),
        ] {
            assert_eq!(user.is_of_line(line), expected, "{line}");
        }
        user.check().unwrap();
        let other = ErasedUser { id: "7", ..user };
        assert!(!other.is_of_line(r#"{"reason":"no_id","line":7,"event":"{\"time\":77}"}"#));
    }

    fn delivery(body: &str) -> Delivery {
        Delivery { received: Timestamp::UNIX_EPOCH, stamp: 0, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn only_events_of_the_user_are_erased_from_a_delivery() {
        let home = tempfile::tempdir().unwrap();
        let user = user(&home, "u1");
        let check = |body: &str, erased: u64, left: &str| {
            let mut delivery = delivery(body);
            assert_eq!(user.erase_events(&mut delivery), erased, "{body}");
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
    fn a_segment_delivery_loses_the_erased_user() {
        let home = tempfile::tempdir().unwrap();
        let user = user(&home, "u1");
        let mut sent = delivery(r#"{"data":{"add":[{"id":"u1"},{"id":"u2"}],"remove":[{"id":"u1"}]}}"#);
        assert_eq!(user.erase_members(&mut sent), 2);
        assert_eq!(sent.body, br#"{"data":{"add":[{"id":"u2"}],"remove":[]}}"#);
        assert_eq!(user.erase_members(&mut sent), 0);
        let mut sent = delivery(r#"{"heap":{"data":{"add":[{"id":"u1"}]}}}"#);
        assert_eq!(user.erase_members(&mut sent), 1);
        let mut sent = delivery(r#"{"data":{"add":[{"id":"u1"}"#);
        assert_eq!((user.erase_members(&mut sent), sent.body.len()), (1, 0));
    }
}
