//! Typed sources: Parquet and Avro files of other programs give the same members as text; values that cannot be
//! identifiers are rejects.

use std::fs;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::support::avro_writer::{Writer, text};
use crate::support::drivers::Driver;
use crate::support::postgres::Postgres;
use crate::support::s3::{S3, S3_KEYS};
use crate::support::*;

/// A config with one cohort that has its external ids in this column.
fn match_column(w: &Workspace, sandbox: &Sandbox, path: &str, column: &str) {
    let text = config(&sandbox.url, &["carts"], "");
    let text =
        text.replace("carts.csv", path).replace("external_id: identity", &format!("external_id: {column}"));
    w.write("sync.yaml", text + "    guard: { max_removed: 100%, max_added: 1000%, max_unreadable: 99, allow: [duplicates] }\n");
}

/// The identifier of each column, or the reason of its reject.
fn each_column(path: &str, columns: &[(&str, Result<&[&str], &str>)]) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("f", fs::read(root().join(path)).unwrap());
    let format = path.rsplit('.').next().unwrap();
    for (column, expected) in columns {
        match_column(&w, &sandbox, &format!("f, format: {format}"), column);
        match expected {
            Ok(ids) => {
                w.run(&["reconcile"]).expect(0);
                let ids = ids.iter().map(|person| (*person).to_owned());
                assert_eq!(sandbox.members("carts"), members(ids), "{column}");
            }
            Err(why) => {
                w.run(&["plan"]).says(&[why]);
            }
        }
    }
}

#[test]
fn every_parquet_type_gives_identifiers_or_rejects() {
    each_column(
        "tests/parquet/kinds.parquet",
        &[
            ("text", Ok(&["a", "ü"])),
            ("coded", Ok(&["a", "b"])),
            ("raw", Ok(&["a", "b"])),
            ("four", Ok(&["aaaa", "bbbb"])),
            ("tiny", Ok(&["-1", "7"])),
            ("small", Ok(&["-2147483648", "7"])),
            ("large", Ok(&["9007199254740993", "-5"])),
            ("unsigned", Ok(&["4294967295", "7"])),
            ("huge", Ok(&["18446744073709551615", "7"])),
            ("uuid", Ok(&["00000000-0000-0001-0000-0000000000ab", "00000000-0000-0002-0000-0000000000ab"])),
            ("whole", Ok(&["12", "7"])),
            ("fraction", Ok(&["12"])),
            ("user.id", Ok(&["a", "b"])),
            ("user.deep.id", Ok(&["1"])),
            ("sure", Ok(&["a", "b", "c"])),
            ("yes", Err("placeholder")),
            ("day", Err("date")),
            ("money", Ok(&["2"])),
            ("list.list.element", Err("list")),
            ("list", Err("list")),
            ("user", Err("object")),
            ("absent", Err("has no column `absent`")),
        ],
    );
}

#[test]
fn every_avro_type_gives_identifiers_or_rejects() {
    each_column(
        "tests/avro/kinds.snappy.avro",
        &[
            ("color", Ok(&["RED", "GREEN"])),
            ("four", Ok(&["4444"])),
            ("small", Ok(&["-1", "2147483647", "-2147483648"])),
            ("large", Ok(&["9223372036854775807", "-9223372036854775808", "9007199254740992"])),
            ("reverse", Ok(&["r"])),
            ("wide", Ok(&["7"])),
            ("map.k0", Err("fraction")),
            ("yes", Err("placeholder")),
            ("day", Err("date")),
            ("list", Err("list")),
            ("point", Err("object")),
            ("point.none", Err("has no column `point.none`")),
            ("absent", Err("has no column `absent`")),
        ],
    );
}

fn as_parquet(ids: &[String]) -> Vec<u8> {
    let schema = parse_message_type("message people { optional binary identity (UTF8); }").unwrap();
    let codec = parquet::basic::Compression::SNAPPY;
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut file = SerializedFileWriter::new(Vec::new(), schema.into(), properties.into()).unwrap();
    for ids in ids.chunks(ids.len().div_ceil(7).max(1)) {
        let mut group = file.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = ids.iter().map(|person| person.as_str().into()).collect();
        let defined = vec![1; values.len()];
        column.typed::<ByteArrayType>().write_batch(&values, Some(&defined), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    file.into_inner().unwrap()
}

fn as_avro(ids: &[String]) -> Vec<u8> {
    let schema = r#"{"type":"record","name":"Person","fields":[{"name":"identity","type":"string"}]}"#;
    let mut file = Writer::new(schema, "deflate");
    for ids in ids.chunks(1000) {
        let mut block = Vec::new();
        ids.iter().for_each(|person| text(&mut block, person));
        file.block(ids.len() as i64, &block);
    }
    file.bytes
}

fn as_ndjson(ids: &[String]) -> Vec<u8> {
    let lines: String = ids.iter().map(|person| format!("{{\"identity\":\"{person}\"}}\n")).collect();
    gzip(lines.as_bytes())
}

fn digest(w: &Workspace) -> String {
    digest_with(w, &[])
}

fn digest_with(w: &Workspace, variables: &[(&str, &str)]) -> String {
    let mut command = w.command(&["plan", "--format", "json"]);
    command.envs(variables.iter().copied());
    run(command).expect(0).json()["digest"].as_str().unwrap().to_owned()
}

/// Users in the cohort, in every format.
const USERS: usize = 1_000_000;

/// A plan does not depend on the format of its source.
#[test]
fn the_same_users_give_the_same_plan_from_every_format() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let ids: Vec<String> = users(USERS).collect();
    w.write("a.csv", csv(ids.iter().cloned()));
    w.write("a.ndjson.gz", as_ndjson(&ids));
    w.write("a.parquet", as_parquet(&ids));
    w.write("a.avro", as_avro(&ids));
    match_column(&w, &sandbox, "a.csv", "identity");
    let expected = digest(&w);
    for path in ["a.ndjson.gz", "a.parquet", "a.avro"] {
        match_column(&w, &sandbox, path, "identity");
        assert_eq!(digest(&w), expected, "{path}");
    }
    if let Some(s3) = S3::start() {
        for path in ["a.csv", "a.ndjson.gz", "a.parquet", "a.avro"] {
            s3.put(path, &fs::read(w.path(path)).unwrap());
            let place = format!("'s3://states/{path}', endpoint: '{}', region: us-east-1", s3.url);
            match_column(&w, &sandbox, &place, "identity");
            assert_eq!(digest_with(&w, &S3_KEYS), expected, "{place}");
        }
    }
    match_column(&w, &sandbox, "a.csv", "identity");
    if let Some(server) = Postgres::start() {
        let last = USERS - 1;
        server.sql(&format!(
            "create table people as select 'user-' || n as identity from generate_series(0, {last}) n"
        ));
        let connection = server.connection("user: owner, tls: off");
        let text = w
            .read("sync.yaml")
            .replace("{ kind: file, path: a.csv }", "{ kind: sql, connection: warehouse, table: people }");
        w.write("sync.yaml", text.replace("cohorts:\n", &format!("{connection}cohorts:\n")));
        assert_eq!(digest(&w), expected, "PostgreSQL");
    }
    for driver in [Driver::sqlite(), Driver::duckdb()].into_iter().flatten() {
        let rows = format!(
            "with recursive n(i) as (select 0 union all select i + 1 from n where i < {}) \
             select 'user-' || i as identity from n",
            USERS - 1
        );
        let file = format!("{}.db", driver.option);
        driver.sql(&w.path(&file), &format!("create table people as {rows}"));
        match_column(&w, &sandbox, "a.csv", "identity");
        let text = w
            .read("sync.yaml")
            .replace("{ kind: file, path: a.csv }", "{ kind: sql, connection: warehouse, table: people }")
            .replace("cohorts:\n", &format!("{}cohorts:\n", driver.connection(&file, "")));
        w.write("sync.yaml", text);
        assert_eq!(digest(&w), expected, "{}", driver.file.display());
    }
}

#[test]
fn a_damaged_or_truncated_file_removes_no_members() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let ids: Vec<String> = users(1000).collect();
    for (name, whole) in [("a.parquet", as_parquet(&ids)), ("a.avro", as_avro(&ids))] {
        match_column(&w, &sandbox, name, "identity");
        w.write(name, &whole);
        w.run(&["reconcile"]).expect(0);
        let mut damaged = whole.clone();
        let middle = whole.len() / 3;
        damaged[middle..middle + 40].fill(0xff);
        for bytes in [
            &whole[..whole.len() - 5],
            &whole[..whole.len() / 2],
            b"".as_slice(),
            b"identity\nuser-1\n",
            &damaged,
        ] {
            w.write(name, bytes);
            let is_other = bytes.is_empty() || bytes.starts_with(b"identity");
            let reason = if is_other { " and not " } else { "cannot be read as" };
            w.run(&["reconcile"]).expect(1).says(&[reason, "was added or removed"]);
            assert_eq!(sandbox.members("carts"), members(users(1000)));
        }
    }
}
