//! Converts a checked tree into `Config`, the last phase of parsing.
//!
//! Schema and checks have passed, so conversion should not fail. If the shapes and the schema disagree, the result is a
//! problem with a span and not a panic.

mod dumps;
mod export;
mod identity;
mod segments;
mod sql;
mod triggers;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::config::checks::base_url;
use crate::config::file_source::FileSource;
use crate::config::identity::IdentitySource;
use crate::config::key_lines::KeyLines;
use crate::config::problem::{Problem, ProblemCode};
use crate::config::secret::SecretRef;
use crate::config::source_text::ConfigSources;
use crate::config::spec;
use crate::config::sql::SqlConfig;
use crate::config::text::{self, WholeNumber};
use crate::config::tree::{PathStep, TreeNode};
use crate::config::types::{
    AppId, BrazeConfig, BrazeKeys, CohortConfig, Config, HeapConfig, HeapSegmentSource, PreflightConfig,
    SourceConfig, StateLocation, VendorEndpoint,
};
use crate::model::{
    CohortId, ConnectionName, DeliveryMethod, GuardLimits, IdError, IdentifierKind, MatchRule,
};
use crate::retry::RetryPolicy;

/// Minimum retention: later runs may need the journal of a run.
const RETENTION_MIN: Duration = Duration::from_secs(60 * 60);

/// Converts the tree.
///
/// # Errors
/// The problem at which the shapes disagree with the schema.
pub(super) fn config(tree: &TreeNode, folder: &Path, sources: &ConfigSources) -> Result<Config, Problem> {
    let json = tree.to_json();
    let queries = sql::query_files(tree, folder)?;
    let mut said = Sha256::new_with_prefix(json.to_string());
    queries.iter().flatten().for_each(|(_, text)| said.update(text));
    let digest = hex(&said.finalize());
    let file: spec::ConfigFile =
        serde_path_to_error::deserialize(json).map_err(|error| typed_problem(tree, &error))?;
    let spec::FormatVersion = file.version;
    let query_files = queries.iter().flatten().map(|(path, _)| path.clone());
    let files = sources.names().map(PathBuf::from).chain(query_files).collect();
    let cohorts = file.cohorts.into_iter().zip(queries).enumerate();
    let segments = file.segments.into_iter().enumerate();
    let exports = file.exports.into_iter().enumerate();
    let entry = |list: &str, at| tree.nearest(&[PathStep::Key(list.to_owned()), PathStep::Index(at)]);
    let declared_at = |list: &str, at: usize| sources.place(entry(list, at).head());
    let key_lines = |list: &str, at: usize| KeyLines::of(entry(list, at), sources);
    let ConnectionNames { braze, heap, sql } =
        connections(file.connections, folder).map_err(|error| id_problem(tree, &error))?;
    let roots = file.roots.iter().map(|root| folder.join(root));
    let roots: Vec<PathBuf> = std::iter::once(folder.to_owned()).chain(roots).collect();
    let mut config = Config {
        folder: folder.to_owned(),
        state_must_exist: file.state.must_exist,
        state: state(file.state.path.0, file.bucket, folder),
        allow_endpoint: file.allow_endpoint.iter().filter_map(|text| base_url(&text.0).ok()).collect(),
        memory_max: usize::try_from(file.memory.0).unwrap_or(usize::MAX),
        retention: file.retention.0.max(RETENTION_MIN),
        braze,
        heap,
        sql,
        cohorts: cohorts
            .map(|(at, (shape, query))| {
                let query = query.map(|(_, text)| text);
                cohort(shape, query, declared_at("cohorts", at), key_lines("cohorts", at))
            })
            .collect::<Result<_, _>>()
            .map_err(|error| id_problem(tree, &error))?,
        identity: file.identity.into_iter().map(identity::identity).collect(),
        segments: segments
            .map(|(at, shape)| {
                segments::segment(shape, declared_at("segments", at), key_lines("segments", at))
            })
            .collect::<Result<_, _>>()
            .map_err(|error| id_problem(tree, &error))?,
        exports: exports
            .map(|(at, shape)| export::export(shape, declared_at("exports", at), &roots))
            .collect::<Result<_, _>>()
            .map_err(|error| id_problem(tree, &error))?,
        removed: file
            .removed
            .iter()
            .map(|removed| CohortId::new(&removed.cohort.0))
            .collect::<Result<_, _>>()
            .map_err(|error| id_problem(tree, &error))?,
        roots,
        watch: watch::watch(file.watch, folder),
        files,
        includes: file.include.clone(),
        skipped_includes: 0,
        digest,
    };
    allow(&mut config);
    Ok(config)
}

/// Marks web sources with a server of `allow_endpoint`.
fn allow(config: &mut Config) {
    let origin = |text: &str| url::Url::parse(text).ok().map(|url| url.origin());
    let allowed: Vec<_> = config.allow_endpoint.iter().filter_map(|text| origin(text)).collect();
    let files = config.cohorts.iter_mut().filter_map(|cohort| match &mut cohort.source {
        SourceConfig::File(files) => Some(files),
        _ => None,
    });
    let mappings = config.identity.iter_mut().filter_map(|source| match source {
        IdentitySource::File(mapping) => Some(&mut mapping.files),
        IdentitySource::HeapConnect(_) => None,
    });
    for files in files.chain(mappings) {
        files.is_allowed = origin(&files.pattern).is_some_and(|origin| allowed.contains(&origin));
    }
}

fn state(path: String, bucket: spec::BucketSpec, folder: &Path) -> StateLocation {
    if !path.contains("://") {
        return StateLocation::Folder(folder.join(path));
    }
    let spec::BucketSpec { endpoint, region, lease } = bucket;
    StateLocation::Bucket { url: path, endpoint, region, lease: lease.0.max(Duration::from_secs(1)) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn typed_problem(tree: &TreeNode, error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    use serde_path_to_error::Segment;
    let path: Vec<PathStep> = error
        .path()
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(PathStep::Index(*index)),
            Segment::Map { key } => Some(PathStep::Key(key.clone())),
            Segment::Enum { variant } => Some(PathStep::Key(variant.clone())),
            Segment::Unknown => None,
        })
        .collect();
    Problem::new(ProblemCode::BadFormat, "this is not as it must be")
        .at(tree.nearest(&path).head(), error.inner().to_string())
}

fn id_problem(tree: &TreeNode, error: &IdError) -> Problem {
    Problem::new(ProblemCode::BadFormat, error.to_string()).at(tree.head(), "in this config")
}

#[derive(Default)]
struct ConnectionNames {
    braze: BTreeMap<ConnectionName, BrazeConfig>,
    heap: BTreeMap<ConnectionName, HeapConfig>,
    sql: BTreeMap<ConnectionName, SqlConfig>,
}

fn connections(
    shapes: BTreeMap<crate::config::text::Slug, spec::ConnectionSpec>,
    folder: &Path,
) -> Result<ConnectionNames, IdError> {
    let mut all = ConnectionNames::default();
    for (name, shape) in shapes {
        let name = ConnectionName::new(&name.0)?;
        match shape {
            spec::ConnectionSpec::Braze(shape) => drop(all.braze.insert(name, braze(shape, folder)?)),
            spec::ConnectionSpec::Heap(shape) => {
                drop(all.heap.insert(name.clone(), heap(&name, shape, folder)));
            }
            spec::ConnectionSpec::Postgres(shape) => {
                all.sql.insert(name, SqlConfig::Postgres(sql::postgres(shape, folder)));
            }
            spec::ConnectionSpec::Adbc(shape) => {
                all.sql.insert(name, SqlConfig::Adbc(sql::adbc(shape, folder)));
            }
        }
    }
    Ok(all)
}

fn heap(name: &ConnectionName, shape: spec::HeapSpec, folder: &Path) -> HeapConfig {
    let secrets = [shape.webhook_secret, shape.webhook_secret_previous].into_iter().flatten();
    let endpoint = shape.region.map(|region| match region {
        spec::RegionSpec::Us => VendorEndpoint::Url("https://heapanalytics.com".to_owned()),
        spec::RegionSpec::Eu => VendorEndpoint::Url("https://c.eu.heap-api.com".to_owned()),
        spec::RegionSpec::Sandbox => VendorEndpoint::Sandbox,
    });
    HeapConfig {
        endpoint: endpoint.or_else(|| Some(VendorEndpoint::Url(base_url(shape.endpoint.as_deref()?).ok()?))),
        app_id: shape.app_id.map(|id| match id {
            text::AppIdText::Plain(digits) => AppId::Plain(digits),
            text::AppIdText::Env(name) => AppId::Ref(SecretRef::Env(name)),
            text::AppIdText::File(path) => AppId::Ref(SecretRef::File(folder.join(path))),
        }),
        api_key: shape.api_key.map(|shape| secret(shape, folder)),
        identity_events_max: shape.limits.per_identity.0,
        app_events_max: shape.limits.per_app.0,
        window: positive(shape.limits.window.0),
        requests_at_once: small(shape.requests_at_once),
        request_len_max: usize::try_from(shape.request_max.0).unwrap_or(usize::MAX),
        timeout: positive(shape.timeout.0),
        retry: retry(&shape.retry),
        webhook_secrets: secrets.map(|shape| secret(shape, folder)).collect(),
        path: shape.webhook.path.map_or_else(|| format!("/heap/{name}"), |path| path.0),
        max_age: shape.webhook.max_age.0,
        max_ahead: shape.webhook.max_ahead.0,
        incomplete_after: shape.webhook.incomplete_after.0,
    }
}

fn braze(shape: spec::BrazeSpec, folder: &Path) -> Result<BrazeConfig, IdError> {
    let url = shape.instance.and_then(crate::config::braze_instance::Instance::endpoint).map(str::to_owned);
    let url = url.or_else(|| shape.endpoint.as_deref().and_then(|text| base_url(text).ok()));
    let endpoint = url.map_or(VendorEndpoint::Sandbox, VendorEndpoint::Url);
    let keys = match (shape.data_import_key, shape.partner_api_key) {
        (Some(data_import), Some(partner_api)) if endpoint != VendorEndpoint::Sandbox => Some(BrazeKeys {
            data_import: secret(data_import, folder),
            partner_api: secret(partner_api, folder),
        }),
        _ => None,
    };
    Ok(BrazeConfig {
        endpoint,
        formerly: shape.formerly.iter().map(|name| ConnectionName::new(&name.0)).collect::<Result<_, _>>()?,
        partner: shape.partner.0,
        organization: shape.organization.0,
        keys,
        rest_key: shape.rest_api_key.map(|key| secret(key, folder)),
        cohorts_at_once: small(shape.cohorts_at_once),
        array_elements_max: small(shape.array_elements),
        batch_len_max: small(shape.batch),
        requests_per_hour: shape.requests_per_hour.0,
        timeout: positive(shape.timeout.0),
        retry: retry(&shape.retry),
        settle_again_after: shape.settle_again_after.0,
    })
}

fn retry(shape: &spec::RetrySpec) -> RetryPolicy {
    RetryPolicy {
        attempts: small(shape.attempts),
        first_wait: shape.first_wait.0,
        longest_wait: shape.longest_wait.0,
    }
}

/// A number with a small bound, as `usize`.
pub(super) fn small<T: TryFrom<u64> + From<u8>, const MIN: u64, const MAX: u64>(
    number: WholeNumber<MIN, MAX>,
) -> T {
    T::try_from(number.0).unwrap_or_else(|_| T::from(u8::MAX))
}

pub(super) fn positive(length: Duration) -> Duration {
    length.max(Duration::from_millis(1))
}

pub(super) fn secret(shape: spec::SecretSpec, folder: &Path) -> SecretRef {
    match shape {
        spec::SecretSpec::Env(name) => SecretRef::Env(name.0),
        spec::SecretSpec::File(path) => SecretRef::File(folder.join(PathBuf::from(path.0))),
    }
}

fn cohort(
    shape: spec::CohortSpec,
    query: Option<String>,
    declared_at: String,
    key_lines: KeyLines,
) -> Result<CohortConfig, IdError> {
    let source = match shape.source {
        spec::SourceSpec::File(source) => SourceConfig::File(file_source(source)),
        spec::SourceSpec::HeapSegment(spec::HeapSegmentSourceSpec { connection, segment_id }) => {
            SourceConfig::HeapSegment(HeapSegmentSource {
                connection: ConnectionName::new(&connection.0)?,
                segment: segment_id,
            })
        }
        spec::SourceSpec::Sql(shape) => SourceConfig::Sql(sql::source(shape, query)?),
        spec::SourceSpec::HeapConnect(shape) => dumps::source(shape, query)?,
    };
    Ok(CohortConfig {
        id: CohortId::new(&shape.id.0)?,
        name: shape.name.0.trim().to_owned(),
        to: ConnectionName::new(&shape.to.0)?,
        source,
        rules: shape.r#match.0.into_iter().map(rule).collect(),
        delivery: delivery(shape.deliver, shape.attribute),
        preflight: shape.preflight.map(|shape| PreflightConfig {
            sample: shape.sample.map(|sample| sample.0),
            retry_unknown: shape.retry_unknown.0,
        }),
        on_enter: shape.on_enter.map(triggers::trigger),
        on_exit: shape.on_exit.map(triggers::trigger),
        limits: limits(&shape.guard),
        protect: shape.protect,
        schedule: shape.schedule.map(watch::schedule),
        declared_at,
        key_lines,
    })
}

/// Default array attribute, shared by cohorts.
const ARRAY: &str = "syncline_cohorts";

fn delivery(deliver: spec::DeliverSpec, attribute: Option<spec::AttributeSpec>) -> DeliveryMethod {
    match (deliver, attribute) {
        (spec::DeliverSpec::CohortImport, _) => DeliveryMethod::CohortImport,
        (spec::DeliverSpec::Attribute, None) => DeliveryMethod::Array(ARRAY.into()),
        (spec::DeliverSpec::Attribute, Some(spec::AttributeSpec::Array(name))) => {
            DeliveryMethod::Array(name.0.into())
        }
        (spec::DeliverSpec::Attribute, Some(spec::AttributeSpec::Boolean(name))) => {
            DeliveryMethod::Boolean(name.0.into())
        }
    }
}

fn file_source(shape: spec::FileSourceSpec) -> FileSource {
    FileSource {
        pattern: shape.path.0,
        endpoint: shape.endpoint,
        region: shape.region,
        is_allowed: false,
        format: shape.format,
        delimiter: shape.delimiter.and_then(|text| text.0.bytes().next()).unwrap_or(b','),
        null_values: shape.null_values.into_iter().map(|text| text.0).collect(),
        final_newline: shape.final_newline,
    }
}

fn rule(shape: spec::MatchRuleSpec) -> MatchRule {
    let (kind, label, column) = match shape {
        spec::MatchRuleSpec::ExternalId(column) => (IdentifierKind::ExternalId, String::new(), column.0),
        spec::MatchRuleSpec::Alias(alias) => (IdentifierKind::Alias, alias.label.0, alias.name.0),
        spec::MatchRuleSpec::DeviceId(column) => (IdentifierKind::DeviceId, String::new(), column.0),
    };
    MatchRule { kind, label: label.trim().into(), column: column.trim().into() }
}

fn limits(shape: &spec::GuardSpec) -> GuardLimits {
    GuardLimits {
        removed_share_max: shape.max_removed.0,
        added_share_max: shape.max_added.0,
        removed_max: shape.max_removed_count,
        added_max: shape.max_added_count,
        unreadable_max: shape.max_unreadable,
        allow_empty: shape.allow_empty,
        allow_decimal_ids: shape.allow.contains(&spec::IdDamage::DecimalIds),
        allow_exponent_ids: shape.allow.contains(&spec::IdDamage::ExponentIds),
        allow_duplicates: shape.allow.contains(&spec::IdDamage::Duplicates),
        atomic: shape.atomic,
        from_members: shape.from_members,
    }
}
