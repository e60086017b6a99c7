//! Converts `identity:`.

use super::file_source;
use crate::config::dumps::DumpFolder;
use crate::config::identity::{IdentityDumpSource, IdentityFileSource, IdentitySource};
use crate::config::spec;

pub(super) fn identity(shape: spec::IdentitySourceSpec) -> IdentitySource {
    match shape {
        spec::IdentitySourceSpec::HeapConnect(shape) => IdentitySource::HeapConnect(dumps(shape)),
        spec::IdentitySourceSpec::File(shape) => IdentitySource::File(mapping(shape)),
    }
}

fn dumps(shape: spec::IdentityDumpsSpec) -> IdentityDumpSource {
    let spec::IdentityDumpsSpec { path, endpoint, region, label, external_id } = shape;
    // The path in the config, because the config may be in another folder on another machine.
    let address = path.0.trim_end_matches('/').to_owned();
    let (label, owner) = (label.0.trim().to_owned(), external_id.0.trim().to_owned());
    IdentityDumpSource { folder: DumpFolder { path: path.0, endpoint, region }, address, label, owner }
}

fn mapping(shape: spec::IdentityFileSpec) -> IdentityFileSource {
    let files = file_source(spec::FileSourceSpec {
        path: shape.path,
        endpoint: shape.endpoint,
        region: shape.region,
        format: shape.format,
        delimiter: shape.delimiter,
        null_values: Vec::new(),
        final_newline: shape.final_newline,
    });
    IdentityFileSource {
        files,
        owner: shape.external_id.0.trim().to_owned(),
        device_id: shape.device_id.map(|column| column.0.trim().to_owned()),
        alias: shape.alias.map(|alias| (alias.label.0.trim().to_owned(), alias.name.0.trim().to_owned())),
    }
}
