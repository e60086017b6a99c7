//! The events of a mix: event `n` is the same, whoever asks and in whatever order.

use super::catalogue::{EventType, Field, Kind, Place, catalogue};
use super::mix::Mix;
use super::values::{Subject, Value, uuid};
use crate::rng::Rng;

/// 2026-03-01T00:00:00Z: where the hours of a mix begin.
pub(super) const BEGIN: u64 = 1_772_323_200;
/// The time in Braze's own samples, in June 2034, and one before most of its customers existed.
const ODD_TIMES: [u64; 2] = [2_033_802_504, 1_041_379_200];
/// Messages that there are.
const MESSAGES: u64 = 40;
/// What a customer's field transformation leaves of a value.
const REDACTED: &str = "[REDACTED]";

/// How an event differs from what the catalogue says of its type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Variant {
    /// It has a field more: see [`NEW_FIELD`].
    pub(super) new_field: bool,
    /// Its time is null.
    pub(super) broken: bool,
}

impl Variant {
    /// A number for it, below 4.
    pub(super) fn number(self) -> usize {
        usize::from(self.new_field) + 2 * usize::from(self.broken)
    }
}

/// The field that a type has got since.
pub(super) const NEW_FIELD: Field = Field {
    name: "new_since_then",
    kind: Kind::Text,
    nullable: true,
    place: Place::Property("new_since_then"),
    avro: true,
    personal: false,
};

/// An event, with a value or none for each field of its type, and one for the new field if it has it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) event_type: &'static EventType,
    pub(super) variant: Variant,
    pub(super) id: String,
    pub(super) values: Vec<Option<Value>>,
}

impl Event {
    /// Its fields with their values.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&Field, Option<&Value>)> {
        let own = self.event_type.fields.iter();
        let all = own.chain(self.variant.new_field.then_some(&NEW_FIELD));
        all.zip(self.values.iter().map(Option::as_ref))
    }
}

/// What decides which file an event belongs to; cheaper than the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shelf {
    /// The number of the type, known types first.
    pub(super) event_type: usize,
    pub(super) hour: u64,
    pub(super) variant: Variant,
}

/// Makes the events of a mix.
#[derive(Debug)]
pub(super) struct Generator {
    mix: Mix,
    /// Numbers of the types it draws from.
    types: Vec<usize>,
}

/// A type by its number.
pub(super) fn event_type(number: usize) -> Option<&'static EventType> {
    let catalogue = catalogue();
    catalogue.known.get(number).or_else(|| catalogue.later.get(number - catalogue.known.len()))
}

impl Generator {
    /// # Errors
    /// The first type that the catalogue does not have.
    pub(super) fn new(mix: Mix) -> Result<Self, String> {
        let known = &catalogue().known;
        if let Some(name) = mix.types.iter().find(|name| known.iter().all(|known| known.name != **name)) {
            return Err(name.clone());
        }
        let wanted = |(_, t): &(usize, &EventType)| {
            (mix.one_way || (t.storage && t.http))
                && (mix.types.is_empty() || mix.types.iter().any(|name| name == t.name))
        };
        let types = known.iter().enumerate().filter(wanted).map(|(number, _)| number).collect();
        Ok(Self { mix, types })
    }

    pub(super) fn mix(&self) -> &Mix {
        &self.mix
    }

    /// Where event `n` belongs, and the random numbers that follow.
    fn begin(&self, n: u64) -> (Shelf, Rng) {
        let mut rng = Rng::of(self.mix.seed, n);
        let known = catalogue().known.len();
        let event_type = if rng.share(self.mix.unknown_types) || self.types.is_empty() {
            known + rng.index(catalogue().later.len())
        } else {
            self.types[rng.index(self.types.len())]
        };
        let hour = rng.below(self.mix.hours.max(1));
        let broken = rng.share(self.mix.broken);
        let new_field = rng.share(self.mix.unknown_fields);
        (Shelf { event_type, hour, variant: Variant { new_field, broken } }, rng)
    }

    pub(super) fn shelf(&self, n: u64) -> Shelf {
        self.begin(n).0
    }

    pub(super) fn event(&self, n: u64) -> Option<Event> {
        let (shelf, mut rng) = self.begin(n);
        let (mix, event_type) = (&self.mix, event_type(shelf.event_type)?);
        let hot = rng.share(mix.hot);
        let odd = rng.share(mix.odd_times);
        let time = BEGIN + shelf.hour * 3600 + rng.below(3600);
        let subject = Subject {
            seed: mix.seed,
            id: uuid(mix.seed, "event", n),
            time: if odd { ODD_TIMES[rng.index(2)] } else { time },
            user: if hot { 0 } else { rng.below(mix.users.max(1)) },
            anonymous: rng.share(mix.anonymous),
            message: rng.below(MESSAGES),
            large: rng.share(mix.large),
        };
        let mut values: Vec<Option<Value>> =
            event_type.fields.iter().map(|field| self.field(field, &subject, &mut rng)).collect();
        if shelf.variant.new_field {
            values.push(Some(subject.value(&NEW_FIELD, &mut rng)));
        }
        if shelf.variant.broken
            && let Some(at) = event_type.field("time")
        {
            values[at] = None;
        }
        if rng.share(mix.redacted) {
            redact(event_type, &mut values, &mut rng);
        }
        Some(Event { event_type, variant: shelf.variant, id: subject.id, values })
    }

    fn field(&self, field: &Field, subject: &Subject, rng: &mut Rng) -> Option<Value> {
        // Every field draws once, so that what one leaves out does not change the others.
        let (absent, mut own) = (rng.share(self.mix.absent), Rng::new(rng.draw()));
        let other_way = !field.avro || (field.place == Place::Nowhere && field.nullable);
        let left_out = match field.name {
            "external_user_id" => subject.anonymous,
            "device_id" => absent && !subject.anonymous,
            // A message is of a campaign or of a Canvas.
            name if name.starts_with("campaign_") || name.starts_with("message_variation_") => {
                !subject.message.is_multiple_of(2)
            }
            name if name.starts_with("canvas_") => subject.message.is_multiple_of(2),
            _ => absent,
        };
        let gone = field.nullable && (left_out || (self.mix.common && other_way));
        (!gone).then(|| subject.value(field, &mut own))
    }
}

/// One text about the person is taken away, as a customer's field transformation does.
fn redact(event_type: &EventType, values: &mut [Option<Value>], rng: &mut Rng) {
    let personal: Vec<usize> = (0..event_type.fields.len())
        .filter(|at| event_type.fields[*at].personal && event_type.fields[*at].name != "user_id")
        .filter(|at| matches!(values[*at], Some(Value::Text(_))))
        .collect();
    if !personal.is_empty() {
        values[personal[rng.index(personal.len())]] = Some(Value::Text(REDACTED.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn events_are_the_same_again_and_all_different() {
        let mix = Mix { events: 5_000, seed: 9, ..Mix::default() };
        let one = Generator::new(mix.clone()).unwrap();
        let other = Generator::new(Mix { events: 10, ..mix }).unwrap();
        let (mut ids, mut types) = (HashSet::new(), HashSet::new());
        let mut anonymous = 0;
        for n in 0..5_000 {
            let event = one.event(n).unwrap();
            let same = other.event(n).unwrap();
            assert_eq!((&event.id, &event.values), (&same.id, &same.values));
            assert_eq!(one.shelf(n).variant, event.variant);
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
        assert_eq!(types.len(), 93 + catalogue().later.len(), "all that come both ways, and later ones");
        assert!((400..600).contains(&anonymous), "{anonymous}");
        assert_eq!(Generator::new(Mix { types: vec!["x".to_owned()], ..Mix::default() }).unwrap_err(), "x");
    }
}
