//! Puts an exact key into the address of a request, and signs it again (S3; Google Cloud Storage does not sign
//! addresses).
//!
//! Source: AWS, "Create a signed AWS API request": for S3 the canonical URI is the path, encoded once.

use std::sync::{Arc, OnceLock};

use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpError, HttpErrorKind, HttpRequest};
use reqwest::header::AUTHORIZATION;

use super::super::location::{RawKey, STAND_IN};

/// The region if no setting names one.
const REGION: &str = "us-east-1";

/// Signing parameters for S3, known once the client is built.
#[derive(Debug, Default)]
pub(super) struct RequestSigning(OnceLock<(AwsCredentialProvider, String)>);

impl RequestSigning {
    pub(super) fn set(&self, credentials: &AwsCredentialProvider, region: Option<String>) {
        let region = region.unwrap_or_else(|| REGION.to_owned());
        // Set once, by the function that creates it.
        let _ = self.0.set((Arc::clone(credentials), region));
    }
}

/// Puts the key of a request into its address.
pub(super) async fn put_key(request: &mut HttpRequest, signing: &RequestSigning) -> Result<(), HttpError> {
    let Some(RawKey(key)) = request.extensions().get::<RawKey>().cloned() else { return Ok(()) };
    let address = request.uri().to_string();
    let address = match address.rsplit_once(STAND_IN) {
        Some((before, after)) => format!("{before}{}{after}", encoded(&key)),
        None => address,
    };
    *request.uri_mut() = address.parse().map_err(failed)?;
    let is_signed = request.headers().contains_key(AUTHORIZATION);
    if let Some((credentials, region)) = signing.0.get().filter(|_| is_signed) {
        let credential = credentials.get_credential().await.map_err(failed)?;
        AwsAuthorizer::new(&credential, "s3", region).try_authorize(request, None).map_err(failed)?;
    }
    Ok(())
}

fn failed<E: std::error::Error + Send + Sync + 'static>(error: E) -> HttpError {
    HttpError::new(HttpErrorKind::Request, error)
}

/// A key in an address.
fn encoded(key: &str) -> String {
    let mut text = String::with_capacity(key.len() + 8);
    for byte in key.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_percent_encoded_once() {
        assert_eq!(encoded("/a\n%3A~/ö#?"), "/a%0A%253A~/%C3%B6%23%3F");
    }
}
