//! Identity sources, typed.

use super::dumps::DumpFolder;
use super::file_source::FileSource;

/// Heap Connect dumps as an identity source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityDumpSource {
    /// Location of the dumps.
    pub folder: DumpFolder,
    /// Name of the location in the identity map.
    pub address: String,
    /// Alias label of Heap's user ids.
    pub label: String,
    /// Column of `users` with the external id.
    pub owner: String,
}

/// Files with external ids and their devices or aliases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFileSource {
    /// The files.
    pub files: FileSource,
    /// Column of the external id.
    pub owner: String,
    /// Column of the device id.
    pub device_id: Option<String>,
    /// Alias label, and the column of the alias name.
    pub alias: Option<(String, String)>,
}

/// An identity source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// Heap Connect's dumps.
    HeapConnect(IdentityDumpSource),
    /// Files.
    File(IdentityFileSource),
}

impl IdentitySource {
    /// The path in the config.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::HeapConnect(source) => &source.address,
            Self::File(source) => &source.files.pattern,
        }
    }

    /// Label of the aliases of this source, if it has aliases.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::HeapConnect(source) => Some(&source.label),
            Self::File(source) => source.alias.as_ref().map(|(label, _)| label.as_str()),
        }
    }
}
