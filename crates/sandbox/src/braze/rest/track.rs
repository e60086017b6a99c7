//! `/users/track`: attributes, events, purchases.
//!
//! Source: Braze, "Track users" (75 objects in all; each of exactly one user; an external id creates a profile
//! unless the user must exist, an alias only if the user need not exist), "API errors" (errors of single
//! objects are listed in `errors` and the others are accepted; if no object is left, 400).

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::BrazeResponse;
use super::super::profiles::{Alias, ProfileIdentifier};
use super::super::store::BrazeFact;
use super::serve::RestRequest;
use crate::{SandboxOptions, SandboxState};

/// Objects in one request.
const OBJECTS_MAX: usize = 75;
const EXTERNAL_ID_LEN_MAX: usize = 987;
const ARRAYS: [&str; 3] = ["attributes", "events", "purchases"];
const NOTHING_VALID: &str =
    "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields.";

/// A user with objects that `/users/track` rejects, set through the admin API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrackReject {
    external_id: String,
    r#type: String,
    /// Whether the error has the index of the object.
    #[serde(default = "default_indexed")]
    indexed: bool,
}

fn default_indexed() -> bool {
    true
}

/// The error of an object, and whether it has an index.
struct TrackError {
    kind: String,
    indexed: bool,
}

pub(super) fn track(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let list = |key: &str| match request.body.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list.clone()),
        Some(_) => Err(BrazeResponse::bad_request(format!("'{key}' must be an array of objects"))),
    };
    let lists = [list(ARRAYS[0])?, list(ARRAYS[1])?, list(ARRAYS[2])?];
    let count: usize = lists.iter().map(Vec::len).sum();
    if count > OBJECTS_MAX {
        return Err(BrazeResponse::bad_request("Max Input Length Exceeded"));
    }
    let (mut facts, mut errors, mut body) = (Vec::new(), Vec::new(), json!({ "message": "success" }));
    let mut data_points = 0;
    for (array, objects) in ARRAYS.into_iter().zip(lists) {
        let mut processed = 0;
        for (index, object) in objects.iter().enumerate() {
            match parse_object(array, object, &state.braze.rest.rejects) {
                Ok((fact, written)) => {
                    processed += 1;
                    data_points += written;
                    facts.extend(fact);
                }
                Err(error) => errors.push(error_json(&error, array, index)),
            }
        }
        if processed > 0 {
            body[format!("{array}_processed")] = processed.into();
        }
    }
    if errors.len() == count {
        body = json!({ "message": NOTHING_VALID, "errors": errors });
        return Err(BrazeResponse { status: StatusCode::BAD_REQUEST, headers: Vec::new(), body });
    }
    if !errors.is_empty() {
        body["errors"] = errors.into();
    }
    state.braze.rest.counters.tracked(count, data_points);
    state.braze.record_all(facts).map_err(BrazeResponse::memory_failed)?;
    Ok(BrazeResponse { status: StatusCode::CREATED, headers: Vec::new(), body })
}

fn error_json(error: &TrackError, array: &str, index: usize) -> Value {
    if error.indexed {
        json!({ "type": error.kind, "input_array": array, "index": index })
    } else {
        json!({ "type": error.kind })
    }
}

/// The fact and the data points of an object, or its error.
fn parse_object(
    array: &str,
    object: &Value,
    rejects: &[TrackReject],
) -> Result<(Option<BrazeFact>, u64), TrackError> {
    let error = |kind: &str| TrackError { kind: kind.to_owned(), indexed: true };
    let fields = object.as_object().ok_or_else(|| error("an object is required"))?;
    let identifier = identifier(fields).map_err(error)?;
    if let ProfileIdentifier::ExternalId(id) = &identifier {
        if id.len() > EXTERNAL_ID_LEN_MAX {
            return Err(error("EXTERNAL_USER_ID_TOO_LARGE"));
        }
        if let Some(reject) = rejects.iter().find(|reject| reject.external_id == *id) {
            return Err(TrackError { kind: reject.r#type.clone(), indexed: reject.indexed });
        }
    }
    if array != ARRAYS[0] {
        let named = ["name", "product_id"].iter().any(|key| fields.get(*key).is_some_and(Value::is_string));
        let timed = fields.get("time").and_then(Value::as_str).is_some();
        return if named && timed { Ok((None, 1)) } else { Err(error("'name' and 'time' are required")) };
    }
    let existing_only = fields.get("_update_existing_only").and_then(Value::as_bool);
    let create = match identifier {
        ProfileIdentifier::ExternalId(_) => existing_only != Some(true),
        ProfileIdentifier::UserAlias(_) => existing_only == Some(false),
        _ => false,
    };
    const IDENTIFIERS: [&str; 4] = ["external_id", "user_alias", "braze_id", "_update_existing_only"];
    let attributes: Map<String, Value> = fields
        .iter()
        .filter(|(key, _)| !IDENTIFIERS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let data_points = attributes.len() as u64;
    Ok((Some(BrazeFact::Described { identifier, create, attributes }), data_points))
}

/// The identifier of an object: exactly one primary identifier, or an email or a phone.
fn identifier(fields: &Map<String, Value>) -> Result<ProfileIdentifier, &'static str> {
    const NO_IDENTIFIER: &str = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required";
    let text = |key: &str| {
        fields.get(key).map(|value| value.as_str().filter(|text| !text.is_empty()).ok_or(NO_IDENTIFIER))
    };
    let alias = |value: &Value| serde_json::from_value::<Alias>(value.clone()).map_err(|_| NO_IDENTIFIER);
    let primary: Vec<ProfileIdentifier> = [
        text("external_id").transpose()?.map(|id| ProfileIdentifier::ExternalId(id.to_owned())),
        text("braze_id").transpose()?.map(|id| ProfileIdentifier::BrazeId(id.to_owned())),
        fields.get("user_alias").map(alias).transpose()?.map(ProfileIdentifier::UserAlias),
    ]
    .into_iter()
    .flatten()
    .collect();
    match <[ProfileIdentifier; 1]>::try_from(primary) {
        Ok([identifier]) => Ok(identifier),
        Err(primary) if primary.len() > 1 => {
            Err("only one of 'external_id', 'braze_id', 'user_alias' is allowed")
        }
        Err(_) => {
            let email = text("email").transpose()?.map(|email| ProfileIdentifier::Email(email.to_owned()));
            let phone = text("phone").transpose()?.map(|phone| ProfileIdentifier::Phone(phone.to_owned()));
            email.or(phone).ok_or(NO_IDENTIFIER)
        }
    }
}
