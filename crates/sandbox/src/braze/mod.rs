//! Braze's two partner cohort endpoints, as strict as their documents. Its REST side is in `rest`.
//!
//! Source: Braze, "Partner cohort import" (paths, fields, the limit of 1,000, messages of 400 and 401,
//! 423), "Partner API integrations" (`User-Agent`), "API limits" (4 MB, headers). Checks run in this
//! order: content type, body, partner key, client secret, partner, cohort id, the rest of the shape, the
//! limit. The success is `201 {"message":"success"}`, as on Braze's other POST endpoints.

mod admin;
mod catalog;
mod limits;
mod people;
mod rest;
mod store;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::faults::{Action, Endpoint, Instead};
use super::memory::{Facts, Memory};
use super::serve::{HangUp, put, status_of};
use super::{Options, SandboxError, Shared};

pub(super) use admin::routes;
use limits::{Quota, RateLimit};
use people::Alias;
use rest::Rest;
pub use rest::{RestGroup, RestOptions};
use store::{BrazeStore, Change, Fact};

/// Largest body in bytes (Braze, "API limits").
const BODY_LEN_MAX: usize = 4 << 20;
/// Most identifiers in one request, over all arrays of all objects.
const IDENTIFIERS_MAX: usize = 1000;

/// The list of facts in the sandbox's memory.
const FACTS: &str = "facts.ndjson";
/// Facts after which the list is written anew from the store that it makes.
const FACTS_MAX: u64 = 20_000;

/// Braze's side of the sandbox.
#[derive(Debug)]
pub(super) struct Braze {
    store: BrazeStore,
    facts: Option<Facts>,
    limit: RateLimit,
    counters: admin::Counters,
    rest: Rest,
}

impl Braze {
    /// Braze as it was, if there is a memory of it.
    pub(super) fn open(options: &Options, memory: Option<&Memory>) -> Result<Self, SandboxError> {
        let mut store = BrazeStore::new(options.people, options.rest.merge_keeps_membership);
        let facts = match memory {
            Some(memory) => {
                if memory.recall(FACTS, |fact| store.learn(fact))? > FACTS_MAX {
                    memory.rewrite(FACTS, store.facts())?;
                }
                Some(memory.append(FACTS)?)
            }
            None => None,
        };
        let limit = RateLimit::new(options.rate_limit, options.rate_window);
        Ok(Self { store, facts, limit, counters: admin::Counters::default(), rest: Rest::new(options) })
    }

    /// Writes a fact down and lets it happen.
    fn keep(&mut self, fact: Fact) -> std::io::Result<()> {
        self.keep_all(vec![fact])
    }

    /// The same for several, in one write.
    fn keep_all(&mut self, new: Vec<Fact>) -> std::io::Result<()> {
        if let Some(facts) = &mut self.facts {
            facts.keep(&new)?;
        }
        new.into_iter().for_each(|fact| self.store.learn(fact));
        Ok(())
    }
}

/// An answer, before it has headers.
struct Answer {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Answer {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: json!({ "message": message.into() }) }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// What happened could not be written down, so it did not happen.
    #[allow(clippy::needless_pass_by_value, reason = "an error is mapped into it")]
    fn of_memory(_: std::io::Error) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the sandbox cannot write its memory")
    }
}

/// Names or renames a cohort.
async fn cohorts(state: State<Shared>, path: Path<String>, headers: HeaderMap, body: Body) -> Response {
    handle(state.0, Endpoint::Cohorts, &path.0, &headers, body).await
}

/// Adds and removes members.
async fn users(state: State<Shared>, path: Path<String>, headers: HeaderMap, body: Body) -> Response {
    handle(state.0, Endpoint::Users, &path.0, &headers, body).await
}

async fn handle(
    shared: Shared,
    endpoint: Endpoint,
    partner: &str,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let body = axum::body::to_bytes(body, BODY_LEN_MAX).await;
    let quota = shared.lock().braze.limit.take();
    let answer = match body {
        Ok(body) if quota.exceeded => {
            shared.lock().braze.counters.request(endpoint, body.len());
            Err(Answer::new(StatusCode::TOO_MANY_REQUESTS, "You have exceeded your rate limit"))
        }
        Ok(body) => {
            shared.lock().braze.counters.request(endpoint, body.len());
            answer(&shared, endpoint, partner, headers, &body).await
        }
        Err(_) => Err(Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")),
    };
    match answer {
        Ok(response) => response,
        Err(answer) => respond(&shared, &answer, quota),
    }
}

/// The answer, or a response that is none: a connection that closes.
async fn answer(
    shared: &Shared,
    endpoint: Endpoint,
    partner: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Answer> {
    let value: Result<Value, _> = serde_json::from_slice(body);
    let cohort_id =
        value.as_ref().ok().and_then(|v| v.get("cohort_id")?.as_str()).unwrap_or_default().to_owned();
    let fault = shared.lock().faults.strike(endpoint, &cohort_id, body);
    let before = match &fault {
        Some(fault) => fault.before().await,
        None => None,
    };
    match before {
        Some(Instead::Status(status)) => return Err(Answer::new(status_of(status), "by the fault plan")),
        Some(Instead::Reply { status, headers, body }) => {
            return Err(Answer { status: status_of(status), headers, body });
        }
        Some(Instead::HangUp) => return Ok(HangUp::response()),
        None => {}
    }
    check_headers(headers)?;
    let value = value.map_err(|_| Answer::bad_request("the request body is not valid JSON"))?;
    check_keys(&value, partner, &shared.options)?;
    let fact = match endpoint {
        Endpoint::Cohorts => naming(&value)?,
        _ => changes(&value)?,
    };
    if let Some(held @ (Action::Hold | Action::HoldAndHang)) = fault {
        shared.hold(move |shared| drop(settle(shared, &cohort_id, fact)));
        return hung(&held).await;
    }
    let _busy = Busy::take(shared, &cohort_id)?;
    tokio::time::sleep(shared.options.latency).await;
    settle(shared, &cohort_id, fact)?;
    match fault {
        Some(Action::LoseAnswer) => Ok(HangUp::response()),
        Some(Action::HangAfter) => std::future::pending().await,
        Some(Action::DoneBut(body)) => Err(Answer { status: StatusCode::CREATED, headers: Vec::new(), body }),
        _ => Err(Answer::new(StatusCode::CREATED, "success")),
    }
}

/// No answer, at once or ever.
async fn hung(held: &Action) -> Result<Response, Answer> {
    match held {
        Action::HoldAndHang => std::future::pending().await,
        _ => Ok(HangUp::response()),
    }
}

fn check_headers(headers: &HeaderMap) -> Result<(), Answer> {
    let text =
        |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    if !text(header::CONTENT_TYPE).starts_with("application/json") {
        return Err(Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json"));
    }
    if !is_partner_agent(text(header::USER_AGENT)) {
        // Braze requires the form of partners and does not say what it does without it.
        return Err(Answer::bad_request(
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

fn check_keys(value: &Value, partner: &str, options: &Options) -> Result<(), Answer> {
    let unauthorized = |message: String| Err(Answer::new(StatusCode::UNAUTHORIZED, message));
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("partner_api_key") != options.partner_api_key {
        return unauthorized("Invalid Partner API key".to_owned());
    }
    let secret = text("client_secret");
    if secret != options.data_import_key {
        return unauthorized("Invalid client secret".to_owned());
    }
    if partner != options.partner {
        // Braze's message repeats the secret; so does this one.
        return unauthorized(format!("Partner not enabled for client with client secret: {secret}"));
    }
    match value.get("cohort_id").and_then(Value::as_str) {
        Some(id) if !id.is_empty() => Ok(()),
        _ => Err(Answer::bad_request("`cohort_id` must be a valid string")),
    }
}

fn owned(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn naming(value: &Value) -> Result<Fact, Answer> {
    let fact = (owned(value, "cohort_id"), owned(value, "name"), owned(value, "created_at"));
    let (cohort_id, name, created_at) = fact;
    if name.is_empty() {
        return Err(Answer::bad_request("`name` must be a non-empty string"));
    }
    if created_at.parse::<jiff::Timestamp>().is_err() {
        return Err(Answer::bad_request("`created_at` must be a valid time as an ISO-8601 string"));
    }
    Ok(Fact::Named { cohort_id, name, created_at })
}

fn changes(value: &Value) -> Result<Fact, Answer> {
    const SHAPE: &str = "`cohort_changes` must be an array of objects each with key `user_ids` and/or `device_ids` \
                         mapping to an array of strings, or an `aliases` object";
    let objects = value.get("cohort_changes").and_then(Value::as_array);
    let changes: Option<Vec<Change>> = objects.and_then(|objects| objects.iter().map(change).collect());
    let cohort_changes = changes.ok_or_else(|| Answer::bad_request(SHAPE))?;
    if cohort_changes.iter().map(Change::len).sum::<usize>() > IDENTIFIERS_MAX {
        return Err(Answer::bad_request(
            "Only 1,000 `user_ids`, `device_ids`, and `aliases` are allowed per request",
        ));
    }
    Ok(Fact::Changed { cohort_id: owned(value, "cohort_id"), cohort_changes })
}

fn change(value: &Value) -> Option<Change> {
    const KEYS: [&str; 3] = ["user_ids", "device_ids", "aliases"];
    let object = value.as_object()?;
    KEYS.iter().any(|key| object.contains_key(*key)).then_some(())?;
    let list = |key| object.get(key).map_or(Some(&[][..]), |list| list.as_array().map(Vec::as_slice));
    let texts = |key| list(key)?.iter().map(text).collect::<Option<Vec<String>>>();
    let should_remove = object.get("should_remove").map_or(Some(false), Value::as_bool)?;
    let aliases = list("aliases")?.iter().map(alias).collect::<Option<_>>()?;
    Some(Change { user_ids: texts("user_ids")?, device_ids: texts("device_ids")?, aliases, should_remove })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn alias(value: &Value) -> Option<Alias> {
    let part = |key| value.get(key).and_then(text).filter(|text| text.len() <= 236);
    Some(Alias { alias_label: part("alias_label")?, alias_name: part("alias_name")? })
}

/// One write at a time for a cohort; a second one finds it locked (423). What Braze locks on is not
/// documented; this is the strictest reading that its partners can live with.
struct Busy<'a>(&'a Shared, String);

impl<'a> Busy<'a> {
    fn take(shared: &'a Shared, cohort_id: &str) -> Result<Self, Answer> {
        if shared.lock().braze.counters.begin(cohort_id) {
            Ok(Self(shared, cohort_id.to_owned()))
        } else {
            Err(Answer::new(StatusCode::LOCKED, "Resource locked"))
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().braze.counters.end(&self.1);
    }
}

fn settle(shared: &Shared, cohort_id: &str, fact: Fact) -> Result<(), Answer> {
    let mut inner = shared.lock();
    if let Fact::Changed { cohort_changes, .. } = &fact {
        let named = inner.braze.store.cohorts.get(cohort_id).is_some_and(|cohort| cohort.name.is_some());
        if shared.options.strict_naming && !named && !cohort_changes.is_empty() {
            return Err(Answer::bad_request("`cohort_id` must be a valid string"));
        }
        inner.braze.counters.changed(cohort_changes);
    }
    inner.braze.keep(fact).map_err(Answer::of_memory)
}

fn respond(shared: &Shared, answer: &Answer, quota: Quota) -> Response {
    shared.lock().braze.counters.answered(answer.status.as_u16());
    let mut response = Response::new(Body::from(answer.body.to_string()));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let limits = [
        ("x-ratelimit-limit", quota.limit),
        ("x-ratelimit-remaining", quota.remaining),
        ("x-ratelimit-reset", quota.reset),
    ];
    for (name, value) in limits {
        // Seen on Braze: on a 401 the three headers are there and empty.
        let text = if answer.status == StatusCode::UNAUTHORIZED { String::new() } else { value.to_string() };
        put(headers, name, &text);
    }
    if answer.status == StatusCode::TOO_MANY_REQUESTS && shared.options.retry_after {
        put(headers, "x-ratelimit-retry-after", &shared.options.rate_window.as_secs().max(1).to_string());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_names_organization_product_and_version() {
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
    fn changes_have_the_documented_shape() {
        let parse = |text: &str| {
            changes(&serde_json::from_str(text).unwrap()).map_err(|answer| answer.status.as_u16())
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
    fn a_long_memory_is_written_anew() {
        let home = tempfile::tempdir().unwrap();
        let open = || {
            let memory = Memory::open(home.path()).unwrap();
            (Braze::open(&Options::default(), Some(&memory)).unwrap(), memory)
        };
        let (mut braze, memory) = open();
        for n in 0..=FACTS_MAX {
            let change = Change { user_ids: vec![format!("u{}", n % 10)], ..Change::default() };
            let fact = Fact::Changed { cohort_id: "c".to_owned(), cohort_changes: vec![change] };
            braze.keep(fact).unwrap();
        }
        drop((braze, memory));
        for _ in 0..2 {
            assert_eq!(open().0.store.size("c"), 10);
            assert!(std::fs::metadata(home.path().join(FACTS)).unwrap().len() < 2_000);
        }
    }
}
