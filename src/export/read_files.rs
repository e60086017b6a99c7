//! Reading of Currents' Avro files into batches, block by block.
//!
//! # Guarantees
//! An unreadable file stops no other. An incomplete file is resumed by a later run, and rejected after
//! `incomplete_after`. A damaged file is rejected with its reason. A file that the store fails to return is not
//! rejected: the next run requests it again.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::batch::BatchOutput;
use super::discover_files::age;
use super::dispatch::{EventDispatch, EventLocation, FeedEnd, TimeRange};
use super::ledger::{BlockOrigin, ExportLedger, FileRemainder, locked};
use super::stop::ExportStop;
use crate::connector::avro::{
    AvroBlock, AvroBlocks, AvroError, AvroHeader, AvroLimits, AvroProblem, AvroRow, MARK_LEN,
};
use crate::connector::currents::{EventFile, Storage, type_from_path, type_from_schema};
use crate::event_mapping::{EventLayout, EventMapper, MappingContext, MappingRules};
use crate::foreign::{shown_path, without_addresses};
use crate::model::{AvroRecord as _, AvroValue, Clock};
use crate::state::{PartialFile, Reject};

/// After so many files in a row that the store fails to return, the run stops.
const FAILURES_MAX: usize = 5;

/// What reading files needs.
pub(super) struct FileReading<'a> {
    pub(super) storage: &'a Storage,
    pub(super) rules: &'a MappingRules,
    pub(super) ledger: &'a Mutex<ExportLedger>,
    pub(super) dispatch: &'a EventDispatch<'a>,
    pub(super) clock: Clock,
    pub(super) incomplete_after: Duration,
    pub(super) span: TimeRange,
    /// A replay: files are read from their start, and the progress does not change.
    pub(super) again: bool,
}

/// How reading a file ended.
enum ReadEnd {
    /// At its end.
    Whole,
    /// Too early, at this byte.
    Cut(u64),
    /// At a fault that makes the rest unusable.
    Bad,
    /// The store failed to return it.
    Unread(String),
}

/// Reads files in order and dispatches their events.
pub(super) fn feed(
    objects: Vec<EventFile>,
    reading: &FileReading<'_>,
    out: &mut BatchOutput,
) -> Result<(), FeedEnd> {
    let mut failures = 0;
    for object in objects {
        out.check()?;
        let object = Arc::new(object);
        let part = locked(reading.ledger).record.parts.get(&*object.path).filter(|_| !reading.again).cloned();
        let whole =
            if reading.again { BlockOrigin::Nothing } else { BlockOrigin::Object(Arc::clone(&object)) };
        let mut file = OpenEventFile { reading, object: &object, whole, line: 0 };
        let ended = file.read(part.as_ref(), out)?;
        reading.dispatch.flush()?;
        match ended {
            ReadEnd::Whole | ReadEnd::Bad => file.close(object.len, FileRemainder::None),
            ReadEnd::Cut(_) if reading.again => file.close(object.len, FileRemainder::None),
            ReadEnd::Cut(offset) => file.cut(offset, part.and_then(|part| part.truncated_since))?,
            ReadEnd::Unread(what) => {
                let mut ledger = locked(reading.ledger);
                tracing::warn!("{what}");
                ledger.tally.unread.push(what.clone());
                failures += 1;
                if failures == FAILURES_MAX {
                    return Err(FeedEnd::Stopped(ExportStop::Source(what)));
                }
                continue;
            }
        }
        failures = 0;
    }
    Ok(())
}

/// The file that is being read.
struct OpenEventFile<'a> {
    reading: &'a FileReading<'a>,
    object: &'a Arc<EventFile>,
    whole: BlockOrigin,
    /// The number of records read.
    line: u64,
}

impl OpenEventFile<'_> {
    fn read(&mut self, part: Option<&PartialFile>, out: &mut BatchOutput) -> Result<ReadEnd, FeedEnd> {
        let limits = AvroLimits::default();
        let mut front = match self.reading.storage.read(self.object, 0) {
            Ok(front) => front,
            Err(error) => return Ok(ReadEnd::Unread(error.to_string())),
        };
        let header = match AvroHeader::read(&mut front, &limits) {
            Ok(header) => header,
            Err(error) => return self.failed(&error, 0),
        };
        let event_type = type_from_path(&self.object.path).or_else(|| type_from_schema(header.schema.name()));
        let Some(event_type) = event_type.map(str::to_owned) else {
            self.reject("no_event_type", "neither the path nor the schema's name has an event type")?;
            return Ok(ReadEnd::Bad);
        };
        let layout = self.reading.rules.layout(&event_type, &header.schema.fields());
        let offset = part.map_or(0, |part| part.offset);
        let resumed = if offset > header.len() { self.resumed(&header, offset) } else { Ok(None) };
        match resumed {
            Ok(Some(rest)) => self.blocks(rest, &header, &layout, offset, out),
            Ok(None) => self.blocks(front, &header, &layout, header.len(), out),
            Err(error) => Ok(ReadEnd::Unread(error.to_string())),
        }
    }

    /// The file from `offset` on, if a block ends there. Otherwise the file was replaced and is read from its start.
    fn resumed(&self, header: &AvroHeader, offset: u64) -> std::io::Result<Option<Box<dyn Read + Send>>> {
        let mut mark = [0; MARK_LEN];
        let from = self.reading.storage.read(self.object, offset - MARK_LEN as u64);
        let mut rest = from.map_err(std::io::Error::other)?;
        match rest.read_exact(&mut mark) {
            Ok(()) => Ok((mark == *header.mark()).then_some(rest)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn blocks(
        &mut self,
        read: Box<dyn Read + Send>,
        header: &AvroHeader,
        layout: &EventLayout,
        start: u64,
        out: &mut BatchOutput,
    ) -> Result<ReadEnd, FeedEnd> {
        let limits = AvroLimits::default();
        let (mut blocks, mut block) = (AvroBlocks::new(read, header, start, &limits), AvroBlock::default());
        let mut mapper = EventMapper::new(self.reading.rules);
        loop {
            let position = blocks.position();
            out.check()?;
            match blocks.advance(&mut block) {
                Ok(true) => self.block(&block, header, layout, &mut mapper, blocks.position(), out)?,
                Ok(false) => return Ok(ReadEnd::Whole),
                Err(error) if error.is_of_one_block() => {
                    self.reject(reject_reason(&error), &error.to_string())?;
                }
                Err(error) => return self.failed(&error, position),
            }
        }
    }

    fn block(
        &mut self,
        block: &AvroBlock,
        header: &AvroHeader,
        layout: &EventLayout,
        mapper: &mut EventMapper<'_>,
        end: u64,
        out: &mut BatchOutput,
    ) -> Result<(), FeedEnd> {
        let FileReading { ledger, dispatch, clock, span, .. } = self.reading;
        let number = locked(ledger).open_block(&self.whole);
        let origin = super::batch::BatchOrigin::Block(number);
        let context = MappingContext { now: clock.now(), owners: &dispatch.known };
        let fields = header.schema.fields();
        let time = fields.iter().position(|field| *field == "time");
        let mut records = block.records(&header.schema);
        let mut sent = 0;
        loop {
            let row = match records.advance() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(error) => {
                    self.reject(reject_reason(&error), &error.to_string())?;
                    break;
                }
            };
            self.line += 1;
            if !span.is_endless() && !span.holds(time.and_then(|at| seconds(row.datum(at)))) {
                dispatch.skip_out_of_range();
                continue;
            }
            let mapped = mapper.record(layout, &row, context, out.begin());
            let event = || in_full(layout.event_type(), &fields, &row);
            let location = EventLocation {
                event_type: layout.event_type(),
                file: Some(&self.object.path),
                line: self.line,
                event: &event,
            };
            sent += u64::from(dispatch.take(mapped, &location, origin, out)?);
        }
        dispatch.flush()?;
        locked(ledger).close_block(number, end, sent, FileRemainder::Open);
        Ok(())
    }

    fn failed(&mut self, error: &AvroError, position: u64) -> Result<ReadEnd, FeedEnd> {
        if let AvroProblem::Io(source) = &error.problem {
            let path = self.reading.storage.at(&self.object.path);
            let source = without_addresses(&source.to_string());
            return Ok(ReadEnd::Unread(format!("cannot read {}: {source}", shown_path(&path))));
        }
        if error.is_truncated() {
            return Ok(ReadEnd::Cut(position));
        }
        self.reject(reject_reason(error), &error.to_string())?;
        Ok(ReadEnd::Bad)
    }

    /// Ends the reading of the file in this run. It settles after all blocks before it.
    fn close(&self, end: u64, rest: FileRemainder) {
        let mut ledger = locked(self.reading.ledger);
        let number = ledger.open_block(&self.whole);
        ledger.close_block(number, end, 0, rest);
    }

    /// Records that the file is incomplete, or rejects it when its rest is overdue.
    fn cut(&mut self, offset: u64, since: Option<crate::model::Timestamp>) -> Result<(), FeedEnd> {
        let now = self.reading.clock.now();
        let since = since.unwrap_or(now);
        if age(since, now) >= self.reading.incomplete_after {
            let detail = format!("the file ends within a block at byte {offset}, and its rest never arrived");
            self.reject("truncated", &detail)?;
            self.close(self.object.len, FileRemainder::None);
            return Ok(());
        }
        let path = without_addresses(&self.object.path);
        tracing::info!("{path} is incomplete; the next run reads its rest");
        locked(self.reading.ledger).tally.cut += 1;
        self.close(offset, FileRemainder::Missing(since));
        Ok(())
    }

    fn reject(&self, reason: &str, detail: &str) -> Result<(), FeedEnd> {
        let file = Some(&*self.object.path);
        let reject = Reject { reason, detail, file, line: Some(self.line), ..Reject::default() };
        Ok(locked(self.reading.ledger).reject(&reject)?)
    }
}

/// The reject reason of an Avro error.
fn reject_reason(error: &AvroError) -> &'static str {
    match &error.problem {
        AvroProblem::Truncated => "truncated",
        AvroProblem::NotAvro => "not_avro",
        AvroProblem::Schema(_) => "unusable_schema",
        AvroProblem::Codec(_) => "unknown_codec",
        AvroProblem::TooLarge { .. } => "too_large",
        AvroProblem::Damaged(_) | AvroProblem::Unpacking { .. } | AvroProblem::Checksum => "damaged",
        AvroProblem::Record { .. } => "unreadable_record",
        AvroProblem::Io(_) => "unreadable",
    }
}

fn seconds(datum: AvroValue<'_>) -> Option<i64> {
    match datum {
        AvroValue::Int(second) => Some(second),
        _ => None,
    }
}

/// A record as a flat JSON event, in the form of Currents over HTTP.
fn in_full(event_type: &str, fields: &[&str], row: &AvroRow<'_>) -> String {
    use serde_json::Value;
    let mut event = serde_json::Map::new();
    event.insert("event_type".to_owned(), event_type.into());
    for (at, field) in fields.iter().enumerate() {
        let value = match row.datum(at) {
            AvroValue::Null => continue,
            AvroValue::Bool(value) => value.into(),
            AvroValue::Int(value) => value.into(),
            // The shortest decimal of the 32-bit value, not of a double.
            AvroValue::Float(value) => value.to_string().parse::<f64>().map_or(Value::Null, Value::from),
            AvroValue::Double(value) => value.into(),
            AvroValue::Text(bytes) | AvroValue::Moment(_, bytes) => String::from_utf8_lossy(bytes).into(),
            AvroValue::Decimal(json) | AvroValue::Json(json) => {
                serde_json::from_slice(json).unwrap_or_default()
            }
        };
        event.insert((*field).to_owned(), value);
    }
    Value::Object(event).to_string()
}
