//! Files in a bucket, by key or glob, and files on a web server, by address.

use std::collections::BTreeSet;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use glob::MatchOptions;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStoreExt as _};

use super::FileError;
use super::find::{Found, is_glob};
use crate::config::FileSource;
use crate::objects::{Object, Objects, io_error, is_web, settings};

/// As globs over files are meant: `*` stays within a folder, `**` does not.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// The files of a source that is elsewhere.
pub(super) fn files(source: &FileSource, stores: &[(String, String)]) -> Result<Vec<Found>, FileError> {
    let pattern = source.pattern.as_str();
    let failed = |source| FileError::Io { path: pattern.into(), source };
    let options = settings(stores, source.endpoint.as_deref(), source.region.as_deref());
    // Of the address only the bucket, and of a web server only its name: what is in it is told apart by key.
    let (root, key) = split(pattern);
    if is_web(pattern) || !is_glob(key) {
        let (base, key) = if is_web(pattern) { (pattern, None) } else { (root, Some(key)) };
        let opened = if is_web(base) {
            Objects::open_web(base, source.is_allowed)
        } else {
            Objects::open(base, &options)
        };
        let objects = opened.map_err(failed)?;
        let location = key.map_or_else(|| objects.prefix.clone(), |key| objects.object(key));
        return Ok(vec![one(&objects, location, pattern).map_err(failed)?]);
    }
    let objects = Objects::open(root, &options).map_err(failed)?;
    let mut found: Vec<Found> = Vec::new();
    let wanted = glob::Pattern::new(key).map_err(|_| FileError::NoMatch { pattern: pattern.to_owned() })?;
    let all = list(&objects, key).map_err(|error| failed(io_error(&error)))?;
    let folders: BTreeSet<String> = all.iter().flat_map(|meta| folders_of(meta.location.as_ref())).collect();
    for meta in all {
        let key = meta.location.as_ref();
        // What some tools put where a folder is.
        let is_mark = meta.size == 0 && folders.contains(key);
        if wanted.matches_with(key, MATCHING) && !is_mark {
            found.push(Found::There(FilePath::new(root).join(key), Object::of(&objects, meta)));
        }
    }
    if found.is_empty() {
        return Err(FileError::NoMatch { pattern: pattern.to_owned() });
    }
    found.sort_unstable_by(|a, b| a.path().cmp(b.path()));
    Ok(found)
}

/// The bucket's own address, and the rest.
fn split(pattern: &str) -> (&str, &str) {
    let host = pattern.find("://").map_or(0, |at| at + 3);
    let end = pattern[host..].find('/').map_or(pattern.len(), |at| host + at);
    (&pattern[..end], pattern[end..].trim_start_matches('/'))
}

fn one(objects: &Objects, location: Path, address: &str) -> std::io::Result<Found> {
    let store = Arc::clone(&objects.store);
    let meta = objects.wait(async move { store.head(&location).await }).map_err(|error| io_error(&error))?;
    Ok(Found::There(PathBuf::from(address), Object::of(objects, meta)))
}

/// The folders that a key is in.
fn folders_of(key: &str) -> impl Iterator<Item = String> {
    key.match_indices('/').map(|(end, _)| key[..end].to_owned())
}

/// Everything below the part of a glob that is no glob.
fn list(objects: &Objects, glob: &str) -> Result<Vec<ObjectMeta>, Error> {
    let first = glob.find(['*', '?', '[']).unwrap_or(glob.len());
    let folder = glob[..first].rfind('/').map(|end| objects.object(&glob[..end]));
    let store = Arc::clone(&objects.store);
    objects.wait(async move { store.list(folder.as_ref()).try_collect().await })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_and_what_is_in_it() {
        assert_eq!(split("s3://b/a/*.csv"), ("s3://b", "a/*.csv"));
        assert_eq!(split("s3://b"), ("s3://b", ""));
    }

    #[test]
    fn a_star_stays_in_its_folder() {
        let matches = |glob: &str, key: &str| glob::Pattern::new(glob).unwrap().matches_with(key, MATCHING);
        assert!(matches("a/*.csv", "a/b.csv") && !matches("a/*.csv", "a/b/c.csv"));
        assert!(matches("a/**/*.csv", "a/b/c.csv"));
    }
}
