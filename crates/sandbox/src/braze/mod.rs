//! Simulator of Braze's two partner cohort endpoints, as strict as their documents. The REST API is in `rest`.
//!
//! Source: Braze, "Partner cohort import" (paths, fields, the limit of 1,000, messages of 400 and 401, 423),
//! "Partner API integrations" (`User-Agent`), "API limits" (4 MB, headers). Checks run in this order: content
//! type, body, partner key, client secret, partner, cohort id, the rest of the body, the limit. The success is
//! `201 {"message":"success"}`, as on Braze's other POST endpoints.

mod admin;
mod catalog;
mod limits;
mod profiles;
mod rest;
mod store;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::faults::{Endpoint, FaultAction, ReplacementResponse};
use super::memory::{FactLog, MemoryFolder};
use super::serve::{HangUp, replace_headers, set_header, status_of};
use super::{SandboxError, SandboxHandle, SandboxOptions};

pub(super) use admin::routes;
use limits::{FixedWindow, WindowStatus};
use profiles::Alias;
use rest::RestApi;
pub use rest::{RestGroup, RestOptions};
use store::{BrazeFact, BrazeStore, CohortChange};

/// Largest body in bytes (Braze, "API limits").
const BODY_LEN_MAX: usize = 4 << 20;
/// Most identifiers in one request, summed over all arrays of all objects.
const IDENTIFIERS_MAX: usize = 1000;

/// Name of the log in the memory folder.
const LOG: &str = "facts.ndjson";
/// Facts after which the log is replaced by the facts of the current state.
const LOG_LEN_MAX: u64 = 20_000;

/// State of the simulated Braze.
#[derive(Debug)]
pub(super) struct Braze {
    store: BrazeStore,
    facts: Option<FactLog>,
    window: FixedWindow,
    counters: admin::BrazeCounters,
    rest: RestApi,
}

impl Braze {
    /// Opens Braze with the state from the memory folder, or empty without one.
    pub(super) fn open(
        options: &SandboxOptions,
        memory: Option<&MemoryFolder>,
    ) -> Result<Self, SandboxError> {
        let mut store = BrazeStore::new(options.existing_users, options.rest.merge_keeps_membership);
        let facts = match memory {
            Some(memory) => {
                if memory.replay(LOG, |fact| store.apply(fact))? > LOG_LEN_MAX {
                    memory.rewrite(LOG, store.facts())?;
                }
                Some(memory.open_log(LOG)?)
            }
            None => None,
        };
        let window = FixedWindow::new(options.rate_limit, options.rate_window);
        Ok(Self {
            store,
            facts,
            window,
            counters: admin::BrazeCounters::default(),
            rest: RestApi::new(options),
        })
    }

    /// Logs a fact and applies it.
    fn record(&mut self, fact: BrazeFact) -> std::io::Result<()> {
        self.record_all(vec![fact])
    }

    /// Logs facts in one write and applies them.
    fn record_all(&mut self, new: Vec<BrazeFact>) -> std::io::Result<()> {
        if let Some(facts) = &mut self.facts {
            facts.append(&new)?;
        }
        new.into_iter().for_each(|fact| self.store.apply(fact));
        Ok(())
    }
}

/// A response of Braze, before the rate limit headers are added.
struct BrazeResponse {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Value,
}

impl BrazeResponse {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: json!({ "message": message.into() }) }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The fact could not be logged, so it was not applied.
    #[allow(clippy::needless_pass_by_value, reason = "an error is mapped into it")]
    fn memory_failed(_: std::io::Error) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the sandbox cannot write its memory")
    }
}

/// Creates or renames a cohort.
async fn cohorts(
    state: State<SandboxHandle>,
    path: Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    handle(state.0, Endpoint::Cohorts, &path.0, &headers, body).await
}

/// Adds and removes members.
async fn users(state: State<SandboxHandle>, path: Path<String>, headers: HeaderMap, body: Body) -> Response {
    handle(state.0, Endpoint::Users, &path.0, &headers, body).await
}

async fn handle(
    shared: SandboxHandle,
    endpoint: Endpoint,
    partner: &str,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let body = axum::body::to_bytes(body, BODY_LEN_MAX).await;
    let window = shared.lock().braze.window.count_request();
    let result = match body {
        Ok(body) if window.exceeded => {
            shared.lock().braze.counters.request(endpoint, body.len());
            Err(BrazeResponse::new(StatusCode::TOO_MANY_REQUESTS, "You have exceeded your rate limit"))
        }
        Ok(body) => {
            shared.lock().braze.counters.request(endpoint, body.len());
            process(&shared, endpoint, partner, headers, &body).await
        }
        Err(_) => Err(BrazeResponse::new(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")),
    };
    match result {
        Ok(response) => response,
        Err(response) => respond(&shared, &response, window),
    }
}

/// Checks and executes a request. `Ok` closes the connection without a response.
async fn process(
    shared: &SandboxHandle,
    endpoint: Endpoint,
    partner: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, BrazeResponse> {
    let value: Result<Value, _> = serde_json::from_slice(body);
    let cohort_id =
        value.as_ref().ok().and_then(|v| v.get("cohort_id")?.as_str()).unwrap_or_default().to_owned();
    let fault = shared.lock().faults.next_action(endpoint, &cohort_id, body);
    match FaultAction::before(fault.as_ref()).await {
        Some(ReplacementResponse::Status(status)) => {
            return Err(BrazeResponse::new(status_of(status), "by the fault plan"));
        }
        Some(ReplacementResponse::Reply { status, headers, body }) => {
            return Err(BrazeResponse { status: status_of(status), headers, body });
        }
        Some(ReplacementResponse::HangUp) => return Ok(HangUp::response()),
        None => {}
    }
    check_headers(headers)?;
    let value = value.map_err(|_| BrazeResponse::bad_request("the request body is not valid JSON"))?;
    check_keys(&value, partner, &shared.options)?;
    let fact = match endpoint {
        Endpoint::Cohorts => parse_cohort_name(&value)?,
        _ => parse_changes(&value)?,
    };
    if let Some(held @ (FaultAction::Hold | FaultAction::HoldAndHang)) = fault {
        shared.hold(move |shared| drop(apply_fact(shared, &cohort_id, fact)));
        return no_response(&held).await;
    }
    let _lock = CohortLock::take(shared, &cohort_id)?;
    if !shared.options.latency.is_zero() {
        tokio::time::sleep(shared.options.latency).await;
    }
    apply_fact(shared, &cohort_id, fact)?;
    match fault {
        Some(FaultAction::LoseAnswer) => Ok(HangUp::response()),
        Some(FaultAction::HangAfter) => std::future::pending().await,
        Some(FaultAction::DoneBut(body)) => {
            Err(BrazeResponse { status: StatusCode::CREATED, headers: Vec::new(), body })
        }
        _ => Err(BrazeResponse::new(StatusCode::CREATED, "success")),
    }
}

/// Closes the connection without a response, now or never.
async fn no_response(held: &FaultAction) -> Result<Response, BrazeResponse> {
    match held {
        FaultAction::HoldAndHang => std::future::pending().await,
        _ => Ok(HangUp::response()),
    }
}

fn check_headers(headers: &HeaderMap) -> Result<(), BrazeResponse> {
    let text =
        |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    if !text(header::CONTENT_TYPE).starts_with("application/json") {
        return Err(BrazeResponse::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be application/json",
        ));
    }
    if !is_partner_agent(text(header::USER_AGENT)) {
        // Braze requires this form from partners and does not document its response to others.
        return Err(BrazeResponse::bad_request(
            "User-Agent must be partner-OrganizationName-ProductName/ProductVersion",
        ));
    }
    Ok(())
}

fn is_partner_agent(agent: &str) -> bool {
    let pascal = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let Some((names, version)) = agent.strip_prefix("partner-").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let both =
        names.split_once('-').is_some_and(|(organization, product)| pascal(organization) && pascal(product));
    both && !version.is_empty() && version.bytes().all(|b| b.is_ascii_graphic())
}

fn check_keys(value: &Value, partner: &str, options: &SandboxOptions) -> Result<(), BrazeResponse> {
    let unauthorized = |message: String| Err(BrazeResponse::new(StatusCode::UNAUTHORIZED, message));
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("partner_api_key") != options.partner_api_key {
        return unauthorized("Invalid Partner API key".to_owned());
    }
    let secret = text("client_secret");
    if secret != options.data_import_key {
        return unauthorized("Invalid client secret".to_owned());
    }
    if partner != options.partner {
        // Braze's message contains the secret; so does this one.
        return unauthorized(format!("Partner not enabled for client with client secret: {secret}"));
    }
    match value.get("cohort_id").and_then(Value::as_str) {
        Some(id) if !id.is_empty() => Ok(()),
        _ => Err(BrazeResponse::bad_request("`cohort_id` must be a valid string")),
    }
}

fn text_or_empty(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn parse_cohort_name(value: &Value) -> Result<BrazeFact, BrazeResponse> {
    let fact =
        (text_or_empty(value, "cohort_id"), text_or_empty(value, "name"), text_or_empty(value, "created_at"));
    let (cohort_id, name, created_at) = fact;
    if name.is_empty() {
        return Err(BrazeResponse::bad_request("`name` must be a non-empty string"));
    }
    if created_at.parse::<jiff::Timestamp>().is_err() {
        return Err(BrazeResponse::bad_request("`created_at` must be a valid time as an ISO-8601 string"));
    }
    Ok(BrazeFact::Named { cohort_id, name, created_at })
}

fn parse_changes(value: &Value) -> Result<BrazeFact, BrazeResponse> {
    const SHAPE: &str = "`cohort_changes` must be an array of objects each with key `user_ids` and/or `device_ids` \
                         mapping to an array of strings, or an `aliases` object";
    let objects = value.get("cohort_changes").and_then(Value::as_array);
    let changes: Option<Vec<CohortChange>> =
        objects.and_then(|objects| objects.iter().map(parse_change).collect());
    let cohort_changes = changes.ok_or_else(|| BrazeResponse::bad_request(SHAPE))?;
    if cohort_changes.iter().map(CohortChange::len).sum::<usize>() > IDENTIFIERS_MAX {
        return Err(BrazeResponse::bad_request(
            "Only 1,000 `user_ids`, `device_ids`, and `aliases` are allowed per request",
        ));
    }
    Ok(BrazeFact::Changed { cohort_id: text_or_empty(value, "cohort_id"), cohort_changes })
}

fn parse_change(value: &Value) -> Option<CohortChange> {
    const KEYS: [&str; 3] = ["user_ids", "device_ids", "aliases"];
    let object = value.as_object()?;
    KEYS.iter().any(|key| object.contains_key(*key)).then_some(())?;
    let list = |key| object.get(key).map_or(Some(&[][..]), |list| list.as_array().map(Vec::as_slice));
    let texts = |key| list(key)?.iter().map(text).collect::<Option<Vec<String>>>();
    let should_remove = object.get("should_remove").map_or(Some(false), Value::as_bool)?;
    let aliases = list("aliases")?.iter().map(alias).collect::<Option<_>>()?;
    Some(CohortChange {
        user_ids: texts("user_ids")?,
        device_ids: texts("device_ids")?,
        aliases,
        should_remove,
    })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn alias(value: &Value) -> Option<Alias> {
    let part = |key| value.get(key).and_then(text).filter(|text| text.len() <= 236);
    Some(Alias { alias_label: part("alias_label")?, alias_name: part("alias_name")? })
}

/// Lock on a cohort: a second concurrent write gets 423. Braze does not document the scope of its lock; this is
/// the strictest reading that partners can live with.
struct CohortLock<'a>(&'a SandboxHandle, String);

impl<'a> CohortLock<'a> {
    fn take(shared: &'a SandboxHandle, cohort_id: &str) -> Result<Self, BrazeResponse> {
        if shared.lock().braze.counters.lock_cohort(cohort_id) {
            Ok(Self(shared, cohort_id.to_owned()))
        } else {
            Err(BrazeResponse::new(StatusCode::LOCKED, "Resource locked"))
        }
    }
}

impl Drop for CohortLock<'_> {
    fn drop(&mut self) {
        self.0.lock().braze.counters.unlock_cohort(&self.1);
    }
}

fn apply_fact(shared: &SandboxHandle, cohort_id: &str, fact: BrazeFact) -> Result<(), BrazeResponse> {
    let mut state = shared.lock();
    if let BrazeFact::Changed { cohort_changes, .. } = &fact {
        let named = state.braze.store.cohorts.get(cohort_id).is_some_and(|cohort| cohort.name.is_some());
        if shared.options.strict_naming && !named && !cohort_changes.is_empty() {
            return Err(BrazeResponse::bad_request("`cohort_id` must be a valid string"));
        }
        state.braze.counters.count_changes(cohort_changes);
    }
    state.braze.record(fact).map_err(BrazeResponse::memory_failed)
}

fn respond(shared: &SandboxHandle, answer: &BrazeResponse, window: WindowStatus) -> Response {
    shared.lock().braze.counters.response(answer.status.as_u16());
    let mut response = Response::new(Body::from(answer.body.to_string()));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let limits = [
        ("x-ratelimit-limit", window.limit),
        ("x-ratelimit-remaining", window.remaining),
        ("x-ratelimit-reset", window.reset),
    ];
    for (name, value) in limits {
        // Seen on Braze: on a 401 the three headers are present and empty.
        let text = if answer.status == StatusCode::UNAUTHORIZED { String::new() } else { value.to_string() };
        set_header(headers, name, &text);
    }
    if answer.status == StatusCode::TOO_MANY_REQUESTS && shared.options.retry_after {
        set_header(
            headers,
            "x-ratelimit-retry-after",
            &shared.options.rate_window.as_secs().max(1).to_string(),
        );
    }
    replace_headers(headers, &answer.headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_needs_organization_product_and_version() {
        for good in ["partner-AcmeData-CohortSync/1.4.0", "partner-Acme-Sync/1"] {
            assert!(is_partner_agent(good), "{good}");
        }
        for bad in [
            "axios/1.4.0",
            "partner-Acme/1",
            "partner-acme-Sync/1",
            "partner-Acme-Sync",
            "partner-Acme-Sync/",
            "",
        ] {
            assert!(!is_partner_agent(bad), "{bad}");
        }
    }

    #[test]
    fn changes_of_another_shape_get_400() {
        let parse = |text: &str| {
            parse_changes(&serde_json::from_str(text).unwrap()).map_err(|response| response.status.as_u16())
        };
        for good in [
            r#"{"cohort_changes":[]}"#,
            r#"{"cohort_changes":[{"user_ids":[]}]}"#,
            r#"{"cohort_changes":[{"user_ids":["a"],"device_ids":["d"],"aliases":[]},{"aliases":[{"alias_label":"l","alias_name":"n"}],"should_remove":true}]}"#,
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let long = format!(r#"{{"cohort_changes":[{{"user_ids":[{}]}}]}}"#, vec!["\"a\""; 1001].join(","));
        for bad in [
            r"{}",
            r#"{"cohort_changes":"[]"}"#,
            r#"{"cohort_changes":[{}]}"#,
            r#"{"cohort_changes":[{"user_ids":"a"}]}"#,
            r#"{"cohort_changes":[{"user_ids":[1]}]}"#,
            r#"{"cohort_changes":[{"user_ids":[""]}]}"#,
            r#"{"cohort_changes":[{"user_ids":["a"],"should_remove":"yes"}]}"#,
            r#"{"cohort_changes":[{"aliases":[{"alias_label":"l"}]}]}"#,
            &long,
        ] {
            assert_eq!(parse(bad).err(), Some(400), "{bad}");
        }
    }

    #[test]
    fn a_long_log_is_compacted_on_start() {
        let home = tempfile::tempdir().unwrap();
        let open = || {
            let memory = MemoryFolder::open(home.path()).unwrap();
            (Braze::open(&SandboxOptions::default(), Some(&memory)).unwrap(), memory)
        };
        let (mut braze, memory) = open();
        for n in 0..=LOG_LEN_MAX {
            let change = CohortChange { user_ids: vec![format!("u{}", n % 10)], ..CohortChange::default() };
            let fact = BrazeFact::Changed { cohort_id: "c".to_owned(), cohort_changes: vec![change] };
            braze.record(fact).unwrap();
        }
        drop((braze, memory));
        for _ in 0..2 {
            assert_eq!(open().0.store.size("c"), 10);
            assert!(std::fs::metadata(home.path().join(LOG)).unwrap().len() < 2_000);
        }
    }
}
