//! File output of Currents: Avro files in a bucket's layout, below a folder.
//!
//! Source: Braze, "Event delivery semantics": a folder per type, hour of queueing and schema; files of up to
//! 15,000 events; at-least-once delivery. The forms of the zone and the offset are not documented.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CurrentsError;
use super::avro_file::{AvroWriter, Codec};
use super::encode::{avro, schema};
use super::generate::{CurrentsEvent, FileKey, Generator, START, event_type};
use super::mix::EventMix;
use crate::rng::Rng;

/// Share of events that are queued hours later, if `late` is set.
const LATE: f64 = 0.05;
/// Partitions of files with new events are below this number.
const PARTITIONS: usize = 4;
/// Partitions of files with repeated events, of the truncated file, and of garbage.
const REPEAT_PARTITION: usize = 7;
const TRUNCATED_PARTITION: usize = 8;
const GARBAGE_PARTITION: usize = 9;
/// Events in the truncated file, and bytes per block.
const CUT_ROWS: u64 = 200;
const CUT_BLOCK_LEN: usize = 4_000;

/// Options of the written files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileOptions {
    /// Compression of blocks.
    pub codec: Codec,
    /// Path prefix before `dataexport…`.
    pub prefix: String,
    /// Most events in a file.
    pub rows_max: usize,
    /// Bytes per block.
    pub block_len: usize,
    /// Whether some events are in the folder of a later hour.
    pub late: bool,
    /// Whether one additional file, with further events, is truncated in its last block.
    pub cut: bool,
    /// Whether some additional files are not Avro.
    pub garbage: bool,
}

impl Default for FileOptions {
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

/// Summary of the written files.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WrittenFiles {
    /// Events in complete files. `distinct` counts different events.
    pub events: u64,
    /// See `events`.
    pub distinct: u64,
    /// Complete files. `bytes` is their total length.
    pub files: u64,
    /// See `files`.
    pub bytes: u64,
    /// The truncated file.
    pub cut: Option<TruncatedFile>,
    /// Files that are not Avro.
    pub garbage: Vec<PathBuf>,
    /// Ids of the events in complete files.
    #[serde(skip)]
    pub ids: Vec<String>,
}

/// A truncated file.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TruncatedFile {
    /// The file.
    pub path: PathBuf,
    /// Ids in complete blocks.
    pub whole: Vec<String>,
    /// Ids in the truncated block.
    pub lost: Vec<String>,
}

/// Writes the events of a mix below `out`.
///
/// # Errors
/// [`CurrentsError`].
pub fn write(out: &Path, mix: &EventMix, files: &FileOptions) -> Result<WrittenFiles, CurrentsError> {
    let generator = Generator::new(mix.clone()).map_err(CurrentsError::UnknownType)?;
    let mut written = WrittenFiles::default();
    for ((file_key, is_repeat), numbers) in files_by_key(&generator, files) {
        for numbers in numbers.chunks(files.rows_max.max(1)) {
            let partition = if is_repeat { REPEAT_PARTITION } else { file_key.event_type % PARTITIONS };
            let offset = numbers.iter().min().copied().unwrap_or(0);
            let events: Vec<CurrentsEvent> = numbers.iter().filter_map(|n| generator.event(*n)).collect();
            let path = out.join(path(&file_key, files, partition, offset));
            let bytes = write_container(&events, files, mix.seed ^ offset)
                .and_then(|(bytes, _)| write_file(&path, &bytes));
            written.bytes += bytes.map_err(|source| CurrentsError::Write { path, source })?;
            written.files += 1;
            written.events += events.len() as u64;
            if !is_repeat {
                written.distinct += events.len() as u64;
                written.ids.extend(events.into_iter().map(|event| event.id));
            }
        }
    }
    if files.cut {
        written.cut = truncated(out, mix, files)?;
    }
    if files.garbage {
        written.garbage = garbage(out, &generator, files)?;
    }
    Ok(written)
}

/// Event numbers by file. Repeated events get files of their own.
fn files_by_key(generator: &Generator, files: &FileOptions) -> BTreeMap<(FileKey, bool), Vec<u64>> {
    let (mix, mut seen) = (generator.mix(), HashSet::new());
    let mut files_by_key: BTreeMap<(FileKey, bool), Vec<u64>> = BTreeMap::new();
    for n in mix.order() {
        let mut file_key = generator.file_key(n);
        if !event_type(file_key.event_type).is_some_and(|t| t.storage) {
            continue;
        }
        let mut rng = Rng::of(mix.seed.wrapping_add(1), n);
        if files.late && rng.chance(LATE) {
            file_key.hour += 1 + rng.below(24);
        }
        let is_repeat = mix.duplicates > 0.0 && !seen.insert(n);
        files_by_key.entry((file_key, is_repeat)).or_default().push(n);
    }
    files_by_key
}

/// The path of a file in the bucket.
pub(super) fn path(file_key: &FileKey, files: &FileOptions, partition: usize, offset: u64) -> String {
    const EXPORT: &str = "dataexport.prod-01.S3.integration.66a0c0ffee00000000000042";
    let name = event_type(file_key.event_type).map_or("unknown", |t| t.name);
    let second = i64::try_from(START + file_key.hour * 3600).unwrap_or(0);
    let date = jiff::Timestamp::from_second(second).unwrap_or_default().strftime("%Y-%m-%d-%H");
    let schema = 100 + file_key.event_type * 4 + file_key.variant.number();
    let prefix = if files.prefix.is_empty() { String::new() } else { format!("{}/", files.prefix) };
    format!(
        "{prefix}{EXPORT}/event_type={name}/date={date}/{schema}/us-east-1a/{EXPORT}+{partition}+{offset:012}.avro"
    )
}

/// A file of events with one type and variant, and the offsets of its blocks.
pub(super) fn write_container(
    events: &[CurrentsEvent],
    files: &FileOptions,
    seed: u64,
) -> io::Result<(Vec<u8>, Vec<usize>)> {
    let Some(first) = events.first() else { return Ok(Default::default()) };
    let mut write_container = AvroWriter::new(&schema(first), files.codec, files.block_len, seed);
    for event in events {
        write_container.row(|out| avro(event, out))?;
    }
    write_container.finish()
}

/// Writes a file atomically, as a bucket does.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<u64> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(bytes.len() as u64)
}

/// Writes a file of the events after the mix, truncated in the middle of its last block.
fn truncated(
    out: &Path,
    mix: &EventMix,
    files: &FileOptions,
) -> Result<Option<TruncatedFile>, CurrentsError> {
    let types = vec![mix.types.first().cloned().unwrap_or_else(|| "users.messages.email.Open".to_owned())];
    let from = mix.from + mix.events;
    let plain = EventMix {
        types,
        from,
        unknown_types: 0.0,
        unknown_fields: 0.0,
        broken: 0.0,
        hours: 1,
        ..mix.clone()
    };
    let generator = Generator::new(plain).map_err(CurrentsError::UnknownType)?;
    let events: Vec<CurrentsEvent> = (from..from + CUT_ROWS).filter_map(|n| generator.event(n)).collect();
    let file_key = generator.file_key(from);
    let path = out.join(path(&file_key, files, TRUNCATED_PARTITION, from));
    let failed = |source| CurrentsError::Write { path: path.clone(), source };
    let small = FileOptions { block_len: CUT_BLOCK_LEN, ..files.clone() };
    let (bytes, blocks) = write_container(&events, &small, mix.seed).map_err(failed)?;
    let Some(last) = blocks.last() else { return Ok(None) };
    write_file(&path, &bytes[..usize::midpoint(*last, bytes.len())]).map_err(failed)?;
    // Rows fill blocks in order, so the last block has the remaining rows.
    let mut len = 0;
    let mut last_block_start = 0;
    for (at, event) in events.iter().enumerate() {
        if len >= CUT_BLOCK_LEN {
            (last_block_start, len) = (at, 0);
        }
        let mut row = Vec::new();
        avro(event, &mut row);
        len += row.len();
    }
    let mut whole: Vec<String> = events.into_iter().map(|event| event.id).collect();
    let lost = whole.split_off(last_block_start);
    Ok(Some(TruncatedFile { path, whole, lost }))
}

/// Writes an empty file, one with random bytes, and one with only Avro's magic.
fn garbage(out: &Path, generator: &Generator, files: &FileOptions) -> Result<Vec<PathBuf>, CurrentsError> {
    let mut rng = Rng::new(generator.mix().seed);
    let noise = (0..512).flat_map(|_| rng.draw().to_le_bytes()).collect();
    let file_key = generator.file_key(generator.mix().from);
    let mut paths = Vec::new();
    for (at, bytes) in [Vec::new(), noise, b"Obj\x01".to_vec()].into_iter().enumerate() {
        let path = out.join(path(&file_key, files, GARBAGE_PARTITION, at as u64));
        write_file(&path, &bytes).map_err(|source| CurrentsError::Write { path: path.clone(), source })?;
        paths.push(path);
    }
    Ok(paths)
}
