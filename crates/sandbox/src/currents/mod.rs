//! Braze Currents: engagement events on their way out, as files in a bucket or posted over HTTP.
//!
//! Source: Braze's Currents documents, its event glossary, and its Avro schemas. The catalogue has every
//! type of version 10; a [`Mix`] says which events are made of it and how awkward they are. The same mix
//! gives the same events through both ways out. What writes Avro here shares nothing with what reads it.

mod admin;
mod catalogue;
mod container;
mod forms;
mod generate;
mod mix;
mod post;
mod queues;
mod storage;
mod values;

use std::collections::HashSet;
use std::path::PathBuf;

pub use container::Codec;
pub use mix::Mix;
pub use storage::{Cut, Files, Written, write};

pub(super) use admin::routes;
use generate::Generator;

/// Why no events come out.
#[derive(Debug, thiserror::Error)]
pub enum CurrentsError {
    /// A type that is asked for is not in the catalogue.
    #[error("no event type is called {0}")]
    UnknownType(String),
    /// A file cannot be written.
    #[error("{} cannot be written: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What posts have come to so far.
#[derive(Debug, Default)]
pub(super) struct Currents {
    acknowledged: HashSet<Box<str>>,
    tally: post::Tally,
    /// Posts that are running.
    running: u64,
}

/// One event of a type, in both forms as far as the type has them.
#[derive(Clone, Debug)]
pub struct Example {
    /// The type.
    pub event_type: &'static str,
    /// The event's id.
    pub id: String,
    /// An Avro file with this one event.
    pub avro: Option<Vec<u8>>,
    /// The path of such a file below the bucket's prefix.
    pub path: String,
    /// The event as an object of the Custom HTTP connector.
    pub http: Option<String>,
}

/// An example of every type in the catalogue, in the catalogue's order. Fields that only one form has are
/// left out.
#[must_use]
pub fn examples(seed: u64, codec: Codec) -> Vec<Example> {
    let types = catalogue::catalogue().known.iter().enumerate();
    types.filter_map(|(n, event_type)| example(event_type, seed, n as u64, codec)).collect()
}

fn example(event_type: &'static catalogue::EventType, seed: u64, n: u64, codec: Codec) -> Option<Example> {
    let (types, none) = (vec![event_type.name.to_owned()], 0.0);
    let plain =
        Mix { seed, types, one_way: true, common: true, absent: none, anonymous: none, ..Mix::default() };
    let mix = Mix { redacted: none, unknown_types: none, unknown_fields: none, odd_times: none, ..plain };
    let generator = Generator::new(mix).ok()?;
    let event = generator.event(n)?;
    let files = Files { codec, ..Files::default() };
    let avro = event_type
        .storage
        .then(|| storage::container(std::slice::from_ref(&event), &files, seed).ok())
        .flatten();
    Some(Example {
        event_type: event_type.name,
        avro: avro.map(|(bytes, _)| bytes),
        path: storage::path(&generator.shelf(n), &files, 0, n),
        http: event_type.http.then(|| forms::http(&event, true).to_string()),
        id: event.id,
    })
}

/// The bodies in which the Custom HTTP connector would post these events, up to `batch` in each.
///
/// # Errors
/// [`CurrentsError::UnknownType`].
pub fn bodies(mix: &Mix, batch: usize) -> Result<impl Iterator<Item = Vec<u8>> + use<>, CurrentsError> {
    let generator = Generator::new(mix.clone()).map_err(CurrentsError::UnknownType)?;
    Ok(queues::Queues::new(generator, batch, false).map(|batch| queues::body(&batch)))
}
