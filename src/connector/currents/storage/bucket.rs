//! Currents files in a bucket: listed by prefix, below an event type from an hour on, and read by ranges.

use std::io::{self, Read};
use std::path::PathBuf;

use ::object_store::Error;

use super::{EventFile, StorageError, day_of_partition, is_avro};
use crate::file_glob::is_hidden;
use crate::model::{Day, Timestamp};
use crate::object_store::{self, BucketClient, ByteSpan, ListedObject, ObjectListing, io_error};

pub(super) fn list(
    objects: &BucketClient,
    from: Option<Day>,
    found: &mut dyn FnMut(EventFile),
) -> Result<u64, StorageError> {
    let (mut folders, mut others) = (vec![objects.key("")], 0);
    while let Some(folder) = folders.pop() {
        let listing = contents(objects, &folder, from)?;
        for entry in listing.objects {
            // Some tools write an object in place of a folder.
            let Some(path) = relative(objects, &entry.key).filter(|path| !path.ends_with('/')) else {
                continue;
            };
            if !is_avro(path) || path.split('/').any(is_hidden) {
                others += 1;
                continue;
            }
            objects.exact(&entry.key).map_err(|what| {
                let source = io::Error::new(io::ErrorKind::InvalidInput, what);
                StorageError { action: "read", path: address(objects, &entry.key), source }
            })?;
            let path = path.to_owned();
            found(object(&path, entry));
        }
        for below in listing.folders {
            let name = below.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let is_before = from.zip(day_of_partition(name)).is_some_and(|(from, day)| day < from);
            match is_hidden(name) {
                true => others += 1,
                false if is_before => {}
                false => folders.push(below),
            }
        }
    }
    Ok(others)
}

/// The number of objects and folders at the top level.
pub(super) fn look(objects: &BucketClient) -> Result<usize, StorageError> {
    let listing = contents(objects, &objects.key(""), None)?;
    Ok(listing.objects.len() + listing.folders.len())
}

/// The content of a folder: below an event type everything, from a day on if one is given; elsewhere one level.
fn contents(objects: &BucketClient, folder: &str, from: Option<Day>) -> Result<ObjectListing, StorageError> {
    let failed = |error: Error| StorageError {
        action: "list",
        path: address(objects, folder),
        source: io_error(&error),
    };
    let name = folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if !name.starts_with("event_type=") {
        return objects.list(folder, ByteSpan { one_level: true, ..ByteSpan::default() }).map_err(failed);
    }
    let Some(day) = from else { return objects.list(folder, ByteSpan::default()).map_err(failed) };
    // The hours of a day sort after the day's name. Keys without a date sort before all days.
    let before = ByteSpan { before: Some(format!("{folder}date=")), ..ByteSpan::default() };
    let mut found = objects.list(folder, before).map_err(failed)?;
    let after = ByteSpan { after: Some(format!("{folder}date={day}")), ..ByteSpan::default() };
    found.objects.extend(objects.list(folder, after).map_err(failed)?.objects);
    Ok(found)
}

/// The path of a key below the prefix.
fn relative<'k>(objects: &BucketClient, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(&objects.key("")).filter(|path| !path.is_empty())
}

fn address(objects: &BucketClient, key: &str) -> PathBuf {
    let below = relative(objects, key).unwrap_or_default();
    PathBuf::from(format!("{}/{below}", objects.url.display()))
}

fn object(path: &str, entry: ListedObject) -> EventFile {
    let arrived = Timestamp::try_from(entry.modified).unwrap_or(Timestamp::MAX);
    let mark = match &entry.tag {
        Some(tag) => tag.as_bytes().to_vec(),
        None => arrived.as_millisecond().to_le_bytes().to_vec(),
    };
    EventFile::new(path, entry.len, arrived, &mark, entry.tag)
}

/// Opens an object from a byte on. Replacing it meanwhile causes an error.
pub(super) fn read(
    objects: &BucketClient,
    object: &EventFile,
    from: u64,
) -> Result<impl Read + Send + 'static, StorageError> {
    let key = objects.key(&object.path);
    let location = objects.exact(&key).map_err(|what| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, what);
        StorageError { action: "read", path: address(objects, &key), source }
    })?;
    Ok(object_store::RangeReader::new(
        object_store::RemoteObject::new(objects, location, object.len, object.tag.clone()),
        from,
    ))
}
