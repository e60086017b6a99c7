//! Mapping of an event in the form of Braze's HTTP connector: `{event_type, id, time, user{…}, properties{…}}`.
//!
//! Members may come in any order. Other members at the top level, and flat events, are mapped like the fields of a
//! file's record.

use std::borrow::Cow;
use std::sync::Arc;

use super::catalogue::FieldRole;
use super::json::{JsonError, Scanner, ValueStart};
use super::mapper::{EventHead, EventMapper, MappingContext, overfull};
use super::outcome::{EventRejectReason, IgnoredReason, MappedEvent, MappingOutcome, Rejection};
use super::rules::TypeRules;
use super::time::{EventNumber, EventTime};

/// The number of cached event types, and the longest cached name. Braze has about a hundred types.
const TYPES_LEN_MAX: usize = 4096;
const TYPE_LEN_MAX: usize = 256;

/// Where a field is in the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldSource {
    Top,
    User,
    Properties,
}

impl EventMapper<'_> {
    /// Maps one event of an HTTP body, and appends the result to `out`.
    pub fn http<'a>(
        &'a mut self,
        event: &'a str,
        context: MappingContext<'a>,
        out: &mut Vec<u8>,
    ) -> MappedEvent<'a> {
        let event_type = match event_type(event) {
            Ok(event_type) => event_type,
            Err(rejection) => return rejected(rejection, false),
        };
        let type_rules = self.of_type(&event_type);
        let head = match self.walk(event, &type_rules) {
            Ok(head) => head,
            Err(error) => return rejected(not_json(error), type_rules.is_known),
        };
        let outcome = match type_rules.is_selected {
            true => self.write(&event_type, &type_rules, &head, context, out),
            false => MappingOutcome::Ignored(IgnoredReason::NotSelected),
        };
        head.mapped(&type_rules, outcome)
    }

    fn write<'a>(
        &'a mut self,
        event_type: &str,
        type_rules: &TypeRules,
        head: &EventHead<'a>,
        context: MappingContext<'a>,
        out: &mut Vec<u8>,
    ) -> MappingOutcome<'a> {
        let start = out.len();
        if self.collector.is_overfull() {
            return overfull();
        }
        if let Err(rejection) = self.opening(event_type, type_rules, head, context, out) {
            out.truncate(start);
            return MappingOutcome::Rejected(rejection);
        }
        self.collector.write(out);
        self.closing(type_rules, head, context, start, out)
    }

    fn of_type(&mut self, event_type: &str) -> Arc<TypeRules> {
        if let Some(known) = self.types.get(event_type) {
            return Arc::clone(known);
        }
        let type_rules = Arc::new(self.rules.of_type(event_type));
        if self.types.len() < TYPES_LEN_MAX && event_type.len() <= TYPE_LEN_MAX {
            self.types.insert(event_type.into(), Arc::clone(&type_rules));
        }
        type_rules
    }

    /// Collects the properties, and returns the fields with a role of their own.
    fn walk<'a>(&mut self, event: &'a str, type_rules: &TypeRules) -> Result<EventHead<'a>, JsonError> {
        self.collector.begin(type_rules.is_profile);
        let (mut head, mut scanner) = (EventHead::default(), Scanner::new(event));
        scanner.value()?;
        let mut is_first = true;
        while let Some(key) = scanner.key(is_first)? {
            is_first = false;
            let start = scanner.value()?;
            match (&*key.text(), start) {
                ("event_type", start) => scanner.skip(start)?,
                ("id", start) => {
                    head.id = bytes(start);
                    scanner.skip(start)?;
                }
                ("time", start) => {
                    head.time = count(start);
                    scanner.skip(start)?;
                }
                ("user", ValueStart::Object) => {
                    self.members(&mut scanner, FieldSource::User, type_rules, &mut head)?;
                }
                ("properties", ValueStart::Object) => {
                    self.members(&mut scanner, FieldSource::Properties, type_rules, &mut head)?;
                }
                ("user" | "properties", ValueStart::Null) => {}
                (name, start) => {
                    let name = type_rules.role.path(name);
                    self.field(name, &mut scanner, start, FieldSource::Top, type_rules, &mut head)?;
                }
            }
        }
        scanner.end()?;
        Ok(head)
    }

    fn members<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        source: FieldSource,
        type_rules: &TypeRules,
        head: &mut EventHead<'a>,
    ) -> Result<(), JsonError> {
        let mut is_first = true;
        while let Some(key) = scanner.key(is_first)? {
            is_first = false;
            let start = scanner.value()?;
            self.field(&key.text(), scanner, start, source, type_rules, head)?;
        }
        Ok(())
    }

    fn field<'a>(
        &mut self,
        name: &str,
        scanner: &mut Scanner<'a>,
        start: ValueStart<'a>,
        source: FieldSource,
        type_rules: &TypeRules,
        head: &mut EventHead<'a>,
    ) -> Result<(), JsonError> {
        let has_ids = source != FieldSource::Properties;
        match name {
            "external_user_id" if has_ids => head.ids.external_user_id = bytes(start),
            "user_id" if has_ids => head.ids.user_id = bytes(start),
            "device_id" if has_ids => head.ids.device_id = bytes(start),
            "orphaned_by_id" => head.ids.orphaned_by_id = bytes(start),
            "name" if type_rules.role == FieldRole::CustomEvent => head.name = bytes(start),
            "time_ms" => {
                head.time_ms = count(start);
                return scanner.skip(start);
            }
            _ => {}
        }
        if type_rules.is_selected { self.collector.field(name, scanner, start) } else { scanner.skip(start) }
    }
}

fn rejected<'a>(rejection: Rejection, is_known: bool) -> MappedEvent<'a> {
    MappedEvent { outcome: MappingOutcome::Rejected(rejection), link: None, seen: None, is_known }
}

fn not_json(error: JsonError) -> Rejection {
    Rejection::new(EventRejectReason::NotJson, error.to_string())
}

/// The type of an event. It may come after the other members.
fn event_type(event: &str) -> Result<Cow<'_, str>, Rejection> {
    let mut scanner = Scanner::new(event);
    if scanner.value().map_err(not_json)? != ValueStart::Object {
        return Err(Rejection::new(
            EventRejectReason::NotAnObject,
            event.chars().take(40).collect::<String>(),
        ));
    }
    let mut is_first = true;
    while let Some(key) = scanner.key(is_first).map_err(not_json)? {
        is_first = false;
        let start = scanner.value().map_err(not_json)?;
        match start {
            ValueStart::Text(raw) if key.text() == "event_type" => {
                return match raw.text() {
                    text if text.trim().is_empty() => break,
                    text => Ok(text),
                };
            }
            start => scanner.skip(start).map_err(not_json)?,
        }
    }
    Err(Rejection::new(EventRejectReason::NoEventType, "event_type"))
}

/// What selects an event by its type and time, without mapping it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EventSummary<'a> {
    /// The type; empty if the event has none.
    pub event_type: Cow<'a, str>,
    /// The time in seconds since 1970, if the event has a valid one.
    pub second: Option<i64>,
}

impl<'a> EventSummary<'a> {
    /// Reads an event of an HTTP body. What is not JSON has neither type nor time.
    #[must_use]
    pub fn read(event: &'a str) -> Self {
        Self::scan(event).unwrap_or_default()
    }

    fn scan(event: &'a str) -> Result<Self, JsonError> {
        let mut scanner = Scanner::new(event);
        if scanner.value()? != ValueStart::Object {
            return Ok(Self::default());
        }
        let (mut event_type, mut time, mut time_ms) = (Cow::Borrowed(""), None, None);
        let mut is_first = true;
        while let Some(key) = scanner.key(is_first)? {
            is_first = false;
            let start = scanner.value()?;
            match (&*key.text(), start) {
                ("event_type", ValueStart::Text(raw)) => event_type = raw.text(),
                ("time", _) => time = count(start),
                ("time_ms", _) => time_ms = count(start),
                _ => {}
            }
            scanner.skip(start)?;
        }
        let second = EventTime::read(time, time_ms).ok().map(EventTime::second);
        Ok(Self { event_type, second })
    }
}

fn bytes(start: ValueStart<'_>) -> Option<Cow<'_, [u8]>> {
    match start {
        ValueStart::Text(raw) => Some(match raw.text() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }),
        ValueStart::Number(token) => Some(Cow::Borrowed(token.as_bytes())),
        _ => None,
    }
}

fn count(start: ValueStart<'_>) -> Option<EventNumber<'_>> {
    match start {
        ValueStart::Number(token) => Some(EventNumber::Token(token)),
        ValueStart::Text(raw) => match raw.text() {
            Cow::Borrowed(text) => Some(EventNumber::Token(text)),
            Cow::Owned(_) => Some(EventNumber::Token("")),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_reads_what_the_mapping_accepts() {
        let read = |event: &str| {
            let summary = EventSummary::read(event);
            (summary.event_type.into_owned(), summary.second)
        };
        let opened = || "users.messages.email.Open".to_owned();
        let body =
            |time: &str| format!("{{\"event_type\":\"users.messages.email.Open\",\"note\":\"a\tb\",{time}}}");
        assert_eq!(read(&body("\"time\":1700000000")), (opened(), Some(1_700_000_000)), "a raw tab");
        assert_eq!(read(&body("\"time\":\"1700000000\"")), (opened(), Some(1_700_000_000)), "a text");
        assert_eq!(read(&body("\"time_ms\":1700000000999")), (opened(), Some(1_700_000_000)));
        assert_eq!(read(&body("\"time\":\"soon\"")), (opened(), None));
        assert_eq!(read("[1]"), (String::new(), None));
        assert_eq!(read("{\"event_type\":\"a\""), (String::new(), None), "not JSON");
    }
}
