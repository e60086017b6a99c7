//! How a request to Heap is served: its body read within the limit, counted, struck by the fault plan,
//! worked on, answered.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::options::Success;
use crate::Shared;
use crate::faults::{Action, Endpoint, Instead};
use crate::serve::{HangUp, put, status_of};

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Says {
    Nothing,
    Text(String),
    Json(Value),
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(String, String)>,
    pub(super) says: Says,
}

impl Answer {
    pub(super) fn new(status: StatusCode, says: Says) -> Self {
        Self { status, headers: Vec::new(), says }
    }

    /// A failure is a plain text.
    pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, Says::Text(text.into()))
    }

    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::text(StatusCode::BAD_REQUEST, text)
    }

    /// A success as the switch has it; `n` is its number.
    pub(super) fn success(success: Success, n: u64) -> Self {
        let object = Self::new(StatusCode::OK, Says::Json(json!({})));
        let empty = Self::text(StatusCode::OK, "");
        let no_content = Self::new(StatusCode::NO_CONTENT, Says::Nothing);
        match (success, n % 3) {
            (Success::Object, _) | (Success::Mixed, 0) => object,
            (Success::Empty, _) | (Success::Mixed, 1) => empty,
            (Success::NoContent | Success::Mixed, _) => no_content,
        }
    }

    fn response(self) -> Response {
        let (kind, body) = match self.says {
            Says::Nothing => (None, String::new()),
            Says::Text(text) => (Some("text/plain; charset=utf-8"), text),
            Says::Json(value) => (Some("application/json"), value.to_string()),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        if let Some(kind) = kind {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for (name, value) in &self.headers {
            put(response.headers_mut(), name, value);
        }
        response
    }
}

/// Serves a request by `work`, which gets its body and does all that the request asks for.
pub(super) async fn serve(
    shared: Shared,
    endpoint: Endpoint,
    body: Body,
    work: impl FnOnce(&Shared, &[u8]) -> Result<Answer, Answer>,
) -> Response {
    let body_len_max = shared.options.heap.body_len_max;
    let answer = match axum::body::to_bytes(body, body_len_max).await {
        Ok(body) => {
            shared.lock().heap.counters.request(endpoint, body.len());
            struck(&shared, endpoint, &body, work).await
        }
        Err(_) => Some(Answer::text(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large")),
    };
    match answer {
        Some(answer) => {
            shared.lock().heap.counters.answered(answer.status.as_u16());
            answer.response()
        }
        None => HangUp::response(),
    }
}

/// The answer, or none: the connection closes.
async fn struck(
    shared: &Shared,
    endpoint: Endpoint,
    body: &[u8],
    work: impl FnOnce(&Shared, &[u8]) -> Result<Answer, Answer>,
) -> Option<Answer> {
    let fault = shared.lock().faults.strike(endpoint, "", body);
    let before = match &fault {
        Some(fault) => fault.before().await,
        None => None,
    };
    match before {
        Some(Instead::HangUp) => return None,
        Some(Instead::Status(status)) => return Some(Answer::text(status_of(status), "by the fault plan")),
        Some(Instead::Reply { status, headers, body }) => {
            return Some(Answer { status: status_of(status), headers, says: says(body) });
        }
        None => {}
    }
    let answer = match work(shared, body) {
        Ok(answer) => answer,
        Err(refusal) => return Some(refusal),
    };
    match fault {
        // What is held elsewhere is done at once here: Heap knows events by their keys, so their order does not matter.
        Some(Action::LoseAnswer | Action::Hold) => None,
        Some(Action::HangAfter | Action::HoldAndHang) => std::future::pending().await,
        Some(Action::DoneBut(body)) => Some(Answer::new(StatusCode::OK, says(body))),
        _ => Some(answer),
    }
}

/// A text of the fault plan is a plain text, as Heap's are.
fn says(body: Value) -> Says {
    match body {
        Value::String(text) => Says::Text(text),
        Value::Null => Says::Nothing,
        other => Says::Json(other),
    }
}

/// Ingestion takes JSON only, and says so with 400 as it does everything else (not documented).
pub(super) fn is_json(headers: &HeaderMap) -> Result<(), Answer> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        Ok(())
    } else {
        Err(Answer::bad_request("Content-Type must be application/json"))
    }
}
