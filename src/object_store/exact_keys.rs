//! Listings with exact keys.
//!
//! The client library parses keys as paths. One key that is no valid path (`a//b`, `..`, a control character) makes
//! the whole listing unreadable, and a trailing slash is lost. So each key in a response is rewritten as hexadecimal
//! digits before the library parses it, and decoded afterwards.
//!
//! Source: S3 and Google Cloud Storage `ListObjectsV2` (`Contents/Key`, `CommonPrefixes/Prefix`); Azure `List Blobs`
//! (`Blob/Name`, `BlobPrefix/Name`, where `Encoded="true"` means percent-encoded).

use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{ClientOptions, Error};
use quick_xml::Writer;
use quick_xml::events::{BytesStart, BytesText, Event};
use quick_xml::reader::Reader;

use super::location::{Signing, put_key};

/// XML elements that contain a key, each with its parent element.
const KEYS: [(&[u8], &[u8]); 4] =
    [(b"Contents", b"Key"), (b"CommonPrefixes", b"Prefix"), (b"Blob", b"Name"), (b"BlobPrefix", b"Name")];
/// Prefix of rewritten keys. It makes them recognizable in errors.
const MARK: &str = "key-";

/// Marks requests for which the keys in the response are rewritten.
#[derive(Clone, Copy, Debug)]
struct InDigits;

/// An object of a listing.
#[derive(Clone, Debug)]
pub struct Entry {
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
pub struct Listing {
    /// Objects, in the store's order.
    pub objects: Vec<Entry>,
    /// Prefixes up to the next slash, including it.
    pub folders: Vec<String>,
}

/// Limits of a listing.
#[derive(Clone, Debug, Default)]
pub struct Span {
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
    span: Span,
) -> Result<Listing, Error> {
    let mut listing = Listing::default();
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
            listing.objects.push(Entry { key, len, tag, modified });
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

fn to_digits(key: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    let digits = key.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    MARK.chars().chain(digits).collect()
}

fn from_digits(text: &str) -> Result<String, Error> {
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

/// Creates HTTP clients that rewrite keys in responses and put exact keys into addresses.
#[derive(Debug)]
pub(super) struct ExactKeyConnector(pub(super) Arc<Signing>);

impl HttpConnector for ExactKeyConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { client, signing: Arc::clone(&self.0) }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    signing: Arc<Signing>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let in_digits = request.extensions().get::<InDigits>().is_some();
        put_key(&mut request, &self.signing).await?;
        let response = self.client.execute(request).await?;
        if !in_digits || !response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let xml = body.collect().await?.to_bytes();
        let written = in_hex(&xml).map_err(|error| HttpError::new(HttpErrorKind::Decode, error))?;
        Ok(HttpResponse::from_parts(parts, written.into()))
    }
}

/// The listing with each key as hexadecimal digits.
fn in_hex(xml: &[u8]) -> Result<Vec<u8>, quick_xml::Error> {
    let mut reader = Reader::from_reader(xml);
    let mut writer = Writer::new(Vec::with_capacity(xml.len() * 2));
    let mut open: Vec<Vec<u8>> = Vec::new();
    let mut key: Option<Key> = None;
    loop {
        let event = reader.read_event()?;
        match (&event, &mut key) {
            (Event::Eof, _) => return Ok(writer.into_inner()),
            (Event::Start(start), _) => {
                let name = start.local_name().as_ref().to_vec();
                let holder = open.last().map(Vec::as_slice).unwrap_or_default();
                if KEYS.contains(&(holder, name.as_slice())) {
                    key = Some(Key::new(start));
                }
                open.push(name);
            }
            (Event::Empty(start), _) => {
                // An empty key has no digits, so it is written explicitly.
                let holder = open.last().map(Vec::as_slice).unwrap_or_default();
                if KEYS.contains(&(holder, start.local_name().as_ref())) {
                    writer.write_event(Event::Start(start.borrow()))?;
                    writer.write_event(Event::Text(BytesText::new(MARK)))?;
                    writer.write_event(Event::End(start.to_end()))?;
                    continue;
                }
            }
            (Event::Text(text), Some(key)) => {
                key.bytes.extend_from_slice(text);
                continue;
            }
            (Event::CData(text), Some(key)) => {
                key.bytes.extend_from_slice(text);
                continue;
            }
            (Event::GeneralRef(reference), Some(key)) => {
                let known = match reference.resolve_char_ref()? {
                    Some(character) => Some(character),
                    None => predefined(reference),
                };
                // An unknown XML entity stays unchanged, so that the key cannot become another one.
                match known {
                    Some(character) => {
                        key.bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    None => key.bytes.extend([b"&", &reference[..], b";"].concat()),
                }
                continue;
            }
            (Event::End(_), _) => {
                open.pop();
                if let Some(key) = key.take() {
                    writer.write_event(Event::Text(BytesText::new(&to_digits(&key.done()))))?;
                }
            }
            _ => {}
        }
        writer.write_event(event)?;
    }
}

fn predefined(name: &[u8]) -> Option<char> {
    match name {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        _ => None,
    }
}

/// A key while it is read.
struct Key {
    bytes: Vec<u8>,
    is_encoded: bool,
}

impl Key {
    fn new(start: &BytesStart<'_>) -> Self {
        let is_encoded = start.attributes().flatten().any(|attribute| {
            attribute.key.as_ref() == b"Encoded" && attribute.value.eq_ignore_ascii_case(b"true")
        });
        Self { bytes: Vec::new(), is_encoded }
    }

    fn done(self) -> Vec<u8> {
        if !self.is_encoded {
            return self.bytes;
        }
        let nibble = |at: usize| {
            char::from(*self.bytes.get(at)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
        };
        let (mut decoded, mut at) = (Vec::new(), 0);
        while let Some(byte) = self.bytes.get(at).copied() {
            match (byte, nibble(at + 1), nibble(at + 2)) {
                (b'%', Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    at += 3;
                }
                _ => {
                    decoded.push(byte);
                    at += 1;
                }
            }
        }
        decoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(xml: &str) -> Vec<String> {
        let text = String::from_utf8(in_hex(xml.as_bytes()).unwrap()).unwrap();
        let digits = text.split(MARK).skip(1).map(|rest| rest.split('<').next().unwrap());
        digits.map(|digits| from_digits(&format!("{MARK}{digits}")).unwrap()).collect()
    }

    #[test]
    fn each_key_of_a_listing_is_exactly_the_store_s() {
        let s3 = "<ListBucketResult><Name>b</Name><Prefix>a/</Prefix>\
            <Contents><Key>a//b &amp; &lt;c&gt;.csv</Key><Owner><Name>n</Name></Owner></Contents>\
            <Contents><Key> a/../%3A~#&#x1;\u{f6}&#13; </Key></Contents>\
            <CommonPrefixes><Prefix>/a//</Prefix></CommonPrefixes></ListBucketResult>";
        assert_eq!(keys(s3), ["a//b & <c>.csv", " a/../%3A~#\u{1}\u{f6}\r ", "/a//"]);
        let azure = "<EnumerationResults><Prefix>x</Prefix><Blobs><Blob><Name Encoded=\"true\">a%EF%BF%BE%2f</Name>\
            </Blob><Blob><Name>a%2F</Name></Blob><BlobPrefix><Name>a/</Name></BlobPrefix></Blobs></EnumerationResults>";
        assert_eq!(keys(azure), ["a\u{fffe}/", "a%2F", "a/"]);
    }
}
