//! Mapper: one Currents event from a file or over HTTP becomes the bytes for Heap, or a reason why not.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::collect::{PropertyCollector, scalar};
use super::json::{quoted, text, unsigned};
use super::layout::EventLayout;
use super::outcome::{
    EventKind, EventRejectReason, EventUser, IgnoredReason, MappedEvent, MappingOutcome, OwnerLookup,
    Rejection,
};
use super::rules::{MappingRules, TypeRules};
use super::time::{EventNumber, EventTime};
use super::user::{EventIds, UserDecision};
use crate::model::{AvroRecord, AvroValue, Timestamp, normalize_identifier};

/// The longest `idempotency_key` (Heap, `/api/track`: fewer than 1,024 characters).
const KEY_LEN_MAX: usize = 1023;

/// The context of a mapping besides the rules.
#[derive(Clone, Copy)]
pub struct MappingContext<'a> {
    /// The current time.
    pub now: Timestamp,
    /// The lookup of identities for anonymous users.
    pub owners: &'a dyn OwnerLookup,
}

/// Maps events by one set of rules; each thread has its own. It reuses buffers and property names, so that an event
/// costs no allocation.
#[derive(Debug)]
pub struct EventMapper<'r> {
    pub(super) rules: &'r MappingRules,
    pub(super) collector: PropertyCollector<'r>,
    pub(super) types: HashMap<Box<str>, Arc<TypeRules>>,
}

/// The fields of an event that are more than properties.
#[derive(Clone, Debug, Default)]
pub(super) struct EventHead<'a> {
    pub(super) id: Option<Cow<'a, [u8]>>,
    pub(super) time: Option<EventNumber<'a>>,
    pub(super) time_ms: Option<EventNumber<'a>>,
    pub(super) ids: EventIds<'a>,
    /// The name of a custom event.
    pub(super) name: Option<Cow<'a, [u8]>>,
}

impl<'a> EventHead<'a> {
    /// The result of the event with this outcome.
    pub(super) fn mapped(&self, type_rules: &TypeRules, outcome: MappingOutcome<'a>) -> MappedEvent<'a> {
        let link = self.ids.link(type_rules.role);
        let time = || EventTime::read(self.time, self.time_ms).ok().map(EventTime::second);
        let seen = link.as_ref().and_then(|_| time());
        MappedEvent { outcome, link, seen, is_known: type_rules.is_known }
    }
}

impl<'r> EventMapper<'r> {
    /// A mapper with these rules.
    #[must_use]
    pub fn new(rules: &'r MappingRules) -> Self {
        Self { rules, collector: PropertyCollector::new(rules), types: HashMap::new() }
    }

    /// Maps one record, and appends the result to `out`. The `layout` must come from the same rules.
    pub fn record<'a>(
        &'a mut self,
        layout: &EventLayout,
        record: &'a (impl AvroRecord + ?Sized),
        context: MappingContext<'a>,
        out: &mut Vec<u8>,
    ) -> MappedEvent<'a> {
        let head = head(layout, record);
        let type_rules = &layout.type_rules;
        let outcome = match type_rules.is_selected {
            true => self.selected(layout, record, &head, context, out),
            false => MappingOutcome::Ignored(IgnoredReason::NotSelected),
        };
        head.mapped(type_rules, outcome)
    }

    fn selected<'a>(
        &'a mut self,
        layout: &EventLayout,
        record: &'a (impl AvroRecord + ?Sized),
        head: &EventHead<'a>,
        context: MappingContext<'a>,
        out: &mut Vec<u8>,
    ) -> MappingOutcome<'a> {
        let start = out.len();
        if let Err(rejection) = self.opening(&layout.event_type, &layout.type_rules, head, context, out) {
            out.truncate(start);
            return MappingOutcome::Rejected(rejection);
        }
        let properties = out.len();
        let is_dynamic = layout.seeks_alias
            || layout.opened.iter().any(|(at, _)| !matches!(record.datum(*at), AvroValue::Null));
        if is_dynamic || !straight(layout, record, out) {
            out.truncate(properties);
            self.gather(layout, record, out);
            if self.collector.is_overfull() {
                out.truncate(start);
                return overfull();
            }
        }
        self.closing(&layout.type_rules, head, context, start, out)
    }

    /// Writes the properties of a record with nested JSON.
    fn gather(&mut self, layout: &EventLayout, record: &(impl AvroRecord + ?Sized), out: &mut Vec<u8>) {
        self.collector.begin(layout.type_rules.is_profile);
        if layout.seeks_alias {
            for (at, path) in &layout.fields {
                self.collector.datum(path, record.datum(*at));
            }
        } else {
            for step in &layout.steps {
                match record.datum(step.at) {
                    json @ AvroValue::Json(_) => self.collector.datum(&step.path, json),
                    datum => self.collector.known(&step.path, &step.key, datum),
                }
            }
            for (at, path) in &layout.opened {
                self.collector.datum(path, record.datum(*at));
            }
        }
        self.collector.write(out);
    }

    /// Writes the event up to its properties, if it has all required fields.
    pub(super) fn opening(
        &self,
        event_type: &str,
        type_rules: &TypeRules,
        head: &EventHead<'_>,
        context: MappingContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Rejection> {
        let id = event_id(head)?;
        let when = EventTime::read(head.time, head.time_ms)?;
        let when = when.held_to(context.now, self.rules.future_seconds_max)?;
        out.push(b'{');
        if !type_rules.is_profile {
            out.extend_from_slice(b"\"event\":");
            match &type_rules.name {
                Some(name) => out.extend_from_slice(name),
                None => {
                    let custom = head.name.as_deref().map(String::from_utf8_lossy);
                    quoted(out, &self.rules.event_name(event_type, custom.as_deref()));
                }
            }
            out.extend_from_slice(b",\"timestamp\":\"");
            when.write(out);
            out.extend_from_slice(b"\",\"idempotency_key\":");
            self.idempotency_key(id, out);
            out.push(b',');
        }
        out.extend_from_slice(b"\"properties\":{");
        Ok(())
    }

    fn idempotency_key(&self, id: &[u8], out: &mut Vec<u8>) {
        if self.rules.key_prefix.is_empty() {
            text(out, id);
        } else {
            quoted(out, &format!("{}{}", self.rules.key_prefix, String::from_utf8_lossy(id)));
        }
    }

    /// Writes the end of the event behind its properties, which begin at `start`, or removes the event.
    pub(super) fn closing<'a>(
        &'a self,
        type_rules: &TypeRules,
        head: &EventHead<'a>,
        context: MappingContext<'a>,
        start: usize,
        out: &mut Vec<u8>,
    ) -> MappingOutcome<'a> {
        let is_profile = type_rules.is_profile;
        let what = if is_profile { EventKind::Profile } else { EventKind::Event };
        let user = head.ids.user(self.rules, self.collector.aliases(), context.owners, is_profile);
        let outcome = match user {
            UserDecision::Known(who) => {
                out.push(b'}');
                write_who(&who, out);
                out.push(b'}');
                return MappingOutcome::Made { what, who };
            }
            UserDecision::Awaited(keys) => {
                out.extend_from_slice(b"}}");
                return MappingOutcome::Held { what, keys };
            }
            UserDecision::Ignored(reason) => MappingOutcome::Ignored(reason),
            UserDecision::Rejected(rejection) => MappingOutcome::Rejected(rejection),
        };
        out.truncate(start);
        outcome
    }
}

/// The result for an event with too many properties.
pub(super) fn overfull<'a>() -> MappingOutcome<'a> {
    MappingOutcome::Rejected(Rejection::new(
        EventRejectReason::TooLarge,
        "its properties, each with its name in full",
    ))
}

/// Completes a held object with its user and appends it.
pub fn complete(held: &[u8], who: &EventUser<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(held.strip_suffix(b"}").unwrap_or(held));
    write_who(who, out);
    out.push(b'}');
}

fn write_who(who: &EventUser<'_>, out: &mut Vec<u8>) {
    match who {
        EventUser::Identity(identity) => {
            out.extend_from_slice(b",\"identity\":");
            text(out, identity.as_bytes());
        }
        EventUser::UserId(number) => {
            out.extend_from_slice(b",\"user_id\":\"");
            unsigned(out, *number);
            out.push(b'"');
        }
    }
}

fn event_id<'h>(head: &'h EventHead<'_>) -> Result<&'h [u8], Rejection> {
    let id = head.id.as_deref().unwrap_or_default();
    match normalize_identifier(id, KEY_LEN_MAX, &[]) {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(Rejection::new(EventRejectReason::NoId, "id")),
        Err(_) => {
            Err(Rejection::new(EventRejectReason::BadId, id[..id.len().min(40)].escape_ascii().to_string()))
        }
    }
}

/// Writes the properties of a record by its layout. Returns `false` if the record needs the collector.
fn straight(layout: &EventLayout, record: &(impl AvroRecord + ?Sized), out: &mut Vec<u8>) -> bool {
    let (mut is_first, mut is_taken) = (true, false);
    for step in &layout.steps {
        let datum = record.datum(step.at);
        is_taken &= step.is_second;
        match datum {
            AvroValue::Null => continue,
            AvroValue::Json(_) => return false,
            _ if is_taken => continue,
            _ => {}
        }
        let before = out.len();
        if !is_first {
            out.push(b',');
        }
        out.extend_from_slice(&step.key);
        is_taken = scalar(out, datum);
        if is_taken {
            is_first = false;
        } else {
            out.truncate(before);
        }
    }
    true
}

fn head<'a>(layout: &EventLayout, record: &'a (impl AvroRecord + ?Sized)) -> EventHead<'a> {
    let positions = &layout.positions;
    let datum = |position: Option<usize>| position.map_or(AvroValue::Null, |at| record.datum(at));
    let bytes = |position| match datum(position) {
        AvroValue::Text(bytes) => Some(Cow::Borrowed(bytes)),
        AvroValue::Int(value) => Some(Cow::Owned(value.to_string().into_bytes())),
        _ => None,
    };
    let count = |position| match datum(position) {
        AvroValue::Int(value) => Some(EventNumber::Whole(value)),
        #[allow(clippy::cast_possible_truncation, reason = "saturates, and is then out of range")]
        AvroValue::Double(value) => Some(EventNumber::Whole(value as i64)),
        AvroValue::Text(bytes) => std::str::from_utf8(bytes).ok().map(EventNumber::Token),
        _ => None,
    };
    EventHead {
        id: bytes(positions.id),
        time: count(positions.time),
        time_ms: count(positions.time_ms),
        ids: EventIds {
            external_user_id: bytes(positions.external_user_id),
            user_id: bytes(positions.user_id),
            device_id: bytes(positions.device_id),
            orphaned_by_id: bytes(positions.orphaned_by_id),
        },
        name: bytes(positions.name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{
        AnonymousPolicy, EventNaming, IdentityFrom, MappingSettings, Pii, PropertyFilter,
    };
    use super::*;
    use AvroValue::{Bool, Float, Int, Json, Null};

    fn context(owners: &dyn OwnerLookup) -> MappingContext<'_> {
        MappingContext { now: Timestamp::from_second(1_767_225_600).unwrap(), owners }
    }

    fn t(text: &str) -> AvroValue<'_> {
        AvroValue::Text(text.as_bytes())
    }

    fn word(mapped: &MappedEvent<'_>, out: &[u8]) -> String {
        match &mapped.outcome {
            MappingOutcome::Made { .. } => String::from_utf8(out.to_vec()).unwrap(),
            MappingOutcome::Held { .. } => format!("held {}", std::str::from_utf8(out).unwrap()),
            MappingOutcome::Ignored(reason) => format!("ignored {}{}", reason.as_str(), out.len()),
            MappingOutcome::Rejected(no) => {
                format!("rejected {} {}{}", no.reason.as_str(), no.detail, out.len())
            }
        }
    }

    fn from_record(settings: &MappingSettings, event_type: &str, fields: &[(&str, AvroValue<'_>)]) -> String {
        let rules = MappingRules::new(settings).unwrap();
        let (names, data): (Vec<&str>, Vec<AvroValue<'_>>) = fields.iter().copied().unzip();
        let layout = rules.layout(event_type, &names);
        let (mut mapper, mut out) = (EventMapper::new(&rules), Vec::new());
        // Twice: the first event must not influence the second.
        mapper.record(&layout, data.as_slice(), context(&()), &mut out);
        out.clear();
        let mapped = mapper.record(&layout, data.as_slice(), context(&()), &mut out);
        word(&mapped, &out)
    }

    fn from_http(settings: &MappingSettings, event: &str) -> String {
        let rules = MappingRules::new(settings).unwrap();
        let (mut mapper, mut out) = (EventMapper::new(&rules), Vec::new());
        mapper.http(event, context(&()), &mut out);
        out.clear();
        let mapped = mapper.http(event, context(&()), &mut out);
        word(&mapped, &out)
    }

    /// Maps the same event from a record and from HTTP.
    fn check(
        settings: &MappingSettings,
        event_type: &str,
        fields: &[(&str, AvroValue<'_>)],
        http: &str,
        expected: &str,
    ) {
        assert_eq!(from_record(settings, event_type, fields), expected);
        let event = format!("{{\"event_type\":\"{event_type}\",{http}}}");
        assert_eq!(from_http(settings, &event), expected);
        // The type may come last.
        let event = format!("{{{http},\"event_type\":\"{event_type}\"}}");
        assert_eq!(from_http(settings, &event), expected);
    }

    const OPEN: &str = "users.messages.email.Open";
    const CUSTOM: &str = "users.behaviors.CustomEvent";
    const BEGIN: [(&str, AvroValue<'_>); 3] = [
        ("id", AvroValue::Text(b"e1")),
        ("time", Int(1_767_225_600)),
        ("external_user_id", AvroValue::Text(b"u1")),
    ];
    const HTTP: &str = r#""id":"e1","time":1767225600,"user":{"external_user_id":"u1"}"#;

    fn with<'a>(more: &[(&'a str, AvroValue<'a>)]) -> Vec<(&'a str, AvroValue<'a>)> {
        [&BEGIN, more].concat()
    }

    #[test]
    fn an_open_both_ways() {
        let fields = with(&[
            ("user_id", t("b1")),
            ("timezone", t("Europe/Berlin")),
            ("campaign_name", t("Spring \"VIP\" – été")),
            ("email_address", t("u1@example.com")),
            ("machine_open", t("true")),
            ("is_amp", Bool(false)),
            ("canvas_id", Null),
        ]);
        let http = r#""id":"e1","time":1767225600,
            "user":{"user_id":"b1","external_user_id":"u1","timezone":"Europe\/Berlin"},
            "properties":{"machine_open":"true","campaign_name":"Spring \"VIP\" \u2013 \u00e9t\u00e9","is_amp":false,
                "email_address":"u1@example.com","canvas_id":null}"#;
        check(
            &MappingSettings::default(),
            OPEN,
            &fields,
            http,
            r#"{"event":"Braze Email Open","timestamp":"2026-01-01T00:00:00.000Z","idempotency_key":"e1","properties":{"campaign_name":"Spring \"VIP\" – été","is_amp":"false","machine_open":"true","timezone":"Europe/Berlin"},"identity":"u1"}"#,
        );
    }

    #[test]
    fn custom_properties_are_opened_and_flattened_both_ways() {
        let inside = r#"{"size":{"w":1.50,"h":null,"d":[]},"tags":["a",null,true,2.0,{"x": 1},9007199254740993],"ok":true,"n":9007199254740993,"e":""}"#;
        let fields = with(&[("name", t("Cart left")), ("properties", t(inside)), ("app_id", t("a1"))]);
        let http = format!(
            r#"{HTTP},"properties":{{"app_id":"a1","custom_properties":{inside},"name":"Cart left"}}"#
        );
        check(
            &MappingSettings::default(),
            CUSTOM,
            &fields,
            &http,
            r#"{"event":"Braze Custom Event: Cart left","timestamp":"2026-01-01T00:00:00.000Z","idempotency_key":"e1","properties":{"app_id":"a1","custom_properties.e":"","custom_properties.n":"9007199254740993","custom_properties.ok":"true","custom_properties.size.w":1.5,"custom_properties.tags":"a||true||2||{\"x\":1}||9007199254740993","name":"Cart left"},"identity":"u1"}"#,
        );
    }

    /// A small body that expands to gigabytes: each name repeats those above it.
    #[test]
    fn repeated_nested_names_do_not_exhaust_memory() {
        let members: Vec<String> = (0..2_000).map(|n| format!("\"a{n}\":1")).collect();
        let inside = format!("{{\"{}\":{{{}}}}}", "k".repeat(50_000), members.join(","));
        let fields = with(&[("name", t("n")), ("properties", t(&inside))]);
        let http = format!(r#"{HTTP},"properties":{{"name":"n","custom_properties":{inside}}}"#);
        let expected = "rejected too_large its properties, each with its name in full0";
        check(&MappingSettings::default(), CUSTOM, &fields, &http, expected);
        let rules = MappingRules::new(&MappingSettings::default()).unwrap();
        let event = format!("{{\"event_type\":\"{CUSTOM}\",{http}}}");
        let (mut mapper, mut out) = (EventMapper::new(&rules), Vec::new());
        mapper.http(&event, context(&()), &mut out);
        mapper.http(&format!("{{\"event_type\":\"{}\"}}", "t".repeat(50_000)), context(&()), &mut out);
        assert!(mapper.types.keys().chain(mapper.collector.names()).all(|name| name.len() < 1_000));
    }

    #[test]
    fn float32_values_have_the_same_decimals_over_http() {
        let fields = with(&[
            ("price", Float(3.15)),
            ("duration", Float(100.0)),
            ("ll_accuracy", Float(1.0e-7)),
            ("x", Float(f32::NAN)),
            ("big", Float(16_777_217.0)),
            ("huge", Float(3.0e20)),
        ]);
        let http = format!(
            r#"{HTTP},"properties":{{"price":3.15,"duration":100.0,"ll_accuracy":1e-07,"big":16777216,"huge":300000000000000000000.0}}"#
        );
        check(
            &MappingSettings::default(),
            "users.behaviors.Purchase",
            &fields,
            &http,
            r#"{"event":"Braze Purchase","timestamp":"2026-01-01T00:00:00.000Z","idempotency_key":"e1","properties":{"big":16777216,"duration":100,"huge":3e20,"ll_accuracy":1e-7,"price":3.15},"identity":"u1"}"#,
        );
    }

    #[test]
    fn lists_and_unknown_fields_are_sent() {
        let fields = with(&[
            ("suspected_bot_click_reason", Json(br#"["a","b"]"#)),
            ("new", Json(br#"{"deep":{"er":1}}"#)),
            ("none", Json(b"[null]")),
        ]);
        let http = format!(
            r#"{HTTP},"properties":{{"suspected_bot_click_reason":["a","b"],"none":[null]}},"new":{{"deep":{{"er":1}}}}"#
        );
        check(
            &MappingSettings::default(),
            "users.messages.fax.PaperJam",
            &fields,
            &http,
            r#"{"event":"Braze Fax Paper Jam","timestamp":"2026-01-01T00:00:00.000Z","idempotency_key":"e1","properties":{"new.deep.er":1,"suspected_bot_click_reason":"a||b"},"identity":"u1"}"#,
        );
    }

    #[test]
    fn invalid_json_stays_a_text() {
        for broken in ["{\"a\":1,", "{\"a\":1}x", "hello", "[1", "17"] {
            let fields = with(&[("conversion_behavior", t(broken)), ("x", Int(1))]);
            let quoted = serde_json::to_string(broken).unwrap();
            let http = format!("{HTTP},\"properties\":{{\"x\":1,\"conversion_behavior\":{quoted}}}");
            let expected = format!(
                r#"{{"event":"Braze Campaign Conversion","timestamp":"2026-01-01T00:00:00.000Z","idempotency_key":"e1","properties":{{"conversion_behavior":{quoted},"x":1}},"identity":"u1"}}"#
            );
            check(&MappingSettings::default(), "users.campaigns.Conversion", &fields, &http, &expected);
        }
    }

    #[test]
    fn the_first_source_name_wins_a_property_name() {
        let properties = PropertyFilter {
            rename: vec![("b".to_owned(), "same".to_owned()), ("a".to_owned(), "same".to_owned())],
            ..PropertyFilter::default()
        };
        let settings = MappingSettings { properties, ..MappingSettings::default() };
        let expected = |value: u8| {
            format!(
                r#"{{"event":"Braze Email Open","timestamp":"2026-01-01T00:00:00.000Z","idempotency_key":"e1","properties":{{"same":{value},"z":0}},"identity":"u1"}}"#
            )
        };
        let fields = with(&[("z", Int(0)), ("b", Int(2)), ("a", Int(1))]);
        check(
            &settings,
            OPEN,
            &fields,
            &format!(r#"{HTTP},"properties":{{"b":2,"a":7,"z":0,"a":1}}"#),
            &expected(1),
        );
        let fields = with(&[("z", Int(0)), ("b", Int(2)), ("a", Null)]);
        check(
            &settings,
            OPEN,
            &fields,
            &format!(r#"{HTTP},"properties":{{"b":2,"a":null,"z":0}}"#),
            &expected(2),
        );
    }

    #[test]
    fn an_alias_from_a_property() {
        let identity = vec![
            IdentityFrom::Property("custom_properties.mail".to_owned()),
            IdentityFrom::Property("crm".to_owned()),
            IdentityFrom::ExternalUserId,
        ];
        let settings = MappingSettings {
            identity,
            properties: PropertyFilter {
                drop: vec!["custom_properties".to_owned()],
                ..PropertyFilter::default()
            },
            ..MappingSettings::default()
        };
        let expected = |name: &str, identity: &str| {
            format!(
                r#"{{"event":"Braze Custom Event: {name}","timestamp":"2026-01-01T00:00:00.000Z","idempotency_key":"e1","properties":{{"name":"{name}"}},"identity":"{identity}"}}"#
            )
        };
        let fields = with(&[("name", t("n")), ("properties", t(r#"{"mail":" a@x.test"}"#))]);
        let http =
            format!(r#"{HTTP},"properties":{{"name":"n","custom_properties":{{"mail":" a@x.test"}}}}"#);
        check(&settings, CUSTOM, &fields, &http, &expected("n", "a@x.test"));
        let fields = with(&[("name", t("n")), ("properties", t(r#"{"mail":""}"#))]);
        let http = format!(r#"{HTTP},"properties":{{"name":"n","custom_properties":{{"mail":""}}}}"#);
        check(&settings, CUSTOM, &fields, &http, &expected("n", "u1"));
        for (datum, number, identity) in [(Int(17), "17", "17"), (Float(1.5), "1.5", "u1")] {
            let fields = with(&[("name", t("n")), ("crm", datum)]);
            let http = format!(r#"{HTTP},"properties":{{"name":"n","crm":{number}}}"#);
            let expected = expected("n", identity).replace("{\"name", &format!("{{\"crm\":{number},\"name"));
            check(&settings, CUSTOM, &fields, &http, &expected);
        }
    }

    #[test]
    fn a_missing_field_is_named_and_writes_nothing() {
        let settings = MappingSettings::default();
        let both = |fields: &[(&str, AvroValue<'_>)], http: &str, expected: &str| {
            check(&settings, OPEN, fields, http, expected);
        };
        both(&BEGIN[1..], r#""time":1767225600,"user":{"external_user_id":"u1"}"#, "rejected no_id id0");
        both(&[("id", Null)], r#""id":null"#, "rejected no_id id0");
        both(&[("id", t("[REDACTED]"))], r#""id":"[REDACTED]""#, "rejected bad_id [REDACTED]0");
        both(&[("id", t("e1"))], r#""id":"e1""#, "rejected no_time neither time nor time_ms0");
        both(
            &[("id", t("e1")), ("time", Int(2_033_802_504))],
            r#""id":"e1","time":2033802504"#,
            "rejected time_in_future 2034-06-13T09:08:24.000Z is 3085 days ahead0",
        );
        both(&BEGIN[..2], r#""id":"e1","time":1767225600"#, "ignored no_user0");
        let anonymous = [BEGIN[0], BEGIN[1], ("user_id", t("b1"))];
        both(&anonymous, r#""id":"e1","time":1767225600,"user":{"user_id":"b1"}"#, "ignored anonymous0");
        assert_eq!(from_http(&settings, "[1]"), "rejected not_an_object [1]0");
        assert_eq!(from_http(&settings, "{\"id\":\"e1\"}"), "rejected no_event_type event_type0");
        assert_eq!(from_http(&settings, "{\"a\""), "rejected not_json not JSON at byte 4: no colon0");
    }

    #[test]
    fn the_anonymous_by_policy() {
        let fields = [BEGIN[0], BEGIN[1], ("user_id", t("5a41f0df-b69a-4a99-b656-79506a86c3f8"))];
        let http = r#""id":"e1","time":1767225600,"user":{"user_id":"5a41f0df-b69a-4a99-b656-79506a86c3f8"}"#;
        let expected = |end: &str| {
            format!(
                r#"{{"event":"Braze Email Open","timestamp":"2026-01-01T00:00:00.000Z","idempotency_key":"e1","properties":{{}}{end}}}"#
            )
        };
        let settings = |anonymous| MappingSettings { anonymous, ..MappingSettings::default() };
        check(
            &settings(AnonymousPolicy::Hash),
            OPEN,
            &fields,
            http,
            &expected(r#","user_id":"8325872782136936""#),
        );
        check(&settings(AnonymousPolicy::Hold), OPEN, &fields, http, &format!("held {}", expected("")));
        let mut out = Vec::new();
        complete(expected("").as_bytes(), &EventUser::Identity("u1".into()), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected(r#","identity":"u1""#));
    }

    #[test]
    fn a_profile_becomes_user_properties_when_asked_for() {
        let event_type = "users.profile.Update";
        let fields = with(&[
            ("time_ms", Int(1_767_225_600_250)),
            ("app_group_id", t("g")),
            ("email_address", t("u1@example.com")),
            ("update_source", t("api")),
            ("custom_attributes", t(r#"{"plan":"pro"}"#)),
        ]);
        let http = format!(
            r#"{HTTP},"properties":{{"time_ms":1767225600250,"app_group_id":"g","email_address":"u1@example.com","update_source":"api","custom_attributes":"{{\"plan\":\"pro\"}}"}}"#
        );
        let settings = MappingSettings { profiles: true, pii: Pii::Keep, ..MappingSettings::default() };
        let expected = r#"{"properties":{"custom_attributes.plan":"pro","email":"u1@example.com","external_user_id":"u1"},"identity":"u1"}"#;
        check(&settings, event_type, &fields, &http, expected);
        let expected = r#"{"event":"Braze Profile Update","timestamp":"2026-01-01T00:00:00.250Z","idempotency_key":"e1","properties":{"app_group_id":"g","custom_attributes.plan":"pro","update_source":"api"},"identity":"u1"}"#;
        check(&MappingSettings::default(), event_type, &fields, &http, expected);
    }

    #[test]
    fn prefixes_apply_to_all_names_and_keys() {
        let naming = EventNaming {
            event_prefix: "braze-".to_owned(),
            property_prefix: "braze-".to_owned(),
            ..EventNaming::default()
        };
        let settings =
            MappingSettings { naming, connector_id: Some("c1".to_owned()), ..MappingSettings::default() };
        check(
            &settings,
            OPEN,
            &with(&[("browser", t("x"))]),
            &format!(r#"{HTTP},"properties":{{"browser":"x"}}"#),
            r#"{"event":"braze-Email Open","timestamp":"2026-01-01T00:00:00.000Z","idempotency_key":"c1:e1","properties":{"braze-browser":"x"},"identity":"u1"}"#,
        );
    }

    #[test]
    fn every_outcome_returns_its_link() {
        let settings = MappingSettings { exclude: vec!["**".to_owned()], ..MappingSettings::default() };
        let rules = MappingRules::new(&settings).unwrap();
        let layout = rules.layout("users.UserOrphan", &["user_id", "orphaned_by_id"]);
        let (mut mapper, mut out) = (EventMapper::new(&rules), Vec::new());
        let data = [t("b1"), t("b2")];
        let merge = Some(super::super::IdentityLink::Merge { from: "b1".into(), into: "b2".into() });
        let mapped = mapper.record(&layout, &data[..], context(&()), &mut out);
        assert_eq!(
            (mapped.link, mapped.outcome),
            (merge.clone(), MappingOutcome::Ignored(IgnoredReason::NotSelected))
        );
        let event = r#"{"event_type":"users.UserOrphan","user":{"user_id":"b1"},"properties":{"orphaned_by_id":"b2"}}"#;
        assert_eq!(mapper.http(event, context(&()), &mut out).link, merge);
    }

    #[test]
    fn long_values_are_cut_and_a_large_event_is_mapped() {
        let long = "é".repeat(450_000);
        let cut = "é".repeat(1023);
        check(
            &MappingSettings::default(),
            OPEN,
            &with(&[("url", t(&long))]),
            &format!(r#"{HTTP},"properties":{{"url":"{long}"}}"#),
            &format!(
                r#"{{"event":"Braze Email Open","timestamp":"2026-01-01T00:00:00.000Z","idempotency_key":"e1","properties":{{"url":"{cut}"}},"identity":"u1"}}"#
            ),
        );
    }
}
