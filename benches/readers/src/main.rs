//! Compares our readers with crates that read the same bytes: CPU seconds, medians of five, and how often the crate's
//! time fits. Each pair must return the same checksum.
//!
//! `cargo run --release -p syncline-readers -- 1000000`, with the number of rows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that fails panics")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "it prints results and reads arguments")]

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use apache_avro::types::{Record, Value};
use apache_avro::{Reader, Schema, Writer};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use syncline::config::FileSource;
use syncline::connector::avro::{AvroBlock, AvroBlocks, AvroHeader, AvroLimits};
use syncline::connector::file::{FileAccess, read};
use syncline::connector::rows::{RowLocation, RowSink, SinkStopped, UnreadableRow};
use syncline::event_mapping::pieces;
use syncline::model::{AvroRecord as _, AvroValue, Fields};

const ROUNDS: usize = 5;
/// Events in a request body.
const BODY_LEN: usize = 100;
const AVRO_SCHEMA: &str = r#"{"type":"record","name":"Open","namespace":"users.messages.email","fields":[
    {"name":"id","type":"string"},
    {"name":"user_id","type":"string"},
    {"name":"external_user_id","type":["null","string"]},
    {"name":"time","type":"int"},
    {"name":"timezone","type":["null","string"]},
    {"name":"campaign_id","type":["null","string"]},
    {"name":"campaign_name","type":["null","string"]},
    {"name":"dispatch_id","type":["null","string"]},
    {"name":"machine_open","type":["null","boolean"]}
]}"#;

fn main() {
    let rows = std::env::args().nth(1).map_or(1_000_000, |rows| rows.parse().unwrap());
    println!("{rows} rows, CPU seconds, medians of {ROUNDS}\n");
    println!("{:24} {:>8} {:>12} {:>8}", "", "ours", "crate", "ratio");
    let home = tempfile::tempdir().unwrap();
    for (name, quote) in [("CSV", ""), ("CSV, quoted", "\"")] {
        fs::write(home.path().join("rows.csv"), csv_text(rows, quote)).unwrap();
        compare(name, "csv", || csv_ours(home.path()), || csv_crate(home.path()));
    }
    let bodies = bodies(rows);
    compare("JSON, split into events", "serde_json", || json_ours(&bodies), || json_crate(&bodies));
    let avro = avro_file(rows);
    compare("Avro, uncompressed", "apache-avro", || avro_ours(&avro), || avro_crate(&avro));
}

/// Runs both in turn, so that a change of the machine's speed meets both.
fn compare(name: &str, crate_name: &str, ours: impl Fn() -> u64, theirs: impl Fn() -> u64) {
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (sum, seconds) = timed(&ours);
        own.push(seconds);
        let (expected, seconds) = timed(&theirs);
        other.push(seconds);
        assert_eq!(sum, expected, "{name}");
    }
    let (own, other) = (median(own), median(other));
    println!("{name:24} {own:8.3} {other:8.3} {:>3} {:8.2}  {crate_name}", "", other / own);
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[ROUNDS / 2]
}

fn timed(work: impl Fn() -> u64) -> (u64, f64) {
    let before = cpu();
    let sum = black_box(work());
    (sum, cpu() - before)
}

#[allow(clippy::cast_precision_loss, reason = "printed figures may be rounded")]
fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}

fn id(row: usize) -> String {
    format!("{:08x}-77aa-4b1d-9c1e-{:012x}", row.wrapping_mul(2_654_435_761) & 0xffff_ffff, row)
}

fn csv_text(rows: usize, quote: &str) -> String {
    let mut text = "identity,device,plan,city,amount\n".to_owned();
    for row in 0..rows {
        writeln!(text, "{quote}{}{quote},d-{row},trial,{quote}Berlin{quote},{}.50", id(row), row % 900)
            .unwrap();
    }
    text
}

/// The lengths of the requested fields.
#[derive(Default)]
struct Lengths(u64);

impl RowSink for Lengths {
    fn row(&mut self, fields: &impl Fields, _: RowLocation<'_>) -> Result<(), SinkStopped> {
        for at in 0..2 {
            self.0 += fields.field(at).text().unwrap_or_default().len() as u64;
        }
        Ok(())
    }

    fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        panic!("{row:?}")
    }
}

fn csv_ours(home: &Path) -> u64 {
    let source = FileSource::new("rows.csv".to_owned());
    let columns = ["identity", "device"].map(Into::into);
    let mut sink = Lengths::default();
    let access = FileAccess { folder: home, roots: &[home.to_owned()], stores: &[] };
    read(&source, access, &columns, &mut sink).unwrap();
    sink.0
}

fn csv_crate(home: &Path) -> u64 {
    let mut reader = csv::Reader::from_path(home.join("rows.csv")).unwrap();
    let (mut record, mut sum) = (csv::ByteRecord::new(), 0);
    while reader.read_byte_record(&mut record).unwrap() {
        sum += (record[0].len() + record[1].len()) as u64;
    }
    sum
}

/// Request bodies as Braze posts them.
fn bodies(events: usize) -> Vec<String> {
    let event = |row: usize| {
        format!(
            r#"{{"id":"{}","name":"users.messages.email.Open","time":{},"user":{{"user_id":"{}","external_user_id":"user-{row}"}},"properties":{{"campaign_id":"c{}","campaign_name":"Spring \"sale\"","machine_open":false,"link":null,"message_extras":[1,2.5,"x"]}}}}"#,
            id(row),
            1_700_000_000 + row,
            id(row + 1),
            row % 40,
        )
    };
    let body = |start: usize| {
        let end = (start + BODY_LEN).min(events);
        format!("{{\"events\":[{}]}}", (start..end).map(event).collect::<Vec<_>>().join(","))
    };
    (0..events).step_by(BODY_LEN).map(body).collect()
}

fn json_ours(bodies: &[String]) -> u64 {
    let lengths =
        |body: &String| pieces(body.as_bytes()).unwrap().iter().map(|piece| piece.len() as u64).sum::<u64>();
    bodies.iter().map(lengths).sum()
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

fn json_crate(bodies: &[String]) -> u64 {
    let lengths = |body: &String| {
        let body: Body<'_> = serde_json::from_slice(body.as_bytes()).unwrap();
        body.events.iter().map(|event| event.get().len() as u64).sum::<u64>()
    };
    bodies.iter().map(lengths).sum()
}

fn avro_file(rows: usize) -> Vec<u8> {
    let schema = Schema::parse_str(AVRO_SCHEMA).unwrap();
    let mut writer = Writer::new(&schema, Vec::new());
    let some = |at: u32, value: Value| Value::Union(at, Box::new(value));
    for row in 0..rows {
        let mut record = Record::new(&schema).unwrap();
        record.put("id", id(row));
        record.put("user_id", id(row + 1));
        record.put("external_user_id", some(1, Value::String(format!("user-{row}"))));
        record.put("time", 1_700_000_000 + i32::try_from(row).unwrap());
        record.put("timezone", some(0, Value::Null));
        record.put("campaign_id", some(1, Value::String(format!("c{}", row % 40))));
        record.put("campaign_name", some(1, Value::String("Spring sale".to_owned())));
        record.put("dispatch_id", some(0, Value::Null));
        record.put("machine_open", some(1, Value::Boolean(false)));
        writer.append(record).unwrap();
    }
    writer.into_inner().unwrap()
}

fn avro_ours(file: &[u8]) -> u64 {
    let (mut rest, limits) = (file, AvroLimits::default());
    let header = AvroHeader::read(&mut rest, &limits).unwrap();
    let mut blocks = AvroBlocks::new(rest, &header, header.len(), &limits);
    let (mut block, mut sum) = (AvroBlock::default(), 0);
    let fields = header.schema.fields().len();
    while blocks.advance(&mut block).unwrap() {
        let mut records = block.records(&header.schema);
        while let Some(row) = records.advance().unwrap() {
            sum += (0..fields).map(|at| length(row.datum(at))).sum::<u64>();
        }
    }
    sum
}

fn length(value: AvroValue<'_>) -> u64 {
    match value {
        AvroValue::Text(text) => text.len() as u64,
        AvroValue::Int(_) => 8,
        AvroValue::Bool(_) => 1,
        AvroValue::Null => 0,
        other => panic!("{other:?}"),
    }
}

fn avro_crate(file: &[u8]) -> u64 {
    let length = |value: &Value| match value {
        Value::String(text) => text.len() as u64,
        Value::Int(_) => 8,
        Value::Boolean(_) => 1,
        Value::Null => 0,
        other => panic!("{other:?}"),
    };
    let record = |value: apache_avro::AvroResult<Value>| match value.unwrap() {
        Value::Record(fields) => {
            let unpacked = |value: &Value| {
                if let Value::Union(_, inner) = value { length(inner) } else { length(value) }
            };
            fields.iter().map(|(_, value)| unpacked(value)).sum::<u64>()
        }
        other => panic!("{other:?}"),
    };
    Reader::new(file).unwrap().map(record).sum()
}
