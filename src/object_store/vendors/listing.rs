//! HTTP client of the vendors' stores: rewrites each key in a listing as hexadecimal digits, and puts exact keys into
//! addresses.
//!
//! Source: S3 and Google Cloud Storage `ListObjectsV2` (`Contents/Key`, `CommonPrefixes/Prefix`); Azure `List Blobs`
//! (`Blob/Name`, `BlobPrefix/Name`, where `Encoded="true"` means percent-encoded).

use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use hyper::{HeaderMap, StatusCode};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use quick_xml::Writer;
use quick_xml::events::{BytesStart, BytesText, Event};
use quick_xml::reader::Reader;
use tracing::Instrument as _;

use super::super::exact_keys::{InDigits, MARK};
use super::signing::{RequestSigning, put_key};
use crate::foreign::cleaned;
use crate::wait_log;

/// XML elements that contain a key, each with its parent element.
const KEYS: [(&[u8], &[u8]); 4] =
    [(b"Contents", b"Key"), (b"CommonPrefixes", b"Prefix"), (b"Blob", b"Name"), (b"BlobPrefix", b"Name")];

fn to_digits(key: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    let digits = key.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    MARK.chars().chain(digits).collect()
}

/// Creates HTTP clients that rewrite keys in responses and put exact keys into addresses.
#[derive(Debug)]
pub(super) struct ExactKeyConnector(pub(super) Arc<RequestSigning>);

impl HttpConnector for ExactKeyConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(ListingService { client, signing: Arc::clone(&self.0) }))
    }
}

#[derive(Debug)]
struct ListingService {
    client: HttpClient,
    signing: Arc<RequestSigning>,
}

#[async_trait]
impl HttpService for ListingService {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let in_digits = request.extensions().get::<InDigits>().is_some();
        put_key(&mut request, &self.signing).await?;
        let response = self.execute(request).await?;
        if !in_digits || !response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let xml = body.collect().await?.to_bytes();
        let written = in_hex(&xml).map_err(|error| HttpError::new(HttpErrorKind::Decode, error))?;
        Ok(HttpResponse::from_parts(parts, written.into()))
    }
}

impl ListingService {
    /// Sends a request and logs its outcome. The caller repeats requests that fail, up to [`super::RETRIES_MAX`] times.
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri();
        let host = uri.host().unwrap_or_default().to_owned();
        let endpoint = cleaned(&format!("{}://{host}{}", uri.scheme_str().unwrap_or_default(), uri.path()));
        let span = wait_log::request_span(request.method().as_str(), &endpoint);
        let logged = async {
            let result = self.client.execute(request).await;
            match &result {
                Ok(response) => log_reply(&host, response.status(), response.headers()),
                Err(error) => {
                    let cause = format!("{host} does not answer ({:?})", error.kind());
                    wait_log::log_no_response(&cause);
                    wait_log::log_repeated(&host, &cause, super::RETRIES_MAX);
                }
            }
            result
        };
        logged.instrument(span).await
    }
}

fn log_reply(host: &str, status: StatusCode, headers: &HeaderMap) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(cleaned);
    wait_log::log_response(status.as_u16(), header);
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        let cause = format!("{host} responds with status {}", status.as_u16());
        wait_log::log_repeated(host, &cause, super::RETRIES_MAX);
    }
}

/// The listing with each key as hexadecimal digits.
fn in_hex(xml: &[u8]) -> Result<Vec<u8>, quick_xml::Error> {
    let mut reader = Reader::from_reader(xml);
    let mut writer = Writer::new(Vec::with_capacity(xml.len() * 2));
    let mut open: Vec<Vec<u8>> = Vec::new();
    let mut key: Option<ListedKey> = None;
    loop {
        let event = reader.read_event()?;
        match (&event, &mut key) {
            (Event::Eof, _) => return Ok(writer.into_inner()),
            (Event::Start(start), _) => {
                let name = start.local_name().as_ref().to_vec();
                let holder = open.last().map(Vec::as_slice).unwrap_or_default();
                if KEYS.contains(&(holder, name.as_slice())) {
                    key = Some(ListedKey::new(start));
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
struct ListedKey {
    bytes: Vec<u8>,
    is_encoded: bool,
}

impl ListedKey {
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
    use super::super::super::exact_keys::from_digits;
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
