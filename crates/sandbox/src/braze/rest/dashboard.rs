//! What people make in Braze's dashboard, as the REST side tells of it: segments, campaigns, Canvases.
//!
//! Source: Braze, "Export segments list" (pages of 100 from 0; no archived ones, and no way to ask for
//! them), "Export segment details" (the filters as a text, no archived flag, no id), "Export segment
//! analytics" (1 to 100 days), and the same pages for campaigns and Canvases. None of them tells what a
//! campaign or a Canvas targets.

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::super::Answer;
use super::super::catalog::{Item, Messaging, Segment, Shelf, is_api_id};
use super::super::store::BrazeStore;
use super::serve::Asked;
use crate::{Inner, Options, clock};

const PAGE_LEN: usize = 100;

fn ok(mut body: Value) -> Answer {
    body["message"] = "success".into();
    Answer { status: StatusCode::OK, headers: Vec::new(), body }
}

/// One page of what is shown, the oldest first unless asked otherwise. Beyond the end a page is empty.
fn page<T: Clone>(shown: Vec<&T>, asked: &Asked) -> Result<Vec<T>, Answer> {
    let page = asked.text("page").map_or(Ok(0), str::parse::<usize>);
    let page = page.map_err(|_| Answer::bad_request("page must be a non-negative integer"))?;
    let shown: Vec<&T> = match asked.text("sort_direction") {
        None | Some("asc") => shown,
        Some("desc") => shown.into_iter().rev().collect(),
        Some(_) => return Err(Answer::bad_request("sort_direction must be 'asc' or 'desc'")),
    };
    Ok(shown.into_iter().skip(page.saturating_mul(PAGE_LEN)).take(PAGE_LEN).cloned().collect())
}

fn flag(asked: &Asked, key: &str) -> Result<bool, Answer> {
    let text = asked.text(key).unwrap_or("false");
    text.parse().map_err(|_| Answer::bad_request(format!("{key} must be true or false")))
}

pub(super) fn segments(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let shown = inner.braze.store.catalog.segments.iter().filter(|segment| !segment.archived).collect();
    let entry = |segment: Segment| {
        json!({
            "id": segment.id,
            "name": segment.name,
            "analytics_tracking_enabled": segment.analytics_tracking_enabled,
            "tags": segment.tags,
        })
    };
    Ok(ok(json!({ "segments": page(shown, asked)?.into_iter().map(entry).collect::<Vec<_>>() })))
}

/// The item that `key` names.
fn named<'a, T: Item>(
    shelf: &'a Shelf<T>,
    key: &str,
    what: &str,
    options: &Options,
    asked: &Asked,
) -> Result<&'a T, Answer> {
    let message = format!("{key} must be a string of the {what} api identifier");
    let id = asked.text(key).filter(|id| is_api_id(id)).ok_or_else(|| Answer::bad_request(&message))?;
    shelf.get(id).ok_or_else(|| Answer::new(crate::serve::status_of(options.rest.unknown_id), &message))
}

pub(super) fn segment(inner: &mut Inner, options: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let store = &inner.braze.store;
    let segment = named(&store.catalog.segments, "segment_id", "segment", options, asked)?;
    Ok(ok(json!({
        "created_at": segment.created_at,
        "updated_at": segment.updated_at,
        "name": segment.name,
        "description": segment.description.clone().unwrap_or_else(|| filters(store, segment)),
        "text_description": segment.text_description,
        "tags": segment.tags,
        "teams": [],
    })))
}

/// The filters in words. Braze's own wording is not documented.
fn filters(store: &BrazeStore, segment: &Segment) -> String {
    let part = |verb: &'static str| {
        move |id: &String| match id.split_once('=') {
            Some((name, value)) => format!("Custom attribute {name} {verb} {value}"),
            None => format!("Heap Cohorts {verb} {}", store.cohort_name(id)),
        }
    };
    let joined = |ids: &[String], verb, with| ids.iter().map(part(verb)).collect::<Vec<_>>().join(with);
    let include = joined(&segment.include, "includes", if segment.all { " AND " } else { " OR " });
    let exclude = joined(&segment.exclude, "does not include", " AND ");
    [include, exclude].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" AND ")
}

pub(super) fn sizes(inner: &mut Inner, options: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let store = &inner.braze.store;
    let segment = named(&store.catalog.segments, "segment_id", "segment", options, asked)?;
    let length = asked.text("length").and_then(|text| text.parse().ok()).filter(|n| (1..=100).contains(n));
    let length: i64 = length.ok_or_else(|| Answer::bad_request("length must be an integer from 1 to 100"))?;
    let until = match asked.text("ending_at") {
        None => i64::try_from(clock::now().as_secs()).ok().and_then(|now| Timestamp::from_second(now).ok()),
        Some(text) => text.parse().ok(),
    };
    let until = until.ok_or_else(|| Answer::bad_request("ending_at must be an ISO-8601 time"))?;
    // Without its analytics nothing is counted (not stated by the page).
    let days = if segment.analytics_tracking_enabled { length } else { 0 };
    let now = store.in_segment(segment).len() as u64;
    let day = |back: i64| {
        let at = until.checked_sub(SignedDuration::from_hours(24 * back)).ok()?;
        let date = at.strftime("%Y-%m-%d").to_string();
        // A segment is as old as its first day.
        let known = segment.sizes.get(&date).copied();
        let size = known.or_else(|| (*date >= *segment.created_at.get(..10)?).then_some(now))?;
        Some(json!({ "time": date, "size": size }))
    };
    Ok(ok(json!({ "data": (0..days).rev().filter_map(day).collect::<Vec<_>>() })))
}

/// A list of campaigns or Canvases.
fn list(shelf: &Shelf<Messaging>, asked: &Asked) -> Result<Vec<Messaging>, Answer> {
    let archived = flag(asked, "include_archived")?;
    let later = match asked.text("last_edit.time[gt]") {
        None => None,
        Some(text) => Some(
            text.parse::<jiff::civil::DateTime>()
                .map_err(|_| Answer::bad_request("last_edit.time must be yyyy-MM-DDTHH:mm:ss"))?,
        ),
    };
    let edited = |item: &Messaging| {
        let at: Option<Timestamp> = item.updated_at.parse().ok();
        at.map(|at| TimeZone::UTC.to_datetime(at))
    };
    let shown = shelf
        .iter()
        .filter(|item| archived || !item.archived)
        .filter(|item| later.is_none_or(|later| edited(item).is_some_and(|at| at > later)));
    page(shown.collect(), asked)
}

pub(super) fn campaigns(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let entry = |item: Messaging| {
        json!({ "id": item.id, "last_edited": item.updated_at, "name": item.name,
                "is_api_campaign": item.is_api, "tags": item.tags })
    };
    let found = list(&inner.braze.store.catalog.campaigns, asked)?;
    Ok(ok(json!({ "campaigns": found.into_iter().map(entry).collect::<Vec<_>>() })))
}

pub(super) fn canvases(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let entry = |item: Messaging| json!({ "id": item.id, "last_edited": item.updated_at, "name": item.name, "tags": item.tags });
    let found = list(&inner.braze.store.catalog.canvases, asked)?;
    Ok(ok(json!({ "canvases": found.into_iter().map(entry).collect::<Vec<_>>() })))
}

/// What both kinds of details have.
fn details(item: &Messaging) -> Value {
    json!({
        "created_at": item.created_at,
        "updated_at": item.updated_at,
        "name": item.name,
        "description": item.description,
        "archived": item.archived,
        "draft": item.draft,
        "enabled": item.enabled,
        "has_post_launch_draft": false,
        "schedule_type": item.schedule_type,
        "channels": item.channels,
        "tags": item.tags,
        "teams": [],
    })
}

pub(super) fn campaign(inner: &mut Inner, options: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let shelf = &inner.braze.store.catalog.campaigns;
    let mut body = details(named(shelf, "campaign_id", "campaign", options, asked)?);
    body["messages"] = json!({});
    body["conversion_behaviors"] = json!([]);
    Ok(ok(body))
}

pub(super) fn canvas(inner: &mut Inner, options: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let mut body =
        details(named(&inner.braze.store.catalog.canvases, "canvas_id", "Canvas", options, asked)?);
    body["variants"] = json!([]);
    body["steps"] = json!([]);
    Ok(ok(body))
}
