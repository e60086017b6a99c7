//! Campaigns and Canvases that are triggered.
//!
//! Source: Braze, "Send campaigns using API-triggered delivery", "Send Canvases using API-triggered
//! delivery": at most 50 recipients, each by exactly one identifier; `broadcast` without them; where there is
//! a target as well, only who is in both gets it; a paused or archived Canvas still answers 201, with a
//! `notice`. What a paused or archived campaign answers is not documented: 201, and nobody gets it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::Answer;
use super::super::catalog::{Messaging, Sent, api_id, is_api_id};
use super::super::people::{Alias, Who};
use super::super::store::{BrazeStore, Fact, label};
use super::serve::Asked;
use crate::{Inner, Options};

const RECIPIENTS_MAX: usize = 50;
/// Bytes of a Canvas's context.
const CONTEXT_LEN_MAX: usize = 50 << 10;

pub(super) fn campaign(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let known = id_of(asked, "campaign_id").and_then(|id| inner.braze.store.catalog.campaigns.get(id));
    let item = known.filter(|item| item.is_api).cloned();
    let item = item.ok_or_else(|| Answer::bad_request("Invalid Campaign ID"))?;
    send(inner, asked, "campaign", &item, None)
}

pub(super) fn canvas(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let known = id_of(asked, "canvas_id").and_then(|id| inner.braze.store.catalog.canvases.get(id));
    let item = known.filter(|item| item.is_api).cloned();
    let item =
        item.ok_or_else(|| Answer::bad_request("canvas_id must be a string of the Canvas api identifier"))?;
    let context = asked.body.get("context").or_else(|| asked.body.get("canvas_entry_properties"));
    if context.is_some_and(|context| context.to_string().len() > CONTEXT_LEN_MAX) {
        return Err(Answer::bad_request("Max Input Length Exceeded"));
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
    send(inner, asked, "canvas", &item, notice)
}

fn id_of<'a>(asked: &'a Asked, key: &str) -> Option<&'a str> {
    asked.text(key).filter(|id| is_api_id(id))
}

fn send(
    inner: &mut Inner,
    asked: &Asked,
    of: &str,
    item: &Messaging,
    notice: Option<&str>,
) -> Result<Answer, Answer> {
    let recipients = recipients(&asked.body)?;
    let store = &inner.braze.store;
    let goes = item.enabled && !item.archived && !item.draft;
    let reached = if goes { reached(store, item, recipients.as_deref()) } else { Vec::new() };
    let number = store.catalog.sent.len().to_string();
    let dispatch_id = api_id(&format!("dispatch {of}"), &number).replace('-', "");
    let sent = Sent {
        of: of.to_owned(),
        id: item.id.clone(),
        dispatch_id: dispatch_id.clone(),
        recipients: asked.body.get("recipients").and_then(Value::as_array).cloned().unwrap_or_default(),
        reached,
    };
    inner.braze.keep_all(vec![Fact::Sent(sent)]).map_err(Answer::of_memory)?;
    let mut body = json!({ "dispatch_id": dispatch_id, "message": "success" });
    if let Some(notice) = notice {
        body["notice"] = notice.into();
    }
    Ok(Answer { status: StatusCode::CREATED, headers: Vec::new(), body })
}

/// Who is named; none: everybody in the target.
fn recipients(body: &Value) -> Result<Option<Vec<Who>>, Answer> {
    let broadcast = body.get("broadcast").and_then(Value::as_bool).unwrap_or(false);
    let list = match body.get("recipients") {
        None | Some(Value::Null) if broadcast => return Ok(None),
        Some(_) if broadcast => return Err(Answer::bad_request("broadcast cannot be used with recipients")),
        None | Some(Value::Null) => return Err(Answer::bad_request("No Recipients")),
        Some(list) => list.as_array().filter(|list| !list.is_empty()),
    };
    let list = list.ok_or_else(|| Answer::bad_request("No Recipients"))?;
    if list.len() > RECIPIENTS_MAX {
        return Err(Answer::bad_request("The max number of ids per request was exceeded"));
    }
    let who: Option<Vec<Who>> = list.iter().map(recipient).collect();
    who.map(Some).ok_or_else(|| {
        Answer::bad_request("each recipient needs exactly one of external_user_id, user_alias, email")
    })
}

fn recipient(object: &Value) -> Option<Who> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let alias = || serde_json::from_value::<Alias>(object.get("user_alias")?.clone()).ok();
    let named = [
        text("external_user_id").map(Who::ExternalId),
        alias().map(Who::UserAlias),
        text("email").map(Who::Email),
    ];
    let mut named = named.into_iter().flatten();
    named.next().filter(|_| named.next().is_none())
}

fn reached(store: &BrazeStore, item: &Messaging, recipients: Option<&[Who]>) -> Vec<String> {
    let segment = item.segment_id.as_deref().and_then(|id| store.catalog.segments.get(id));
    let target = segment.map(|segment| store.in_segment(segment));
    let found: Vec<usize> = match (recipients, &target) {
        (Some(recipients), _) => recipients.iter().flat_map(|who| store.profiles.find(who)).collect(),
        (None, Some(target)) => target.clone(),
        (None, None) => Vec::new(),
    };
    let targeted = |at: &usize| target.as_ref().is_none_or(|target| target.contains(at));
    found.into_iter().filter(targeted).map(|at| label(store.profiles.get(at))).collect()
}
