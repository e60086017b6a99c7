//! Simulator of Braze Currents: engagement events as Avro files in a bucket's layout, or posted over HTTP.
//!
//! Source: Braze's Currents documents, its event glossary, and its Avro schemas. The catalog has every event
//! type of version 10. A [`EventMix`] configures the generated events and how irregular they are. The same mix gives
//! the same events as files and over HTTP. The Avro writer shares no code with the reader under test.

mod admin;
mod avro_file;
mod batches;
mod encode;
mod event_types;
mod files;
mod generate;
mod mix;
mod post;
mod values;

use std::collections::HashSet;
use std::path::PathBuf;

pub use avro_file::Codec;
pub use files::{FileOptions, TruncatedFile, WrittenFiles, write};
pub use mix::EventMix;

pub(super) use admin::routes;
use generate::Generator;

/// Why events cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum CurrentsError {
    /// A requested type is not in the catalog.
    #[error("unknown event type {0}")]
    UnknownType(String),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// Counters and acknowledged events of all posts.
#[derive(Debug, Default)]
pub(super) struct Currents {
    acknowledged: HashSet<Box<str>>,
    counters: post::PostCounters,
    /// Running posts.
    running: u64,
}

/// One event of a type in its documented formats.
#[derive(Clone, Debug)]
pub struct Example {
    /// The type.
    pub event_type: &'static str,
    /// The event's id.
    pub id: String,
    /// An Avro file with this one event.
    pub avro: Option<Vec<u8>>,
    /// The path of this file below the prefix of the bucket.
    pub path: String,
    /// The event as the Custom HTTP connector sends it.
    pub http: Option<String>,
}

/// An example of every type in the catalog, in its order. Fields that only one format has are omitted.
#[must_use]
pub fn examples(seed: u64, codec: Codec) -> Vec<Example> {
    let types = event_types::event_types().documented.iter().enumerate();
    types.filter_map(|(n, event_type)| example(event_type, seed, n as u64, codec)).collect()
}

fn example(event_type: &'static event_types::EventType, seed: u64, n: u64, codec: Codec) -> Option<Example> {
    let (types, none) = (vec![event_type.name.to_owned()], 0.0);
    let plain = EventMix {
        seed,
        types,
        one_way: true,
        common: true,
        absent: none,
        anonymous: none,
        ..EventMix::default()
    };
    let mix =
        EventMix { redacted: none, unknown_types: none, unknown_fields: none, odd_times: none, ..plain };
    let generator = Generator::new(mix).ok()?;
    let event = generator.event(n)?;
    let files = FileOptions { codec, ..FileOptions::default() };
    let avro = event_type
        .storage
        .then(|| files::write_container(std::slice::from_ref(&event), &files, seed).ok())
        .flatten();
    Some(Example {
        event_type: event_type.name,
        avro: avro.map(|(bytes, _)| bytes),
        path: files::path(&generator.file_key(n), &files, 0, n),
        http: event_type.http.then(|| encode::http(&event, true).to_string()),
        id: event.id,
    })
}

/// The request bodies of the Custom HTTP connector for these events, with up to `batch` events each.
pub fn bodies(mix: &EventMix, batch: usize) -> Result<impl Iterator<Item = Vec<u8>> + use<>, CurrentsError> {
    let generator = Generator::new(mix.clone()).map_err(CurrentsError::UnknownType)?;
    Ok(batches::Batches::new(generator, batch, false).map(|batch| batches::body(&batch)))
}
