//! Sources of cohorts: whether they could be read, and have the columns that the rules name. No row is taken.

use std::sync::Arc;

use super::vendors::blocking;
use super::{Findings, databases};
use crate::cli::access;
use crate::cli::error::file_hint;
use crate::config::{Cohort, Config, Secrets, Source, Sql};
use crate::connector::file::{self, FileError, Place, Sink};
use crate::connector::sql::{self, Database};
use crate::matching::Matcher;
use crate::model::Fields;

/// Takes no row: that there is one is enough.
struct Enough;

impl Sink for Enough {
    fn row(&mut self, _: &impl Fields, _: Place<'_>) -> Result<(), FileError> {
        Err(FileError::Stopped)
    }

    fn unreadable(&mut self, _: &'static str, _: &str, _: Place<'_>) -> Result<(), FileError> {
        Err(FileError::Stopped)
    }
}

pub(super) async fn look(config: &Config, findings: &mut Findings) {
    for cohort in &config.cohorts {
        findings.about(format!("cohort {}", cohort.id));
        match &cohort.source {
            Source::File(_) => files(config, cohort, findings).await,
            Source::Sql(_) => query(config, cohort, findings).await,
            Source::HeapSegment(_) => {}
        }
    }
}

async fn files(config: &Config, cohort: &Cohort, findings: &mut Findings) {
    let Source::File(source) = cohort.source.clone() else { return };
    let (folder, roots, stores) = (config.folder.clone(), config.roots.clone(), access::stores());
    let columns = columns(cohort);
    let pattern = source.pattern.clone();
    let tried = blocking(move || {
        let from = file::From { folder: &folder, roots: &roots, stores: &stores };
        file::read(&source, from, &columns, &mut Enough).map(drop)
    });
    match tried.await {
        Some(Ok(()) | Err(FileError::Stopped)) => {
            findings.fine("source", format!("{pattern} can be read, and has the columns"));
        }
        Some(Err(error)) => {
            findings.wrong("source", error.to_string(), file_hint(&error).unwrap_or_default());
        }
        None => {}
    }
}

async fn query(config: &Config, cohort: &Cohort, findings: &mut Findings) {
    let Source::Sql(source) = cohort.source.clone() else { return };
    let name = source.connection.clone();
    // A connection without its secrets has been told of.
    let Some(settings) = config.sql.get(&name).cloned() else { return };
    let Ok(secrets) = access::secrets_of(&name, &settings) else { return };
    let (with, columns) = (Arc::new((settings, secrets)), columns(cohort));
    let tried = blocking(move || {
        let (settings, secrets): &(Sql, Secrets) = &with;
        sql::try_source(&source, Database { name: &name, settings, secrets }, &columns)
    });
    match tried.await {
        Some(Ok(())) => findings.fine("query", "the query may be asked, and has the columns"),
        Some(Err(error)) => databases::failed(&error, findings),
        None => {}
    }
}

fn columns(cohort: &Cohort) -> Vec<Box<str>> {
    Matcher::new(&cohort.rules, cohort.source.null_values(), &cohort.delivery).columns().to_vec()
}
