//! Sources of cohorts, and of who is who: whether they could be read, and have the columns that the rules name. No row
//! is taken.

use std::sync::Arc;

use super::vendors::blocking;
use super::{DoctorFindings, databases};
use crate::cli::access;
use crate::cli::error::file_hint;
use crate::cli::identity_errors::dump_hint;
use crate::cli::output::counted;
use crate::config::{
    CohortConfig, Config, DumpFolder, FileSource, IdentitySource, MappingSource, Secrets, SourceConfig,
    SqlConfig,
};
use crate::connector::file::{self, FileError, RowLocation, RowSink};
use crate::connector::heap_connect::{DumpError, Dumps};
use crate::connector::sql::{self, Database};
use crate::matching::Matcher;
use crate::model::Fields;

/// Takes no row: that there is one is enough.
struct ReadEnough;

impl RowSink for ReadEnough {
    fn row(&mut self, _: &impl Fields, _: RowLocation<'_>) -> Result<(), FileError> {
        Err(FileError::Stopped)
    }

    fn unreadable(&mut self, _: &'static str, _: &str, _: RowLocation<'_>) -> Result<(), FileError> {
        Err(FileError::Stopped)
    }
}

pub(super) async fn check(config: &Config, findings: &mut DoctorFindings) {
    for cohort in &config.cohorts {
        findings.about(format!("cohort {}", cohort.id));
        match &cohort.source {
            SourceConfig::File(_) => files(config, cohort, findings).await,
            SourceConfig::Sql(_) => query(config, cohort, findings).await,
            SourceConfig::HeapConnect(source) => dumps(config, &source.place, findings).await,
            SourceConfig::DumpQuery(source) => dumps(config, &source.place, findings).await,
            SourceConfig::HeapSegment(_) => {}
        }
    }
    for source in &config.identity {
        findings.about(format!("identity {}", source.path()));
        match source {
            IdentitySource::HeapConnect(source) => dumps(config, &source.place, findings).await,
            IdentitySource::File(source) => mapping(config, source, findings).await,
        }
    }
}

/// The dumps of Heap Connect: the newest manifest says what there is.
async fn dumps(config: &Config, place: &DumpFolder, findings: &mut DoctorFindings) {
    let (folder, roots, stores) = (config.folder.clone(), config.roots.clone(), access::stores());
    let place = place.clone();
    let tried = blocking(move || {
        let dumps =
            Dumps::find(&place, file::FileAccess { folder: &folder, roots: &roots, stores: &stores })?;
        let Some(newest) = dumps.all().last() else { return Ok((0, 0)) };
        dumps.manifest(newest).map(|manifest| (newest.id, manifest.tables.len()))
    });
    match tried.await {
        Some(Ok((dump, tables))) => {
            findings.passed(
                "dumps",
                format!("the newest is dump {dump}, with {}", counted(tables as u64, "table")),
            );
        }
        Some(Err(error)) => {
            let error: DumpError = error;
            findings.failed("dumps", error.to_string(), dump_hint(&error).unwrap_or_default());
        }
        None => {}
    }
}

async fn mapping(config: &Config, source: &MappingSource, findings: &mut DoctorFindings) {
    let alias = source.alias.as_ref().map(|(_, column)| column);
    let columns = std::iter::once(&source.owner).chain(&source.device_id).chain(alias);
    let columns = columns.map(|column| column.as_str().into()).collect();
    tried_files(config, source.files.clone(), columns, findings).await;
}

async fn files(config: &Config, cohort: &CohortConfig, findings: &mut DoctorFindings) {
    let SourceConfig::File(source) = cohort.source.clone() else { return };
    tried_files(config, source, columns(cohort), findings).await;
}

async fn tried_files(
    config: &Config,
    source: FileSource,
    columns: Vec<Box<str>>,
    findings: &mut DoctorFindings,
) {
    let (folder, roots, stores) = (config.folder.clone(), config.roots.clone(), access::stores());
    let pattern = source.pattern.clone();
    let tried = blocking(move || {
        let from = file::FileAccess { folder: &folder, roots: &roots, stores: &stores };
        file::read(&source, from, &columns, &mut ReadEnough).map(drop)
    });
    match tried.await {
        Some(Ok(()) | Err(FileError::Stopped)) => {
            findings.passed("source", format!("{pattern} can be read, and has the columns"));
        }
        Some(Err(error)) => {
            findings.failed("source", error.to_string(), file_hint(&error).unwrap_or_default());
        }
        None => {}
    }
}

async fn query(config: &Config, cohort: &CohortConfig, findings: &mut DoctorFindings) {
    let SourceConfig::Sql(source) = cohort.source.clone() else { return };
    let name = source.connection.clone();
    // A connection without its secrets has been told of.
    let Some(settings) = config.sql.get(&name).cloned() else { return };
    let Ok(secrets) = access::secrets_of(&name, &settings) else { return };
    let (with, columns) = (Arc::new((settings, secrets)), columns(cohort));
    let tried = blocking(move || {
        let (settings, secrets): &(SqlConfig, Secrets) = &with;
        sql::try_source(&source, Database { name: &name, settings, secrets }, &columns)
    });
    match tried.await {
        Some(Ok(())) => findings.passed("query", "the query may be asked, and has the columns"),
        Some(Err(error)) => databases::failed(&error, findings),
        None => {}
    }
}

fn columns(cohort: &CohortConfig) -> Vec<Box<str>> {
    Matcher::new(&cohort.rules, cohort.source.null_values(), &cohort.delivery).columns().to_vec()
}
