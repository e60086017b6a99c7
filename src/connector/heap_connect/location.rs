//! Location of dumps: a bucket or a folder. Files are named by their path below it.

use std::io;
use std::path::{Path, PathBuf};

use object_store::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::manifest::dump_of;
use super::{Dump, DumpError};
use crate::config::{DumpFolder, is_special};
use crate::connector::file::{FileAccess, FileError, FoundFile, read_whole};
use crate::object_store::{BucketClient, ByteSpan, RemoteObject, io_error, is_web, settings};

const MANIFESTS: &str = "manifests";
/// The longest manifest in bytes.
const MANIFEST_LEN_MAX: u64 = 256 << 20;

/// A file of the location.
#[derive(Clone, Debug)]
pub(super) struct DumpObject(pub(super) FoundFile);

impl DumpObject {
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The content of the file.
    pub(super) fn read(&self) -> Result<Vec<u8>, FileError> {
        read_whole(&self.0, MANIFEST_LEN_MAX)
    }
}

#[derive(Debug)]
pub(super) enum DumpLocation {
    /// A folder: its path for messages, and its canonical path.
    Folder(PathBuf, PathBuf),
    Bucket(BucketClient),
}

impl DumpLocation {
    pub(super) fn open(folder: &DumpFolder, from: FileAccess<'_>) -> Result<Self, DumpError> {
        if is_web(&folder.path) {
            return Err(DumpError::NoBucket { address: folder.path.clone() });
        }
        if folder.is_remote() {
            let options = settings(from.stores, folder.endpoint.as_deref(), folder.region.as_deref());
            let failed = |source| DumpError::List { path: PathBuf::from(&folder.path), source };
            return BucketClient::open(&folder.path, &options).map(Self::Bucket).map_err(failed);
        }
        let path = from.folder.join(&folder.path);
        let failed = |source| DumpError::List { path: path.clone(), source };
        let real = path.canonicalize().map_err(failed)?;
        let roots = from.roots.iter().filter_map(|root| super::super::file::real(root).ok());
        if is_special(&real) || !roots.into_iter().any(|root| real.starts_with(root)) {
            return Err(FileError::Outside { path: real }.into());
        }
        Ok(Self::Folder(path, real))
    }

    /// The folder of manifests, for messages.
    pub(super) fn manifests_path(&self) -> PathBuf {
        match self {
            Self::Folder(path, _) => path.join(MANIFESTS),
            Self::Bucket(objects) => Path::join(&objects.url, MANIFESTS),
        }
    }

    /// The manifests, in any order.
    pub(super) fn manifests(&self) -> Result<Vec<Dump>, DumpError> {
        let failed = |source| DumpError::List { path: self.manifests_path(), source };
        match self {
            Self::Folder(path, _) => self.manifests_in(&path.join(MANIFESTS)),
            Self::Bucket(objects) => {
                let folder = objects.key("manifests/");
                let listing =
                    objects.list(&folder, ByteSpan::default()).map_err(|error| failed(io_error(&error)))?;
                let dumps = listing.objects.into_iter().filter_map(|entry| {
                    // Names of manifests contain no characters that cannot be requested.
                    let name = entry.key.strip_prefix(&folder)?.to_owned();
                    let id = dump_of(&name, ".json")?;
                    let written = format!("{} {:?}", entry.len, entry.modified);
                    let mark = xxh3_64(entry.tag.as_ref().unwrap_or(&written).as_bytes());
                    let address = Path::join(&objects.url, MANIFESTS).join(name);
                    let found = FoundFile::Remote(address, RemoteObject::listed(objects, entry).ok()?);
                    Some(Dump { id, mark, manifest: DumpObject(found) })
                });
                Ok(dumps.collect())
            }
        }
    }

    fn manifests_in(&self, folder: &Path) -> Result<Vec<Dump>, DumpError> {
        let failed = |source| DumpError::List { path: folder.to_owned(), source };
        let mut dumps = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(id) = name.to_str().and_then(|name| dump_of(name, ".json")) else { continue };
            let path = format!("{MANIFESTS}/{}", name.to_string_lossy());
            let gone = || io::Error::new(io::ErrorKind::NotFound, "it is a broken link, or was deleted");
            let path_of = || self.manifests_path().join(&name);
            let manifest =
                self.file(&path)?.ok_or_else(|| DumpError::List { path: path_of(), source: gone() })?;
            // A copied manifest has the same content but another time, so the content is hashed.
            let mark = xxh3_64(&manifest.read()?);
            dumps.push(Dump { id, mark, manifest });
        }
        Ok(dumps)
    }

    /// A file by its path below the location; `None` if there is none.
    pub(super) fn file(&self, path: &str) -> Result<Option<DumpObject>, FileError> {
        match self {
            Self::Folder(folder, real) => {
                let path = folder.join(path);
                match path.canonicalize() {
                    Ok(found) if !found.starts_with(real) => Err(FileError::Outside { path: found }),
                    Ok(_) => Ok(Some(DumpObject(FoundFile::Local(path)))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(FileError::Io { path, source }),
                }
            }
            Self::Bucket(objects) => {
                let address = Path::join(&objects.url, path);
                let location = objects.exact(&objects.key(path));
                let location = location.map_err(|what| FileError::BadKey { path: address.clone(), what })?;

                match objects.head(&location) {
                    Ok(meta) => Ok(Some(DumpObject(FoundFile::Remote(
                        address,
                        RemoteObject::of(objects, location, meta),
                    )))),
                    Err(Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(FileError::Io { path: address, source: io_error(&error) }),
                }
            }
        }
    }
}
