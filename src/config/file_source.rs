//! File sources and their formats.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Files with all members of a cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSource {
    /// Path, glob or URL in the config.
    pub pattern: String,
    /// Address of the object store, if it is not the vendor's.
    pub endpoint: Option<String>,
    /// The bucket's region, for S3.
    pub region: Option<String>,
    /// Whether a web server may be in a private network.
    pub is_allowed: bool,
    /// The format, if configured.
    pub format: Option<FileFormat>,
    /// Field separator of CSV files.
    pub delimiter: u8,
    /// Strings that mean "no value".
    pub null_values: Vec<String>,
    /// Whether a file must end with a line break.
    pub final_newline: FinalNewline,
}

impl FileSource {
    /// Files without further settings: CSV has commas, and a missing final line break means that a file is truncated.
    #[must_use]
    pub fn new(pattern: String) -> Self {
        Self {
            pattern,
            endpoint: None,
            region: None,
            is_allowed: false,
            format: None,
            delimiter: b',',
            null_values: Vec::new(),
            final_newline: FinalNewline::Required,
        }
    }

    /// Whether the files are in a bucket or on a web server.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.pattern.contains("://")
    }
}

/// The format of a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Comma-separated with a header row (RFC 4180).
    Csv,
    /// Tab-separated with a header row.
    Tsv,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Avro object container files.
    Avro,
}

impl FileFormat {
    /// The format by the file's extension, ignoring a compression suffix.
    #[must_use]
    pub fn from_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = [".gz", ".zst"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            "avro" => Some(Self::Avro),
            _ => None,
        }
    }
}

/// Whether a file must end with a line break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinalNewline {
    /// A file without one counts as truncated.
    #[default]
    Required,
    /// The last row may end at the end of the file.
    Optional,
}
