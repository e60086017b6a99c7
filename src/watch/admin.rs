//! The admin address: health, metrics and the dashboard. It answers GET and HEAD, and changes nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::json;

use super::status::{ProcessRole, WatchStatus};
use super::{metrics, view_model};
use crate::config::Config;
use crate::dashboard;
use crate::webhooks::{EndpointReply, EndpointRequest, Endpoints, Handler};

/// Answers whoever asks how things stand.
pub(super) struct Admin {
    board: Arc<WatchStatus>,
    doors: Arc<Endpoints>,
    hosts: Vec<String>,
}

impl Admin {
    pub(super) fn new(board: Arc<WatchStatus>, doors: Arc<Endpoints>, config: &Config) -> Self {
        Self { board, doors, hosts: config.watch.admin_hosts.clone() }
    }

    fn answer(&self, request: &EndpointRequest) -> EndpointReply {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().host());
        if !dashboard::is_own_host(host, &self.hosts) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "this host is not served; see `watch.admin_hosts`\n",
            );
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET it\n");
        }
        match request.uri().path() {
            "/" => page(&self.board, request.uri().query()),
            "/livez" => self.live(),
            "/readyz" => self.ready(),
            "/metrics" => {
                let mut answer = text(StatusCode::OK, &metrics::text(&self.board, &self.doors.tally()));
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
                answer
            }
            _ => text(StatusCode::NOT_FOUND, "there is /, /livez, /readyz and /metrics\n"),
        }
    }

    fn live(&self) -> EndpointReply {
        if self.board.is_alive() {
            text(StatusCode::OK, "alive\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "the loop is stuck\n")
        }
    }

    /// Ready is who leads and makes progress; the rest is detail.
    fn ready(&self) -> EndpointReply {
        let is_alive = self.board.is_alive();
        let inner = self.board.lock();
        let role = match &inner.role {
            ProcessRole::Starting => "starting".to_owned(),
            ProcessRole::Leading => "leading".to_owned(),
            ProcessRole::StandingBy(holder) => format!("standing by: the state is held by {holder}"),
            ProcessRole::Stopping => "stopping".to_owned(),
        };
        let is_ready = is_alive && inner.role == ProcessRole::Leading;
        let trouble = inner.cohorts.iter().filter(|(_, status)| !status.condition.is_good());
        let trouble: serde_json::Map<String, serde_json::Value> =
            trouble.map(|(id, status)| (id.to_string(), status.condition.word().into())).collect();
        let stale: Vec<&str> =
            inner.cohorts.iter().filter(|(_, status)| status.is_stale).map(|(id, _)| id.as_str()).collect();
        let stale_exports: Vec<&str> =
            inner.exports.iter().filter(|(_, status)| status.is_stale).map(|(id, _)| id.as_str()).collect();
        let body = json!({
            "ready": is_ready,
            "role": role,
            "loop": if is_alive { "going round" } else { "stuck" },
            "config": inner.config_error.as_ref().map_or("valid", |_| "invalid; the last good one is in use"),
            "config_digest": inner.config_digest,
            "needs_restart": inner.needs_restart,
            "not_in_sync": trouble,
            "stale": stale,
            "stale_exports": stale_exports,
            "inbox_bytes": inner.heaps.values().map(|heap| heap.waiting_bytes).max().unwrap_or(0),
        });
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut answer = text(status, &format!("{body}\n"));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }
}

impl Handler for Admin {
    fn handle(&self, request: EndpointRequest) -> Pin<Box<dyn Future<Output = EndpointReply> + Send + '_>> {
        let answer = self.answer(&request);
        Box::pin(std::future::ready(answer))
    }
}

fn page(board: &WatchStatus, query: Option<&str>) -> EndpointReply {
    let text = dashboard::page(&view_model::board(board, dashboard::refresh_of(query)));
    let mut answer = EndpointReply::new(Full::new(Bytes::from(text)));
    for (name, value) in dashboard::HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn text(status: StatusCode, text: &str) -> EndpointReply {
    let mut answer = EndpointReply::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}
