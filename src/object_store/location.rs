//! The location of an object by its exact key, including keys that the client library cannot represent: with a
//! control character or a leading slash.
//!
//! For such a key the library gets a stand-in path. `vendors` puts the key into the address of the request.

use std::sync::Arc;

use object_store::GetOptions;
use object_store::path::{Path, PathPart};

/// The path for the client library. Its errors show it.
pub(super) const STAND_IN: &str = "object-of-this-key";

/// An object of a bucket.
#[derive(Clone, Debug)]
pub struct ObjectKey {
    pub(super) path: Path,
    key: Option<RawKey>,
}

/// The key for the request's address.
#[derive(Clone, Debug)]
pub(super) struct RawKey(pub(super) Arc<str>);

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
            None => Err("its key has a control character, which this store's client rejects".to_owned()),
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
    }
}
