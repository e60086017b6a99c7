//! Benchmark of exports: decoding a file of a million events and mapping them to Heap's events.
//!
//! The benchmark generates the file deterministically: events like `users.messages.email.Open`, 17 fields,
//! snappy. It reports medians of five. It also maps the same events from HTTP bodies of 100. If Python has
//! `fastavro`, `cramjam` and `orjson`, it reads the same file in the same run. Then the program sends the file
//! to the sandbox, which accepts every event as Heap, and clients post events to an endpoint of `watch`.
//!
//! `cargo bench --bench export`, or with a number of events: `cargo bench --bench export -- 100000`. With
//! `--faults 500000`, Heap fails and the program is killed, and Heap must have each event exactly once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that fails panics")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "it prints its results and reads its arguments; printed figures may be rounded"
)]

#[path = "support/avro.rs"]
mod avro;
#[path = "support/events.rs"]
mod events;
#[path = "support/flow.rs"]
mod flow;
#[path = "support/measure.rs"]
mod measure;

use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use measure::{Cost, heading, measure, measure_child, report, rounds};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use syncline::connector::avro::{AvroBlock, AvroBlocks, AvroHeader, AvroLimits, AvroRow};
use syncline::event_mapping::{
    EventMapper, MappingContext, MappingOutcome, MappingRules, MappingSettings, Pii, pieces,
};
use syncline::model::{AvroRecord as _, AvroValue, Timestamp};

const EVENTS: u64 = 1_000_000;
const BATCH_LEN: usize = 1000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--measure", command @ ..] => {
            measure_child(&command.iter().map(|&part| part.to_owned()).collect::<Vec<_>>());
        }
        ["--make", path, events] => fs::write(path, events::file(events.parse().unwrap(), "snappy")).unwrap(),
        ["--run", mode, path, events] => run(mode, Path::new(path), events.parse().unwrap()),
        ["--faults", events] => flow::faults(events.parse().unwrap()),
        [] => all(EVENTS),
        [events] => all(events.parse().unwrap()),
        _ => panic!("{args:?}"),
    }
}

fn all(events: u64) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("open.avro");
    // Generated in another process, so that the measured memory is that of reading.
    let make = ["--make", path.to_str().unwrap(), &events.to_string()].map(str::to_owned);
    assert!(Command::new(std::env::current_exe().unwrap()).args(make).status().unwrap().success());
    let bytes = path.metadata().unwrap().len();
    println!("{events} events of 17 fields, {bytes} bytes in snappy, one thread\n");
    heading();
    let measure_mode = |mode| {
        let exe = std::env::current_exe().unwrap();
        let args = ["--run", mode, path.to_str().unwrap(), &events.to_string()];
        rounds(|| measure(home.path(), exe.to_str().unwrap(), &args, "read"))
    };
    let (decode, mapped) = (measure_mode("decode"), measure_mode("map"));
    report("decode", decode);
    report("decode, map, encode", mapped);
    report("the same without personal fields", measure_mode("map-less"));
    let bodies = events::bodies(events / 10, 100);
    let http = rounds(|| cpu_of(|| map_http(&bodies, events / 10)));
    println!(
        "{:34} {:8.0} events a CPU second",
        "HTTP bodies of 100, split and map",
        (events / 10) as f64 / http.cpu
    );
    flow::send(&path, events);
    flow::endpoint(events / 4);
    python(home.path(), [decode, mapped]);
}

/// Work that is measured in a process of its own.
fn run(mode: &str, path: &Path, events: u64) {
    match mode {
        "decode" => decode(path, events),
        "map" => map(path, events, &keep()),
        "map-less" => map(path, events, &MappingSettings::default()),
        other => panic!("{other}"),
    }
    println!("read {events}");
}

fn keep() -> MappingSettings {
    MappingSettings { pii: Pii::Keep, ..MappingSettings::default() }
}

/// Measures Python with the same file, if its packages are installed.
fn python(home: &Path, ours: [Cost; 2]) {
    let has_all = Command::new("python3").args(["-c", "import fastavro, cramjam, orjson"]).output();
    if !has_all.is_ok_and(|output| output.status.success()) {
        println!("fastavro: not installed");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/export_yardstick.py");
    for (mode, ours) in ["decode", "map"].into_iter().zip(ours) {
        let theirs = measure(home, "python3", &[script, "open.avro", mode], "records");
        report(&format!("fastavro: {mode}"), theirs);
        println!("{:34} {:8.1} times ours", "", theirs.cpu / ours.cpu);
    }
}

/// CPU seconds of `work` in this process.
fn cpu_of(work: impl FnOnce()) -> Cost {
    let cpu = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    };
    let before = cpu();
    work();
    Cost { cpu: cpu() - before, wall: 0.0, mebibytes: 0.0 }
}

fn read(path: &Path, mut on_row: impl FnMut(&AvroRow<'_>)) -> u64 {
    let (mut file, limits) = (File::open(path).unwrap(), AvroLimits::default());
    let header = AvroHeader::read(&mut file, &limits).unwrap();
    let (mut blocks, mut block) =
        (AvroBlocks::new(file, &header, header.len(), &limits), AvroBlock::default());
    let mut read = 0;
    while blocks.advance(&mut block).unwrap() {
        let mut records = block.records(&header.schema);
        while let Some(row) = records.advance().unwrap() {
            on_row(&row);
        }
        read += records.read();
    }
    read
}

fn decode(path: &Path, events: u64) {
    let mut bytes = 0;
    let read = read(path, |row| {
        for at in 0..row.len() {
            if let AvroValue::Text(text) = row.datum(at) {
                bytes += text.len();
            }
        }
    });
    assert!(black_box(bytes) > 0 && read == events);
}

fn context() -> MappingContext<'static> {
    MappingContext { now: Timestamp::from_second(1_800_000_000).unwrap(), owners: &() }
}

fn map(path: &Path, events: u64, settings: &MappingSettings) {
    let rules = MappingRules::new(settings).unwrap();
    let layout = rules.layout("users.messages.email.Open", &events::FIELDS.map(|(name, _)| name));
    let (mut mapper, mut out, mut mapped, mut batch) = (EventMapper::new(&rules), Vec::new(), 0, 0);
    let read = read(path, |row| {
        if let MappingOutcome::Made { .. } = mapper.record(&layout, row, context(), &mut out).outcome {
            mapped += 1;
        }
        batch += 1;
        if batch == BATCH_LEN {
            black_box(&out);
            out.clear();
            batch = 0;
        }
    });
    assert!(read == events && mapped > events * 9 / 10);
}

fn map_http(bodies: &[Vec<u8>], events: u64) {
    let rules = MappingRules::new(&keep()).unwrap();
    let (mut mapper, mut out, mut mapped) = (EventMapper::new(&rules), Vec::new(), 0);
    for body in bodies {
        out.clear();
        for event in pieces(body).unwrap() {
            if let MappingOutcome::Made { .. } = mapper.http(event, context(), &mut out).outcome {
                mapped += 1;
            }
        }
        black_box(&out);
    }
    assert!(mapped > events * 9 / 10);
}
