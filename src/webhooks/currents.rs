//! Authentication of Braze Currents by a bearer token, and a check that the body is JSON.
//!
//! Source: Braze, "Custom HTTP connector". After a 2xx, Braze does not repeat the request. After a 400, Braze splits the
//! request down to single events and drops the failing one, so 400 is only for bodies that are not JSON. 401 and 403
//! alert an administrator, 413 splits the request, and all others repeat it. A body without events tests the token.

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};

use super::reply::RequestError;
use crate::config::Secret;
use crate::event_mapping::has_pieces;

/// The tokens of an endpoint.
#[derive(Clone, Debug)]
pub struct CurrentsEndpoint {
    /// The accepted tokens. If empty, no token is required.
    pub tokens: Vec<Secret>,
}

impl CurrentsEndpoint {
    /// Checks the token.
    ///
    /// # Errors
    /// [`RequestError`] when the token is missing or wrong.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), RequestError> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        let header = headers.get(AUTHORIZATION).ok_or(RequestError::NoToken)?;
        let given = header.to_str().ok().and_then(bearer).ok_or(RequestError::NoToken)?;
        // All hashes are compared, so that the response time does not reveal a token.
        let given = Sha256::digest(given.as_bytes());
        let is_match = |token: &&Secret| Sha256::digest(token.expose().as_bytes()) == given;
        if self.tokens.iter().filter(is_match).count() > 0 { Ok(()) } else { Err(RequestError::WrongToken) }
    }

    /// Whether a body contains events.
    ///
    /// # Errors
    /// [`RequestError`] when it is not JSON.
    pub fn has_events(&self, body: &[u8]) -> Result<bool, RequestError> {
        match has_pieces(body) {
            Ok(has_events) => Ok(has_events),
            // Braze cannot send it in another form, so it is stored and becomes a reject.
            Err(error) if error.is_too_deep() => Ok(true),
            Err(_) => Err(RequestError::NotJson),
        }
    }
}

/// The token in `Bearer <token>`. The scheme is case-insensitive.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: &[&str], header: Option<&str>) -> Result<(), RequestError> {
        let tokens = tokens.iter().map(|token| Secret::new((*token).to_owned())).collect();
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().unwrap());
        }
        CurrentsEndpoint { tokens }.check(&headers)
    }

    #[test]
    fn only_the_current_and_the_previous_token_are_accepted() {
        assert_eq!(check(&[], None), Ok(()));
        assert_eq!(check(&["new", "old=="], Some("Bearer new")), Ok(()));
        assert_eq!(check(&["new", "old=="], Some("bearer  old==")), Ok(()));
        assert_eq!(check(&["new"], Some("Bearer newer")), Err(RequestError::WrongToken));
        for missing in [None, Some("new"), Some("Basic new"), Some("Bearer "), Some("")] {
            assert_eq!(check(&["new"], missing), Err(RequestError::NoToken), "{missing:?}");
        }
    }

    #[test]
    fn all_json_is_accepted() {
        let endpoint = CurrentsEndpoint { tokens: Vec::new() };
        for body in
            [r#"{"events":[{"event_type":"never.Seen"}]}"#, "[7]", r#"{"id":"bare"}"#, &"[".repeat(9_999)]
        {
            assert_eq!(endpoint.has_events(body.as_bytes()), Ok(true), "{body:.40}");
        }
        for probe in ["", "{}", r#"{"events":[]}"#, "[]", "null"] {
            assert_eq!(endpoint.has_events(probe.as_bytes()), Ok(false), "{probe}");
        }
        for bad in ["{", "events", r#"{"events":[{]}"#] {
            assert_eq!(endpoint.has_events(bad.as_bytes()), Err(RequestError::NotJson), "{bad}");
        }
    }
}
