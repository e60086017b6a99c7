//! Converts `exports:`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{secret, watch};
use crate::config::export::{ExportConfig, ExportSource, HttpSource, StorageLocation, StorageSource};
use crate::config::spec;
use crate::config::text::{Identity, OneOrMany, Text};
use crate::event_mapping::{
    AnonymousPolicy, CustomEventNaming, EventNaming, IdentityFrom, MappingSettings, Pii, PropertyFilter,
};
use crate::model::{ConnectionName, ExportId, IdError, parse_time};

/// `roots` are the allowed folders of files, starting with the config's folder.
pub(super) fn export(
    shape: spec::ExportSpec,
    declared_at: String,
    roots: &[PathBuf],
) -> Result<ExportConfig, IdError> {
    let id = ExportId::new(&shape.id.0)?;
    Ok(ExportConfig {
        to: ConnectionName::new(&shape.to.0)?,
        source: source(shape.source, &id, roots),
        hold_age_max: shape.hold.age.0,
        hold_len_max: shape.hold.count.0,
        batch_len_max: usize::try_from(shape.batch.0).unwrap_or(1),
        flush_every: shape.flush_every.0,
        rejects_kept: shape.keep_rejects.0,
        since: shape.since.and_then(|text| parse_time(&text.0)),
        schedule: shape.schedule.map(watch::schedule),
        declared_at,
        settings: MappingSettings {
            include: texts(shape.events.include),
            exclude: texts(shape.events.exclude),
            naming: naming(shape.naming),
            properties: properties(shape.properties),
            pii: pii(shape.pii),
            identity: shape.identity.0.iter().map(identity).collect(),
            anonymous: match shape.anonymous {
                spec::AnonymousSpec::Drop => AnonymousPolicy::Drop,
                spec::AnonymousSpec::Hash => AnonymousPolicy::Hash,
                spec::AnonymousSpec::Hold => AnonymousPolicy::Hold,
            },
            connector_id: shape.connector_id.map(|text| text.0.trim().to_owned()),
            future_seconds_max: shape.future_max.0.map(|length| seconds(length.0)),
            profiles: shape.profiles,
        },
        id,
    })
}

fn source(shape: spec::ExportSourceSpec, id: &ExportId, roots: &[PathBuf]) -> ExportSource {
    let folder = roots.first().map_or(Path::new(""), PathBuf::as_path);
    match shape {
        spec::ExportSourceSpec::CurrentsHttp(shape) => ExportSource::Http(HttpSource {
            tokens: [shape.token, shape.token_previous]
                .into_iter()
                .flatten()
                .map(|shape| secret(shape, folder))
                .collect(),
            path: shape.path.map_or_else(|| format!("/currents/{id}"), |path| path.0),
        }),
        spec::ExportSourceSpec::CurrentsStorage(shape) => {
            let incomplete_after = shape.incomplete_after.0;
            ExportSource::Storage(StorageSource {
                location: location(shape, folder, roots),
                incomplete_after,
            })
        }
    }
}

fn location(shape: spec::StorageSourceSpec, folder: &Path, roots: &[PathBuf]) -> StorageLocation {
    let spec::StorageSourceSpec { path, url, endpoint, region, .. } = shape;
    match (url, path) {
        (Some(url), _) => StorageLocation::Bucket { url: url.0, endpoint, region },
        (None, path) => {
            let shown = path.map(|path| path.0).unwrap_or_default();
            StorageLocation::Folder { path: folder.join(&shown), shown, roots: roots.to_vec() }
        }
    }
}

fn seconds(length: Duration) -> u32 {
    u32::try_from(length.as_secs()).unwrap_or(u32::MAX)
}

fn texts(list: Vec<Text>) -> Vec<String> {
    list.into_iter().map(|text| text.0).collect()
}

fn identity(text: &Identity) -> IdentityFrom {
    match text.0.strip_prefix("property:") {
        Some(name) => IdentityFrom::Property(name.trim().to_owned()),
        None if text.0 == "braze_user_id" => IdentityFrom::BrazeUserId,
        None => IdentityFrom::ExternalUserId,
    }
}

fn pii(OneOrMany(list): OneOrMany<Text>) -> Pii {
    match list.as_slice() {
        [Text(one)] if one == "drop" => Pii::Drop,
        [Text(one)] if one == "keep" => Pii::Keep,
        _ => Pii::Only(texts(list)),
    }
}

fn naming(shape: spec::NamingSpec) -> EventNaming {
    EventNaming {
        event_prefix: shape.prefix,
        property_prefix: shape.property_prefix,
        custom_events: match shape.custom_events {
            spec::CustomEventsSpec::Labeled => CustomEventNaming::Labeled,
            spec::CustomEventsSpec::Bare => CustomEventNaming::Bare,
        },
        overrides: shape.overrides.into_iter().map(|(of, name)| (of, name.0)).collect(),
    }
}

fn properties(shape: spec::PropertiesSpec) -> PropertyFilter {
    let renames = shape.rename.into_iter();
    PropertyFilter {
        keep: texts(shape.keep),
        drop: texts(shape.drop),
        rename: renames.map(|rename| (rename.from.0, rename.to.0)).collect(),
    }
}
