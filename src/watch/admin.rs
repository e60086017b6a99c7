//! Admin endpoints: `/` and `/cohorts/<id>` (dashboard), `/livez`, `/readyz` and `/metrics`. They are read-only.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::json;

use super::gauges::MetricsFormat;
use super::status::{ProcessRole, WatchStatus};
use super::{gauges, view_model};
use crate::config::{Config, EndpointLimits};
use crate::dashboard::{self, DashboardView, PageQuery};
use crate::webhooks::{EndpointReply, EndpointRequest, Endpoints, RequestHandler};

/// The response to an unknown path.
const NOT_FOUND: &str = "not found; the paths are /, /cohorts/<id>, /livez, /readyz and /metrics\n";

/// Limits for a browser, a probe and Prometheus: none of them sends a body.
pub(super) fn limits() -> EndpointLimits {
    EndpointLimits {
        body_len_max: 0,
        headers_len_max: 16 << 10,
        header_time: Duration::from_secs(5),
        request_time: Duration::from_secs(5),
        idle_time: Duration::from_secs(60),
        connections_max: 64,
        streams_max: 8,
        json_depth_max: 0,
        memory_max: 0,
        inbox_len_max: 0,
    }
}

/// Handles requests to the admin address.
pub(super) struct Admin {
    status: Arc<WatchStatus>,
    endpoints: Arc<Endpoints>,
    hosts: Vec<String>,
}

impl Admin {
    pub(super) fn new(status: Arc<WatchStatus>, endpoints: Arc<Endpoints>, config: &Config) -> Self {
        Self { status, endpoints, hosts: config.watch.admin_hosts.clone() }
    }

    fn respond(&self, request: &EndpointRequest) -> EndpointReply {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().host());
        if !dashboard::is_own_host(host, &self.hosts) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "this host is not served; see `watch.admin_hosts`\n",
            );
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is supported\n");
        }
        match request.uri().path() {
            "/" => html(dashboard::page(&self.view(request))),
            "/livez" => self.live(),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(request),
            path => match path.strip_prefix("/cohorts/") {
                Some(id) => match dashboard::cohort_page(&self.view(request), id) {
                    Some(page) => html(page),
                    None => text(StatusCode::NOT_FOUND, "the config has no cohort with this id\n"),
                },
                None => text(StatusCode::NOT_FOUND, NOT_FOUND),
            },
        }
    }

    /// The data of a page, with the query of its address.
    fn view(&self, request: &EndpointRequest) -> DashboardView {
        let query = PageQuery::parse(request.uri().query());
        view_model::dashboard(&self.status, self.endpoints.rejected_requests(), query)
    }

    fn metrics(&self, request: &EndpointRequest) -> EndpointReply {
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = MetricsFormat::accepted(accept);
        let metrics = gauges::text(&self.status, &self.endpoints.reply_counts(), format);
        let mut reply = text(StatusCode::OK, &metrics);
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        reply
    }

    fn live(&self) -> EndpointReply {
        if self.status.is_alive() {
            text(StatusCode::OK, "alive\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "the event loop is stuck\n")
        }
    }

    /// A process is ready if it is the leader and its event loop makes progress.
    fn ready(&self) -> EndpointReply {
        let is_alive = self.status.is_alive();
        let data = self.status.lock();
        let role = match &data.role {
            ProcessRole::Starting => "starting".to_owned(),
            ProcessRole::Leader => "leader".to_owned(),
            ProcessRole::Standby(holder) => format!("standby; the lease is held by {holder}"),
            ProcessRole::Stopping => "stopping".to_owned(),
        };
        let is_ready = is_alive && data.role == ProcessRole::Leader;
        let not_in_sync = data.cohorts.iter().filter(|(_, status)| !status.condition.is_in_sync());
        let not_in_sync: serde_json::Map<String, serde_json::Value> =
            not_in_sync.map(|(id, status)| (id.to_string(), status.condition.code().into())).collect();
        let stale: Vec<&str> =
            data.cohorts.iter().filter(|(_, status)| status.is_stale).map(|(id, _)| id.as_str()).collect();
        let stale_exports: Vec<&str> =
            data.exports.iter().filter(|(_, status)| status.is_stale).map(|(id, _)| id.as_str()).collect();
        let body = json!({
            "ready": is_ready,
            "role": role,
            "loop": if is_alive { "alive" } else { "stuck" },
            "config": data.config_error.as_ref().map_or("valid", |_| "invalid; the last valid one is in use"),
            "config_digest": data.config_digest,
            "needs_restart": data.needs_restart,
            "not_in_sync": not_in_sync,
            "stale": stale,
            "stale_exports": stale_exports,
            "inbox_bytes": data.heaps.values().map(|heap| heap.waiting_bytes).max().unwrap_or(0),
        });
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut reply = text(status, &format!("{body}\n"));
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply
    }
}

impl RequestHandler for Admin {
    fn handle(&self, request: EndpointRequest) -> Pin<Box<dyn Future<Output = EndpointReply> + Send + '_>> {
        let reply = self.respond(&request);
        Box::pin(std::future::ready(reply))
    }
}

fn html(page: String) -> EndpointReply {
    let mut reply = EndpointReply::new(Full::new(Bytes::from(page)));
    for (name, value) in dashboard::HEADERS {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}

fn text(status: StatusCode, text: &str) -> EndpointReply {
    let mut reply = EndpointReply::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    reply
}
