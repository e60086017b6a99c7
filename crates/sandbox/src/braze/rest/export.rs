//! User exports: by id in the response, by segment as a file that is ready later.
//!
//! Source: Braze, "Export user profile by identifier" (50 per request, `fields_to_export` required since August
//! 2024, unknown ids in `invalid_user_ids`; no field exposes cohorts or segments), "Export user profile by
//! segment" (an archive of JSON lines; 403 until it is ready; 429 for a second export of a segment while one
//! runs).

use std::io::{Cursor, Write as _};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Map, Value, json};
use zip::ZipWriter;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;

use super::super::BrazeResponse;
use super::super::catalog::{api_id, is_api_id};
use super::super::profiles::{Alias, ProfileIdentifier, UserProfile, braze_id};
use super::serve::RestRequest;
use crate::{SandboxHandle, SandboxOptions, SandboxState, clock};

/// Most ids of one kind in a request.
const IDS_MAX: usize = 50;
/// Users in one file of an archive.
const FILE_LEN: usize = 5_000;

/// Every field that can be exported.
const FIELDS: [&str; 29] = [
    "apps",
    "attributed_campaign",
    "attributed_source",
    "attributed_adgroup",
    "attributed_ad",
    "push_subscribe",
    "email_subscribe",
    "braze_id",
    "country",
    "created_at",
    "custom_attributes",
    "custom_events",
    "devices",
    "dob",
    "email",
    "external_id",
    "first_name",
    "gender",
    "home_city",
    "language",
    "last_coordinates",
    "last_name",
    "phone",
    "purchases",
    "push_tokens",
    "random_bucket",
    "time_zone",
    "total_revenue",
    "user_aliases",
];

/// A body key with a single identifier, and the kind of that identifier.
type SingleIdentifier = (&'static str, fn(String) -> ProfileIdentifier);

/// An export of a segment.
#[derive(Debug)]
pub(super) struct SegmentExport {
    segment_id: String,
    prefix: String,
    ready_at: Duration,
    archive: Vec<u8>,
}

fn fields(request: &RestRequest) -> Result<Vec<String>, BrazeResponse> {
    let list = request.body.get("fields_to_export").and_then(Value::as_array);
    let names: Option<Vec<String>> =
        list.map(|list| list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect());
    let names = names.filter(|names| !names.is_empty());
    let names =
        names.ok_or_else(|| BrazeResponse::bad_request("fields_to_export must be a non-empty array"))?;
    match names.iter().find(|name| !FIELDS.contains(&name.as_str()) && *name != "uninstalled_at") {
        Some(unknown) => {
            Err(BrazeResponse::bad_request(format!("fields_to_export: {unknown} is not a field")))
        }
        None => Ok(names),
    }
}

/// A profile with the requested fields. Braze exposes neither cohorts nor segments.
fn profile(at: usize, person: &UserProfile, fields: &[String]) -> Value {
    let mut custom = person.attributes.clone();
    custom.retain(|name, _| !FIELDS.contains(&name.as_str()));
    let value = |field: &str| match field {
        "external_id" => person.external_id.clone().map(Value::from),
        "braze_id" => Some(braze_id(at).into()),
        "user_aliases" => (!person.aliases.is_empty()).then(|| json!(person.aliases)),
        "devices" => (!person.device_ids.is_empty())
            .then(|| person.device_ids.iter().map(|id| json!({ "device_id": id })).collect()),
        "custom_attributes" => (!custom.is_empty()).then(|| Value::Object(custom.clone())),
        other => person.attributes.get(other).cloned(),
    };
    fields.iter().filter_map(|field| Some((field.clone(), value(field)?))).collect::<Map<_, _>>().into()
}

pub(super) fn ids(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let fields = fields(request)?;
    let requested_identifiers = requested_identifiers(&request.body)?;
    let missing = state.braze.store.missing(requested_identifiers.iter().map(|(identifier, _)| identifier));
    state.braze.record_all(missing).map_err(BrazeResponse::memory_failed)?;
    let profiles = &state.braze.store.profiles;
    let (mut users, mut invalid) = (Vec::new(), Vec::new());
    for (identifier, text) in requested_identifiers {
        let found = profiles.find(&identifier);
        if found.is_empty() {
            invalid.push(text);
        }
        users.extend(found.into_iter().map(|at| profile(at, profiles.get(at), &fields)));
    }
    let mut body = json!({ "message": "success", "users": users });
    if !invalid.is_empty() {
        body["invalid_user_ids"] = json!(invalid);
    }
    Ok(BrazeResponse { status: StatusCode::CREATED, headers: Vec::new(), body })
}

/// The requested identifiers, each with its JSON form for the list of unknown ids.
fn requested_identifiers(body: &Value) -> Result<Vec<(ProfileIdentifier, Value)>, BrazeResponse> {
    let list = |key: &str| body.get(key).map_or(Some(&[][..]), |list| list.as_array().map(Vec::as_slice));
    let bad = |key: &str| BrazeResponse::bad_request(format!("{key} is invalid"));
    let external = list("external_ids").ok_or_else(|| bad("external_ids"))?;
    let aliases = list("user_aliases").ok_or_else(|| bad("user_aliases"))?;
    if external.len() > IDS_MAX || aliases.len() > IDS_MAX {
        return Err(BrazeResponse::bad_request("The max number of ids per request was exceeded"));
    }
    let mut found = Vec::new();
    for id in external {
        let text = id.as_str().ok_or_else(|| bad("external_ids"))?;
        found.push((ProfileIdentifier::ExternalId(text.to_owned()), id.clone()));
    }
    for alias in aliases {
        let identifier: Alias = serde_json::from_value(alias.clone()).map_err(|_| bad("user_aliases"))?;
        found.push((ProfileIdentifier::UserAlias(identifier), alias.clone()));
    }
    let single: [SingleIdentifier; 4] = [
        ("device_id", ProfileIdentifier::DeviceId),
        ("email_address", ProfileIdentifier::Email),
        ("phone", ProfileIdentifier::Phone),
        ("braze_id", ProfileIdentifier::BrazeId),
    ];
    for (key, identifier) in single {
        let Some(value) = body.get(key) else { continue };
        let text = value.as_str().ok_or_else(|| bad(key))?;
        if !found.is_empty() {
            return Err(BrazeResponse::bad_request("only one kind of identifier is allowed"));
        }
        found.push((identifier(text.to_owned()), value.clone()));
    }
    if found.is_empty() { Err(BrazeResponse::bad_request("no identifier was given")) } else { Ok(found) }
}

pub(super) fn segment(
    state: &mut SandboxState,
    options: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let fields = fields(request)?;
    let store = &state.braze.store;
    let segment = request.text("segment_id").filter(|id| is_api_id(id));
    let segment = segment.and_then(|id| store.catalog.segments.get(id));
    let segment = segment.ok_or_else(|| BrazeResponse::bad_request("segment_id is not one of a segment"))?;
    let now = clock::now();
    let exports = &state.braze.rest.exports;
    if exports.iter().any(|export| export.segment_id == segment.id && export.ready_at > now) {
        return Err(BrazeResponse::new(
            StatusCode::TOO_MANY_REQUESTS,
            "an export of this segment is already in progress",
        ));
    }
    let lines: Vec<String> = store
        .in_segment(segment)
        .into_iter()
        .map(|at| profile(at, store.profiles.get(at), &fields).to_string() + "\n")
        .collect();
    let files: Vec<(String, String)> = lines
        .chunks(FILE_LEN)
        .enumerate()
        .map(|(n, lines)| (format!("{}_{n:05}.txt", segment.id), lines.concat()))
        .collect();
    let prefix = format!("{}-{}", api_id("export", &exports.len().to_string()), now.as_secs());
    let body = json!({
        "message": "success",
        "object_prefix": prefix,
        "url": format!("http://{}/_exports/{prefix}.zip", request.host),
    });
    let export = SegmentExport {
        segment_id: segment.id.clone(),
        prefix,
        ready_at: now + options.rest.export_takes,
        archive: archive(&files)?,
    };
    state.braze.rest.exports.push(export);
    Ok(BrazeResponse { status: StatusCode::CREATED, headers: Vec::new(), body })
}

/// A ZIP archive of uncompressed files.
fn archive(files: &[(String, String)]) -> Result<Vec<u8>, BrazeResponse> {
    let write = || {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            archive.start_file(name, SimpleFileOptions::default())?;
            archive.write_all(text.as_bytes())?;
        }
        Ok::<_, ZipError>(archive.finish()?.into_inner())
    };
    write().map_err(|e| BrazeResponse::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

/// Downloads of finished exports. The address needs no key.
pub(super) fn routes() -> Router<SandboxHandle> {
    Router::new().route("/_exports/{name}", get(download))
}

async fn download(
    State(shared): State<SandboxHandle>,
    Path(name): Path<String>,
) -> Result<Vec<u8>, StatusCode> {
    let state = shared.lock();
    let prefix = name.strip_suffix(".zip").ok_or(StatusCode::NOT_FOUND)?;
    let export = state.braze.rest.exports.iter().find(|export| export.prefix == prefix);
    let export = export.ok_or(StatusCode::NOT_FOUND)?;
    if export.ready_at > clock::now() {
        return Err(StatusCode::FORBIDDEN);
    }
    Ok(export.archive.clone())
}
