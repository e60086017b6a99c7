//! Checks of cohort sources and identity sources: whether they can be read and have the columns of the rules. No data row
//! is read.

use std::sync::Arc;

use super::vendors::blocking;
use super::{DoctorFindings, sql_errors};
use crate::cli::access;
use crate::cli::hints::source_hint;
use crate::config::{CohortConfig, Config, IdentityFileSource, IdentitySource, SourceAccess};
use crate::source::{self, DesiredError, ReadAccess, SourceCheck, SourceReader as _};

type CheckResult = Result<Option<SourceCheck>, DesiredError>;

pub(super) async fn check(config: &Config, findings: &mut DoctorFindings) {
    let context = Arc::new((config.clone(), available_secrets(config)));
    for cohort in &config.cohorts {
        findings.about(format!("cohort {}", cohort.id));
        let (context, cohort) = (Arc::clone(&context), CohortConfig::clone(cohort));
        let checked = blocking(move || source::check(&cohort, access_of(&context))).await;
        report(checked, findings);
    }
    for identity in &config.identity {
        findings.about(format!("identity {}", identity.path()));
        let (context, identity) = (Arc::clone(&context), identity.clone());
        let checked = blocking(move || match identity {
            IdentitySource::HeapConnect(source) => {
                Ok(Some(source::check_dumps(&source.folder, access_of(&context))?))
            }
            IdentitySource::File(source) => {
                source.files.check(access_of(&context), &mapping_columns(&source))
            }
        });
        report(checked.await, findings);
    }
}

/// Credentials of the object stores, and of the databases that have all of theirs. The checks of connections report the
/// missing ones.
fn available_secrets(config: &Config) -> SourceAccess {
    let databases = config
        .sql
        .iter()
        .filter_map(|(name, settings)| Some((name.clone(), access::secrets_of(name, settings).ok()?)));
    SourceAccess { databases: databases.collect(), stores: access::stores() }
}

fn access_of(context: &(Config, SourceAccess)) -> ReadAccess<'_> {
    ReadAccess { config: &context.0, secrets: &context.1 }
}

fn mapping_columns(source: &IdentityFileSource) -> Vec<Box<str>> {
    let alias = source.alias.as_ref().map(|(_, column)| column);
    let columns = std::iter::once(&source.owner).chain(&source.device_id).chain(alias);
    columns.map(|column| column.as_str().into()).collect()
}

fn report(checked: Option<CheckResult>, findings: &mut DoctorFindings) {
    match checked {
        None | Some(Ok(None)) => {}
        Some(Ok(Some(SourceCheck { subject, summary }))) => findings.passed(subject, summary),
        Some(Err(error)) => failed(&error, findings),
    }
}

fn failed(error: &DesiredError, findings: &mut DoctorFindings) {
    let check = match error {
        DesiredError::Sql(error) => return sql_errors::failed(error, findings),
        DesiredError::Dump(_) => "dumps",
        DesiredError::File(_)
        | DesiredError::Stopped
        | DesiredError::Scratch(_)
        | DesiredError::State(_)
        | DesiredError::SegmentNotReceived { .. } => "source",
    };
    findings.failed(check, error.to_string(), source_hint(error).unwrap_or_default());
}
