//! What a command works with: the state of its config, the files of an export, and the async runtime.

use super::access;
use super::environment;
use super::error::CommandError;
use super::exit::Exit;
use crate::config::{Config, ExportConfig, ExportSource, StateLocation, StorageLocation};
use crate::connector::currents::StorageAccess;
use crate::object_store;
use crate::state::{Address, Location, StateReader, StateWriter};

/// The location of the state from the config, with object store settings from the environment.
pub(super) fn location(config: &Config) -> Location {
    let StateLocation::Bucket { url, endpoint, region, lease } = &config.state else {
        return Location::Folder(config.state_folder());
    };
    let options = bucket_options(endpoint.as_deref(), region.as_deref());
    Location::Bucket(Address { url: url.clone(), options, lease: *lease })
}

/// Object store settings from the environment, with the config's settings of one store.
fn bucket_options(endpoint: Option<&str>, region: Option<&str>) -> Vec<(String, String)> {
    object_store::settings(&access::stores(), endpoint, region)
}

/// Opens the state for reading.
pub(super) fn reader(config: &Config) -> Result<StateReader, CommandError> {
    must_exist(config)?;
    Ok(StateReader::open(&location(config))?)
}

/// Opens the state for writing.
pub(super) fn writer(config: &Config) -> Result<StateWriter, CommandError> {
    must_exist(config)?;
    create(config)
}

/// Fails if the state is missing but `must_exist` is set: without it, recorded members would be unknown.
pub(super) fn must_exist(config: &Config) -> Result<(), CommandError> {
    if !config.state_must_exist || StateReader::exists_at(&location(config))? {
        return Ok(());
    }
    let message = format!("there is no state in {}, and `state: {{ must_exist: true }}`", location(config));
    Err(CommandError::new(Exit::Failed, message)
        .hint("nothing was sent; was a cache lost, or a volume not mounted? Without the state, no member can be removed")
        .hint("if this is the first run: syncline state create"))
}

/// Opens the state for writing, and creates it if it is missing.
pub(super) fn create(config: &Config) -> Result<StateWriter, CommandError> {
    let (holder, random) = (environment::holder(), environment::random());
    Ok(StateWriter::open(&location(config), &holder, environment::clock(), random)?)
}

/// The async runtime of commands that use the network.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| CommandError::new(Exit::Failed, format!("no runtime: {e}")))
}

/// The file access of an export. No file was listed yet.
pub(super) fn storage_access(export: &ExportConfig) -> StorageAccess {
    StorageAccess { options: store_options(export), ..StorageAccess::default() }
}

/// The bucket settings of an export, from the environment and the config.
pub(super) fn store_options(export: &ExportConfig) -> Vec<(String, String)> {
    match &export.source {
        ExportSource::Storage(source) => match &source.location {
            StorageLocation::Bucket { endpoint, region, .. } => {
                bucket_options(endpoint.as_deref(), region.as_deref())
            }
            StorageLocation::Folder { .. } => Vec::new(),
        },
        ExportSource::Http(_) => Vec::new(),
    }
}
