//! Batches of events for HTTP: one queue per event type, emptied when a batch is full.
//!
//! Braze's documents describe one queue per event type, so a request normally has one type. They do not
//! guarantee it, so types can be mixed.

use std::collections::BTreeMap;

use super::encode;
use super::generate::Generator;

/// An event in its JSON form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueuedEvent {
    pub(super) id: String,
    pub(super) json: String,
}

/// Iterator over the batches of a mix.
#[derive(Debug)]
pub(super) struct Batches {
    generator: Generator,
    order: std::vec::IntoIter<u64>,
    batch: usize,
    mixed: bool,
    queues: BTreeMap<&'static str, Vec<QueuedEvent>>,
}

impl Batches {
    pub(super) fn new(generator: Generator, batch: usize, mixed: bool) -> Self {
        let order = generator.mix().order().into_iter();
        Self { generator, order, batch: batch.max(1), mixed, queues: BTreeMap::new() }
    }
}

impl Iterator for Batches {
    type Item = Vec<QueuedEvent>;

    fn next(&mut self) -> Option<Vec<QueuedEvent>> {
        for n in self.order.by_ref() {
            let Some(event) = self.generator.event(n).filter(|event| event.event_type.http) else { continue };
            let json = encode::http(&event, self.generator.mix().common).to_string();
            let queue_name = if self.mixed { "" } else { event.event_type.name };
            let queue = self.queues.entry(queue_name).or_default();
            queue.push(QueuedEvent { id: event.id, json });
            if queue.len() == self.batch {
                return Some(std::mem::take(queue));
            }
        }
        // Incomplete batches come last, as after a timeout.
        std::iter::from_fn(|| self.queues.pop_first()).map(|(_, left)| left).find(|left| !left.is_empty())
    }
}

/// The request body of a batch.
pub(super) fn body(batch: &[QueuedEvent]) -> Vec<u8> {
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
    use super::super::mix::EventMix;
    use super::*;

    #[test]
    fn batches_have_one_event_type_unless_mixed() {
        let batches = |mixed| {
            let generator =
                Generator::new(EventMix { events: 3_000, duplicates: 0.1, ..EventMix::default() }).unwrap();
            Batches::new(generator, 10, mixed).collect::<Vec<_>>()
        };
        let types = |batch: &[QueuedEvent]| {
            let event_type = |item: &QueuedEvent| {
                let json: serde_json::Value = serde_json::from_str(&item.json).unwrap();
                json["event_type"].as_str().unwrap().to_owned()
            };
            let mut types: Vec<_> = batch.iter().map(event_type).collect();
            types.sort_unstable();
            types.dedup();
            types.len()
        };
        let (apart, mixed) = (batches(false), batches(true));
        assert!(apart.iter().all(|batch| types(batch) == 1 && batch.len() <= 10));
        assert!(mixed.iter().any(|batch| types(batch) > 1));
        let ids = |batches: &[Vec<QueuedEvent>]| {
            let mut ids: Vec<_> = batches.iter().flatten().map(|item| item.id.clone()).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(&apart), ids(&mixed));
    }
}
