//! Read endpoints for items of Braze's dashboard: segments, campaigns, Canvases.
//!
//! Source: Braze, "Export segments list" (pages of 100 from 0; archived segments are never listed), "Export
//! segment details" (the filters as a text, no archived flag, no id), "Export segment analytics" (1 to 100
//! days), and the same pages for campaigns and Canvases. None of them exposes the target of a campaign or a
//! Canvas.

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::super::BrazeResponse;
use super::super::catalog::{BrazeSegment, CampaignOrCanvas, CatalogItem, CatalogList, is_api_id};
use super::super::store::BrazeStore;
use super::serve::RestRequest;
use crate::{SandboxOptions, SandboxState, clock};

const PAGE_LEN: usize = 100;

fn ok(mut body: Value) -> BrazeResponse {
    body["message"] = "success".into();
    BrazeResponse { status: StatusCode::OK, headers: Vec::new(), body }
}

/// One page of the list, oldest first by default. Pages beyond the end are empty.
fn page<T: Clone>(items: Vec<&T>, request: &RestRequest) -> Result<Vec<T>, BrazeResponse> {
    let page = request.text("page").map_or(Ok(0), str::parse::<usize>);
    let page = page.map_err(|_| BrazeResponse::bad_request("page must be a non-negative integer"))?;
    let items: Vec<&T> = match request.text("sort_direction") {
        None | Some("asc") => items,
        Some("desc") => items.into_iter().rev().collect(),
        Some(_) => return Err(BrazeResponse::bad_request("sort_direction must be 'asc' or 'desc'")),
    };
    Ok(items.into_iter().skip(page.saturating_mul(PAGE_LEN)).take(PAGE_LEN).cloned().collect())
}

fn flag(request: &RestRequest, key: &str) -> Result<bool, BrazeResponse> {
    let text = request.text(key).unwrap_or("false");
    text.parse().map_err(|_| BrazeResponse::bad_request(format!("{key} must be true or false")))
}

pub(super) fn segments(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let shown = state.braze.store.catalog.segments.iter().filter(|segment| !segment.archived).collect();
    let entry = |segment: BrazeSegment| {
        json!({
            "id": segment.id,
            "name": segment.name,
            "analytics_tracking_enabled": segment.analytics_tracking_enabled,
            "tags": segment.tags,
        })
    };
    Ok(ok(json!({ "segments": page(shown, request)?.into_iter().map(entry).collect::<Vec<_>>() })))
}

/// The item with the API identifier in parameter `key`.
fn find_item<'a, T: CatalogItem>(
    items: &'a CatalogList<T>,
    key: &str,
    kind: &str,
    options: &SandboxOptions,
    request: &RestRequest,
) -> Result<&'a T, BrazeResponse> {
    let message = format!("{key} must be a string of the {kind} api identifier");
    let id =
        request.text(key).filter(|id| is_api_id(id)).ok_or_else(|| BrazeResponse::bad_request(&message))?;
    items
        .get(id)
        .ok_or_else(|| BrazeResponse::new(crate::serve::status_of(options.rest.unknown_id), &message))
}

pub(super) fn segment(
    state: &mut SandboxState,
    options: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let store = &state.braze.store;
    let segment = find_item(&store.catalog.segments, "segment_id", "segment", options, request)?;
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

/// The filters as a text. Braze's wording is not documented.
fn filters(store: &BrazeStore, segment: &BrazeSegment) -> String {
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

pub(super) fn sizes(
    state: &mut SandboxState,
    options: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let store = &state.braze.store;
    let segment = find_item(&store.catalog.segments, "segment_id", "segment", options, request)?;
    let length = request.text("length").and_then(|text| text.parse().ok()).filter(|n| (1..=100).contains(n));
    let length: i64 =
        length.ok_or_else(|| BrazeResponse::bad_request("length must be an integer from 1 to 100"))?;
    let until = match request.text("ending_at") {
        None => i64::try_from(clock::now().as_secs()).ok().and_then(|now| Timestamp::from_second(now).ok()),
        Some(text) => text.parse().ok(),
    };
    let until = until.ok_or_else(|| BrazeResponse::bad_request("ending_at must be an ISO-8601 time"))?;
    // Without analytics tracking there are no sizes (the page does not say so).
    let days = if segment.analytics_tracking_enabled { length } else { 0 };
    let now = store.in_segment(segment).len() as u64;
    let day = |days_ago: i64| {
        let at = until.checked_sub(SignedDuration::from_hours(24 * days_ago)).ok()?;
        let date = at.strftime("%Y-%m-%d").to_string();
        // There is no size before the day of creation.
        let recorded = segment.sizes.get(&date).copied();
        let size = recorded.or_else(|| (*date >= *segment.created_at.get(..10)?).then_some(now))?;
        Some(json!({ "time": date, "size": size }))
    };
    Ok(ok(json!({ "data": (0..days).rev().filter_map(day).collect::<Vec<_>>() })))
}

/// A page of campaigns or Canvases.
fn list_page(
    list: &CatalogList<CampaignOrCanvas>,
    request: &RestRequest,
) -> Result<Vec<CampaignOrCanvas>, BrazeResponse> {
    let archived = flag(request, "include_archived")?;
    let later = match request.text("last_edit.time[gt]") {
        None => None,
        Some(text) => Some(
            text.parse::<jiff::civil::DateTime>()
                .map_err(|_| BrazeResponse::bad_request("last_edit.time must be yyyy-MM-DDTHH:mm:ss"))?,
        ),
    };
    let edited = |item: &CampaignOrCanvas| {
        let at: Option<Timestamp> = item.updated_at.parse().ok();
        at.map(|at| TimeZone::UTC.to_datetime(at))
    };
    let shown = list
        .iter()
        .filter(|item| archived || !item.archived)
        .filter(|item| later.is_none_or(|later| edited(item).is_some_and(|at| at > later)));
    page(shown.collect(), request)
}

pub(super) fn campaigns(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let entry = |item: CampaignOrCanvas| {
        json!({ "id": item.id, "last_edited": item.updated_at, "name": item.name,
                "is_api_campaign": item.is_api, "tags": item.tags })
    };
    let found = list_page(&state.braze.store.catalog.campaigns, request)?;
    Ok(ok(json!({ "campaigns": found.into_iter().map(entry).collect::<Vec<_>>() })))
}

pub(super) fn canvases(
    state: &mut SandboxState,
    _: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let entry = |item: CampaignOrCanvas| json!({ "id": item.id, "last_edited": item.updated_at, "name": item.name, "tags": item.tags });
    let found = list_page(&state.braze.store.catalog.canvases, request)?;
    Ok(ok(json!({ "canvases": found.into_iter().map(entry).collect::<Vec<_>>() })))
}

/// Details that campaigns and Canvases share.
fn details(item: &CampaignOrCanvas) -> Value {
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

pub(super) fn campaign(
    state: &mut SandboxState,
    options: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let list = &state.braze.store.catalog.campaigns;
    let mut body = details(find_item(list, "campaign_id", "campaign", options, request)?);
    body["messages"] = json!({});
    body["conversion_behaviors"] = json!([]);
    Ok(ok(body))
}

pub(super) fn canvas(
    state: &mut SandboxState,
    options: &SandboxOptions,
    request: &RestRequest,
) -> Result<BrazeResponse, BrazeResponse> {
    let mut body =
        details(find_item(&state.braze.store.catalog.canvases, "canvas_id", "Canvas", options, request)?);
    body["variants"] = json!([]);
    body["steps"] = json!([]);
    Ok(ok(body))
}
