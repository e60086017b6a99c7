//! Forgetting somebody: out of the identity map, the events that wait, the inbox and the rejects.
//!
//! # Caveats
//! Only the id that is given is looked for, as the customer's id, Braze's id, a device or an alias. What a cohort's
//! source or a Heap still says of a person is only told: it would be back with the next pass.

use std::sync::Arc;

use serde_json::Value;

use super::batch::named_in;
use crate::model::{CohortId, ConnectionName, DoorName, Identifier, Kind};
use crate::state::{Awaited, Delivery, IdentityMap, StateError, StateWriter, Waiting};

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
    /// Entries of what is to be triggered, and of what lately was.
    pub actions: u64,
    /// Cohorts whose record has them: their sources still name them, or the next pass takes them out.
    pub cohorts: Vec<CohortId>,
    /// Segments of which a Heap has told that they are in them.
    pub segments: Vec<(ConnectionName, u64)>,
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
    let mut forgotten = Forgotten {
        identity: state.erase_identity(&mut IdentityMap::open(state)?, id)?,
        ..Forgotten::default()
    };
    for export in state.reader().exports()? {
        let mut record = state.reader().export(&export)?;
        forgotten.waiting += state.erase_waiting(&export, &mut record, &|waiting| is_about(waiting, id))?;
        for file in state.reader().inbox(&DoorName::of_export(&export))? {
            let mut contents = state.reader().deliveries(&file)?;
            let mut erased: u64 = contents.deliveries.iter_mut().map(|one| without(one, id)).sum();
            // Whose they are cannot be read off any more, but that they name the id.
            let damaged = contents.damaged.len();
            contents.damaged.retain(|bytes| !names(&String::from_utf8_lossy(bytes), id));
            erased += (damaged - contents.damaged.len()) as u64;
            if erased > 0 {
                state.replace_deliveries(&file, &contents)?;
                forgotten.inbox += erased;
            }
        }
    }
    for file in state.reader().reject_files(None)? {
        let lines = state.reader().reject_lines(&file)?;
        let kept: Vec<String> = lines.iter().filter(|line| !names(line, id)).cloned().collect();
        if kept.len() < lines.len() {
            state.keep_rejects(&file, &kept)?;
            forgotten.rejects += (lines.len() - kept.len()) as u64;
        }
    }
    let by = |kind, label| Identifier { kind, label, value: id };
    let mut identifiers = vec![by(Kind::ExternalId, ""), by(Kind::DeviceId, "")];
    identifiers.extend(labels.iter().map(|label| by(Kind::Alias, label)));
    forgotten.actions = state.erase_actions(&identifiers)?;
    forgotten.cohorts = state.reader().cohorts_of(&identifiers)?;
    forgotten.segments = state.reader().segments_of(id)?;
    Ok(forgotten)
}

fn is_about(waiting: &Waiting<'_>, id: &str) -> bool {
    match waiting.awaited {
        Awaited::Person { user_id, device_id } => user_id == id || device_id == id,
        Awaited::Limit { who } => who == id || named_in(waiting.event) == id,
    }
}

/// Takes the events about somebody out of a delivery. How many these were.
fn without(delivery: &mut Delivery, id: &str) -> u64 {
    let Ok(events) = crate::events::pieces(&delivery.body) else { return 0 };
    let kept: Vec<&str> = events.iter().filter(|event| !is_of(event, id)).copied().collect();
    let erased = (events.len() - kept.len()) as u64;
    if erased > 0 {
        delivery.body = format!("{{\"events\":[{}]}}", kept.join(",")).into_bytes();
    }
    erased
}

/// Whether an event names somebody.
fn is_of(event: &str, id: &str) -> bool {
    let Ok(event) = serde_json::from_str::<Value>(event) else { return false };
    let keys = ["external_user_id", "user_id", "device_id"];
    let is_it = |object: &Value| keys.iter().any(|key| object.get(key).is_some_and(|value| value == id));
    is_it(&event) || event.get("user").is_some_and(is_it)
}

/// Whether a line has the id as a word of its own: rather one line too many is erased than one too few.
fn names(line: &str, id: &str) -> bool {
    let escaped = serde_json::Value::from(id).to_string();
    let escaped = escaped.trim_matches('"');
    let is_part =
        |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || "_-.@".contains(char));
    line.match_indices(escaped).any(|(at, found)| {
        !is_part(line[..at].chars().next_back()) && !is_part(line[at + found.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_an_id_only_as_a_whole_word() {
        for (line, expected) in [
            (r#"{"value":"u1"}"#, true),
            (r#"{"event":"{\"external_user_id\":\"u1\"}"}"#, true),
            (r#"{"value":"external_id u1"}"#, true),
            (r#"{"value":"u12"}"#, false),
            (r#"{"value":"x-u1"}"#, false),
            (r#"{"value":"u1@example.com"}"#, false),
        ] {
            assert_eq!(names(line, "u1"), expected, "{line}");
        }
    }

    #[test]
    fn only_events_about_the_person_leave_a_delivery() {
        let body = br#"{"events":[{"id":"a","user":{"external_user_id":"u1"}},{"id":"b","user_id":"u2"}]}"#;
        let mut delivery =
            Delivery { received: crate::model::Timestamp::UNIX_EPOCH, stamp: 0, body: body.to_vec() };
        assert_eq!(without(&mut delivery, "u9"), 0);
        assert_eq!(delivery.body, body);
        assert_eq!(without(&mut delivery, "u1"), 1);
        assert_eq!(delivery.body, br#"{"events":[{"id":"b","user_id":"u2"}]}"#);
    }
}
