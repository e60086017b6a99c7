//! Way out 1: files in a bucket's layout, below a folder.
//!
//! Source: Braze, "Event delivery semantics": a folder per type, hour of queueing and schema; files of up to
//! 15,000 events; at least once. The zone's and the offset's form are not documented.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CurrentsError;
use super::container::{Codec, Container};
use super::forms::{avro, schema};
use super::generate::{BEGIN, Event, Generator, Shelf, event_type};
use super::mix::Mix;
use crate::rng::Rng;

/// The share of events that are queued hours after they happened, if any are late.
const LATE: f64 = 0.05;
/// Partitions of files: those with new events have numbers below this.
const PARTITIONS: usize = 4;
/// Partitions of files that hold what was sent before, of the cut and of the garbage.
const AGAIN: usize = 7;
const CUT: usize = 8;
const GARBAGE: usize = 9;
/// Events in a file that is cut, and bytes of each of its blocks.
const CUT_ROWS: u64 = 200;
const CUT_BLOCK_LEN: usize = 4_000;

/// How files are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// How their blocks are compressed.
    pub codec: Codec,
    /// What stands before `dataexport…`.
    pub prefix: String,
    /// Most events in a file.
    pub rows_max: usize,
    /// Bytes after which a block is closed.
    pub block_len: usize,
    /// Some events lie in the folder of a later hour.
    pub late: bool,
    /// One more file, of further events, breaks off in its last block.
    pub cut: bool,
    /// Some more files are none.
    pub garbage: bool,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            codec: Codec::default(),
            prefix: String::new(),
            rows_max: 15_000,
            block_len: 64_000,
            late: false,
            cut: false,
            garbage: false,
        }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Written {
    /// Rows in whole files, and how many of them are different events.
    pub events: u64,
    /// See `events`.
    pub distinct: u64,
    /// Whole files and their bytes.
    pub files: u64,
    /// See `files`.
    pub bytes: u64,
    /// The file that is cut.
    pub cut: Option<Cut>,
    /// Files that are none.
    pub garbage: Vec<PathBuf>,
    /// Ids of the events in whole files.
    #[serde(skip)]
    pub ids: Vec<String>,
}

/// A file that breaks off.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Ids in blocks that are whole.
    pub whole: Vec<String>,
    /// Ids in the block that is not.
    pub lost: Vec<String>,
}

/// Writes the events of a mix below `out`.
///
/// # Errors
/// [`CurrentsError`].
pub fn write(out: &Path, mix: &Mix, files: &Files) -> Result<Written, CurrentsError> {
    let generator = Generator::new(mix.clone()).map_err(CurrentsError::UnknownType)?;
    let mut written = Written::default();
    for ((shelf, again), numbers) in shelves(&generator, files) {
        for numbers in numbers.chunks(files.rows_max.max(1)) {
            let partition = if again { AGAIN } else { shelf.event_type % PARTITIONS };
            let offset = numbers.iter().min().copied().unwrap_or(0);
            let events: Vec<Event> = numbers.iter().filter_map(|n| generator.event(*n)).collect();
            let path = out.join(path(&shelf, files, partition, offset));
            let bytes =
                container(&events, files, mix.seed ^ offset).and_then(|(bytes, _)| put(&path, &bytes));
            written.bytes += bytes.map_err(|source| CurrentsError::Write { path, source })?;
            written.files += 1;
            written.events += events.len() as u64;
            if !again {
                written.distinct += events.len() as u64;
                written.ids.extend(events.into_iter().map(|event| event.id));
            }
        }
    }
    if files.cut {
        written.cut = cut(out, mix, files)?;
    }
    if files.garbage {
        written.garbage = garbage(out, &generator, files)?;
    }
    Ok(written)
}

/// Which events lie together; what comes a second time lies apart.
fn shelves(generator: &Generator, files: &Files) -> BTreeMap<(Shelf, bool), Vec<u64>> {
    let (mix, mut seen) = (generator.mix(), HashSet::new());
    let mut shelves: BTreeMap<(Shelf, bool), Vec<u64>> = BTreeMap::new();
    for n in mix.order() {
        let mut shelf = generator.shelf(n);
        if !event_type(shelf.event_type).is_some_and(|t| t.storage) {
            continue;
        }
        let mut rng = Rng::of(mix.seed.wrapping_add(1), n);
        if files.late && rng.share(LATE) {
            shelf.hour += 1 + rng.below(24);
        }
        let again = mix.duplicates > 0.0 && !seen.insert(n);
        shelves.entry((shelf, again)).or_default().push(n);
    }
    shelves
}

/// The path of a file below the bucket.
pub(super) fn path(shelf: &Shelf, files: &Files, partition: usize, offset: u64) -> String {
    const EXPORT: &str = "dataexport.prod-01.S3.integration.66a0c0ffee00000000000042";
    let name = event_type(shelf.event_type).map_or("unknown", |t| t.name);
    let second = i64::try_from(BEGIN + shelf.hour * 3600).unwrap_or(0);
    let date = jiff::Timestamp::from_second(second).unwrap_or_default().strftime("%Y-%m-%d-%H");
    let schema = 100 + shelf.event_type * 4 + shelf.variant.number();
    let prefix = if files.prefix.is_empty() { String::new() } else { format!("{}/", files.prefix) };
    format!(
        "{prefix}{EXPORT}/event_type={name}/date={date}/{schema}/us-east-1a/{EXPORT}+{partition}+{offset:012}.avro"
    )
}

/// A file of events of one type and variant, and where its blocks begin.
pub(super) fn container(events: &[Event], files: &Files, seed: u64) -> io::Result<(Vec<u8>, Vec<usize>)> {
    let Some(first) = events.first() else { return Ok(Default::default()) };
    let mut container = Container::new(&schema(first), files.codec, files.block_len, seed);
    for event in events {
        container.row(|out| avro(event, out))?;
    }
    container.finish()
}

/// Puts a file in place whole, as a bucket does.
fn put(path: &Path, bytes: &[u8]) -> io::Result<u64> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(bytes.len() as u64)
}

/// One more file, of the events after the last of the mix, that ends in the middle of its last block.
fn cut(out: &Path, mix: &Mix, files: &Files) -> Result<Option<Cut>, CurrentsError> {
    let types = vec![mix.types.first().cloned().unwrap_or_else(|| "users.messages.email.Open".to_owned())];
    let from = mix.from + mix.events;
    let plain =
        Mix { types, from, unknown_types: 0.0, unknown_fields: 0.0, broken: 0.0, hours: 1, ..mix.clone() };
    let generator = Generator::new(plain).map_err(CurrentsError::UnknownType)?;
    let events: Vec<Event> = (from..from + CUT_ROWS).filter_map(|n| generator.event(n)).collect();
    let shelf = generator.shelf(from);
    let path = out.join(path(&shelf, files, CUT, from));
    let failed = |source| CurrentsError::Write { path: path.clone(), source };
    let small = Files { block_len: CUT_BLOCK_LEN, ..files.clone() };
    let (bytes, blocks) = container(&events, &small, mix.seed).map_err(failed)?;
    let Some(last) = blocks.last() else { return Ok(None) };
    put(&path, &bytes[..usize::midpoint(*last, bytes.len())]).map_err(failed)?;
    // Rows fill blocks in their order, so the last block's are those that the others leave.
    let mut len = 0;
    let mut begins = 0;
    for (at, event) in events.iter().enumerate() {
        if len >= CUT_BLOCK_LEN {
            (begins, len) = (at, 0);
        }
        let mut row = Vec::new();
        avro(event, &mut row);
        len += row.len();
    }
    let mut whole: Vec<String> = events.into_iter().map(|event| event.id).collect();
    let lost = whole.split_off(begins);
    Ok(Some(Cut { path, whole, lost }))
}

/// An empty file, one of noise, and one that stops after Avro's magic.
fn garbage(out: &Path, generator: &Generator, files: &Files) -> Result<Vec<PathBuf>, CurrentsError> {
    let mut rng = Rng::new(generator.mix().seed);
    let noise = (0..512).flat_map(|_| rng.draw().to_le_bytes()).collect();
    let shelf = generator.shelf(generator.mix().from);
    let mut paths = Vec::new();
    for (at, bytes) in [Vec::new(), noise, b"Obj\x01".to_vec()].into_iter().enumerate() {
        let path = out.join(path(&shelf, files, GARBAGE, at as u64));
        put(&path, &bytes).map_err(|source| CurrentsError::Write { path: path.clone(), source })?;
        paths.push(path);
    }
    Ok(paths)
}
