//! Heap's API for the deletion of users.
//!
//! Source: Heap, "User Deletion". A token is valid for five minutes, so each run requests one. The documents name no EU
//! address for these calls; the connection's address is used.

use serde::Deserialize;

use crate::config::Secret;
use crate::connector::headers::{display_text, redirect_message};
use crate::connector::http::{HttpAuth, HttpClient, HttpError, HttpReply};

/// Users in one request.
pub(super) const USERS_MAX: usize = 10_000;

/// The deletion API of one environment.
pub struct DeletionClient<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) base: &'a str,
    pub(super) app_id: &'a str,
    pub(super) api_key: &'a Secret,
}

/// The reason why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// Heap was not reached, or did not respond.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The key is invalid.
    #[error("Heap rejects the API key: {0}")]
    Unauthorized(String),
    /// Any other status.
    #[error("Heap responded with status {0}: {1}")]
    Unexpected(u16, String),
    /// Too many users.
    #[error("Heap deletes at most {USERS_MAX} users at once")]
    TooMany,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeletionReply {
    access_token: Option<String>,
    deletion_request_id: Option<String>,
}

impl DeletionClient<'_> {
    /// Requests the deletion of the users with these identities. Returns Heap's id of the request.
    ///
    /// # Errors
    /// [`DeletionError`]. A request without a response may have been accepted.
    pub async fn request(&self, identities: &[&str]) -> Result<String, DeletionError> {
        if identities.len() > USERS_MAX {
            return Err(DeletionError::TooMany);
        }
        let token = self.token().await?;
        let users: Vec<_> =
            identities.iter().map(|identity| serde_json::json!({ "identity": identity })).collect();
        let body = serde_json::json!({ "users": users }).to_string().into_bytes();
        let url = format!("{}/api/public/v0/user_deletion", self.base);
        let reply = self.read(&self.http.post_as(&url, &HttpAuth::Bearer(token.expose()), body).await?)?;
        reply.deletion_request_id.ok_or_else(|| missing_field("deletion_request_id"))
    }

    /// Requests a token, which validates the key and changes nothing.
    ///
    /// # Errors
    /// [`DeletionError`] when there is none.
    pub async fn token(&self) -> Result<Secret, DeletionError> {
        let url = format!("{}/api/public/v0/auth_token", self.base);
        let basic = HttpAuth::Basic(self.app_id, self.api_key.expose());
        let token = self.read(&self.http.post_as(&url, &basic, Vec::new()).await?)?;
        Ok(Secret::new(token.access_token.ok_or_else(|| missing_field("access_token"))?))
    }

    fn read(&self, response: &HttpReply) -> Result<DeletionReply, DeletionError> {
        let text = || display_text(String::from_utf8_lossy(&response.body).trim());
        match response.status {
            200..=299 => Ok(serde_json::from_slice(&response.body).unwrap_or_default()),
            300..=399 => Err(DeletionError::Unexpected(response.status, redirect_message(&response.headers))),
            401 | 403 => Err(DeletionError::Unauthorized(text())),
            status => Err(DeletionError::Unexpected(status, text())),
        }
    }
}

/// A success without its only documented field comes from a proxy or a portal, so nothing was confirmed.
fn missing_field(field: &str) -> DeletionError {
    DeletionError::Unexpected(200, format!("the body is not Heap's: it has no `{field}`"))
}
