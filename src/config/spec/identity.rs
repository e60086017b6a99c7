//! The shape of `identity:`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{AliasSpec, Delimiter, Label, Text};
use crate::config::file_source;

/// An identity source: it maps devices and aliases to external ids. Runs import it before they plan cohorts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum IdentitySourceSpec {
    /// The tables `users` and `user_migrations` of the newest Heap Connect dump.
    HeapConnect(IdentityDumpsSpec),
    /// Files with external ids and their devices, aliases or both.
    File(IdentityFileSpec),
}

/// The tables `users` and `user_migrations` of the newest Heap Connect dump.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct IdentityDumpsSpec {
    /// Bucket of Heap Connect, or a folder with a copy of it. It contains `manifests/`.
    #[schemars(example = "s3://heap-rs3-acme")]
    pub(in crate::config) path: Text,
    /// Address of the bucket, if it is not the vendor's.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// Region of the bucket, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// Alias label in Braze for Heap's user ids.
    #[serde(default = "default_label")]
    pub(in crate::config) label: Label,
    /// Column of `users` with the external id.
    #[serde(default = "default_owner")]
    pub(in crate::config) external_id: Text,
}

fn default_label() -> Label {
    Label("heap_user_id".to_owned())
}

fn default_owner() -> Text {
    Text("identity".to_owned())
}

/// Files with external ids and their devices, aliases or both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct IdentityFileSpec {
    /// Path or glob, relative to the config's folder, in a bucket, or a URL of a web server.
    #[schemars(example = "exports/devices.csv")]
    pub(in crate::config) path: Text,
    /// Address of the bucket, if it is not the vendor's.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// Region of the bucket, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// File format. Default: by the extension.
    pub(in crate::config) format: Option<file_source::FileFormat>,
    /// Field separator of a CSV file, if it is not a comma.
    #[schemars(example = ";")]
    pub(in crate::config) delimiter: Option<Delimiter>,
    /// Whether a file must end with a line break.
    #[serde(default)]
    pub(in crate::config) final_newline: file_source::FinalNewline,
    /// Column with the external id.
    #[schemars(example = &"identity")]
    pub(in crate::config) external_id: Text,
    /// Column with Braze's device id.
    #[schemars(example = &"device_id")]
    pub(in crate::config) device_id: Option<Text>,
    /// User alias: its label and the column with its name.
    #[schemars(example = serde_json::json!({ "label": "heap_user_id", "name": "user_id" }))]
    pub(in crate::config) alias: Option<AliasSpec>,
}
