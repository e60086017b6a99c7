//! Heap's user deletion API: a token for five minutes, a request, and its status.
//!
//! Source: Heap, "User Deletion". Only the id and an API key of the main production environment get a token.
//! How long a deletion stays pending is not documented; here until its status was requested once.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Heap;
use super::check::{IDENTITY_LEN_MAX, USER_ID_MAX};
use super::serve::{HeapBody, HeapResponse, serve};
use super::store::{HeapFact, HeapUserId};
use crate::faults::Endpoint;
use crate::{SandboxHandle, clock};

/// Most users in one request.
const USERS_MAX: usize = 10_000;
/// Lifetime of a token in minutes.
const TOKEN_MINUTES: u32 = 5;

fn failed(status: StatusCode, message: &str) -> HeapResponse {
    HeapResponse::new(status, HeapBody::Json(json!({ "err": { "message": message } })))
}

pub(super) async fn auth_token(
    State(shared): State<SandboxHandle>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    serve(shared, Endpoint::Deletion, body, |shared, _| {
        let options = &shared.options.heap;
        let query = STANDARD.encode(format!("{}:{}", options.app_id, options.api_key));
        if credential(&headers, "Basic ") != Some(&query) {
            return Err(failed(StatusCode::UNAUTHORIZED, "Unauthorized"));
        }
        let token = uuid::Uuid::new_v4().to_string();
        let until: Duration = clock::now() + options.minute * TOKEN_MINUTES;
        shared.lock().heap.tokens.insert(token.clone(), until);
        Ok(HeapResponse::new(StatusCode::OK, HeapBody::Json(json!({ "access_token": token }))))
    })
    .await
}

pub(super) async fn user_deletion(
    State(shared): State<SandboxHandle>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    serve(shared, Endpoint::Deletion, body, |shared, body| {
        let mut state = shared.lock();
        state.heap.authorized(&headers)?;
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let users = users(&value).map_err(|message| failed(StatusCode::BAD_REQUEST, message))?;
        let id = uuid::Uuid::new_v4().to_string();
        let deletion_requested = HeapFact::DeletionRequested { id: id.clone(), users };
        state
            .heap
            .record(vec![deletion_requested])
            .map_err(|_| failed(StatusCode::SERVICE_UNAVAILABLE, "memory"))?;
        let location = format!("/api/public/v0/deletion_status/{id}");
        let body =
            json!({ "deletion_request_location": location, "deletion_request_id": id, "status": "pending" });
        Ok(HeapResponse::new(StatusCode::CREATED, HeapBody::Json(body)))
    })
    .await
}

pub(super) async fn deletion_status(
    State(shared): State<SandboxHandle>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    serve(shared, Endpoint::Deletion, body, |shared, _| {
        let mut state = shared.lock();
        state.heap.authorized(&headers)?;
        let deletion = state.heap.store.deletions.get_mut(&id);
        let deletion = deletion.ok_or_else(|| failed(StatusCode::NOT_FOUND, "Not Found"))?;
        deletion.status_requests += 1;
        if deletion.status_requests > 1 && !deletion.complete {
            let deletion_done = HeapFact::DeletionDone { id: id.clone() };
            state
                .heap
                .record(vec![deletion_done])
                .map_err(|_| failed(StatusCode::SERVICE_UNAVAILABLE, "memory"))?;
        }
        let complete = state.heap.store.deletions.get(&id).is_some_and(|deletion| deletion.complete);
        let status = if complete { "complete" } else { "pending" };
        Ok(HeapResponse::new(
            StatusCode::OK,
            HeapBody::Json(json!({ "deletion_request_id": id, "status": status })),
        ))
    })
    .await
}

fn credential<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix(scheme)
}

impl Heap {
    fn authorized(&self, headers: &HeaderMap) -> Result<(), HeapResponse> {
        let until = credential(headers, "Bearer ").and_then(|token| self.tokens.get(token));
        match until {
            Some(until) if *until > clock::now() => Ok(()),
            _ => Err(failed(StatusCode::UNAUTHORIZED, "Unauthorized")),
        }
    }
}

/// Parses the users: each has a numeric `user_id` or an `identity`.
fn users(value: &Value) -> Result<Vec<HeapUserId>, &'static str> {
    let list = value.get("users").and_then(Value::as_array).ok_or("users should be array")?;
    if list.is_empty() || list.len() > USERS_MAX {
        return Err("users should have 1 to 10000 items");
    }
    let user = |user: &Value| match (user.get("user_id"), user.get("identity").and_then(Value::as_str)) {
        (Some(id), None) => id.as_u64().filter(|id| *id <= USER_ID_MAX).map(HeapUserId::UserId),
        (None, Some(identity)) if (1..=IDENTITY_LEN_MAX).contains(&identity.chars().count()) => {
            Some(HeapUserId::Identity(identity.to_owned()))
        }
        _ => None,
    };
    let users: Option<Vec<HeapUserId>> = list.iter().map(user).collect();
    users.ok_or("each user should have a user_id or an identity")
}
