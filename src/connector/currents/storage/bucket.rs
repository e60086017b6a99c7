//! Files in a bucket: listed by prefix, and below an event type from an hour on; read range by range.

use std::io::Read;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::ready;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{Error, ObjectMeta};

use super::{Object, StorageError, day_of_partition, is_avro};
use crate::model::{Day, Timestamp};
use crate::objects::{self, Objects, io_error};

pub(super) fn list(
    objects: &Objects,
    from: Option<Day>,
    found: &mut dyn FnMut(Object),
) -> Result<u64, StorageError> {
    let (mut folders, mut others) = (vec![objects.prefix.clone()], 0);
    while let Some(folder) = folders.pop() {
        let (files, below) = contents(objects, &folder, from).map_err(|error| StorageError {
            action: "list",
            path: std::path::Path::join(&objects.url, folder.as_ref()),
            source: io_error(&error),
        })?;
        for meta in files {
            match relative(objects, &meta.location) {
                path if is_avro(&path) => found(object(&path, meta)),
                _ => others += 1,
            }
        }
        let is_before = |path: &Path| {
            from.zip(path.filename().and_then(day_of_partition)).is_some_and(|(from, day)| day < from)
        };
        folders.extend(below.into_iter().filter(|path| !is_before(path)));
    }
    Ok(others)
}

/// How many objects and folders there are at the top.
pub(super) fn look(objects: &Objects) -> Result<usize, StorageError> {
    let prefix = objects.prefix.clone();
    let (files, below) = contents(objects, &prefix, None).map_err(|error| StorageError {
        action: "list",
        path: objects.url.clone(),
        source: io_error(&error),
    })?;
    Ok(files.len() + below.len())
}

/// What is in a folder: below an event type all of it, from a day on if one is given, and elsewhere one level.
fn contents(
    objects: &Objects,
    folder: &Path,
    from: Option<Day>,
) -> Result<(Vec<ObjectMeta>, Vec<Path>), Error> {
    let (store, folder) = (Arc::clone(&objects.store), folder.clone());
    objects.wait(async move {
        if !folder.filename().is_some_and(|name| name.starts_with("event_type=")) {
            let found = store.list_with_delimiter(Some(&folder)).await?;
            return Ok((found.objects, found.common_prefixes));
        }
        let Some(day) = from else { return Ok((store.list(Some(&folder)).try_collect().await?, Vec::new())) };
        // All of that day's hours come after the day alone; before all days comes what has none.
        let (days, day) = (folder.clone().join("date="), folder.clone().join(format!("date={day}")));
        let undated = store.list(Some(&folder)).try_take_while(|meta| ready(Ok(meta.location < days)));
        let found = undated.chain(store.list_with_offset(Some(&folder), &day));
        Ok((found.try_collect().await?, Vec::new()))
    })
}

fn relative(objects: &Objects, location: &Path) -> String {
    let whole = location.as_ref();
    let rest = whole.strip_prefix(objects.prefix.as_ref()).unwrap_or(whole);
    rest.trim_start_matches('/').to_owned()
}

fn object(path: &str, meta: ObjectMeta) -> Object {
    let arrived = Timestamp::try_from(SystemTime::from(meta.last_modified)).unwrap_or(Timestamp::MAX);
    let mark = match &meta.e_tag {
        Some(tag) => tag.as_bytes().to_vec(),
        None => arrived.as_millisecond().to_le_bytes().to_vec(),
    };
    Object::new(path, meta.size, arrived, &mark, meta.e_tag)
}

/// An object from a byte on. One that is replaced meanwhile is an error.
pub(super) fn read(objects: &Objects, object: &Object, from: u64) -> impl Read + Send + 'static {
    let location = objects.object(&object.path);
    objects::Ranges::new(objects::Object::new(objects, location, object.len, object.tag.clone()), from)
}
