//! The location of an object by its exact key, including keys that the client library cannot represent: with a
//! control character or a leading slash.
//!
//! For such a key the library gets a stand-in path. Before the request is sent, the address gets the percent-encoded
//! key and is signed again (S3; Google Cloud Storage does not sign addresses).
//!
//! Source: AWS, "Create a signed AWS API request": for S3 the canonical URI is the path, encoded once.

use std::sync::{Arc, OnceLock};

use object_store::GetOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpError, HttpErrorKind, HttpRequest};
use object_store::path::{Path, PathPart};
use reqwest::header::AUTHORIZATION;

/// The path for the client library. Its errors show it.
const STAND_IN: &str = "object-of-this-key";
/// The region if no setting names one.
const REGION: &str = "us-east-1";

/// An object of a bucket.
#[derive(Clone, Debug)]
pub struct ObjectKey {
    pub(super) path: Path,
    key: Option<RawKey>,
}

/// The key for the request's address.
#[derive(Clone, Debug)]
struct RawKey(Arc<str>);

/// Signing parameters for S3, known once the client is built.
#[derive(Debug, Default)]
pub(super) struct Signing(OnceLock<(AwsCredentialProvider, String)>);

impl Signing {
    pub(super) fn set(&self, credentials: &AwsCredentialProvider, region: Option<String>) {
        let region = region.unwrap_or_else(|| REGION.to_owned());
        // Set once, by the function that creates it.
        let _ = self.0.set((Arc::clone(credentials), region));
    }
}

impl From<Path> for ObjectKey {
    fn from(path: Path) -> Self {
        Self { path, key: None }
    }
}

impl ObjectKey {
    /// The location of a key. `can_stand_in`: requests to this store can be changed after the library has signed
    /// them.
    ///
    /// # Errors
    /// The reason why the key is not supported: HTTP clients remove `.` and `..` from addresses.
    pub(super) fn of(key: &str, can_stand_in: bool) -> Result<Self, String> {
        if key.is_empty() {
            return Err("its key is empty".to_owned());
        }
        if let Some(part) = key.split('/').find(|part| matches!(*part, "." | "..")) {
            return Err(format!("its key has the component `{part}`, which HTTP clients drop"));
        }
        match path(key) {
            Some(path) => Ok(path.into()),
            None if can_stand_in => Ok(Self { path: STAND_IN.into(), key: Some(RawKey(key.into())) }),
            None if key.starts_with('/') => {
                Err("its key begins with a slash, which this store's client drops".to_owned())
            }
            None => Err("its key has a control character, which this store's client refuses".to_owned()),
        }
    }

    /// Options of a request for the object.
    pub(super) fn options(&self) -> GetOptions {
        let mut options = GetOptions::default();
        self.key.clone().map(|key| options.extensions.insert(key));
        options
    }
}

/// The library's path of a key, if it has one.
fn path(key: &str) -> Option<Path> {
    let mut parts = key.split('/').map(PathPart::parse);
    let path = parts.try_fold(Path::ROOT, |path, part| part.map(|part| path.join(part))).ok()?;
    // If the library changes a component, the path is another key.
    (path.as_ref() == key).then_some(path)
}

/// Puts the key of a request into its address.
pub(super) async fn put_key(request: &mut HttpRequest, signing: &Signing) -> Result<(), HttpError> {
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
    fn a_key_is_asked_for_exactly_or_not_at_all() {
        for key in ["a.csv", "a//b", "a/b/", "%3A~#?&+ ö*[x]\\^`{|}\"<>", "a/.b/...", " a "] {
            let location = ObjectKey::of(key, false).unwrap();
            assert_eq!((location.path.as_ref(), location.key.is_none()), (key, true));
        }
        for key in ["/a", "//a/", "a\nb", "a/\u{7f}"] {
            assert_eq!(&*ObjectKey::of(key, true).unwrap().key.unwrap().0, key);
            assert!(ObjectKey::of(key, false).is_err(), "{key:?}");
        }
        for key in ["", "a/../b", "./a", "/..", "a\n/."] {
            assert!(ObjectKey::of(key, true).is_err(), "{key:?}");
        }
        assert_eq!(encoded("/a\n%3A~/ö#?"), "/a%0A%253A~/%C3%B6%23%3F");
    }
}
