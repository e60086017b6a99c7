//! Exports of people: by id at once, of a segment as a file that is ready later.
//!
//! Source: Braze, "Export user profile by identifier" (50 a request, `fields_to_export` required since
//! August 2024, unknown ids named in `invalid_user_ids`; no field tells of cohorts or segments), "Export user
//! profile by segment" (an archive of lines of JSON; 403 until it is ready; a second export of a segment
//! while one runs is refused with 429).

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::super::Answer;
use super::super::catalog::{api_id, is_api_id};
use super::super::people::{Alias, Person, Who, braze_id};
use super::serve::Asked;
use super::zip;
use crate::{Inner, Options, Shared, clock};

/// Ids of one kind in a request.
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

/// A key of a body that names one person, and how.
type Single = (&'static str, fn(String) -> Who);

/// An export of a segment.
#[derive(Debug)]
pub(super) struct Export {
    segment_id: String,
    prefix: String,
    ready_at: Duration,
    archive: Vec<u8>,
}

fn fields(asked: &Asked) -> Result<Vec<String>, Answer> {
    let list = asked.body.get("fields_to_export").and_then(Value::as_array);
    let names: Option<Vec<String>> =
        list.map(|list| list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect());
    let names = names.filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| Answer::bad_request("fields_to_export must be a non-empty array"))?;
    match names.iter().find(|name| !FIELDS.contains(&name.as_str()) && *name != "uninstalled_at") {
        Some(unknown) => Err(Answer::bad_request(format!("fields_to_export: {unknown} is no field"))),
        None => Ok(names),
    }
}

/// A profile with the fields that are asked for. No cohort, no segment: Braze does not tell.
fn profile(at: usize, person: &Person, fields: &[String]) -> Value {
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

pub(super) fn ids(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let fields = fields(asked)?;
    let wanted = wanted(&asked.body)?;
    let profiles = &inner.braze.store.profiles;
    let (mut users, mut invalid) = (Vec::new(), Vec::new());
    for (who, text) in wanted {
        let found = profiles.find(&who);
        if found.is_empty() {
            invalid.push(text);
        }
        users.extend(found.into_iter().map(|at| profile(at, profiles.get(at), &fields)));
    }
    let mut body = json!({ "message": "success", "users": users });
    if !invalid.is_empty() {
        body["invalid_user_ids"] = json!(invalid);
    }
    Ok(Answer { status: StatusCode::CREATED, headers: Vec::new(), body })
}

/// Who is asked for, each with the id as it is named when it is unknown.
fn wanted(body: &Value) -> Result<Vec<(Who, Value)>, Answer> {
    let list = |key: &str| body.get(key).map_or(Some(&[][..]), |list| list.as_array().map(Vec::as_slice));
    let bad = |key: &str| Answer::bad_request(format!("{key} is not as it should be"));
    let external = list("external_ids").ok_or_else(|| bad("external_ids"))?;
    let aliases = list("user_aliases").ok_or_else(|| bad("user_aliases"))?;
    if external.len() > IDS_MAX || aliases.len() > IDS_MAX {
        return Err(Answer::bad_request("The max number of ids per request was exceeded"));
    }
    let mut found = Vec::new();
    for id in external {
        let text = id.as_str().ok_or_else(|| bad("external_ids"))?;
        found.push((Who::ExternalId(text.to_owned()), id.clone()));
    }
    for alias in aliases {
        let who: Alias = serde_json::from_value(alias.clone()).map_err(|_| bad("user_aliases"))?;
        found.push((Who::UserAlias(who), alias.clone()));
    }
    let single: [Single; 4] = [
        ("device_id", Who::DeviceId),
        ("email_address", Who::Email),
        ("phone", Who::Phone),
        ("braze_id", Who::BrazeId),
    ];
    for (key, who) in single {
        let Some(value) = body.get(key) else { continue };
        let text = value.as_str().ok_or_else(|| bad(key))?;
        if !found.is_empty() {
            return Err(Answer::bad_request("only one kind of identifier is allowed"));
        }
        found.push((who(text.to_owned()), value.clone()));
    }
    if found.is_empty() { Err(Answer::bad_request("no identifier was given")) } else { Ok(found) }
}

pub(super) fn segment(inner: &mut Inner, options: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let fields = fields(asked)?;
    let store = &inner.braze.store;
    let segment = asked.text("segment_id").filter(|id| is_api_id(id));
    let segment = segment.and_then(|id| store.catalog.segments.get(id));
    let segment = segment.ok_or_else(|| Answer::bad_request("segment_id is not one of a segment"))?;
    let now = clock::now();
    let exports = &inner.braze.rest.exports;
    if exports.iter().any(|export| export.segment_id == segment.id && export.ready_at > now) {
        return Err(Answer::new(
            StatusCode::TOO_MANY_REQUESTS,
            "an export of this segment is under way already",
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
        "url": format!("http://{}/_exports/{prefix}.zip", asked.host),
    });
    let export = Export {
        segment_id: segment.id.clone(),
        prefix,
        ready_at: now + options.rest.export_takes,
        archive: zip::archive(&files),
    };
    inner.braze.rest.exports.push(export);
    Ok(Answer { status: StatusCode::CREATED, headers: Vec::new(), body })
}

/// Where finished exports lie. Whoever has the address gets the file; no key is asked for.
pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/_exports/{name}", get(download))
}

async fn download(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Vec<u8>, StatusCode> {
    let inner = shared.lock();
    let prefix = name.strip_suffix(".zip").ok_or(StatusCode::NOT_FOUND)?;
    let export = inner.braze.rest.exports.iter().find(|export| export.prefix == prefix);
    let export = export.ok_or(StatusCode::NOT_FOUND)?;
    if export.ready_at > clock::now() {
        return Err(StatusCode::FORBIDDEN);
    }
    Ok(export.archive.clone())
}
