//! Listings with exact keys.
//!
//! The client library parses keys as paths. One key that is no valid path (`a//b`, `..`, a control character) makes
//! the whole listing unreadable, and a trailing slash is lost. So `vendors` rewrites each key in a response as
//! hexadecimal digits before the library parses it, and they are decoded here.

use std::sync::Arc;

use object_store::Error;
use object_store::list::{PaginatedListOptions, PaginatedListStore};

/// Prefix of rewritten keys. It makes them recognizable in errors.
pub(super) const MARK: &str = "key-";

/// Marks requests for which the keys in the response are rewritten.
#[derive(Clone, Copy, Debug)]
pub(super) struct InDigits;

/// An object of a listing.
#[derive(Clone, Debug)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its length in bytes.
    pub len: u64,
    /// The store's tag of the content.
    pub tag: Option<String>,
    /// Modification time, by the store's clock.
    pub modified: std::time::SystemTime,
}

/// Content below a prefix.
#[derive(Clone, Debug, Default)]
pub struct ObjectListing {
    /// Objects, in the store's order.
    pub objects: Vec<ListedObject>,
    /// Prefixes up to the next slash, including it.
    pub folders: Vec<String>,
}

/// Limits of a listing.
#[derive(Clone, Debug, Default)]
pub struct ByteSpan {
    /// List only up to the next slash.
    pub one_level: bool,
    /// Only keys after this one.
    pub after: Option<String>,
    /// Only keys before this one.
    pub before: Option<String>,
}

/// Lists keys. An unsupported key does not hide the others.
pub(super) async fn list(
    store: Arc<dyn PaginatedListStore>,
    prefix: String,
    span: ByteSpan,
) -> Result<ObjectListing, Error> {
    let mut listing = ObjectListing::default();
    let prefix = (!prefix.is_empty()).then_some(prefix);
    let mut page_token = None;
    loop {
        let mut options = PaginatedListOptions {
            offset: span.after.clone(),
            delimiter: span.one_level.then(|| "/".into()),
            page_token,
            ..PaginatedListOptions::default()
        };
        options.extensions.insert(InDigits);
        let page = store.list_paginated(prefix.as_deref(), options).await?;
        for found in page.result.objects {
            let key = from_digits(found.location.as_ref())?;
            // Azure's first key may equal the key to start after.
            if span.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            if span.before.as_ref().is_some_and(|before| key >= *before) {
                return Ok(listing);
            }
            let (len, tag, modified) = (found.size, found.e_tag, found.last_modified.into());
            listing.objects.push(ListedObject { key, len, tag, modified });
        }
        for folder in page.result.common_prefixes {
            listing.folders.push(from_digits(folder.as_ref())?);
        }
        page_token = page.page_token;
        if page_token.is_none() {
            return Ok(listing);
        }
    }
}

pub(super) fn from_digits(text: &str) -> Result<String, Error> {
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let read = || {
        let (pairs, rest) = text.strip_prefix(MARK)?.as_bytes().as_chunks::<2>();
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect();
        rest.is_empty().then(|| String::from_utf8(bytes?).ok())?
    };
    let failed =
        || Error::Generic { store: "bucket", source: format!("its listing has the key {text}").into() };
    read().ok_or_else(failed)
}
