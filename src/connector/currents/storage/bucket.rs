//! Files in a bucket: listed by prefix, and below an event type from an hour on; read range by range.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Buf as _, Bytes};
use futures_util::future::ready;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta};

use super::{Object, StorageError, day_of_partition, is_avro};
use crate::model::{Day, Timestamp};
use crate::objects::{Objects, io_error};

/// Bytes of one request.
const RANGE_LEN: u64 = 8 << 20;

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

/// An object, read in ranges. One that is replaced meanwhile is an error.
pub(super) struct Ranges {
    objects: Objects,
    path: Path,
    tag: Option<String>,
    at: u64,
    len: u64,
    buffer: Bytes,
}

impl Ranges {
    pub(super) fn new(objects: &Objects, object: &Object, from: u64) -> Self {
        Self {
            path: objects.object(&object.path),
            objects: objects.clone(),
            tag: object.tag.clone(),
            at: from,
            len: object.len,
            buffer: Bytes::new(),
        }
    }

    fn fetch(&mut self) -> io::Result<()> {
        let (store, path) = (Arc::clone(&self.objects.store), self.path.clone());
        let end = (self.at + RANGE_LEN).min(self.len);
        let options = GetOptions {
            range: Some(GetRange::Bounded(self.at..end)),
            if_match: self.tag.clone(),
            ..GetOptions::default()
        };
        let read = self.objects.wait(async move { store.get_opts(&path, options).await?.bytes().await });
        self.buffer = read.map_err(|error| io_error(&error))?;
        self.at = end;
        Ok(())
    }
}

impl Read for Ranges {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() && self.at < self.len {
            self.fetch()?;
        }
        let len = self.buffer.len().min(into.len());
        self.buffer.copy_to_slice(&mut into[..len]);
        Ok(len)
    }
}
