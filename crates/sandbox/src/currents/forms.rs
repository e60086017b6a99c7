//! The two forms of an event: an object over HTTP, a flat record in Avro.

use serde_json::{Map, Value as Json, json};

use super::catalogue::{Field, Kind, Place};
use super::generate::{Event, Variant};
use super::values::Value;

/// The object that the Custom HTTP connector sends. Absent values are left out.
pub(super) fn http(event: &Event, common: bool) -> Json {
    let (mut top, mut user, mut properties) = (Map::new(), Map::new(), Map::new());
    top.insert("event_type".to_owned(), event.event_type.name.into());
    for (field, value) in event.fields() {
        // Only a required value that is missing is shown as null.
        let value = match value {
            Some(value) => json_of(value),
            None if field.nullable => continue,
            None => Json::Null,
        };
        let (object, name) = match field.place {
            Place::Top => (&mut top, field.name),
            Place::User => (&mut user, field.name),
            Place::Property(name) => (&mut properties, name),
            Place::Nowhere if common && !field.nullable => (&mut properties, field.name),
            Place::Nowhere => continue,
        };
        object.insert(name.to_owned(), value);
    }
    top.insert("user".to_owned(), Json::Object(user));
    top.insert("properties".to_owned(), Json::Object(properties));
    Json::Object(top)
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Text(text) => text.as_str().into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Boolean(so) => (*so).into(),
        Value::Texts(list) => list.iter().map(|text| json!(text)).collect(),
        Value::Object(object) => Json::Object(object.clone()),
    }
}

/// The schema that the event's file carries. Its name has dots, as in Braze's samples, and there is no
/// field for the event type.
pub(super) fn schema(event: &Event) -> String {
    let fields: Vec<Json> = event
        .fields()
        .filter(|(field, _)| field.avro)
        .map(|(field, _)| {
            let plain = match field.kind {
                Kind::Text | Kind::Json | Kind::Object => json!("string"),
                Kind::Int => json!("int"),
                Kind::Long => json!("long"),
                Kind::Float => json!("float"),
                Kind::Boolean => json!("boolean"),
                Kind::Texts => json!({ "type": "array", "items": "string" }),
                Kind::TextsOrNull => json!({ "type": "array", "items": ["null", "string"] }),
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

fn nullable(field: &Field, variant: Variant) -> bool {
    field.nullable || (variant.broken && field.name == "time")
}

/// Appends the event in Avro's binary encoding.
pub(super) fn avro(event: &Event, out: &mut Vec<u8>) {
    for (field, value) in event.fields().filter(|(field, _)| field.avro) {
        if nullable(field, event.variant) {
            long(i64::from(value.is_some()), out);
        }
        if let Some(value) = value {
            datum(value, field.kind, out);
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "Avro's float has 32 bits")]
fn datum(value: &Value, kind: Kind, out: &mut Vec<u8>) {
    match value {
        Value::Text(value) => text(value, out),
        Value::Int(number) => long(*number, out),
        Value::Float(number) => out.extend_from_slice(&(*number as f32).to_le_bytes()),
        Value::Boolean(so) => out.push(u8::from(*so)),
        Value::Texts(list) => {
            long(i64::try_from(list.len()).unwrap_or(0), out);
            for element in list {
                if kind == Kind::TextsOrNull {
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
        Value::Object(object) => text(&Json::Object(object.clone()).to_string(), out),
    }
}

pub(super) fn text(value: &str, out: &mut Vec<u8>) {
    bytes(value.as_bytes(), out);
}

pub(super) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    long(i64::try_from(value.len()).unwrap_or(i64::MAX), out);
    out.extend_from_slice(value);
}

/// Zigzag, then seven bits a byte.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "the bits are what is meant")]
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
    fn numbers_are_zigzag() {
        for (number, expected) in
            [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (-64, vec![0x7f]), (64, vec![0x80, 0x01])]
        {
            let mut out = Vec::new();
            long(number, &mut out);
            assert_eq!(out, expected, "{number}");
        }
    }
}
