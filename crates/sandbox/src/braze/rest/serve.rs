//! Request pipeline of the REST API: key, rate limit, fault plan, permission, execution, response.
//!
//! The documented order ("API basics") is key before permission. The rest is undocumented; here it is key,
//! limit, permission, content type, body. A 401 counts against no limit.

use std::collections::HashMap;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use serde_json::Value;

use super::super::limits::WindowStatus;
use super::super::{BODY_LEN_MAX, BrazeResponse};
use super::{GET_ENDPOINTS, POST_ENDPOINTS, RestEndpoint, RestGroup, export};
use crate::faults::{Endpoint, FaultAction, ReplacementResponse};
use crate::serve::{HangUp, replace_headers, set_header, status_of};
use crate::{SandboxHandle, SandboxOptions, SandboxState, clock};

/// Executes a request under the sandbox's lock. Returns the success, or the error response.
pub(super) type EndpointHandler =
    fn(&mut SandboxState, &SandboxOptions, &RestRequest) -> Result<BrazeResponse, BrazeResponse>;

/// A parsed request.
#[derive(Debug)]
pub(super) struct RestRequest {
    pub(super) query: HashMap<String, String>,
    pub(super) body: Value,
    /// Host header of the client.
    pub(super) host: String,
}

impl RestRequest {
    /// A query parameter, or a string of the body.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str).or_else(|| self.body.get(key)?.as_str())
    }
}

pub(in super::super) fn routes() -> Router<SandboxHandle> {
    let mut router = Router::new();
    for (method, endpoints) in
        [(MethodFilter::GET, &GET_ENDPOINTS[..]), (MethodFilter::POST, &POST_ENDPOINTS[..])]
    {
        for endpoint in endpoints {
            let serve_endpoint = move |state: axum::extract::State<SandboxHandle>, request: Request<Body>| {
                serve(state.0, endpoint, request)
            };
            router = router.route(endpoint.path, on(method, serve_endpoint));
        }
    }
    router.merge(export::routes())
}

async fn serve(shared: SandboxHandle, endpoint: &'static RestEndpoint, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let Ok(body) = axum::body::to_bytes(body, BODY_LEN_MAX).await else {
        let response = BrazeResponse::new(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
        return respond(&shared, &response, None, endpoint.group);
    };
    shared.lock().braze.rest.counters.requests.request(endpoint.endpoint);
    if let Err(response) = check_key(&shared, &parts.headers) {
        return respond(&shared, &response, None, endpoint.group);
    }
    let value = serde_json::from_slice(&body).ok();
    let limit_group = limit_group(endpoint, value.as_ref());
    let window = shared.lock().braze.rest.limits.get_mut(&limit_group).map(super::FixedWindow::count_request);
    if window.is_some_and(|window| window.exceeded) {
        let response = BrazeResponse::new(StatusCode::TOO_MANY_REQUESTS, "You have exceeded your rate limit");
        return respond(&shared, &response, window, limit_group);
    }
    // The fault plan searches the body, or the query if there is no body.
    let text = if body.is_empty() { query.as_bytes() } else { &body };
    match process(&shared, endpoint, &parts.headers, &query, text, value).await {
        Some(response) => respond(&shared, &response, window, limit_group),
        None => HangUp::response(),
    }
}

/// A broadcast has a rate limit of its own.
fn limit_group(endpoint: &RestEndpoint, body: Option<&Value>) -> RestGroup {
    let triggers = [Endpoint::CampaignsTrigger, Endpoint::CanvasTrigger].contains(&endpoint.endpoint);
    let broadcast = body.and_then(|body| body.get("broadcast")?.as_bool()).unwrap_or(false);
    if triggers && broadcast { RestGroup::Broadcast } else { endpoint.group }
}

/// Applies the fault plan and executes the request. `None` closes the connection.
async fn process(
    shared: &SandboxHandle,
    endpoint: &RestEndpoint,
    headers: &HeaderMap,
    query: &str,
    text: &[u8],
    body: Option<Value>,
) -> Option<BrazeResponse> {
    let fault = shared.lock().faults.next_action(endpoint.endpoint, "", text);
    match FaultAction::before(fault.as_ref()).await {
        Some(ReplacementResponse::HangUp) => return None,
        Some(ReplacementResponse::Status(status)) => {
            return Some(BrazeResponse::new(status_of(status), "by the fault plan"));
        }
        Some(ReplacementResponse::Reply { status, headers, body }) => {
            return Some(BrazeResponse { status: status_of(status), headers, body });
        }
        None => {}
    }
    if let Some(held @ (FaultAction::Hold | FaultAction::HoldAndHang)) = fault {
        let (endpoint, headers, query) = (endpoint.clone(), headers.clone(), query.to_owned());
        shared.hold(move |shared| drop(execute(shared, &endpoint, &headers, &query, body)));
        return if held == FaultAction::HoldAndHang { std::future::pending().await } else { None };
    }
    let response = match execute(shared, endpoint, headers, query, body) {
        Ok(response) => response,
        Err(rejection) => return Some(rejection),
    };
    match fault {
        Some(FaultAction::LoseAnswer) => None,
        Some(FaultAction::HangAfter) => std::future::pending().await,
        Some(FaultAction::DoneBut(body)) => Some(BrazeResponse { body, ..response }),
        _ => Some(response),
    }
}

fn execute(
    shared: &SandboxHandle,
    endpoint: &RestEndpoint,
    headers: &HeaderMap,
    query: &str,
    body: Option<Value>,
) -> Result<BrazeResponse, BrazeResponse> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let mut state = shared.lock();
    let key = text(header::AUTHORIZATION).and_then(bearer_key).unwrap_or_default();
    if let Some(Some(allowed)) = state.braze.rest.keys.get(key)
        && !allowed.contains(endpoint.permission)
    {
        return Err(BrazeResponse::new(StatusCode::FORBIDDEN, "Access Denied"));
    }
    let is_post = POST_ENDPOINTS.iter().any(|write| write.path == endpoint.path);
    if is_post && !text(header::CONTENT_TYPE).unwrap_or_default().starts_with("application/json") {
        return Err(BrazeResponse::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be application/json",
        ));
    }
    let body = if is_post {
        body.filter(Value::is_object)
            .ok_or_else(|| BrazeResponse::bad_request("the request body is not a JSON object"))?
    } else {
        Value::Null
    };
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let host = text(header::HOST).unwrap_or_default().to_owned();
    (endpoint.handler)(&mut state, &shared.options, &RestRequest { query, body, host })
}

/// The key of a `Bearer` credential.
fn bearer_key(authorization: &str) -> Option<&str> {
    let (scheme, key) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

fn check_key(shared: &SandboxHandle, headers: &HeaderMap) -> Result<(), BrazeResponse> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = given.and_then(bearer_key).unwrap_or_default();
    if shared.lock().braze.rest.keys.contains_key(key) {
        return Ok(());
    }
    // Seen on Braze: the message contains the key.
    Err(BrazeResponse::new(StatusCode::UNAUTHORIZED, format!("Invalid API key: {key}")))
}

fn respond(
    shared: &SandboxHandle,
    answer: &BrazeResponse,
    window: Option<WindowStatus>,
    limit_group: RestGroup,
) -> Response {
    shared.lock().braze.rest.counters.requests.response(answer.status.as_u16());
    let mut response = Response::new(Body::from(answer.body.to_string()));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in limit_headers(shared, answer.status, window, limit_group) {
        set_header(headers, name, &value);
    }
    replace_headers(headers, &answer.headers);
    response
}

/// Rate limit headers of a response.
fn limit_headers(
    shared: &SandboxHandle,
    status: StatusCode,
    window: Option<WindowStatus>,
    limit_group: RestGroup,
) -> Vec<(&'static str, String)> {
    const NAMES: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    // Seen on Braze: on a 401 the three headers are present and empty.
    let Some(window) = window else { return NAMES.map(|name| (name, String::new())).to_vec() };
    let seconds = window.reset.saturating_sub(clock::now().as_secs()).max(1).to_string();
    let in_seconds = limit_group == RestGroup::Track && shared.options.rest.track_in_seconds;
    let rejected = status == StatusCode::TOO_MANY_REQUESTS;
    if rejected && in_seconds {
        return vec![("x-ratelimit-retry-after", seconds)];
    }
    let reset = if in_seconds { seconds.clone() } else { window.reset.to_string() };
    let values = [window.limit.to_string(), window.remaining.to_string(), reset];
    let mut headers: Vec<_> = NAMES.into_iter().zip(values).collect();
    if rejected && shared.options.retry_after {
        headers.push(("x-ratelimit-retry-after", seconds));
    }
    headers
}
