//! Events on their way to HTTP: a queue for each type, from which full batches go out.
//!
//! Braze's documents speak of a queue per event type, so a request normally holds one type; nothing
//! promises it, so they can be mixed.

use std::collections::BTreeMap;

use super::forms;
use super::generate::Generator;

/// An event as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) json: String,
}

/// Batches of a mix, made as they are asked for.
#[derive(Debug)]
pub(super) struct Queues {
    generator: Generator,
    order: std::vec::IntoIter<u64>,
    batch: usize,
    mixed: bool,
    queues: BTreeMap<&'static str, Vec<Item>>,
}

impl Queues {
    pub(super) fn new(generator: Generator, batch: usize, mixed: bool) -> Self {
        let order = generator.mix().order().into_iter();
        Self { generator, order, batch: batch.max(1), mixed, queues: BTreeMap::new() }
    }
}

impl Iterator for Queues {
    type Item = Vec<Item>;

    fn next(&mut self) -> Option<Vec<Item>> {
        for n in self.order.by_ref() {
            let Some(event) = self.generator.event(n).filter(|event| event.event_type.http) else { continue };
            let json = forms::http(&event, self.generator.mix().common).to_string();
            let queue = if self.mixed { "" } else { event.event_type.name };
            let waiting = self.queues.entry(queue).or_default();
            waiting.push(Item { id: event.id, json });
            if waiting.len() == self.batch {
                return Some(std::mem::take(waiting));
            }
        }
        // What is left goes out as it would when time is up.
        std::iter::from_fn(|| self.queues.pop_first()).map(|(_, left)| left).find(|left| !left.is_empty())
    }
}

/// The body of a batch.
pub(super) fn body(batch: &[Item]) -> Vec<u8> {
    let mut body = b"{\"events\":[".to_vec();
    for (at, item) in batch.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item.json.as_bytes());
    }
    body.extend_from_slice(b"]}");
    body
}

#[cfg(test)]
mod tests {
    use super::super::mix::Mix;
    use super::*;

    #[test]
    fn batches_are_of_one_type_unless_mixed() {
        let batches = |mixed| {
            let generator = Generator::new(Mix { events: 3_000, duplicates: 0.1, ..Mix::default() }).unwrap();
            Queues::new(generator, 10, mixed).collect::<Vec<_>>()
        };
        let types = |batch: &[Item]| {
            let of = |item: &Item| {
                let json: serde_json::Value = serde_json::from_str(&item.json).unwrap();
                json["event_type"].as_str().unwrap().to_owned()
            };
            let mut types: Vec<_> = batch.iter().map(of).collect();
            types.sort_unstable();
            types.dedup();
            types.len()
        };
        let (apart, mixed) = (batches(false), batches(true));
        assert!(apart.iter().all(|batch| types(batch) == 1 && batch.len() <= 10));
        assert!(mixed.iter().any(|batch| types(batch) > 1));
        let ids = |batches: &[Vec<Item>]| {
            let mut ids: Vec<_> = batches.iter().flatten().map(|item| item.id.clone()).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(&apart), ids(&mixed));
    }
}
