//! Heap's deletion of users: a token, a request, its status.
//!
//! Source: Heap, "User Deletion". A token lives five minutes, so each run asks for its own. Whether the EU has
//! an address of its own for these calls is not documented; the connection's is used.

use serde::Deserialize;

use super::super::headers::{redirected, shown};
use super::super::http::{self, Auth, HttpClient, HttpError};
use crate::config::Secret;

/// Users in one request at most.
pub(super) const USERS_MAX: usize = 10_000;

/// The deletion API of one environment.
pub struct Deletion<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) base: &'a str,
    pub(super) app_id: &'a str,
    pub(super) api_key: &'a Secret,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// Heap was not reached, or did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The key is not good.
    #[error("Heap refuses the API key: {0}")]
    Unauthorized(String),
    /// Another answer.
    #[error("Heap answered with status {0}: {1}")]
    Unexpected(u16, String),
    /// Too many at once.
    #[error("Heap deletes at most {USERS_MAX} users at once")]
    TooMany,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeletionReply {
    access_token: Option<String>,
    deletion_request_id: Option<String>,
}

impl Deletion<'_> {
    /// Asks Heap to delete the users with these identities, and gives back Heap's name of the request.
    ///
    /// # Errors
    /// [`DeletionError`]; without an answer to the request itself it may have been taken.
    pub async fn ask(&self, identities: &[&str]) -> Result<String, DeletionError> {
        if identities.len() > USERS_MAX {
            return Err(DeletionError::TooMany);
        }
        let token = self.token().await?;
        let users: Vec<_> =
            identities.iter().map(|identity| serde_json::json!({ "identity": identity })).collect();
        let body = serde_json::json!({ "users": users }).to_string().into_bytes();
        let url = format!("{}/api/public/v0/user_deletion", self.base);
        let asked = self.read(&self.http.post_as(&url, &Auth::Bearer(token.expose()), body).await?)?;
        asked.deletion_request_id.ok_or_else(|| undocumented("deletion_request_id"))
    }

    /// Asks for a token, which tells whether the key is good and changes nothing.
    ///
    /// # Errors
    /// [`DeletionError`] when there is none.
    pub async fn token(&self) -> Result<Secret, DeletionError> {
        let url = format!("{}/api/public/v0/auth_token", self.base);
        let basic = Auth::Basic(self.app_id, self.api_key.expose());
        let token = self.read(&self.http.post_as(&url, &basic, Vec::new()).await?)?;
        Ok(Secret::new(token.access_token.ok_or_else(|| undocumented("access_token"))?))
    }

    fn read(&self, answer: &http::HttpReply) -> Result<DeletionReply, DeletionError> {
        let text = || shown(String::from_utf8_lossy(&answer.body).trim());
        match answer.status {
            200..=299 => Ok(serde_json::from_slice(&answer.body).unwrap_or_default()),
            300..=399 => Err(DeletionError::Unexpected(answer.status, redirected(&answer.headers))),
            401 | 403 => Err(DeletionError::Unauthorized(text())),
            status => Err(DeletionError::Unexpected(status, text())),
        }
    }
}

/// A success that lacks its one documented field is the answer of a proxy or a portal: nothing is known to be done.
fn undocumented(field: &str) -> DeletionError {
    DeletionError::Unexpected(200, format!("the body is not Heap's: it has no `{field}`"))
}
