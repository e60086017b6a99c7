//! Event types of Currents with their fields, parsed once from `event_types.txt`.
//!
//! Source: Braze's Avro schemas and samples of its Custom HTTP connector, version 10 (July 2026). Required
//! fields are Avro's; over HTTP every property is optional.

use std::sync::OnceLock;

const TEXT: &str = include_str!("event_types.txt");

/// Event types newer than version 10. Their fields are not documented and are made up here, as is the last
/// type.
const UNDOCUMENTED: &str = "\
contentoptimizer.ComponentStore
  id@T time:int@T user_id@U! external_user_id?@U! component_id
users.messages.landingpage.FormSubmission
  id@T time:int@T user_id@U! external_user_id?@U! device_id?@U landing_page_id url? form_fields?:json
users.messages.survey.Response
  id@T time:int@T user_id@U! external_user_id?@U! timezone?@U survey_id score?:int comment?!
users.messages.telepathy.Send
  id@T time:long@T user_id@U! external_user_id?@U! wavelength:float moods?:texts
";

/// An event type.
#[derive(Debug)]
pub(super) struct EventType {
    pub(super) name: &'static str,
    pub(super) fields: Vec<EventField>,
    /// Whether the type has files, and whether it has HTTP posts.
    pub(super) storage: bool,
    pub(super) http: bool,
}

/// A field of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventField {
    pub(super) name: &'static str,
    pub(super) field_type: FieldType,
    pub(super) nullable: bool,
    pub(super) location: HttpLocation,
    /// Whether the Avro schema has this field.
    pub(super) avro: bool,
    /// Whether this is personal data.
    pub(super) personal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldType {
    Text,
    Int,
    Long,
    Float,
    Boolean,
    /// An array of strings.
    Texts,
    /// An array of strings and nulls.
    TextsOrNull,
    /// A string with JSON.
    Json,
    /// A string with JSON in Avro, an object over HTTP.
    Object,
}

/// Location of a field over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpLocation {
    Top,
    User,
    /// Inside `properties`, under this name.
    Property(&'static str),
    Absent,
}

#[derive(Debug)]
pub(super) struct EventTypes {
    pub(super) documented: Vec<EventType>,
    pub(super) undocumented: Vec<EventType>,
}

pub(super) fn event_types() -> &'static EventTypes {
    static EVENT_TYPES: OnceLock<EventTypes> = OnceLock::new();
    EVENT_TYPES.get_or_init(|| EventTypes { documented: parse(TEXT), undocumented: parse(UNDOCUMENTED) })
}

fn parse(text: &'static str) -> Vec<EventType> {
    let mut types: Vec<EventType> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut words = line.split_whitespace();
        if line.starts_with(' ') {
            if let Some(last) = types.last_mut() {
                last.fields.extend(words.filter_map(field));
            }
        } else if let Some(name) = words.next() {
            let only = words.next();
            let (storage, http) = (only != Some("http"), only != Some("storage"));
            types.push(EventType { name, fields: Vec::new(), storage, http });
        }
    }
    types
}

fn field(word: &'static str) -> Option<EventField> {
    let (word, avro) = word.strip_prefix('+').map_or((word, true), |word| (word, false));
    let (word, personal) = word.strip_suffix('!').map_or((word, false), |word| (word, true));
    let (word, location) =
        word.split_once('@').map_or((word, None), |(word, location)| (word, Some(location)));
    let (name, field_type) = word.split_once(':').unwrap_or((word, "text"));
    let (name, nullable) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
    let field_type = match field_type {
        "text" => FieldType::Text,
        "int" => FieldType::Int,
        "long" => FieldType::Long,
        "float" => FieldType::Float,
        "boolean" => FieldType::Boolean,
        "texts" => FieldType::Texts,
        "texts?" => FieldType::TextsOrNull,
        "json" => FieldType::Json,
        "object" => FieldType::Object,
        _ => return None,
    };
    let location = match location {
        None => HttpLocation::Property(name),
        Some("T") => HttpLocation::Top,
        Some("U") => HttpLocation::User,
        Some("-") => HttpLocation::Absent,
        Some(other) => HttpLocation::Property(other),
    };
    Some(EventField { name, field_type, nullable, location, avro, personal })
}

impl EventType {
    pub(super) fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_is_complete() {
        let event_types = event_types();
        assert_eq!(event_types.documented.len(), 97);
        assert_eq!(event_types.documented.iter().filter(|t| t.storage).count(), 94);
        assert_eq!(event_types.documented.iter().filter(|t| t.http).count(), 96);
        let words = |text: &str| {
            let fields = text.lines().filter(|line| line.starts_with(' '));
            fields.map(|line| line.split_whitespace().count()).sum::<usize>()
        };
        let fields = |types: &[EventType]| types.iter().map(|t| t.fields.len()).sum::<usize>();
        assert_eq!(
            (fields(&event_types.documented), fields(&event_types.undocumented)),
            (words(TEXT), words(UNDOCUMENTED))
        );
        for event_type in event_types.documented.iter().chain(&event_types.undocumented) {
            assert!(event_type.field("id").is_some(), "{}", event_type.name);
            assert!(event_type.field("time").is_some(), "{}", event_type.name);
            let mut names: Vec<_> = event_type.fields.iter().map(|field| field.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), event_type.fields.len(), "{} names a field twice", event_type.name);
        }
        let longs = event_types
            .documented
            .iter()
            .filter(|t| t.field("time").is_some_and(|at| t.fields[at].field_type == FieldType::Long));
        assert_eq!(longs.count(), 8, "types with a long `time`");
    }

    #[test]
    fn a_field_is_parsed_from_its_notation() {
        let location = HttpLocation::Property("custom_properties");
        let object = EventField {
            name: "properties",
            field_type: FieldType::Object,
            nullable: false,
            location,
            avro: true,
            personal: false,
        };
        assert_eq!(field("properties:object@custom_properties"), Some(object));
        let device = EventField {
            name: "device_id",
            field_type: FieldType::Text,
            nullable: true,
            location: HttpLocation::User,
            avro: false,
            personal: true,
        };
        assert_eq!(field("+device_id?@U!"), Some(device));
        assert_eq!(field("x:colour"), None);
    }
}
