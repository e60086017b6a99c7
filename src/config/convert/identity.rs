//! Converts `identity:` and Heap Connect sources.

use super::{file_source, sql};
use crate::config::dump_sources::{
    DumpFolder, DumpQuery, DumpSource, IdentitySource, MappingSource, TableSource,
};
use crate::config::spec;
use crate::config::types::SourceConfig;
use crate::model::IdError;

pub(super) fn identity(shape: spec::IdentitySourceSpec) -> IdentitySource {
    match shape {
        spec::IdentitySourceSpec::HeapConnect(shape) => IdentitySource::HeapConnect(dumps(shape)),
        spec::IdentitySourceSpec::File(shape) => IdentitySource::File(mapping(shape)),
    }
}

fn dumps(shape: spec::IdentityDumpsSpec) -> DumpSource {
    let spec::IdentityDumpsSpec { path, endpoint, region, label, external_id } = shape;
    // The path in the config, because the config may be in another folder on another machine.
    let address = path.0.trim_end_matches('/').to_owned();
    let (label, owner) = (label.0.trim().to_owned(), external_id.0.trim().to_owned());
    DumpSource { place: DumpFolder { path: path.0, endpoint, region }, address, label, owner }
}

fn mapping(shape: spec::IdentityFileSpec) -> MappingSource {
    let files = file_source(spec::FileSourceSpec {
        path: shape.path,
        endpoint: shape.endpoint,
        region: shape.region,
        format: shape.format,
        delimiter: shape.delimiter,
        null_values: Vec::new(),
        final_newline: shape.final_newline,
    });
    MappingSource {
        files,
        owner: shape.external_id.0.trim().to_owned(),
        device_id: shape.device_id.map(|column| column.0.trim().to_owned()),
        alias: shape.alias.map(|alias| (alias.label.0.trim().to_owned(), alias.name.0.trim().to_owned())),
    }
}

/// A table or a query. `text` is the content of `query_file`.
pub(super) fn dumped(shape: spec::TableSourceSpec, text: Option<String>) -> Result<SourceConfig, IdError> {
    let place = DumpFolder { path: shape.path.0, endpoint: shape.endpoint, region: shape.region };
    let Some(connection) = shape.connection else {
        let table = shape.table.map(|table| table.0.trim().to_owned()).unwrap_or_default();
        return Ok(SourceConfig::HeapConnect(TableSource {
            place,
            table,
            within: shape.within.map(|within| within.0),
        }));
    };
    let query = sql::source(
        spec::SqlSourceSpec {
            connection,
            query: shape.query,
            query_file: None,
            table: None,
            params: shape.params,
            null_values: Vec::new(),
            diff: spec::DiffSpec::Local,
        },
        text,
    )?;
    let tables = shape.tables.into_iter().map(|table| table.0.trim().to_owned()).collect();
    Ok(SourceConfig::DumpQuery(DumpQuery { place, tables, query }))
}
