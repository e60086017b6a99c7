//! Content of source files: the format is detected under any name; unsupported formats are errors with a
//! remedy.

use std::io::Write as _;

use crate::support::*;

fn by_id(w: &Workspace, sandbox: &Sandbox, path: &str) {
    let cohort = cohort_entry("carts", "").replace("path: carts.csv", &format!("path: {path}"));
    w.write(
        "sync.yaml",
        config(&sandbox.url, &[], "") + &cohort.replace("external_id: identity", "external_id: id"),
    );
}

/// Checks the members for a file `path` with this content.
#[track_caller]
fn expect_members(path: &str, bytes: &[u8], expected: &[&str]) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    by_id(&w, &sandbox, path);
    w.write(path, bytes);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(expected.iter().map(|id| (*id).to_owned())), "{path}");
}

fn zst(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 0).unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn concatenated_files_may_repeat_the_header_row_and_byte_order_mark() {
    let both = b"\xef\xbb\xbfid,name\nu1,a\n\xef\xbb\xbfid,name\nu2,b\n\xef\xbb\xbf\"id\",\"name\"\nu3,c\n"
        .as_slice();
    expect_members("a.csv", both, &["u1", "u2", "u3"]);
    expect_members("a.tsv", b"id\tname\nu1\ta\nid\tname\nu2\tb\n", &["u1", "u2"]);
    let members = [gzip(b"id\nu1\n"), gzip(b"\xef\xbb\xbfid\nu2\n")].concat();
    expect_members("a.csv.gz", &members, &["u1", "u2"]);
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    by_id(&w, &sandbox, "a.csv");
    w.write("a.csv", both);
    let json = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(json["cohorts"][0]["source"]["rejects"]["repeated_header"], 2, "{json}");
    // It has no member, so it is no reason to block removals.
    w.run(&["reconcile"]).expect(0);
    w.write("a.csv", "id,name\nu1,a\nu2,b\nid,name\n");
    w.run(&["reconcile"]).expect(0).says(&["removed 1"]);
}

#[test]
fn compressed_text_is_read_under_any_name() {
    let text = csv(users(3)).replace("identity", "id");
    let expected = ["user-0", "user-1", "user-2"];
    for (path, bytes) in [
        ("a.csv", gzip(text.as_bytes())),
        ("b.csv", zst(text.as_bytes())),
        ("c.csv.gz", text.clone().into_bytes()),
        ("d.csv.zst", gzip(text.as_bytes())),
        ("e.csv.gz", zst(text.as_bytes())),
    ] {
        expect_members(path, &bytes, &expected);
    }
}

#[test]
fn parquet_and_avro_are_read_under_any_name() {
    for (kind, name) in
        [("parquet/people.snappy.parquet", "a.csv"), ("parquet/people.zstd.parquet", "a.ndjson")]
    {
        let bytes = std::fs::read(root().join("tests").join(kind)).unwrap();
        expect_members(name, &bytes, &["u1", "u4"]);
    }
}

#[test]
fn json_is_read_in_every_layout() {
    let expected = ["u1", "u2", "u3"];
    for (path, text) in [
        ("a.json", "[{\"id\":\"u1\"},{\"id\":\"u2\"},{\"id\":\"u3\"}]"),
        ("b.ndjson", "[\n  {\n    \"id\": \"u1\"\n  },\n  {\"id\":\"u2\"},\n  {\"id\": \"u3\"}\n]\n"),
        ("c.ndjson", "{\"id\":\"u1\"}{\"id\":\"u2\"}{\"id\":\"u3\"}"),
        ("d.jsonl", "{\n  \"id\": \"u1\"\n}\n{\n  \"id\": \"u2\"\n}\n{ \"id\": \"u3\" }\n"),
        ("e.csv", "{\"id\":\"u1\"}\n{\"id\":\"u2\"}\n\u{feff}{\"id\":\"u3\"}\n"),
        ("f.ndjson", "{\"id\":\"u1\"}\r{\"id\":\"u2\"}\r{\"id\":\"u3\"}\r"),
    ] {
        expect_members(path, text.as_bytes(), &expected);
        expect_members(path, &gzip(text.as_bytes()), &expected);
    }
}

#[test]
fn unsupported_formats_are_errors_with_a_remedy() {
    let noise: Vec<u8> = (0u32..2000).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let text = "id\nuser-1\nuser-2\n";
    let csv: &[(&[u8], &str, &str)] = &[
        (
            b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\0\0[Content_Types].xml",
            "an Excel workbook (xlsx)",
            "export it as CSV",
        ),
        (b"PK\x03\x04\x14\0\0\0\x08\0\0\0!\0\0\0people.csv", "a ZIP archive", "unpack it"),
        (b"BZh91AY&SY\x11\x22\x33", "compressed with bzip2", "gzip or zstd"),
        (b"\xfd7zXZ\0\0\x04", "compressed with xz", "gzip or zstd"),
        (&noise, "perhaps compressed with brotli", "unpack or decrypt"),
        (&utf16(text), "UTF-16 and not UTF-8", "iconv"),
        (&[b"\xff\xfe", utf16(text).as_slice()].concat(), "UTF-16 and not UTF-8", "iconv"),
        (b"id\ruser-1\ruser-2\r", "old Mac line ends", "line feeds"),
        (b"<!DOCTYPE html><html><title>Sign in</title>\n", "a web page (HTML)", "login"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "an Excel workbook (xls)", "export it as CSV"),
    ];
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    by_id(&w, &sandbox, "a.csv");
    w.write("a.csv", csv_of_forty());
    w.run(&["reconcile"]).expect(0);
    for (bytes, what, remedy) in csv {
        for bytes in [bytes.to_vec(), gzip(bytes)] {
            w.write("a.csv", bytes);
            let run = w.run(&["reconcile"]).expect(1).says(&[what, remedy, "no member was added or removed"]);
            let said = run.stdout + &run.stderr;
            assert!(!["disk", "credentials", "user-1"].iter().any(|word| said.contains(word)), "{said}");
        }
    }
    w.write("a.csv", gzip(&gzip(text.as_bytes())));
    w.run(&["reconcile"]).expect(1).says(&["compressed twice"]);
    assert_eq!(sandbox.members("carts"), members(users(40)));
    for (source, bytes, what) in [
        ("a.parquet", text.as_bytes(), "a.parquet is text and not Parquet"),
        ("a.avro", text.as_bytes(), "a.avro is text and not Avro"),
        ("a.ndjson", text.as_bytes(), "a.ndjson is not JSON"),
        ("a.csv, format: csv", b"PAR1\x15\x04", "a.csv is Parquet and not CSV"),
        ("a.br, format: csv", &noise, "a.br is compressed with brotli"),
    ] {
        by_id(&w, &sandbox, source);
        w.write(source.split(',').next().unwrap(), bytes);
        w.run(&["reconcile"]).expect(1).says(&[what, "no member was added or removed"]);
    }
    assert_eq!(sandbox.members("carts"), members(users(40)));
}

fn csv_of_forty() -> String {
    csv(users(40)).replace("identity", "id")
}

/// A JSON list in one line is read in constant memory.
#[test]
fn a_long_json_list_in_one_line_is_read() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    by_id(&w, &sandbox, "a.json");
    let mut text = Vec::from(*b"[");
    for n in 0..30_000 {
        write!(
            text,
            "{}{{\"id\":\"user-{n}\",\"more\":\"{}\"}}",
            if n > 0 { "," } else { "" },
            "x".repeat(80)
        )
        .unwrap();
    }
    w.write("a.json", &text);
    w.run(&["plan"]).expect(1).says(&["a.json is truncated: its list is never closed"]);
    text.push(b']');
    w.write("a.json", &text);
    w.run(&["reconcile"]).expect(0).says(&["added 30,000"]);
}
