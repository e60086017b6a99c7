//! Request pipeline of Heap: body limit, counters, fault plan, execution, response.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::options::Success;
use crate::SandboxHandle;
use crate::faults::{Endpoint, FaultAction, ReplacementResponse};
use crate::serve::{HangUp, set_header, status_of};

/// Body of a response.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum HeapBody {
    Empty,
    Text(String),
    Json(Value),
}

/// A response of Heap.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeapResponse {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: HeapBody,
}

impl HeapResponse {
    pub(super) fn new(status: StatusCode, body: HeapBody) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// A response with a plain text, as Heap's errors have.
    pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, HeapBody::Text(text.into()))
    }

    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::text(StatusCode::BAD_REQUEST, text)
    }

    /// A success in the configured form; `n` is its number.
    pub(super) fn success(success: Success, n: u64) -> Self {
        let object = Self::new(StatusCode::OK, HeapBody::Json(json!({})));
        let empty = Self::text(StatusCode::OK, "");
        let no_content = Self::new(StatusCode::NO_CONTENT, HeapBody::Empty);
        match (success, n % 3) {
            (Success::Object, _) | (Success::Mixed, 0) => object,
            (Success::Empty, _) | (Success::Mixed, 1) => empty,
            (Success::NoContent | Success::Mixed, _) => no_content,
        }
    }

    fn response(self) -> Response {
        let (kind, body) = match self.body {
            HeapBody::Empty => (None, String::new()),
            HeapBody::Text(text) => (Some("text/plain; charset=utf-8"), text),
            HeapBody::Json(value) => (Some("application/json"), value.to_string()),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        if let Some(kind) = kind {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for (name, value) in &self.headers {
            set_header(response.headers_mut(), name, value);
        }
        response
    }
}

/// Runs a request through the pipeline. `execute` gets the body and executes the request.
pub(super) async fn serve(
    shared: SandboxHandle,
    endpoint: Endpoint,
    body: Body,
    execute: impl FnOnce(&SandboxHandle, &[u8]) -> Result<HeapResponse, HeapResponse>,
) -> Response {
    let body_len_max = shared.options.heap.body_len_max;
    let response = match axum::body::to_bytes(body, body_len_max).await {
        Ok(body) => {
            shared.lock().heap.counters.request(endpoint, body.len());
            process(&shared, endpoint, &body, execute).await
        }
        Err(_) => Some(HeapResponse::text(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large")),
    };
    match response {
        Some(response) => {
            shared.lock().heap.counters.response(response.status.as_u16());
            response.response()
        }
        None => HangUp::response(),
    }
}

/// Applies the fault plan and executes the request. `None` closes the connection.
async fn process(
    shared: &SandboxHandle,
    endpoint: Endpoint,
    body: &[u8],
    execute: impl FnOnce(&SandboxHandle, &[u8]) -> Result<HeapResponse, HeapResponse>,
) -> Option<HeapResponse> {
    let fault = shared.lock().faults.next_action(endpoint, "", body);
    match FaultAction::before(fault.as_ref()).await {
        Some(ReplacementResponse::HangUp) => return None,
        Some(ReplacementResponse::Status(status)) => {
            return Some(HeapResponse::text(status_of(status), "by the fault plan"));
        }
        Some(ReplacementResponse::Reply { status, headers, body }) => {
            return Some(HeapResponse { status: status_of(status), headers, body: body_of(body) });
        }
        None => {}
    }
    let response = match execute(shared, body) {
        Ok(response) => response,
        Err(rejection) => return Some(rejection),
    };
    match fault {
        // `hold` does not postpone here: Heap identifies events by key, so their order does not affect the
        // result.
        Some(FaultAction::LoseAnswer | FaultAction::Hold) => None,
        Some(FaultAction::HangAfter | FaultAction::HoldAndHang) => std::future::pending().await,
        Some(FaultAction::DoneBut(body)) => Some(HeapResponse::new(StatusCode::OK, body_of(body))),
        _ => Some(response),
    }
}

/// A string in the fault plan becomes a plain text.
fn body_of(body: Value) -> HeapBody {
    match body {
        Value::String(text) => HeapBody::Text(text),
        Value::Null => HeapBody::Empty,
        other => HeapBody::Json(other),
    }
}

/// Ingestion accepts JSON only and responds 400 otherwise (not documented).
pub(super) fn is_json(headers: &HeaderMap) -> Result<(), HeapResponse> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        Ok(())
    } else {
        Err(HeapResponse::bad_request("Content-Type must be application/json"))
    }
}
