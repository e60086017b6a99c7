//! File sources: every format, and every kind of incomplete file. An incomplete file never shrinks a cohort.

use std::collections::BTreeSet;
use std::io::Write as _;

use crate::support::*;

const ROWS: [&str; 4] = ["u1,c1,d1", ",c2,d2", ",,d3", "u4,,"];

fn expected() -> BTreeSet<String> {
    ["external_id u1", "alias crm:c2", "device_id d3", "external_id u4"].map(str::to_owned).into()
}

fn with_source(w: &Workspace, sandbox: &Sandbox, source: &str) {
    let cohort = format!(
        "  - id: carts
    name: Carts
    to: braze
    source: {source}
    match: [ {{ external_id: id }}, {{ alias: {{ label: crm, name: crm }} }}, {{ device_id: device }} ]
"
    );
    w.write("sync.yaml", config(&sandbox.url, &[], "") + &cohort);
}

#[test]
fn every_format_gives_the_same_members() {
    let csv = format!("id,crm,device,more\n{}\n", ROWS.map(|row| format!("{row},x")).join("\n"));
    let tsv = format!("device\tid\tcrm\n{}\n", "d1\tu1\tc1\nd2\t\tc2\nd3\t\t\n\tu4\t");
    let semicolons = csv.replace(',', ";").replace('\n', "\r\n");
    let ndjson = concat!(
        "{\"id\":\"u1\",\"crm\":\"c1\",\"device\":\"d1\"}\n",
        "{\"crm\":\"c2\",\"device\":\"d2\",\"id\":null}\n",
        "{\"device\":\"d3\",\"deep\":{\"id\":[1]}}\n\n",
        "{\"id\":\"u4\",\"crm\":\"\"}\n",
    );
    let zst = |text: &str| zstd::encode_all(text.as_bytes(), 0).unwrap();
    let cases = [
        ("a.csv", csv.clone().into(), ""),
        ("a.tsv", tsv.into(), ""),
        ("a.ndjson", ndjson.into(), ""),
        ("a.jsonl", ndjson.into(), ""),
        ("a.csv.gz", gzip(csv.as_bytes()), ""),
        ("a.ndjson.zst", zst(ndjson), ""),
        ("a.txt", semicolons.into(), ", format: csv, delimiter: ';'"),
        ("a.CSV", format!("\u{feff}{csv}").into(), ""),
        ("b.csv", csv.trim_end().to_owned().into(), ", final_newline: optional"),
    ];
    let parquet = ["none", "snappy", "gzip", "zstd", "lz4", "pages2"].map(|kind| {
        let bytes = std::fs::read(root().join(format!("tests/parquet/people.{kind}.parquet"))).unwrap();
        ("a.parquet", bytes, "")
    });
    for (name, bytes, more) in cases.into_iter().chain(parquet) {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        with_source(&w, &sandbox, &format!("{{ kind: file, path: {name}{more} }}"));
        w.write(name, bytes);
        w.run(&["reconcile"]).expect(0);
        assert_eq!(sandbox.members("carts"), expected(), "{name}");
    }
}

#[test]
fn a_glob_reads_all_its_files() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    with_source(&w, &sandbox, "{ kind: file, path: 'in/part-*.csv' }");
    for (n, row) in ROWS.iter().enumerate() {
        w.write(&format!("in/part-{n}.csv"), format!("id,crm,device\n{row}\n{}\n", ROWS[0]));
    }
    w.write("in/other.csv", "nothing");
    w.run(&["reconcile"]).expect(0).says(&["4 members"]);
    assert_eq!(sandbox.members("carts"), expected());
}

#[test]
fn values_are_trimmed_and_null_values_are_missing() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    with_source(&w, &sandbox, r#"{ kind: file, path: a.csv, null_values: ["\\N", "(none)"] }"#);
    w.write("a.csv", "id,crm,device\n u1 ,c1,d1\n\\N,c2,d2\n(none),\\N,\td3\nu4,,\n");
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), expected());
}

/// A cohort of forty members; then its file is damaged. No member may leave.
struct Broken {
    w: Workspace,
    sandbox: Sandbox,
}

impl Broken {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        let cohort = cohort_entry("carts", "").replace("carts.csv", name);
        w.write("sync.yaml", config(&sandbox.url, &[], "") + &cohort).write(name, bytes);
        w.run(&["reconcile"]).expect(0);
        assert_eq!(sandbox.members("carts"), members(users(40)));
        Self { w, sandbox }
    }

    #[track_caller]
    fn check(&self, code: i32, says: &[&str]) {
        let before = self.sandbox.requests();
        self.w.run(&["plan"]).expect(code).says(says);
        self.w.run(&["reconcile"]).expect(code).says(says);
        let after = self.sandbox.requests();
        assert_eq!(after["removed"], before["removed"], "no member leaves");
        assert!(self.sandbox.members("carts").is_superset(&members(users(40))));
    }
}

fn forty() -> String {
    csv(users(40))
}

#[test]
fn a_missing_file_removes_no_members() {
    let broken = Broken::new("a.csv", forty().as_bytes());
    std::fs::remove_file(broken.w.path("a.csv")).unwrap();
    broken
        .check(1, &["cannot read a.csv", "No such file", "a source that cannot be read is not an empty one"]);
}

#[test]
fn a_glob_without_matches_removes_no_members() {
    let broken = Broken::new("part-1.csv", forty().as_bytes());
    broken.w.write("sync.yaml", broken.w.read("sync.yaml").replace("part-1.csv", "'nothing-*.csv'"));
    broken.check(1, &["no file matches nothing-*.csv"]);
}

#[test]
fn a_file_without_rows_removes_no_members() {
    let broken = Broken::new("a.csv", forty().as_bytes());
    broken.w.write("a.csv", "identity\n");
    broken.check(
        6,
        &[
            "removals blocked: the source has no members, and all 40 recorded members would leave",
            "allow_empty: true",
        ],
    );
}

#[test]
fn an_empty_file_removes_no_members() {
    let broken = Broken::new("a.csv", forty().as_bytes());
    broken.w.write("a.csv", "");
    broken.check(6, &["removals blocked", "no header row"]);
    // Not even if the same changes were approved for an empty list.
    broken.w.write("a.csv", "identity\n");
    let blocked = broken.w.run(&["plan"]).expect(6).stdout;
    let approve = blocked.split("to approve exactly this plan: syncline ").nth(1).unwrap();
    let words: Vec<&str> = approve.lines().next().unwrap().split(' ').collect();
    broken.w.run(&words).expect(0);
    broken.w.run(&["plan"]).expect(0).says(&["remove 40"]);
    broken.w.write("a.csv", "");
    broken.check(6, &["removals blocked", "no header row"]);
    // Nor if an empty list is allowed.
    let config = broken.w.read("sync.yaml");
    broken.w.write("sync.yaml", config + "    guard: { allow_empty: true }\n");
    broken.check(6, &["no header row"]);
    broken.w.write("a.csv", "identity\n");
    broken.w.run(&["reconcile"]).expect(0).says(&["removed 40"]);
}

#[test]
fn a_file_truncated_in_a_row_removes_no_members() {
    let whole = forty();
    let broken = Broken::new("a.csv", whole.as_bytes());
    broken.w.write("a.csv", &whole[..whole.len() / 2 + 3]);
    broken.check(1, &["a.csv is truncated: it does not end with a line break (line"]);
    // If that is allowed, the percentage of removals still blocks it.
    broken.w.write(
        "sync.yaml",
        broken.w.read("sync.yaml").replace("a.csv }", "a.csv, final_newline: optional }"),
    );
    broken.check(6, &["removals blocked", "guard.max_removed` allows 30%"]);
}

#[test]
fn a_file_truncated_between_rows_is_blocked_by_the_guard() {
    let broken = Broken::new("a.csv", forty().as_bytes());
    broken.w.write("a.csv", csv(users(20)));
    broken.check(6, &["20 of 40 members would leave (50.0%)", "--max-removes carts=20"]);
}

#[test]
fn a_truncated_compressed_file_removes_no_members() {
    let whole = gzip(forty().as_bytes());
    let broken = Broken::new("a.csv.gz", &whole);
    for len in [whole.len() - 1, whole.len() / 2, 5] {
        broken.w.write("a.csv.gz", &whole[..len]);
        broken.check(1, &["a.csv.gz is truncated: the compressed data is incomplete"]);
    }
    broken.w.write("a.csv.gz", "");
    broken.check(1, &["a.csv.gz is truncated: it is empty, without compressed data"]);
    // An uncompressed file is complete under any name.
    broken.w.write("a.csv.gz", forty());
    broken.check(0, &["In sync"]);
    let mut damaged = whole.clone();
    damaged[12..20].fill(0xff);
    broken.w.write("a.csv.gz", damaged);
    broken.check(1, &["a.csv.gz cannot be unpacked"]);

    let whole = zstd::encode_all(forty().as_bytes(), 0).unwrap();
    let broken = Broken::new("a.csv.zst", &whole);
    broken.w.write("a.csv.zst", &whole[..whole.len() / 2]);
    broken.check(1, &["a.csv.zst is truncated: the compressed data is incomplete"]);
}

#[test]
fn a_missing_column_removes_no_members() {
    let broken = Broken::new("a.csv", forty().as_bytes());
    broken.w.write("a.csv", forty().replace("identity", "identty"));
    broken.check(1, &["a.csv has no column `identity`", "Did you mean `identty`?"]);
    broken.w.write("a.csv", forty().replace("identity", "email"));
    broken.check(1, &["It has `email`"]);
    broken.w.write("a.csv", forty().replace("identity", "identity,identity"));
    broken.check(1, &["a.csv has two columns `identity`"]);
}

#[test]
fn an_unreadable_row_blocks_removals_until_it_is_allowed() {
    let broken = Broken::new("a.csv", forty().as_bytes());
    let mut bytes = forty().replace("user-7\n", "user-7,extra\n").replace("user-8\n", "").into_bytes();
    bytes.extend_from_slice(b"M\xfcller\nuser-new\n");
    broken.w.write("a.csv", &bytes);
    broken.check(
        6,
        &[
            "removals blocked: 2 rows could not be read",
            "max_unreadable: 2",
            "1 identifier in invalid UTF-8",
            "1 row with too few or too many fields",
        ],
    );
    assert!(broken.sandbox.members("carts").contains("external_id user-new"), "additions are not blocked");

    let rejects = broken.w.snapshot(".syncline/rejects");
    let text = String::from_utf8(rejects.last().unwrap().1.clone()).unwrap();
    assert!(text.contains(r#"{"reason":"wrong_field_count","detail":"2 fields where the header has 1","file":"a.csv","line":9,"checksum":"#), "{text}");
    assert!(text.contains(r#"{"reason":"not_utf8","file":"a.csv","line":41,"column":"identity""#), "{text}");

    let config = broken.w.read("sync.yaml");
    broken.w.write("sync.yaml", config + "    guard: { max_unreadable: 2 }\n");
    broken.w.run(&["reconcile"]).expect(0).says(&["removed 2"]);
}

#[test]
fn an_unclosed_quote_removes_no_members() {
    let broken = Broken::new("a.csv", forty().as_bytes());
    broken.w.write("a.csv", forty().replace("user-5\n", "\"user-5\n"));
    broken.check(1, &["a.csv is truncated: a quote is never closed (line 7)"]);
    broken.w.write("a.csv", forty().replace("user-5\n", "\"user-5\n").replace("user-9\n", "\"user-9\n"));
    broken.check(1, &["a.csv:7: text after a closing quote"]);
}

#[test]
fn a_file_that_changes_during_the_read_removes_no_members() {
    let broken = Broken::new("a.csv", forty().as_bytes());
    let pipe = broken.w.path("a.csv.gz");
    // A large file that grows during the read, slow enough for the writer to interfere.
    broken.w.write("sync.yaml", broken.w.read("sync.yaml").replace("a.csv }", "big.csv }"));
    broken.w.write("big.csv", csv(users(900_000)));
    let mut child = broken
        .w
        .command(&["plan"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut file = std::fs::File::options().append(true).open(broken.w.path("big.csv")).unwrap();
    while child.try_wait().unwrap().is_none() {
        file.write_all(b"user-late\n").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("big.csv changed while it was read"), "{said}");
    assert!(!pipe.exists());
}

#[test]
fn a_file_outside_the_roots_is_not_read_through_a_link() {
    let (w, sandbox, elsewhere) = (Workspace::new(), Sandbox::start(), Workspace::new());
    elsewhere.write("people.csv", forty());
    std::os::unix::fs::symlink(elsewhere.path("people.csv"), w.path("carts.csv")).unwrap();
    w.config(&sandbox, &["carts"], "");
    w.run(&["reconcile"]).expect(1).says(&["is outside the folders that sources may be read from", "roots:"]);
    let root = elsewhere.path("");
    w.config(&sandbox, &["carts"], &format!("roots: [ {} ]\n", root.display()));
    w.run(&["reconcile"]).expect(0).says(&["added 40"]);
}

#[test]
fn rejected_values_are_counted_by_reason_and_not_sent() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "");
    let rows = ["u1", "[REDACTED]", "NULL", "undefined", "u1", "u2", "", "a\tb"];
    w.write("carts.csv", format!("identity,other\n{},\n{},\n", rows.join(",\n"), "x".repeat(988)));
    let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
    let source = &plan["cohorts"][0]["source"];
    assert_eq!(source["duplicates"], 1);
    let expected =
        serde_json::json!({ "control_character": 1, "no_identifier": 1, "placeholder": 3, "too_long": 1 });
    assert_eq!(source["rejects"], expected);
    w.run(&["reconcile"])
        .expect(0)
        .says(&["6 rows rejected: 1 identifier with a control character, 1 row without an identifier, 3 placeholders instead of an identifier, 1 too long identifier"]);
    assert_eq!(sandbox.members("carts"), members(["u1", "u2"].map(str::to_owned)));
}

#[test]
fn one_unreadable_source_does_not_stop_the_others() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("trials", users(3));
    w.run(&["reconcile"]).expect(1).says(&["carts", "not planned:", "added 3"]);
    assert_eq!(sandbox.members("trials"), members(users(3)));
}
