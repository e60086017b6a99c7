//! Manifest of a dump: its tables and their files. Source: Heap Connect, S3 specification.
//!
//! ```text
//! { "dump_id": 1234, "tables": [ { "name", "files": [ … ], "columns": [ … ], "incremental": true } ] }
//! ```
//!
//! Files are named by their address in Heap's own bucket. Only the part from `sync_<dump_id>/` on is used, so that a copy
//! of the bucket can be read.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::DumpError;
use crate::foreign::json_error;

/// The content of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The dump id.
    pub dump: u64,
    /// Its tables.
    pub tables: Vec<DumpTable>,
}

/// A table in a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpTable {
    /// Its name.
    pub name: String,
    /// Whether it has only new and changed rows.
    pub is_incremental: bool,
    /// Its columns by the manifest; the schemas of the files take precedence.
    pub columns: Vec<String>,
    /// Its files by part number.
    pub files: Vec<DumpFile>,
}

/// A file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpFile {
    /// The address in the manifest.
    pub address: String,
    /// The path below the bucket.
    pub path: String,
}

#[derive(Deserialize)]
struct ManifestJson {
    dump_id: Value,
    tables: Vec<TableShape>,
}

#[derive(Deserialize)]
struct TableShape {
    name: String,
    files: Vec<String>,
    #[serde(default)]
    columns: Vec<String>,
    incremental: bool,
}

impl Manifest {
    /// The table with this name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&DumpTable> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Parses the manifest of a dump. `dump` is the number in its file name.
    pub(super) fn parse(text: &[u8], dump: u64, path: &Path) -> Result<Self, DumpError> {
        let damaged = |what: String| DumpError::Manifest { path: path.to_owned(), what };
        let shape: ManifestJson =
            serde_json::from_slice(text).map_err(|error| damaged(json_error(&error)))?;
        if number(&shape.dump_id) != Some(dump) {
            return Err(damaged(format!("`dump_id` is {}", shape.dump_id)));
        }
        let mut tables: Vec<DumpTable> = Vec::with_capacity(shape.tables.len());
        for found in shape.tables {
            if tables.iter().any(|table| table.name == found.name) {
                return Err(damaged(format!("the table `{}` is listed twice", found.name)));
            }
            tables.push(table(found, dump).map_err(damaged)?);
        }
        Ok(Self { dump, tables })
    }
}

fn number(id: &Value) -> Option<u64> {
    id.as_u64().or_else(|| id.as_str()?.parse().ok())
}

fn table(shape: TableShape, dump: u64) -> Result<DumpTable, String> {
    let TableShape { name, files: addresses, columns, incremental: is_incremental } = shape;
    let mut files: Vec<DumpFile> = Vec::with_capacity(addresses.len());
    for address in addresses {
        let path = below_bucket(&address, dump)
            .ok_or_else(|| format!("the table `{name}` has the file {address}, which belongs to no dump"))?;
        files.push(DumpFile { address, path });
    }
    // Files without a number keep their order, behind the others.
    files.sort_by_key(|file| part(&file.path).unwrap_or(u64::MAX));
    let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    paths.sort_unstable();
    match paths.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("the table `{name}` has the file {} twice", pair[0])),
        None => Ok(DumpTable { name, is_incremental, columns, files }),
    }
}

/// The path of a file from `sync_<dump_id>/` on; `None` if it leaves the bucket.
fn below_bucket(address: &str, dump: u64) -> Option<String> {
    let path = address.split_once("://").map_or(address, |(_, rest)| rest);
    let parts: Vec<&str> = path.split('/').collect();
    let own = |part: &&str| dump_of(part, "") == Some(dump);
    let any = |part: &&str| dump_of(part, "").is_some();
    // The dump's own folder, or another dump's, anywhere in the address.
    let at = parts.iter().position(own).or_else(|| parts.iter().position(any))?;
    let below = &parts[at..];
    let is_plain = |part: &&str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']);
    (below.len() > 1 && below.iter().all(is_plain)).then(|| below.join("/"))
}

/// The number in `sync_<number>` followed by `suffix`.
pub(super) fn dump_of(name: &str, suffix: &str) -> Option<u64> {
    digits(name.strip_prefix("sync_")?.strip_suffix(suffix)?)
}

/// The part number of a file such as `part-00012-<guid>-c000.avro`.
fn part(path: &str) -> Option<u64> {
    let name = path.rsplit('/').next()?.strip_prefix("part-")?;
    digits(name.split(['-', '.']).next()?)
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Result<Manifest, String> {
        Manifest::parse(text.as_bytes(), 12, Path::new("m")).map_err(|error| error.to_string())
    }

    fn with(tables: &str) -> String {
        format!(r#"{{"dump_id":12,"tables":[{tables}],"property_definitions":"s3://b/sync_12/p.json"}}"#)
    }

    #[test]
    fn files_are_sorted_by_number_and_relative_to_the_dump() {
        let files = r#""s3://b/sync_12/users/part-00010-a-c000.avro","s3://b/sync_12/users/x.avro","s3://b/deep/sync_12/users/part-9-b.avro","/copy/sync_11/users/part-100000.avro""#;
        let text = with(&format!(r#"{{"name":"users","files":[{files}],"incremental":true}}"#));
        let table = &manifest(&text).unwrap().tables[0];
        let paths: Vec<&str> = table.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "sync_12/users/part-9-b.avro",
                "sync_12/users/part-00010-a-c000.avro",
                "sync_11/users/part-100000.avro",
                "sync_12/users/x.avro",
            ]
        );
        assert!(table.is_incremental && table.columns.is_empty());
    }

    #[test]
    fn a_file_outside_of_the_dumps_is_an_error() {
        for path in [
            "s3://b/users/a.avro",
            "s3://b/sync_12/../../x",
            "s3://b/sync_12",
            "s3://b/sync_12//x",
            "sync_a/x",
            "s3://b/sync_12/.hidden",
            "s3://b/sync_+12/x",
        ] {
            assert_eq!(below_bucket(path, 12), None, "{path}");
        }
        assert_eq!(below_bucket("s3://b/sync_3/sync_12/u/a", 12).as_deref(), Some("sync_12/u/a"));
    }

    #[test]
    fn faults_of_a_manifest_are_named() {
        let users = r#"{"name":"users","files":[],"columns":["user_id"],"incremental":false}"#;
        assert!(manifest(&with(users)).is_ok() && manifest(&with(users).replace("12,", "\"12\",")).is_ok());
        for (text, says) in [
            (with(&format!("{users},{users}")), "the table `users` is listed twice"),
            (with(users).replace("12,", "13,"), "`dump_id` is 13"),
            (with(users).replace("\"incremental\":false", "\"x\":1"), "missing field `incremental`"),
            (with(users).replace("[]", r#"["s3://b/x"]"#), "s3://b/x, which belongs to no dump"),
            (with(users).replace("[]", r#"["sync_1/a","b/sync_1/a"]"#), "has the file sync_1/a twice"),
            (with(users)[..40].to_owned(), "EOF while parsing"),
        ] {
            let error = manifest(&text).unwrap_err();
            assert!(error.starts_with("m is damaged") && error.contains(says), "{error}");
        }
    }
}
