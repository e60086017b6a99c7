//! A build with default features reports configs that need more.
//!
//! Tests are built with all features, so these run a program that is built before:
//! `SYNCLINE_DEFAULT_BUILD=target/release/syncline cargo test --locked --test it default_build:: -- --ignored`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::*;

#[allow(clippy::disallowed_methods, reason = "the program under test")]
fn default_build(folder: &Path, arguments: &[&str]) -> Command {
    let program = std::env::var("SYNCLINE_DEFAULT_BUILD").expect("SYNCLINE_DEFAULT_BUILD is set");
    let mut command = Command::new(fs::canonicalize(root().join(program)).unwrap());
    command.args(arguments).current_dir(folder);
    command
}

const CONFIG: &str = "version: 1
connections: { braze: { kind: braze, instance: sandbox, partner: heap } }
cohorts:
  - id: carts
    name: Carts
    to: braze
    source: { kind: file, path: carts.csv }
    match: [ { external_id: identity } ]
";

#[test]
#[ignore = "needs a build with default features"]
fn a_missing_feature_is_an_error_with_its_place_and_the_full_build() {
    let database = "connections: { dwh: { kind: postgres, host: h, database: d, user: u }, braze:";
    for (from, to, feature, place) in [
        ("version: 1", "version: 1\nstate: s3://acme/state", "cloud", "sync.yaml:2:8"),
        ("carts.csv", "gs://acme/carts.csv", "cloud", "sync.yaml:7:33"),
        ("carts.csv", "carts.parquet", "warehouse", "sync.yaml:7:33"),
        ("connections: { braze:", database, "warehouse", "sync.yaml:2:29"),
    ] {
        let w = Workspace::new();
        w.write("sync.yaml", CONFIG.replace(from, to));
        for command in ["validate", "plan", "reconcile"] {
            run(default_build(&w.path(""), &[command])).expect(3).says(&[
                "error[missing-feature]",
                &format!("needs the feature `{feature}`"),
                place,
                "cargo install --locked --path . --features full",
            ]);
        }
    }
}

#[test]
#[ignore = "needs a build with default features"]
fn parquet_in_a_file_with_another_name_is_an_error_too() {
    let w = Workspace::new();
    w.write("sync.yaml", CONFIG).write("carts.csv", include_bytes!("parquet/kinds.parquet"));
    let texts = ["carts.csv", "a Parquet file needs the feature `warehouse`", "--features full"];
    run(default_build(&w.path(""), &["plan"])).expect(1).says(&texts);
}

#[test]
#[ignore = "needs a build with default features"]
fn spans_for_a_collector_are_reported_as_missing() {
    let w = Workspace::new();
    w.write("sync.yaml", CONFIG).write("carts.csv", "identity\nu1\n");
    let mut command = default_build(&w.path(""), &["plan"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    run(command).expect(0).says(&["spans are not sent: a collector needs the feature `otlp`"]);
}
