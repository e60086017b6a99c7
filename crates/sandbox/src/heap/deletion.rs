//! Heap's user deletion: a token for five minutes, a request, and its status.
//!
//! Source: Heap, "User Deletion". Only the main production environment's id and an API key give a token.
//! How long a deletion stays pending is not documented: here until its status has been asked once.

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
use super::serve::{Answer, Says, serve};
use super::store::{Fact, Who};
use crate::faults::Endpoint;
use crate::{Shared, clock};

/// Most users in one request.
const USERS_MAX: usize = 10_000;
/// A token's life in minutes.
const TOKEN_MINUTES: u32 = 5;

fn failed(status: StatusCode, message: &str) -> Answer {
    Answer::new(status, Says::Json(json!({ "err": { "message": message } })))
}

pub(super) async fn auth_token(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    serve(shared, Endpoint::Deletion, body, |shared, _| {
        let options = &shared.options.heap;
        let wanted = STANDARD.encode(format!("{}:{}", options.app_id, options.api_key));
        if credential(&headers, "Basic ") != Some(&wanted) {
            return Err(failed(StatusCode::UNAUTHORIZED, "Unauthorized"));
        }
        let token = uuid::Uuid::new_v4().to_string();
        let until: Duration = clock::now() + options.minute * TOKEN_MINUTES;
        shared.lock().heap.tokens.insert(token.clone(), until);
        Ok(Answer::new(StatusCode::OK, Says::Json(json!({ "access_token": token }))))
    })
    .await
}

pub(super) async fn user_deletion(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    serve(shared, Endpoint::Deletion, body, |shared, body| {
        let mut inner = shared.lock();
        inner.heap.authorized(&headers)?;
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let users = users(&value).map_err(|message| failed(StatusCode::BAD_REQUEST, message))?;
        let id = uuid::Uuid::new_v4().to_string();
        let asked = Fact::DeletionAsked { id: id.clone(), users };
        inner.heap.keep(vec![asked]).map_err(|_| failed(StatusCode::SERVICE_UNAVAILABLE, "memory"))?;
        let location = format!("/api/public/v0/deletion_status/{id}");
        let body =
            json!({ "deletion_request_location": location, "deletion_request_id": id, "status": "pending" });
        Ok(Answer::new(StatusCode::CREATED, Says::Json(body)))
    })
    .await
}

pub(super) async fn deletion_status(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    serve(shared, Endpoint::Deletion, body, |shared, _| {
        let mut inner = shared.lock();
        inner.heap.authorized(&headers)?;
        let deletion = inner.heap.store.deletions.get_mut(&id);
        let deletion = deletion.ok_or_else(|| failed(StatusCode::NOT_FOUND, "Not Found"))?;
        deletion.asked += 1;
        if deletion.asked > 1 && !deletion.complete {
            let done = Fact::DeletionDone { id: id.clone() };
            inner.heap.keep(vec![done]).map_err(|_| failed(StatusCode::SERVICE_UNAVAILABLE, "memory"))?;
        }
        let complete = inner.heap.store.deletions.get(&id).is_some_and(|deletion| deletion.complete);
        let status = if complete { "complete" } else { "pending" };
        Ok(Answer::new(StatusCode::OK, Says::Json(json!({ "deletion_request_id": id, "status": status }))))
    })
    .await
}

fn credential<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix(scheme)
}

impl Heap {
    fn authorized(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let until = credential(headers, "Bearer ").and_then(|token| self.tokens.get(token));
        match until {
            Some(until) if *until > clock::now() => Ok(()),
            _ => Err(failed(StatusCode::UNAUTHORIZED, "Unauthorized")),
        }
    }
}

/// Each user is named by a number `user_id` or by an `identity`.
fn users(value: &Value) -> Result<Vec<Who>, &'static str> {
    let list = value.get("users").and_then(Value::as_array).ok_or("users should be array")?;
    if list.is_empty() || list.len() > USERS_MAX {
        return Err("users should have 1 to 10000 items");
    }
    let who = |user: &Value| match (user.get("user_id"), user.get("identity").and_then(Value::as_str)) {
        (Some(id), None) => id.as_u64().filter(|id| *id <= USER_ID_MAX).map(Who::UserId),
        (None, Some(identity)) if (1..=IDENTITY_LEN_MAX).contains(&identity.chars().count()) => {
            Some(Who::Identity(identity.to_owned()))
        }
        _ => None,
    };
    let users: Option<Vec<Who>> = list.iter().map(who).collect();
    users.ok_or("each user should have a user_id or an identity")
}
