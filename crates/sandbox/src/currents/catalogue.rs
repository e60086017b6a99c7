//! The event types that Currents is known to send, from `catalogue.txt`, read once.
//!
//! Source: Braze's Avro schemas and samples of its Custom HTTP connector, version 10 (July 2026). A field's
//! being required is Avro's; over HTTP every property is optional.

use std::sync::OnceLock;

const TEXT: &str = include_str!("catalogue.txt");

/// Types that came after version 10, by name. Their fields are not documented; these are made up, as are
/// those of a type that will never be.
const LATER: &str = "\
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
    pub(super) fields: Vec<Field>,
    /// Whether it comes as files, and over HTTP.
    pub(super) storage: bool,
    pub(super) http: bool,
}

/// A field of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    pub(super) place: Place,
    /// Whether the Avro schema has it.
    pub(super) avro: bool,
    /// Whether it is about the person.
    pub(super) personal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Long,
    Float,
    Boolean,
    /// An array of texts.
    Texts,
    /// An array of texts and nulls.
    TextsOrNull,
    /// A text that holds JSON.
    Json,
    /// A text that holds JSON in Avro, and an object over HTTP.
    Object,
}

/// Where a field stands over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    User,
    /// Inside `properties`, under this name.
    Property(&'static str),
    Nowhere,
}

#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) known: Vec<EventType>,
    pub(super) later: Vec<EventType>,
}

pub(super) fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| Catalogue { known: parse(TEXT), later: parse(LATER) })
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

fn field(word: &'static str) -> Option<Field> {
    let (word, avro) = word.strip_prefix('+').map_or((word, true), |word| (word, false));
    let (word, personal) = word.strip_suffix('!').map_or((word, false), |word| (word, true));
    let (word, place) = word.split_once('@').map_or((word, None), |(word, place)| (word, Some(place)));
    let (name, kind) = word.split_once(':').unwrap_or((word, "text"));
    let (name, nullable) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
    let kind = match kind {
        "text" => Kind::Text,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "boolean" => Kind::Boolean,
        "texts" => Kind::Texts,
        "texts?" => Kind::TextsOrNull,
        "json" => Kind::Json,
        "object" => Kind::Object,
        _ => return None,
    };
    let place = match place {
        None => Place::Property(name),
        Some("T") => Place::Top,
        Some("U") => Place::User,
        Some("-") => Place::Nowhere,
        Some(other) => Place::Property(other),
    };
    Some(Field { name, kind, nullable, place, avro, personal })
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
    fn the_catalogue_is_whole() {
        let catalogue = catalogue();
        assert_eq!(catalogue.known.len(), 97);
        assert_eq!(catalogue.known.iter().filter(|t| t.storage).count(), 94);
        assert_eq!(catalogue.known.iter().filter(|t| t.http).count(), 96);
        let words = |text: &str| {
            let fields = text.lines().filter(|line| line.starts_with(' '));
            fields.map(|line| line.split_whitespace().count()).sum::<usize>()
        };
        let fields = |types: &[EventType]| types.iter().map(|t| t.fields.len()).sum::<usize>();
        assert_eq!((fields(&catalogue.known), fields(&catalogue.later)), (words(TEXT), words(LATER)));
        for event_type in catalogue.known.iter().chain(&catalogue.later) {
            assert!(event_type.field("id").is_some(), "{}", event_type.name);
            assert!(event_type.field("time").is_some(), "{}", event_type.name);
            let mut names: Vec<_> = event_type.fields.iter().map(|field| field.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), event_type.fields.len(), "{} names a field twice", event_type.name);
        }
        let longs = catalogue
            .known
            .iter()
            .filter(|t| t.field("time").is_some_and(|at| t.fields[at].kind == Kind::Long));
        assert_eq!(longs.count(), 8, "the types whose time is a long");
    }

    #[test]
    fn words_say_what_a_field_is() {
        let place = Place::Property("custom_properties");
        let object = Field {
            name: "properties",
            kind: Kind::Object,
            nullable: false,
            place,
            avro: true,
            personal: false,
        };
        assert_eq!(field("properties:object@custom_properties"), Some(object));
        let device = Field {
            name: "device_id",
            kind: Kind::Text,
            nullable: true,
            place: Place::User,
            avro: false,
            personal: true,
        };
        assert_eq!(field("+device_id?@U!"), Some(device));
        assert_eq!(field("x:colour"), None);
    }
}
