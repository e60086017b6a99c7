//! Triggered sends of campaigns and Canvases.
//!
//! Source: Braze, "Send campaigns using API-triggered delivery", "Send Canvases using API-triggered delivery":
//! at most 50 recipients, each by exactly one identifier; `broadcast` without recipients; with a target
//! segment, only users in both get the message; a paused or archived Canvas responds 201 with a `notice`. The
//! response of a paused or archived campaign is not documented: here 201, and no user gets it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::BrazeResponse;
use super::super::catalog::{CampaignOrCanvas, TriggeredSend, api_id, is_api_id};
use super::super::profiles::{Alias, ProfileIdentifier};
use super::super::store::{BrazeFact, BrazeStore, label};
use super::serve::RestRequest;
use crate::{SandboxOptions, SandboxState};

const RECIPIENTS_MAX: usize = 50;
/// Most bytes in the context of a Canvas.
const CONTEXT_LEN_MAX: usize = 50 << 10;

pub(super) fn campaign(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let found = item_id(request, "campaign_id").and_then(|id| state.braze.store.catalog.campaigns.get(id));
    let item = found.filter(|item| item.is_api).cloned();
    let item = item.ok_or_else(|| BrazeResponse::bad_request("Invalid Campaign ID"))?;
    send(state, request, "campaign", &item, None)
}

pub(super) fn canvas(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let found = item_id(request, "canvas_id").and_then(|id| state.braze.store.catalog.canvases.get(id));
    let item = found.filter(|item| item.is_api).cloned();
    let item = item.ok_or_else(|| {
        BrazeResponse::bad_request("canvas_id must be a string of the Canvas api identifier")
    })?;
    let context = request.body.get("context").or_else(|| request.body.get("canvas_entry_properties"));
    if context.is_some_and(|context| context.to_string().len() > CONTEXT_LEN_MAX) {
        return Err(BrazeResponse::bad_request("Max Input Length Exceeded"));
    }
    let notice = match (item.archived, item.enabled) {
        (true, _) => {
            Some("The Canvas is archived. Unarchive the Canvas to ensure trigger messages will take effect.")
        }
        (false, false) => {
            Some("The Canvas is paused. Resume the Canvas to ensure trigger messages will take effect.")
        }
        (false, true) => None,
    };
    send(state, request, "canvas", &item, notice)
}

fn item_id<'a>(request: &'a RestRequest, key: &str) -> Option<&'a str> {
    request.text(key).filter(|id| is_api_id(id))
}

fn send(
    state: &mut SandboxState,
    request: &RestRequest,
    kind: &str,
    item: &CampaignOrCanvas,
    notice: Option<&str>,
) -> Result<BrazeResponse, BrazeResponse> {
    let recipients = recipients(&request.body)?;
    let missing = state.braze.store.missing(recipients.iter().flatten());
    state.braze.record_all(missing).map_err(BrazeResponse::memory_failed)?;
    let store = &state.braze.store;
    let is_live = item.enabled && !item.archived && !item.draft;
    let reached = if is_live { reached_users(store, item, recipients.as_deref()) } else { Vec::new() };
    let number = store.catalog.sends.len().to_string();
    let dispatch_id = api_id(&format!("dispatch {kind}"), &number).replace('-', "");
    let send = TriggeredSend {
        kind: kind.to_owned(),
        id: item.id.clone(),
        dispatch_id: dispatch_id.clone(),
        recipients: request.body.get("recipients").and_then(Value::as_array).cloned().unwrap_or_default(),
        reached,
    };
    state.braze.record_all(vec![BrazeFact::Triggered(send)]).map_err(BrazeResponse::memory_failed)?;
    let mut body = json!({ "dispatch_id": dispatch_id, "message": "success" });
    if let Some(notice) = notice {
        body["notice"] = notice.into();
    }
    Ok(BrazeResponse { status: StatusCode::CREATED, headers: Vec::new(), body })
}

/// The recipients; `None` means every user in the target.
fn recipients(body: &Value) -> Result<Option<Vec<ProfileIdentifier>>, BrazeResponse> {
    let broadcast = body.get("broadcast").and_then(Value::as_bool).unwrap_or(false);
    let list = match body.get("recipients") {
        None | Some(Value::Null) if broadcast => return Ok(None),
        Some(_) if broadcast => {
            return Err(BrazeResponse::bad_request("broadcast cannot be used with recipients"));
        }
        None | Some(Value::Null) => return Err(BrazeResponse::bad_request("No Recipients")),
        Some(list) => list.as_array().filter(|list| !list.is_empty()),
    };
    let list = list.ok_or_else(|| BrazeResponse::bad_request("No Recipients"))?;
    if list.len() > RECIPIENTS_MAX {
        return Err(BrazeResponse::bad_request("The max number of ids per request was exceeded"));
    }
    let identifier: Option<Vec<ProfileIdentifier>> = list.iter().map(recipient).collect();
    identifier.map(Some).ok_or_else(|| {
        BrazeResponse::bad_request("each recipient needs exactly one of external_user_id, user_alias, email")
    })
}

fn recipient(object: &Value) -> Option<ProfileIdentifier> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let alias = || serde_json::from_value::<Alias>(object.get("user_alias")?.clone()).ok();
    let named = [
        text("external_user_id").map(ProfileIdentifier::ExternalId),
        alias().map(ProfileIdentifier::UserAlias),
        text("email").map(ProfileIdentifier::Email),
    ];
    let mut named = named.into_iter().flatten();
    named.next().filter(|_| named.next().is_none())
}

fn reached_users(
    store: &BrazeStore,
    item: &CampaignOrCanvas,
    recipients: Option<&[ProfileIdentifier]>,
) -> Vec<String> {
    let segment = item.segment_id.as_deref().and_then(|id| store.catalog.segments.get(id));
    let target = segment.map(|segment| store.in_segment(segment));
    let found: Vec<usize> = match (recipients, &target) {
        (Some(recipients), _) => {
            recipients.iter().flat_map(|identifier| store.profiles.find(identifier)).collect()
        }
        (None, Some(target)) => target.clone(),
        (None, None) => Vec::new(),
    };
    let targeted = |at: &usize| target.as_ref().is_none_or(|target| target.contains(at));
    found.into_iter().filter(targeted).map(|at| label(store.profiles.get(at))).collect()
}
