//! Generator of the events of a mix. Event `n` is the same for all callers and in any order.

use super::event_types::{EventField, EventType, FieldType, HttpLocation, event_types};
use super::mix::EventMix;
use super::values::{EventContext, FieldValue, uuid};
use crate::rng::Rng;

/// 2026-03-01T00:00:00Z, the first hour of a mix.
pub(super) const START: u64 = 1_772_323_200;
/// The time in Braze's samples, June 2034, and a time before Braze existed.
const ODD_TIMES: [u64; 2] = [2_033_802_504, 1_041_379_200];
/// Number of messages.
const MESSAGES: u64 = 40;
/// Replacement value of a customer's field transformation.
const REDACTED: &str = "[REDACTED]";

/// Difference of an event from the schema in the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SchemaVariant {
    /// It has an additional field, [`NEW_FIELD`].
    pub(super) new_field: bool,
    /// Its `time` is null.
    pub(super) broken: bool,
}

impl SchemaVariant {
    /// Number of the variant, below 4.
    pub(super) fn number(self) -> usize {
        usize::from(self.new_field) + 2 * usize::from(self.broken)
    }
}

/// The additional field.
pub(super) const NEW_FIELD: EventField = EventField {
    name: "new_since_then",
    field_type: FieldType::Text,
    nullable: true,
    location: HttpLocation::Property("new_since_then"),
    avro: true,
    personal: false,
};

/// An event: one optional value per field of its type, and one for the new field.
#[derive(Clone, Debug)]
pub(super) struct CurrentsEvent {
    pub(super) event_type: &'static EventType,
    pub(super) variant: SchemaVariant,
    pub(super) id: String,
    pub(super) values: Vec<Option<FieldValue>>,
}

impl CurrentsEvent {
    /// Fields with their values.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&EventField, Option<&FieldValue>)> {
        let own = self.event_type.fields.iter();
        let all = own.chain(self.variant.new_field.then_some(&NEW_FIELD));
        all.zip(self.values.iter().map(Option::as_ref))
    }
}

/// Key of the file of an event; cheaper than the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileKey {
    /// Number of the type, documented types first.
    pub(super) event_type: usize,
    pub(super) hour: u64,
    pub(super) variant: SchemaVariant,
}

/// Generates the events of a mix.
#[derive(Debug)]
pub(super) struct Generator {
    mix: EventMix,
    /// Numbers of the types to draw from.
    types: Vec<usize>,
}

/// A type by its number.
pub(super) fn event_type(number: usize) -> Option<&'static EventType> {
    let event_types = event_types();
    event_types
        .documented
        .get(number)
        .or_else(|| event_types.undocumented.get(number - event_types.documented.len()))
}

impl Generator {
    /// The first type outside the catalog.
    pub(super) fn new(mix: EventMix) -> Result<Self, String> {
        let documented = &event_types().documented;
        if let Some(name) =
            mix.types.iter().find(|name| documented.iter().all(|documented| documented.name != **name))
        {
            return Err(name.clone());
        }
        let is_selected = |(_, t): &(usize, &EventType)| {
            (mix.one_way || (t.storage && t.http))
                && (mix.types.is_empty() || mix.types.iter().any(|name| name == t.name))
        };
        let types = documented.iter().enumerate().filter(is_selected).map(|(number, _)| number).collect();
        Ok(Self { mix, types })
    }

    pub(super) fn mix(&self) -> &EventMix {
        &self.mix
    }

    /// The file key of event `n`, and the random numbers for its fields.
    fn draw_file_key(&self, n: u64) -> (FileKey, Rng) {
        let mut rng = Rng::of(self.mix.seed, n);
        let documented = event_types().documented.len();
        let event_type = if rng.chance(self.mix.unknown_types) || self.types.is_empty() {
            documented + rng.index(event_types().undocumented.len())
        } else {
            self.types[rng.index(self.types.len())]
        };
        let hour = rng.below(self.mix.hours.max(1));
        let broken = rng.chance(self.mix.broken);
        let new_field = rng.chance(self.mix.unknown_fields);
        (FileKey { event_type, hour, variant: SchemaVariant { new_field, broken } }, rng)
    }

    pub(super) fn file_key(&self, n: u64) -> FileKey {
        self.draw_file_key(n).0
    }

    pub(super) fn event(&self, n: u64) -> Option<CurrentsEvent> {
        let (file_key, mut rng) = self.draw_file_key(n);
        let (mix, event_type) = (&self.mix, event_type(file_key.event_type)?);
        let hot = rng.chance(mix.hot);
        let odd = rng.chance(mix.odd_times);
        let time = START + file_key.hour * 3600 + rng.below(3600);
        let context = EventContext {
            seed: mix.seed,
            id: uuid(mix.seed, "event", n),
            time: if odd { ODD_TIMES[rng.index(2)] } else { time },
            user: if hot { 0 } else { rng.below(mix.users.max(1)) },
            anonymous: rng.chance(mix.anonymous),
            message: rng.below(MESSAGES),
            large: rng.chance(mix.large),
        };
        let mut values: Vec<Option<FieldValue>> =
            event_type.fields.iter().map(|field| self.field(field, &context, &mut rng)).collect();
        if file_key.variant.new_field {
            values.push(Some(context.value(&NEW_FIELD, &mut rng)));
        }
        if file_key.variant.broken
            && let Some(at) = event_type.field("time")
        {
            values[at] = None;
        }
        if rng.chance(mix.redacted) {
            redact(event_type, &mut values, &mut rng);
        }
        Some(CurrentsEvent { event_type, variant: file_key.variant, id: context.id, values })
    }

    fn field(&self, field: &EventField, context: &EventContext, rng: &mut Rng) -> Option<FieldValue> {
        // Every field draws once, so that an absent field does not change the others.
        let (absent, mut field_rng) = (rng.chance(self.mix.absent), Rng::new(rng.draw()));
        let is_one_sided = !field.avro || (field.location == HttpLocation::Absent && field.nullable);
        let is_omitted = match field.name {
            "external_user_id" => context.anonymous,
            "device_id" => absent && !context.anonymous,
            // A message belongs to a campaign or to a Canvas.
            name if name.starts_with("campaign_") || name.starts_with("message_variation_") => {
                !context.message.is_multiple_of(2)
            }
            name if name.starts_with("canvas_") => context.message.is_multiple_of(2),
            _ => absent,
        };
        let is_absent = field.nullable && (is_omitted || (self.mix.common && is_one_sided));
        (!is_absent).then(|| context.value(field, &mut field_rng))
    }
}

/// Redacts one personal string, as a customer's field transformation does.
fn redact(event_type: &EventType, values: &mut [Option<FieldValue>], rng: &mut Rng) {
    let personal: Vec<usize> = (0..event_type.fields.len())
        .filter(|at| event_type.fields[*at].personal && event_type.fields[*at].name != "user_id")
        .filter(|at| matches!(values[*at], Some(FieldValue::Text(_))))
        .collect();
    if !personal.is_empty() {
        values[personal[rng.index(personal.len())]] = Some(FieldValue::Text(REDACTED.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn events_repeat_with_their_seed_and_differ_from_each_other() {
        let mix = EventMix { events: 5_000, seed: 9, ..EventMix::default() };
        let generator = Generator::new(mix.clone()).unwrap();
        let other = Generator::new(EventMix { events: 10, ..mix }).unwrap();
        let (mut ids, mut types) = (HashSet::new(), HashSet::new());
        let mut anonymous = 0;
        for n in 0..5_000 {
            let event = generator.event(n).unwrap();
            let same = other.event(n).unwrap();
            assert_eq!((&event.id, &event.values), (&same.id, &same.values));
            assert_eq!(generator.file_key(n).variant, event.variant);
            for (field, value) in event.fields() {
                let broken = event.variant.broken && field.name == "time";
                assert!(
                    value.is_some() || field.nullable || broken,
                    "{} {}",
                    event.event_type.name,
                    field.name
                );
                anonymous += usize::from(field.name == "external_user_id" && value.is_none());
            }
            assert!(ids.insert(event.id));
            types.insert(event.event_type.name);
        }
        assert_eq!(
            types.len(),
            93 + event_types().undocumented.len(),
            "types with both formats, and undocumented ones"
        );
        assert!((400..600).contains(&anonymous), "{anonymous}");
        assert_eq!(
            Generator::new(EventMix { types: vec!["x".to_owned()], ..EventMix::default() }).unwrap_err(),
            "x"
        );
    }
}
