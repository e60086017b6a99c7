//! Currents events from Avro records and HTTP bodies, for every documented event type.
//!
//! `SYNCLINE_BLESS=1 cargo test` rewrites the golden file; review it before you commit.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use syncline::connector::avro::{AvroBlock, AvroBlocks, AvroHeader, AvroLimits};
use syncline::connector::currents::type_from_schema;
use syncline::event_mapping::{
    EventMapper, EventNaming, MappingContext, MappingOutcome, MappingRules, MappingSettings, Pii,
    PropertyFilter, TYPES, pieces,
};
use syncline::model::{AvroValue, Timestamp};

use crate::support::avro_writer::{Writer, long, text};
use crate::support::root;

/// One field of one type in the catalog.
struct Field<'a> {
    name: &'a str,
    field_type: &'a str,
    place: &'a str,
}

/// The types with their fields, and whether they have files.
fn event_types(text: &str) -> BTreeMap<&str, (bool, Vec<Field<'_>>)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.split(' ');
            let (event_type, way) = (parts.next().unwrap(), parts.next().unwrap());
            let fields = parts.map(|field| {
                let mut parts = field.split(':');
                let [name, field_type, place] = [(); 3].map(|()| parts.next().unwrap());
                Field { name, field_type, place: place.trim_end_matches('!') }
            });
            (event_type, (way == "avro", fields.collect()))
        })
        .collect()
}

/// An example value of a field, equal in both formats where possible.
fn example(event_type: &str, field: &Field<'_>) -> Value {
    match (field.name, field.field_type.trim_end_matches('?')) {
        ("id", _) => json!(format!("id of {event_type}")),
        ("external_user_id", _) => json!("user-1"),
        ("time", _) => json!(1_767_225_600),
        ("time_ms", _) => json!(1_767_225_600_250_i64),
        ("properties" | "custom_attributes", _) => {
            json!(r#"{"plan":"pro","seats":3,"tags":["a","b"],"at":{"work":true}}"#)
        }
        ("conversion_behavior", _) => json!(r#"{"type":"Made Purchase","window":259200}"#),
        ("name", _) => json!("Cart \"left\""),
        (_, "int") => json!(7),
        (_, "long") => json!(1_i64 << 40),
        (_, "float") => json!(52.52),
        (_, "boolean") => json!(true),
        (_, "array<string>" | "array<string?>") => json!(["one", "two"]),
        (name, _) => json!(format!("{name} – é")),
    }
}

/// A field with only one format cannot be compared; the contract lists these fields.
fn is_shared(field: &Field<'_>, has_sample: bool) -> bool {
    field.field_type != "http" && (field.place != "-" || !has_sample)
}

fn avro_schema(event_type: &str, fields: &[Field<'_>]) -> String {
    let fields = fields.iter().filter(|field| field.field_type != "http").map(|field| {
        let field_type = match field.field_type.trim_end_matches('?') {
            "array<string>" => json!({"type": "array", "items": "string"}),
            "array<string?>" => json!({"type": "array", "items": ["null", "string"]}),
            plain => json!(plain),
        };
        match field.field_type.ends_with('?') {
            true => json!({"name": field.name, "type": ["null", field_type], "default": null}),
            false => json!({"name": field.name, "type": field_type}),
        }
    });
    let fields: Vec<Value> = fields.collect();
    json!({"type": "record", "name": format!("dataexport.S3.inner.{event_type}"), "fields": fields})
        .to_string()
}

fn avro_value(out: &mut Vec<u8>, field_type: &str, value: &Value) {
    if field_type.ends_with('?') {
        long(out, i64::from(!value.is_null()));
        if value.is_null() {
            return;
        }
    }
    match field_type.trim_end_matches('?') {
        "int" | "long" => long(out, value.as_i64().unwrap()),
        "float" => out.extend((value.as_f64().unwrap() as f32).to_le_bytes()),
        "boolean" => out.push(u8::from(value.as_bool().unwrap())),
        array if array.starts_with("array") => {
            let items = value.as_array().unwrap();
            long(out, items.len().try_into().unwrap());
            for item in items {
                avro_value(out, array.trim_start_matches("array<").trim_end_matches('>'), item);
            }
            out.push(0);
        }
        _ => text(out, value.as_str().unwrap_or_default()),
    }
}

fn avro_file(event_type: &str, fields: &[Field<'_>]) -> Vec<u8> {
    let has_sample = has_sample(fields);
    let mut record = Vec::new();
    for field in fields.iter().filter(|field| field.field_type != "http") {
        let value = if is_shared(field, has_sample) || !field.field_type.ends_with('?') {
            example(event_type, field)
        } else {
            Value::Null
        };
        avro_value(&mut record, field.field_type, &value);
    }
    let mut file = Writer::new(&avro_schema(event_type, fields), "snappy");
    file.block(1, &record);
    file.bytes
}

/// Whether there is an HTTP sample; each sample has at least an id.
fn has_sample(fields: &[Field<'_>]) -> bool {
    fields.iter().any(|field| field.name == "id" && field.place == "T")
}

fn http_body(event_type: &str, fields: &[Field<'_>], has_files: bool) -> String {
    let has_sample = has_sample(fields);
    let (mut top, mut user, mut properties) = (Map::new(), Map::new(), Map::new());
    for field in fields.iter().filter(|field| is_shared(field, has_sample) || !has_files) {
        let mut value = example(event_type, field);
        let (mut name, mut place) = (field.name, field.place);
        if place == "-" {
            place = match name {
                "id" | "time" => "T",
                "user_id" | "external_user_id" | "device_id" | "timezone" => "U",
                _ => "P",
            };
        }
        if name == "properties" {
            name = if event_type.ends_with("Purchase") { "purchase_properties" } else { "custom_properties" };
            value = serde_json::from_str(value.as_str().unwrap()).unwrap();
        }
        let object = match place {
            "T" => &mut top,
            "U" => &mut user,
            _ => &mut properties,
        };
        object.insert(name.to_owned(), value);
    }
    top.insert("event_type".to_owned(), json!(event_type));
    top.insert("user".to_owned(), user.into());
    top.insert("properties".to_owned(), properties.into());
    json!({ "events": [top] }).to_string()
}

fn context() -> MappingContext<'static> {
    MappingContext { now: Timestamp::from_second(1_767_225_600).unwrap(), owners: &() }
}

fn expect_mapped(outcome: &MappingOutcome<'_>, out: Vec<u8>) -> String {
    match outcome {
        MappingOutcome::Made { .. } => String::from_utf8(out).unwrap(),
        other => format!("{other:?}"),
    }
}

fn through_a_file(rules: &MappingRules, event_type: &str, file: &[u8]) -> String {
    let (mut rest, limits) = (file, AvroLimits::default());
    let header = AvroHeader::read(&mut rest, &limits).unwrap();
    assert_eq!(type_from_schema(header.schema.name()), Some(event_type));
    let layout = rules.layout(event_type, &header.schema.fields());
    assert!(layout.is_known());
    let (mut blocks, mut block) =
        (AvroBlocks::new(rest, &header, header.len(), &limits), AvroBlock::default());
    assert!(blocks.advance(&mut block).unwrap());
    let mut records = block.records(&header.schema);
    let row = records.advance().unwrap().unwrap();
    let (mut mapper, mut out) = (EventMapper::new(rules), Vec::new());
    let mapped = mapper.record(&layout, &row, context(), &mut out);
    expect_mapped(&mapped.outcome, out)
}

fn through_http(rules: &MappingRules, body: &str) -> String {
    let events = pieces(body.as_bytes()).unwrap();
    let (mut mapper, mut out) = (EventMapper::new(rules), Vec::new());
    let mapped = mapper.http(events[0], context(), &mut out);
    assert!(mapped.is_known);
    expect_mapped(&mapped.outcome, out)
}

#[test]
fn every_type_maps_to_the_same_event_from_both_formats() {
    #[allow(clippy::disallowed_methods, reason = "a switch for changed events")]
    let bless = std::env::var("SYNCLINE_BLESS").is_ok();
    let folder = root().join("tests/currents");
    let fields = fs::read_to_string(folder.join("fields.txt")).unwrap();
    // The one required field of files that HTTP does not have.
    let properties = PropertyFilter { drop: vec!["version".to_owned()], ..PropertyFilter::default() };
    let rules =
        MappingRules::new(&MappingSettings { pii: Pii::Keep, properties, ..MappingSettings::default() })
            .unwrap();
    let (mut golden, mut names) = (String::new(), std::collections::BTreeSet::new());
    for (event_type, (has_files, fields)) in event_types(&fields) {
        let event = through_http(&rules, &http_body(event_type, &fields, has_files));
        if has_files {
            assert_eq!(through_a_file(&rules, event_type, &avro_file(event_type, &fields)), event);
        }
        golden.push_str(&format!("{event_type} {event}\n"));
        if let Ok(event) = serde_json::from_str::<Value>(&event) {
            assert!(names.insert(event["event"].as_str().unwrap().to_owned()), "{event}");
        }
        assert!(TYPES.contains(&event_type));
    }
    let path = folder.join("golden.txt");
    if bless {
        #[allow(clippy::disallowed_methods, reason = "a test's own data")]
        fs::write(&path, &golden).unwrap();
    }
    assert_eq!(golden, fs::read_to_string(path).unwrap_or_default());
}

#[test]
fn personal_fields_match_the_catalog() {
    let fields = fs::read_to_string(root().join("tests/currents/fields.txt")).unwrap();
    let rules = MappingRules::new(&MappingSettings::default()).unwrap();
    let lines = fields.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines.filter(|line| line.contains("external_user_id")) {
        let personal = line.split(' ').filter(|field| field.ends_with('!'));
        let personal: Vec<&str> = personal.map(|field| field.split(':').next().unwrap()).collect();
        let event_type = line.split(' ').next().unwrap();
        let properties: Map<String, Value> =
            personal.iter().map(|name| ((*name).to_owned(), json!("x"))).collect();
        let event = json!({"event_type": event_type, "id": "e1", "time": 1, "user": {"external_user_id": "u1"}, "properties": properties});
        let event: Value = serde_json::from_str(&through_http(&rules, &event.to_string())).unwrap();
        assert_eq!(event["properties"], json!({}), "{event_type}");
    }
}

/// Random JSON with special strings and numbers.
fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        (-1000i32..1000).prop_map(|n| json!(f64::from(n) / 8.0)),
        any::<f64>().prop_map(|n| json!(n)),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|b| json!(b)),
        number,
        "\\PC{0,8}|[\\x00-\\x7f]{0,8}".prop_map(|s| json!(s)),
        (1000usize..1100, "[x\"é😀\\\\]{1,3}").prop_map(|(n, s)| json!(s.repeat(n))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = "[a-c\"é. ]{0,4}|id|ID|user_id";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Custom properties of any content map equally from both formats, and Heap accepts them.
    #[test]
    fn random_properties_map_equally_from_both_formats_and_fit_heap(
        inside in prop::collection::btree_map("[a-c\"é. ]{0,4}|id", any_json(), 0..6), prefix in "|braze-"
    ) {
        let inside: Value = inside.into_iter().collect();
        let rename = vec![("custom_properties.**".to_owned(), "**".to_owned())];
        let naming = EventNaming { property_prefix: prefix, ..EventNaming::default() };
        let properties = PropertyFilter { rename, ..PropertyFilter::default() };
        let rules = MappingRules::new(&MappingSettings { naming, properties, ..MappingSettings::default() }).unwrap();
        let event_type = "users.behaviors.CustomEvent";
        let layout = rules.layout(event_type, &["id", "time", "external_user_id", "properties"]);
        let in_a_text = serde_json::to_string_pretty(&inside).unwrap();
        let record =
            [AvroValue::Text(b"e1"), AvroValue::Int(1), AvroValue::Text(b"u1"), AvroValue::Text(in_a_text.as_bytes())];
        let (mut mapper, mut out) = (EventMapper::new(&rules), Vec::new());
        let mapped = mapper.record(&layout, &record[..], context(), &mut out);
        let is_made = matches!(mapped.outcome, MappingOutcome::Made { .. });
        prop_assert!(is_made);
        let event = json!({"event_type": event_type, "id": "e1", "time": 1, "user": {"external_user_id": "u1"},
            "properties": {"custom_properties": inside}});
        let http = through_http(&rules, &json!([event]).to_string());
        prop_assert_eq!(String::from_utf8(out).unwrap(), http.clone());

        let event: Value = serde_json::from_str(&http).unwrap();
        for (key, value) in event["properties"].as_object().unwrap() {
            prop_assert!(!key.is_empty() && key.chars().count() <= 1023);
            prop_assert!(!key.eq_ignore_ascii_case("id") && !key.eq_ignore_ascii_case("user_id"));
            prop_assert!(value.is_number() || value.as_str().is_some_and(|text| text.chars().count() <= 1023));
        }
    }

    /// No HTTP body causes a panic, and an element that is not an event writes nothing.
    #[test]
    fn random_events_are_mapped_or_rejected(event in any_json(), text in "\\PC{0,40}") {
        let rules = MappingRules::new(&MappingSettings::default()).unwrap();
        let (mut mapper, mut out) = (EventMapper::new(&rules), Vec::new());
        for event in [event.to_string(), text] {
            let outcome = mapper.http(&event, context(), &mut out).outcome;
            prop_assert!(matches!(outcome, MappingOutcome::Rejected(_)), "{:?}", outcome);
        }
        prop_assert!(out.is_empty());
    }
}
