//! Encoding of events: a JSON object for HTTP, a flat Avro record for files.

use serde_json::{Map, Value as Json, json};

use super::event_types::{EventField, FieldType, HttpLocation};
use super::generate::{CurrentsEvent, SchemaVariant};
use super::values::FieldValue;

/// The object that the Custom HTTP connector sends. Absent values are omitted.
pub(super) fn http(event: &CurrentsEvent, common: bool) -> Json {
    let (mut top, mut user, mut properties) = (Map::new(), Map::new(), Map::new());
    top.insert("event_type".to_owned(), event.event_type.name.into());
    for (field, value) in event.fields() {
        // Only a missing required value is written as null.
        let value = match value {
            Some(value) => json_value(value),
            None if field.nullable => continue,
            None => Json::Null,
        };
        let (object, name) = match field.location {
            HttpLocation::Top => (&mut top, field.name),
            HttpLocation::User => (&mut user, field.name),
            HttpLocation::Property(name) => (&mut properties, name),
            HttpLocation::Absent if common && !field.nullable => (&mut properties, field.name),
            HttpLocation::Absent => continue,
        };
        object.insert(name.to_owned(), value);
    }
    top.insert("user".to_owned(), Json::Object(user));
    top.insert("properties".to_owned(), Json::Object(properties));
    Json::Object(top)
}

fn json_value(value: &FieldValue) -> Json {
    match value {
        FieldValue::Text(text) => text.as_str().into(),
        FieldValue::Int(number) => (*number).into(),
        FieldValue::Float(number) => (*number).into(),
        FieldValue::Boolean(flag) => (*flag).into(),
        FieldValue::Texts(list) => list.iter().map(|text| json!(text)).collect(),
        FieldValue::Object(object) => Json::Object(object.clone()),
    }
}

/// The Avro schema of the event's file. Its name has dots, as in Braze's samples, and no field has the event
/// type.
pub(super) fn schema(event: &CurrentsEvent) -> String {
    let fields: Vec<Json> = event
        .fields()
        .filter(|(field, _)| field.avro)
        .map(|(field, _)| {
            let plain = match field.field_type {
                FieldType::Text | FieldType::Json | FieldType::Object => json!("string"),
                FieldType::Int => json!("int"),
                FieldType::Long => json!("long"),
                FieldType::Float => json!("float"),
                FieldType::Boolean => json!("boolean"),
                FieldType::Texts => json!({ "type": "array", "items": "string" }),
                FieldType::TextsOrNull => json!({ "type": "array", "items": ["null", "string"] }),
            };
            if nullable(field, event.variant) {
                json!({ "name": field.name, "type": ["null", plain], "default": null })
            } else {
                json!({ "name": field.name, "type": plain })
            }
        })
        .collect();
    let name = format!("dataexport.S3.inner.{}", event.event_type.name);
    json!({ "type": "record", "name": name, "fields": fields }).to_string()
}

fn nullable(field: &EventField, variant: SchemaVariant) -> bool {
    field.nullable || (variant.broken && field.name == "time")
}

/// Appends the event in Avro's binary encoding.
pub(super) fn avro(event: &CurrentsEvent, out: &mut Vec<u8>) {
    for (field, value) in event.fields().filter(|(field, _)| field.avro) {
        if nullable(field, event.variant) {
            long(i64::from(value.is_some()), out);
        }
        if let Some(value) = value {
            write_value(value, field.field_type, out);
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "Avro's float has 32 bits")]
fn write_value(value: &FieldValue, kind: FieldType, out: &mut Vec<u8>) {
    match value {
        FieldValue::Text(value) => text(value, out),
        FieldValue::Int(number) => long(*number, out),
        FieldValue::Float(number) => out.extend_from_slice(&(*number as f32).to_le_bytes()),
        FieldValue::Boolean(flag) => out.push(u8::from(*flag)),
        FieldValue::Texts(list) => {
            long(i64::try_from(list.len()).unwrap_or(0), out);
            for element in list {
                if kind == FieldType::TextsOrNull {
                    long(i64::from(element.is_some()), out);
                }
                if let Some(element) = element {
                    text(element, out);
                }
            }
            if !list.is_empty() {
                long(0, out);
            }
        }
        FieldValue::Object(object) => text(&Json::Object(object.clone()).to_string(), out),
    }
}

pub(super) fn text(value: &str, out: &mut Vec<u8>) {
    bytes(value.as_bytes(), out);
}

pub(super) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    long(i64::try_from(value.len()).unwrap_or(i64::MAX), out);
    out.extend_from_slice(value);
}

/// Avro `long`: zigzag, then seven bits per byte.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "zigzag works on the bits")]
pub(super) fn long(number: i64, out: &mut Vec<u8>) {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    while left >= 0x80 {
        out.push((left as u8) | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_are_encoded_in_zigzag() {
        for (number, expected) in
            [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (-64, vec![0x7f]), (64, vec![0x80, 0x01])]
        {
            let mut out = Vec::new();
            long(number, &mut out);
            assert_eq!(out, expected, "{number}");
        }
    }
}
