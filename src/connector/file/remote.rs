//! Files in a bucket, by key or glob, and files on a web server, by address.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::FileError;
use super::found::{FoundFile, FoundFiles};
use crate::config::FileSource;
use crate::file_glob::{Glob, KeyMatch, is_glob};
use crate::object_store::{BucketClient, ByteSpan, RemoteObject, io_error, is_web, settings, split};

/// The files of a source in a bucket or on a web server.
pub(super) fn files(source: &FileSource, stores: &[(String, String)]) -> Result<FoundFiles, FileError> {
    let pattern = source.pattern.as_str();
    let failed = |source| FileError::Io { path: pattern.into(), source };
    if is_web(pattern) {
        let object = RemoteObject::on_web(pattern, source.is_allowed).map_err(failed)?;
        return Ok(FoundFiles { files: vec![FoundFile::Remote(pattern.into(), object)], skipped: 0 });
    }
    let options = settings(stores, source.endpoint.as_deref(), source.region.as_deref());
    let (root, key) = split(pattern);
    let objects = BucketClient::open(root, &options).map_err(failed)?;
    if is_glob(key) {
        return matches(&objects, root, key);
    }
    let location = objects.exact(key).map_err(|what| FileError::BadKey { path: pattern.into(), what })?;
    let meta = objects.head(&location).map_err(|error| failed(io_error(&error)))?;
    let object = RemoteObject::of(&objects, location, meta);
    Ok(FoundFiles { files: vec![FoundFile::Remote(pattern.into(), object)], skipped: 0 })
}

/// The objects that match a glob. Other keys may have any form.
fn matches(objects: &BucketClient, root: &str, pattern: &str) -> Result<FoundFiles, FileError> {
    let address = |key: &str| PathBuf::from(format!("{root}/{key}"));
    let glob = Glob::key(pattern).map_err(|source| FileError::BadGlob { source })?;
    let listing = objects.list(glob.prefix(), ByteSpan::default());
    let listing =
        listing.map_err(|error| FileError::Io { path: address(pattern), source: io_error(&error) })?;
    let folders: BTreeSet<String> = listing.objects.iter().flat_map(|entry| folders_of(&entry.key)).collect();
    let mut found = FoundFiles { files: Vec::new(), skipped: 0 };
    for entry in listing.objects {
        // Some tools create an empty object as a folder marker.
        let is_mark = entry.len == 0 && (entry.key.ends_with('/') || folders.contains(&entry.key));
        match glob.match_key(&entry.key) {
            _ if is_mark => {}
            KeyMatch::Named => {
                let path = address(&entry.key);
                match RemoteObject::listed(objects, entry) {
                    Ok(object) => found.files.push(FoundFile::Remote(path, object)),
                    Err(what) => return Err(FileError::BadKey { path, what }),
                }
            }
            KeyMatch::Skipped => found.skipped += 1,
            KeyMatch::Other => {}
        }
    }
    if found.files.is_empty() {
        let pattern = address(pattern).display().to_string();
        return Err(FileError::NoMatch { pattern, skipped: found.skipped });
    }
    found.files.sort_unstable_by(|a, b| a.path().as_os_str().cmp(b.path().as_os_str()));
    Ok(found)
}

/// The folders of a key.
fn folders_of(key: &str) -> impl Iterator<Item = String> {
    key.match_indices('/').map(|(end, _)| key[..end].to_owned())
}
