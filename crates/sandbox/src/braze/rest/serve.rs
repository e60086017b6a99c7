//! How a request to the REST side is served: its key and permission checked, counted against its limit,
//! struck by the fault plan, worked on, answered.
//!
//! Order (Braze, "API basics": first whether the key is there, then what it may do; the rest is not
//! documented): key, limit, permission, content type, body. A 401 counts against no limit.

use std::collections::HashMap;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use serde_json::Value;

use super::super::limits::Quota;
use super::super::{Answer, BODY_LEN_MAX};
use super::{Call, READS, RestGroup, WRITES, export};
use crate::faults::{Action, Endpoint, Instead};
use crate::serve::{HangUp, put, status_of};
use crate::{Inner, Options, Shared, clock};

/// What a call does, under the sandbox's lock: an answer, or a refusal.
pub(super) type Work = fn(&mut Inner, &Options, &Asked) -> Result<Answer, Answer>;

/// What is asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) query: HashMap<String, String>,
    pub(super) body: Value,
    /// The sandbox as the client sees it.
    pub(super) host: String,
}

impl Asked {
    /// A parameter, or a text of the body.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str).or_else(|| self.body.get(key)?.as_str())
    }
}

pub(in super::super) fn routes() -> Router<Shared> {
    let mut router = Router::new();
    for (method, calls) in [(MethodFilter::GET, &READS[..]), (MethodFilter::POST, &WRITES[..])] {
        for call in calls {
            let handler = move |state: axum::extract::State<Shared>, request: Request<Body>| {
                serve(state.0, call, request)
            };
            router = router.route(call.path, on(method, handler));
        }
    }
    router.merge(export::routes())
}

async fn serve(shared: Shared, call: &'static Call, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let Ok(body) = axum::body::to_bytes(body, BODY_LEN_MAX).await else {
        let answer = Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
        return respond(&shared, &answer, None, call.group);
    };
    shared.lock().braze.rest.counters.request(call.endpoint);
    if let Err(answer) = check_key(&shared, &parts.headers) {
        return respond(&shared, &answer, None, call.group);
    }
    let value = serde_json::from_slice(&body).ok();
    let group = group(call, value.as_ref());
    let quota = shared.lock().braze.rest.limits.get_mut(&group).map(super::RateLimit::take);
    if quota.is_some_and(|quota| quota.exceeded) {
        let answer = Answer::new(StatusCode::TOO_MANY_REQUESTS, "You have exceeded your rate limit");
        return respond(&shared, &answer, quota, group);
    }
    // The fault plan looks for texts in what was asked: the body, or the query where there is none.
    let text = if body.is_empty() { query.as_bytes() } else { &body };
    match struck(&shared, call, &parts.headers, &query, text, value).await {
        Some(answer) => respond(&shared, &answer, quota, group),
        None => HangUp::response(),
    }
}

/// A send to everybody has a limit of its own.
fn group(call: &Call, body: Option<&Value>) -> RestGroup {
    let triggers = [Endpoint::CampaignsTrigger, Endpoint::CanvasTrigger].contains(&call.endpoint);
    let broadcast = body.and_then(|body| body.get("broadcast")?.as_bool()).unwrap_or(false);
    if triggers && broadcast { RestGroup::Broadcast } else { call.group }
}

/// The answer, or none: the connection closes.
async fn struck(
    shared: &Shared,
    call: &Call,
    headers: &HeaderMap,
    query: &str,
    text: &[u8],
    body: Option<Value>,
) -> Option<Answer> {
    let fault = shared.lock().faults.strike(call.endpoint, "", text);
    let before = match &fault {
        Some(fault) => fault.before().await,
        None => None,
    };
    match before {
        Some(Instead::HangUp) => return None,
        Some(Instead::Status(status)) => return Some(Answer::new(status_of(status), "by the fault plan")),
        Some(Instead::Reply { status, headers, body }) => {
            return Some(Answer { status: status_of(status), headers, body });
        }
        None => {}
    }
    if let Some(held @ (Action::Hold | Action::HoldAndHang)) = fault {
        let (call, headers, query) = (call.clone(), headers.clone(), query.to_owned());
        shared.hold(move |shared| drop(done(shared, &call, &headers, &query, body)));
        return if held == Action::HoldAndHang { std::future::pending().await } else { None };
    }
    let answer = match done(shared, call, headers, query, body) {
        Ok(answer) => answer,
        Err(refusal) => return Some(refusal),
    };
    match fault {
        Some(Action::LoseAnswer) => None,
        Some(Action::HangAfter) => std::future::pending().await,
        Some(Action::DoneBut(body)) => Some(Answer { body, ..answer }),
        _ => Some(answer),
    }
}

fn done(
    shared: &Shared,
    call: &Call,
    headers: &HeaderMap,
    query: &str,
    body: Option<Value>,
) -> Result<Answer, Answer> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let mut inner = shared.lock();
    let key = text(header::AUTHORIZATION).and_then(key_of).unwrap_or_default();
    if let Some(Some(allowed)) = inner.braze.rest.keys.get(key)
        && !allowed.contains(call.permission)
    {
        return Err(Answer::new(StatusCode::FORBIDDEN, "Access Denied"));
    }
    let writes = WRITES.iter().any(|write| write.path == call.path);
    if writes && !text(header::CONTENT_TYPE).unwrap_or_default().starts_with("application/json") {
        return Err(Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json"));
    }
    let body = if writes {
        body.filter(Value::is_object)
            .ok_or_else(|| Answer::bad_request("the request body is not a JSON object"))?
    } else {
        Value::Null
    };
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let host = text(header::HOST).unwrap_or_default().to_owned();
    (call.work)(&mut inner, &shared.options, &Asked { query, body, host })
}

/// `Bearer`, in any case, and the key.
fn key_of(authorization: &str) -> Option<&str> {
    let (scheme, key) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

fn check_key(shared: &Shared, headers: &HeaderMap) -> Result<(), Answer> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = given.and_then(key_of).unwrap_or_default();
    if shared.lock().braze.rest.keys.contains_key(key) {
        return Ok(());
    }
    // Seen on Braze: the message repeats the key.
    Err(Answer::new(StatusCode::UNAUTHORIZED, format!("Invalid API key: {key}")))
}

fn respond(shared: &Shared, answer: &Answer, quota: Option<Quota>, group: RestGroup) -> Response {
    shared.lock().braze.rest.counters.answered(answer.status.as_u16());
    let mut response = Response::new(Body::from(answer.body.to_string()));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in limit_headers(shared, answer.status, quota, group) {
        put(headers, name, &value);
    }
    for (name, value) in &answer.headers {
        if value == "-" {
            headers.remove(name.as_str());
        } else {
            put(headers, name, value);
        }
    }
    response
}

/// What an answer says of its limit.
fn limit_headers(
    shared: &Shared,
    status: StatusCode,
    quota: Option<Quota>,
    group: RestGroup,
) -> Vec<(&'static str, String)> {
    const NAMES: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    // Seen on Braze: on a 401 the three headers are there and empty.
    let Some(quota) = quota else { return NAMES.map(|name| (name, String::new())).to_vec() };
    let seconds = quota.reset.saturating_sub(clock::now().as_secs()).max(1).to_string();
    let in_seconds = group == RestGroup::Track && shared.options.rest.track_in_seconds;
    let refused = status == StatusCode::TOO_MANY_REQUESTS;
    if refused && in_seconds {
        return vec![("x-ratelimit-retry-after", seconds)];
    }
    let reset = if in_seconds { seconds.clone() } else { quota.reset.to_string() };
    let values = [quota.limit.to_string(), quota.remaining.to_string(), reset];
    let mut headers: Vec<_> = NAMES.into_iter().zip(values).collect();
    if refused && shared.options.retry_after {
        headers.push(("x-ratelimit-retry-after", seconds));
    }
    headers
}
