//! Identity endpoints: create aliases, identify, merge and delete users.
//!
//! Source: Braze, "Create new user alias", "Identify users", "Merge users", "Delete users": 50 objects per
//! request; a success only confirms that the request was understood. An email or phone matches if exactly one
//! profile has it. `prioritization` is not simulated.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::BrazeResponse;
use super::super::profiles::{Alias, ProfileIdentifier};
use super::super::store::BrazeFact;
use super::serve::RestRequest;
use crate::{SandboxOptions, SandboxState};

const OBJECTS_MAX: usize = 50;

/// A body key, and the identifier in an object under it.
type IdentifierKind = (&'static str, fn(&Value) -> Option<ProfileIdentifier>);

/// The objects of an array; empty if the key is absent.
fn objects<'a>(body: &'a Value, key: &str) -> Result<&'a [Value], BrazeResponse> {
    let list = match body.get(key) {
        None => return Ok(&[]),
        Some(value) => value.as_array(),
    };
    let list = list.filter(|list| list.iter().all(Value::is_object));
    let list =
        list.ok_or_else(|| BrazeResponse::bad_request(format!("'{key}' must be an array of objects")))?;
    if list.len() > OBJECTS_MAX {
        return Err(BrazeResponse::bad_request("The max number of ids per request was exceeded"));
    }
    Ok(list)
}

fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn parse_alias(object: &Value) -> Option<Alias> {
    let part = |key| text(object, key).filter(|text| text.len() <= 236);
    Some(Alias { alias_label: part("alias_label")?, alias_name: part("alias_name")? })
}

fn record_and_respond(
    state: &mut SandboxState,
    facts: Vec<BrazeFact>,
    status: StatusCode,
    body: Value,
) -> Result<BrazeResponse, BrazeResponse> {
    state.braze.record_all(facts).map_err(BrazeResponse::memory_failed)?;
    Ok(BrazeResponse { status, headers: Vec::new(), body })
}

pub(super) fn alias(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let list = objects(&request.body, "user_aliases")?;
    let fact = |object: &Value| {
        let alias = parse_alias(object)?;
        Some(BrazeFact::Aliased { external_id: text(object, "external_id"), alias })
    };
    let facts: Option<Vec<BrazeFact>> = list.iter().map(fact).collect();
    let facts = facts.filter(|facts| !facts.is_empty());
    let facts =
        facts.ok_or_else(|| BrazeResponse::bad_request("'user_aliases' must be an array of objects"))?;
    let body = json!({ "aliases_processed": facts.len(), "message": "success" });
    record_and_respond(state, facts, StatusCode::CREATED, body)
}

pub(super) fn identify(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let kinds: [IdentifierKind; 3] = [
        ("aliases_to_identify", |object| {
            parse_alias(object.get("user_alias")?).map(ProfileIdentifier::UserAlias)
        }),
        ("emails_to_identify", |object| text(object, "email").map(ProfileIdentifier::Email)),
        ("phone_numbers_to_identify", |object| text(object, "phone").map(ProfileIdentifier::Phone)),
    ];
    let mut facts = Vec::new();
    for (key, identifier) in kinds {
        for object in objects(&request.body, key)? {
            let fact = identifier(object).zip(text(object, "external_id"));
            let (identifier, external_id) = fact
                .ok_or_else(|| BrazeResponse::bad_request(format!("'{key}' must be an array of objects")))?;
            facts.push(BrazeFact::ExternalIdAssigned { by: identifier, external_id });
        }
    }
    if facts.is_empty() {
        return Err(BrazeResponse::bad_request("'aliases_to_identify' must be an array of objects"));
    }
    let body = json!({ "aliases_processed": facts.len(), "message": "success" });
    record_and_respond(state, facts, StatusCode::CREATED, body)
}

pub(super) fn merge(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    const SHAPE: &str = "'merge_updates' must be an array of objects";
    let list = objects(&request.body, "merge_updates")?;
    let identifier = |object: &Value| {
        let alias = || object.get("user_alias").and_then(parse_alias).map(ProfileIdentifier::UserAlias);
        text(object, "external_id")
            .map(ProfileIdentifier::ExternalId)
            .or_else(alias)
            .or_else(|| text(object, "braze_id").map(ProfileIdentifier::BrazeId))
            .or_else(|| text(object, "email").map(ProfileIdentifier::Email))
            .or_else(|| text(object, "phone").map(ProfileIdentifier::Phone))
    };
    let fact = |object: &Value| {
        let source = identifier(object.get("identifier_to_merge")?)?;
        Some(BrazeFact::Merged { source, target: identifier(object.get("identifier_to_keep")?)? })
    };
    let facts: Option<Vec<BrazeFact>> = list.iter().map(fact).collect();
    let facts = facts.filter(|facts| !facts.is_empty()).ok_or_else(|| BrazeResponse::bad_request(SHAPE))?;
    record_and_respond(state, facts, StatusCode::ACCEPTED, json!({ "message": "success" }))
}

pub(super) fn delete(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let kinds: [IdentifierKind; 5] = [
        ("external_ids", |id| id.as_str().map(|id| ProfileIdentifier::ExternalId(id.to_owned()))),
        ("user_aliases", |alias| parse_alias(alias).map(ProfileIdentifier::UserAlias)),
        ("braze_ids", |id| id.as_str().map(|id| ProfileIdentifier::BrazeId(id.to_owned()))),
        ("email_addresses", |object| text(object, "email").map(ProfileIdentifier::Email)),
        ("phone_numbers", |object| text(object, "phone").map(ProfileIdentifier::Phone)),
    ];
    let mut given =
        kinds.iter().filter_map(|(key, identifier)| Some((request.body.get(*key)?.as_array()?, identifier)));
    let (Some((list, identifier)), None) = (given.next(), given.next()) else {
        return Err(BrazeResponse::bad_request("exactly one kind of identifier must be given"));
    };
    if list.len() > OBJECTS_MAX {
        return Err(BrazeResponse::bad_request("The max number of ids per request was exceeded"));
    }
    let facts: Option<Vec<BrazeFact>> =
        list.iter().map(|object| Some(BrazeFact::Deleted { identifier: identifier(object)? })).collect();
    let facts = facts.ok_or_else(|| BrazeResponse::bad_request("an identifier is invalid"))?;
    let body = json!({ "deleted": facts.len(), "message": "success" });
    record_and_respond(state, facts, StatusCode::CREATED, body)
}
