//! Checks of Braze, Heap, Currents files and the settings of `watch`.

use std::time::Duration;

use super::DoctorFindings;
use crate::blocking;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::output::{count, counted};
use crate::cli::{access, environment, resources};
use crate::config::{
    BrazeConfig, Config, ExportConfig, ExportSource, HeapConfig, VendorEndpoint, WebhookSender,
};
use crate::connector::braze::rest::{BrazeRestClient, RestError};
use crate::connector::braze::{self, BrazeKeyKind, BrazeReply};
use crate::connector::currents::Storage;
use crate::connector::destination::{RequestFailure, RequestOutcome};
use crate::connector::heap;
use crate::connector::http::HttpError;
use crate::connector::rate_limit::RemainingQuota;
use crate::model::{ConnectionName, timestamp_text};
use crate::retry::RetryPolicy;

/// Maximum wait for the rate limiter.
const PATIENCE: Duration = Duration::from_secs(5);
const INSIDE: &str = "the sandbox, inside this program; no connection needed";

/// Why the URL of an endpoint may not be the one to register.
const NO_PUBLIC_URL: &str =
    "this is the address on this machine: set `watch.public_url` to the address that Heap and Braze reach";

pub(super) async fn check(config: &Config, findings: &mut DoctorFindings) {
    for (name, settings) in &config.braze {
        findings.about(format!("connection {name} ({})", settings.endpoint.as_str()));
        // Without a connection, each further request would fail in the same way.
        if braze(config, name, settings, findings).await {
            rest(config, name, settings, findings).await;
        }
    }
    for (name, settings) in &config.heap {
        findings.about(format!("connection {name}"));
        heap(config, name, settings, findings).await;
    }
    for export in &config.exports {
        findings.about(format!("export {}", export.id));
        exported(config, export, findings).await;
    }
    if !config.watch.notify.is_empty() {
        findings.about("watch");
        if findings.check("secrets", access::notification_urls(config)).is_some() {
            findings.passed("secrets", "the addresses of the notification webhooks are available");
        }
    }
}

/// Returns `false` if Braze cannot be reached.
async fn braze(
    config: &Config,
    name: &ConnectionName,
    settings: &BrazeConfig,
    findings: &mut DoctorFindings,
) -> bool {
    let VendorEndpoint::Url(base) = &settings.endpoint else {
        findings.passed("reach", INSIDE);
        return true;
    };
    let Some(keys) = findings.check("secrets", access::keys_of(config, name, settings)) else { return true };
    let which =
        if keys.import.is_some() { "both keys are available" } else { "the REST API key is available" };
    findings.passed("secrets", which);
    match braze::BrazeClient::new(settings, base, keys, environment::clock()) {
        Ok(braze) => {
            // Each endpoint has its own key and its own limit. The REST key may be there for other requests only, and
            // then need not have the permission `users.track`.
            for kind in [BrazeKeyKind::DataImport, BrazeKeyKind::Rest] {
                if kind == BrazeKeyKind::Rest
                    && braze.has_import_keys()
                    && !access::has_attributes(config, name)
                {
                    continue;
                }
                if let Some((reply, clock)) = braze.test_key(kind).await {
                    answered(name, kind, &reply, settings, findings);
                    findings.clock(clock);
                    if matches!(
                        reply.outcome,
                        RequestOutcome::Failed(RequestFailure::NotReached(_) | RequestFailure::NoAnswer(_))
                    ) {
                        return false;
                    }
                }
            }
            true
        }
        Err(error) => {
            findings.command_failed("reach", &error.into());
            false
        }
    }
}

/// An external id that no user has.
const NO_USER: &str = "syncline-doctor";

/// The endpoints that checks of segments and `preflight:` read from, each with its permission and its limit.
async fn rest(config: &Config, name: &ConnectionName, settings: &BrazeConfig, findings: &mut DoctorFindings) {
    let VendorEndpoint::Url(base) = &settings.endpoint else { return };
    let (lists, exports) = (access::has_segments(config, name), access::has_exports_of_users(config, name));
    if !lists && !exports {
        return;
    }
    let Some(keys) = findings.check("secrets", access::workspace_keys(name, settings)) else { return };
    let Some(key) = keys.rest else { return };
    let once = BrazeConfig { retry: RetryPolicy { attempts: 1, ..settings.retry }, ..settings.clone() };
    let rest = match BrazeRestClient::new(&once, base, key, environment::clock(), PATIENCE) {
        Ok(rest) => rest,
        Err(error) => return findings.command_failed("reach", &error.into()),
    };
    let mut permitted = |asked: Result<String, RestError>| match asked {
        Ok(fine) => findings.passed("permission", fine),
        Err(error @ RestError::Unavailable(_)) => {
            findings.failed("reach", error.to_string(), reach_remedy(name));
        }
        Err(error) => findings.failed(
            "permission",
            error.to_string(),
            format!("check `rest_api_key:` of connection `{name}`, and its permissions in Braze's dashboard"),
        ),
    };
    if lists {
        let found = rest.segments().await.map(|found| counted(found.len() as u64, "segment"));
        permitted(found.map(|found| format!("the REST key may list segments: {found}")));
    }
    if exports {
        let asked = rest.unknown_external_ids(&[NO_USER.to_owned()]).await;
        permitted(asked.map(|_| "the REST key may export users by id".to_owned()));
    }
    for (of, left) in rest.remaining_quotas() {
        findings.passed("limits", format!("{of}: {}", rest_quota(left)));
    }
}

fn answered(
    name: &ConnectionName,
    kind: BrazeKeyKind,
    reply: &BrazeReply,
    settings: &BrazeConfig,
    findings: &mut DoctorFindings,
) {
    let (of, check) = key_texts(kind, name);
    let endpoint = reach_remedy(name);
    match &reply.outcome {
        RequestOutcome::Accepted => {
            findings.passed("credentials", format!("Braze accepts the keys ({of})"));
        }
        RequestOutcome::Failed(RequestFailure::Unauthorized(message)) => {
            let message = format!("Braze rejects the keys ({of}): {message}");
            findings.command_failed("credentials", &rejected_keys(kind, message, check));
        }
        RequestOutcome::Failed(RequestFailure::NotReached(why) | RequestFailure::NoAnswer(why)) => {
            findings.failed("reach", format!("Braze does not answer: {why}"), endpoint);
        }
        RequestOutcome::Failed(RequestFailure::Unavailable(status)) => findings.failed(
            "reach",
            format!("Braze answers with status {status}"),
            "Braze has problems; see https://braze.statuspage.io",
        ),
        RequestOutcome::Failed(RequestFailure::RateLimited(_)) | RequestOutcome::Locked => {
            findings.note("limits", format!("{of}: Braze's rate limit is used up"), "try again later");
        }
        // Braze validates a request only after it has checked the keys. `/users/track` accepts no empty change.
        RequestOutcome::Failed(RequestFailure::BadRequest(_)) if kind == BrazeKeyKind::Rest => findings
            .passed(
                "credentials",
                "the REST key may use `/users/track` (Braze rejects the empty test, as expected)",
            ),
        RequestOutcome::Failed(RequestFailure::BadRequest(message))
        | RequestOutcome::AcceptedWithErrors { other: Some(message), .. } => findings.note(
            "credentials",
            format!("Braze accepts the keys, but reports: {message}"),
            "the first run checks the keys with real requests",
        ),
        RequestOutcome::AcceptedWithErrors { .. } | RequestOutcome::Failed(RequestFailure::TooLarge) => {
            findings.note(
                "credentials",
                "unexpected response from Braze",
                "the first run checks the keys with real requests",
            );
        }
        RequestOutcome::Foreign(status, what) => {
            findings.failed(
                "reach",
                format!("a proxy or another server answers for Braze: status {status}, {what}"),
                endpoint,
            );
        }
        RequestOutcome::Failed(RequestFailure::Unexpected(status, message)) => {
            findings.failed(
                "reach",
                format!("this server is not Braze: status {status}: {message}"),
                endpoint,
            );
        }
    }
    if let Some(left) = reply.remaining {
        findings.passed("limits", format!("{of}: {}", quota(kind, left, settings)));
    }
}

/// The endpoint of a key, and the remedy if Braze rejects the key.
fn key_texts(kind: BrazeKeyKind, name: &ConnectionName) -> (&'static str, String) {
    match kind {
        BrazeKeyKind::DataImport => (
            "cohort import",
            format!(
                "check `data_import_key:` and `partner_api_key:` of connection `{name}`, its instance, and `partner:`"
            ),
        ),
        BrazeKeyKind::Rest => (
            "`/users/track`",
            format!(
                "check `rest_api_key:` of connection `{name}`, its permission `users.track`, and the instance"
            ),
        ),
    }
}

fn reach_remedy(name: &ConnectionName) -> String {
    format!("is the endpoint of connection `{name}` right, and may this machine reach it?")
}

fn rejected_keys(kind: BrazeKeyKind, message: String, hint: String) -> CommandError {
    let error = CommandError::new(Exit::Credentials, message).hint(hint);
    match kind {
        BrazeKeyKind::DataImport => error.hint(access::WITHOUT_PARTNER_KEY),
        BrazeKeyKind::Rest => error,
    }
}

/// The number of requests left in the window of an endpoint.
fn quota(kind: BrazeKeyKind, left: RemainingQuota, settings: &BrazeConfig) -> String {
    match kind {
        BrazeKeyKind::DataImport => {
            let (requests, all) = (count(left.requests), count(settings.requests_per_hour));
            format!("requests left in this hour: {requests} of {all}")
        }
        // Its window is of seconds; how many requests it has depends on the contract.
        BrazeKeyKind::Rest => rest_quota(left),
    }
}

fn rest_quota(left: RemainingQuota) -> String {
    format!("{} left until {}", counted(left.requests, "request"), timestamp_text(left.until))
}

/// The URL of a webhook endpoint. The sandbox reaches this machine without a public address.
fn endpoint(config: &Config, sender: &WebhookSender, is_sandbox: bool, findings: &mut DoctorFindings) {
    let urls = config.webhook_urls(config.watch.listen);
    let Some((_, url)) = urls.into_iter().find(|(known, _)| known == sender) else { return };
    let message = format!("{sender} is received at {url}");
    if is_sandbox || config.watch.public_url.is_some() {
        findings.passed("endpoint", message);
    } else {
        findings.note("endpoint", message, NO_PUBLIC_URL);
    }
}

async fn heap(config: &Config, name: &ConnectionName, settings: &HeapConfig, findings: &mut DoctorFindings) {
    let is_sandbox = settings.endpoint == Some(VendorEndpoint::Sandbox);
    endpoint(config, &WebhookSender::Heap(name.clone()), is_sandbox, findings);
    let secrets = findings.check("secrets", access::webhook_secrets(name, settings));
    if let Some(secrets) = secrets.filter(|secrets| !secrets.is_empty()) {
        findings.passed("secrets", counted(secrets.len() as u64, "webhook secret") + " there");
    }
    let is_sent_to = config.exports.iter().any(|export| export.to == *name);
    if !is_sent_to && settings.api_key.is_none() {
        return;
    }
    let Some(VendorEndpoint::Url(base)) = &settings.endpoint else {
        findings.passed("reach", INSIDE);
        return;
    };
    let Some(Some(app_id)) = findings.check("secrets", access::app_id(name, settings)) else { return };
    match heap::HeapClient::new(settings, base, &app_id, environment::clock()) {
        Ok(heap) => reached(&heap, name, settings, findings).await,
        Err(error) => findings.command_failed("reach", &error.into()),
    }
}

async fn reached(
    heap: &heap::HeapClient,
    name: &ConnectionName,
    settings: &HeapConfig,
    findings: &mut DoctorFindings,
) {
    let remedy = reach_remedy(name);
    match heap.test_connection().await {
        Ok(clock) => {
            findings.passed("reach", "Heap responds; its API does not verify the environment id");
            findings.clock(clock);
        }
        Err(error @ (HttpError::NotReached(_) | HttpError::NoAnswer(_) | HttpError::Client(_))) => {
            findings.failed("reach", format!("Heap does not answer: {error}"), remedy);
            return;
        }
    }
    if settings.api_key.is_none() {
        return;
    }
    let Some(key) = findings.check("secrets", access::api_key(name, settings)) else { return };
    match heap.deletion(&key).token().await {
        Ok(_) => findings.passed("credentials", "Heap accepts the API key"),
        Err(error) => findings.failed(
            "credentials",
            error.to_string(),
            format!(
                "check `api_key:` of connection `{name}`; `app_id:` must be the main production environment"
            ),
        ),
    }
}

async fn exported(config: &Config, export: &ExportConfig, findings: &mut DoctorFindings) {
    match &export.source {
        ExportSource::Http(source) => {
            endpoint(config, &WebhookSender::Currents(export.id.clone()), false, findings);
            if findings.check("secrets", access::tokens_of(export, source)).is_some() {
                findings.passed("secrets", "the token is available");
            }
        }
        ExportSource::Storage(source) => {
            let (location, access) = (source.location.clone(), resources::storage_access(export));
            let looked =
                blocking(move || Storage::open(&location, &access).and_then(|storage| storage.look()));
            match looked.await {
                Some(Ok(found)) => {
                    findings.passed(
                        "reach",
                        format!("its files can be listed: {} at the top", count(found as u64)),
                    );
                }
                Some(Err(error)) => {
                    let hint = if error.is_remote() {
                        "is the bucket the right one, and are there credentials? They come from AWS_…, GOOGLE_… or AZURE_… variables, or from the machine's identity"
                    } else {
                        "`path:` must name a folder that this user may read"
                    };
                    findings.failed("reach", error.to_string(), hint);
                }
                None => {
                    findings
                        .command_failed("reach", &CommandError::new(Exit::Failed, "the search was stopped"));
                }
            }
        }
    }
}

/// Runs blocking work on a separate thread.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    blocking::on_thread(work).await.ok()
}
