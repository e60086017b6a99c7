//! Targets of Currents events: HTTP bodies and Avro records become events for Heap.

use serde_json::Value;
use serde_json::value::RawValue;
use syncline::connector::avro::{AvroBlock, AvroBlocks, AvroHeader, AvroLimits};
use syncline::connector::currents::type_from_schema;
use syncline::event_mapping::{
    AnonymousPolicy, EventMapper, EventSummary, EventUser, IdentityFrom, MappedEvent, MappingContext,
    MappingOutcome, MappingRules, MappingSettings, Pii, complete, has_pieces, pieces,
};

use super::now;

/// The longest text and name that Heap accepts.
const TEXT_LEN_MAX: usize = 1023;
/// Nesting that `serde_json` reads.
const DEPTH_MAX: usize = 120;

/// Rules by default, and rules that send as much as possible.
fn rules() -> [MappingRules; 2] {
    let all = MappingSettings {
        pii: Pii::Keep,
        identity: vec![
            IdentityFrom::Property("custom_properties.email".to_owned()),
            IdentityFrom::BrazeUserId,
        ],
        anonymous: AnonymousPolicy::Hold,
        connector_id: Some("eu".to_owned()),
        future_seconds_max: None,
        profiles: true,
        ..MappingSettings::default()
    };
    [MappingSettings::default(), all].map(|settings| MappingRules::new(&settings).expect("valid rules"))
}

/// An HTTP body of Currents: it is split as `serde_json` splits it, and each event gives valid output.
pub(crate) fn body(data: &[u8]) {
    let found = pieces(data);
    match has_pieces(data) {
        Ok(has) => assert_eq!(has, !found.as_ref().expect("the same result").is_empty()),
        Err(error) => assert_eq!(found.as_ref().err(), Some(&error)),
    }
    let text = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    if depth(text) < DEPTH_MAX {
        let is_json = serde_json::from_slice::<&RawValue>(text).is_ok();
        // Raw control characters and half surrogate pairs are accepted, so that they lose no event.
        let is_plain = !text.iter().any(|byte| *byte < b' ') && !has(text, b"\\u");
        let is_plain = is_plain && !text.trim_ascii().is_empty();
        assert!(found.is_ok() || !is_json, "what `serde_json` reads is read");
        assert!(found.is_err() || is_json || !is_plain, "what `serde_json` does not read is not read");
    }
    let Ok(found) = found else { return };
    let rules = rules();
    let mut mappers = rules.each_ref().map(EventMapper::new);
    for event in found {
        let _ = EventSummary::read(event);
        for mapper in &mut mappers {
            let mut out = Vec::new();
            let context = MappingContext { now: now(), owners: &() };
            let mapped = mapper.http(event, context, &mut out);
            check(&mapped, &out);
        }
    }
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn depth(text: &[u8]) -> usize {
    text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count()
}

/// The output is one flat object that Heap accepts, and only where the outcome says so.
fn check(mapped: &MappedEvent<'_>, out: &[u8]) {
    let whole = match &mapped.outcome {
        MappingOutcome::Made { .. } => out.to_vec(),
        MappingOutcome::Held { .. } => {
            let mut whole = Vec::new();
            complete(out, &EventUser::UserId(7), &mut whole);
            whole
        }
        MappingOutcome::Ignored(_) | MappingOutcome::Rejected(_) => return assert!(out.is_empty()),
    };
    let event: Value = serde_json::from_slice(&whole).expect("valid JSON");
    let event = event.as_object().expect("an object");
    assert!(event.contains_key("identity") || event.contains_key("user_id"), "it names its user");
    let properties = event["properties"].as_object().expect("properties");
    for (name, value) in properties {
        assert!(name.chars().count() <= TEXT_LEN_MAX, "a name that Heap accepts");
        match value {
            Value::String(text) => assert!(text.chars().count() <= TEXT_LEN_MAX, "a text that Heap accepts"),
            Value::Number(_) => {}
            other => panic!("Heap accepts texts and numbers, not {other}"),
        }
    }
}

/// An Avro file of Currents: each record gives valid output.
pub(crate) fn avro(data: &[u8]) {
    let limits = AvroLimits { header_len_max: 1 << 16, block_len_max: 1 << 20, nested_len_max: 1 << 16 };
    let mut rest = data;
    let Ok(header) = AvroHeader::read(&mut rest, &limits) else { return };
    let event_type = type_from_schema(header.schema.name()).unwrap_or("users.behaviors.CustomEvent");
    let rules = rules();
    let mut mappers = rules.each_ref().map(EventMapper::new);
    let layouts = rules.each_ref().map(|rules| rules.layout(event_type, &header.schema.fields()));
    let (mut blocks, mut block) =
        (AvroBlocks::new(rest, &header, header.len(), &limits), AvroBlock::default());
    while let Ok(true) = blocks.advance(&mut block) {
        let mut records = block.records(&header.schema);
        while let Ok(Some(record)) = records.advance() {
            for (mapper, layout) in mappers.iter_mut().zip(&layouts) {
                let mut out = Vec::new();
                let context = MappingContext { now: now(), owners: &() };
                let mapped = mapper.record(layout, &record, context, &mut out);
                check(&mapped, &out);
            }
        }
    }
}
