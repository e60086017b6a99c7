//! The door of Braze's Currents: does whoever speaks have the token, and is it JSON?
//!
//! Source: Braze, "Custom HTTP connector". A 2xx ends the matter; a 400 splits the request until a single event is
//! alone, and that one is dropped for good, so it is only for what is no JSON at all; 401 and 403 make an
//! administrator act; 413 splits; everything else is tried again. An empty body asks whether the token is right.

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};

use super::body::BodyRefusal;
use crate::config::Secret;
use crate::event_mapping::has_pieces;

/// Who may speak through a door.
#[derive(Clone, Debug)]
pub struct CurrentsEndpoint {
    /// The tokens that Braze may send; none: anybody may speak.
    pub tokens: Vec<Secret>,
}

impl CurrentsEndpoint {
    /// Checks the token.
    ///
    /// # Errors
    /// [`Refusal`] when there is none, or another one.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), BodyRefusal> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        let header = headers.get(AUTHORIZATION).ok_or(BodyRefusal::NoToken)?;
        let given = header.to_str().ok().and_then(bearer).ok_or(BodyRefusal::NoToken)?;
        // Hashes are compared, and all of them, so that the time tells nothing of any token.
        let given = Sha256::digest(given.as_bytes());
        let is_it = |token: &&Secret| Sha256::digest(token.expose().as_bytes()) == given;
        if self.tokens.iter().filter(is_it).count() > 0 { Ok(()) } else { Err(BodyRefusal::WrongToken) }
    }

    /// Whether there is anything to keep in a body.
    ///
    /// # Errors
    /// [`Refusal`] when it is no JSON.
    pub fn has_events(&self, body: &[u8]) -> Result<bool, BodyRefusal> {
        match has_pieces(body) {
            Ok(has_events) => Ok(has_events),
            // It is kept and told as a reject: nobody could send it in a form that is taken.
            Err(error) if error.is_too_deep() => Ok(true),
            Err(_) => Err(BodyRefusal::NotJson),
        }
    }
}

/// The token in `Bearer <token>`. The scheme is written in any case.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: &[&str], header: Option<&str>) -> Result<(), BodyRefusal> {
        let tokens = tokens.iter().map(|token| Secret::new((*token).to_owned())).collect();
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().unwrap());
        }
        CurrentsEndpoint { tokens }.check(&headers)
    }

    #[test]
    fn only_the_token_opens_it_and_the_one_before_it() {
        assert_eq!(check(&[], None), Ok(()));
        assert_eq!(check(&["new", "old=="], Some("Bearer new")), Ok(()));
        assert_eq!(check(&["new", "old=="], Some("bearer  old==")), Ok(()));
        assert_eq!(check(&["new"], Some("Bearer newer")), Err(BodyRefusal::WrongToken));
        for none in [None, Some("new"), Some("Basic new"), Some("Bearer "), Some("")] {
            assert_eq!(check(&["new"], none), Err(BodyRefusal::NoToken), "{none:?}");
        }
    }

    #[test]
    fn whatever_is_json_is_kept() {
        let door = CurrentsEndpoint { tokens: Vec::new() };
        for body in
            [r#"{"events":[{"event_type":"never.Seen"}]}"#, "[7]", r#"{"id":"bare"}"#, &"[".repeat(9_999)]
        {
            assert_eq!(door.has_events(body.as_bytes()), Ok(true), "{body:.40}");
        }
        for probe in ["", "{}", r#"{"events":[]}"#, "[]", "null"] {
            assert_eq!(door.has_events(probe.as_bytes()), Ok(false), "{probe}");
        }
        for bad in ["{", "events", r#"{"events":[{]}"#] {
            assert_eq!(door.has_events(bad.as_bytes()), Err(BodyRefusal::NotJson), "{bad}");
        }
    }
}
