//! Authentication of Heap's webhook by its signature.
//!
//! Source: Heap, "Segment Sync": header `Heap-Hash: ts:<timestamp>,hmac:<base64>`, in which the HMAC is
//! HMAC-SHA-256 with the webhook's secret over the timestamp's text and the raw body. The timestamp was in seconds once
//! and is in milliseconds now, so its size decides. Heap repeats a delivery until the response is 200.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use sha2::Sha256;

use super::reply::RequestError;
use crate::config::Secret;
use crate::model::Timestamp;

/// The header with the signature.
const HEADER: &str = "heap-hash";
/// Timestamps from this value on are milliseconds: as seconds, it would be the year 33658.
const MILLIS_FROM: i64 = 1_000_000_000_000;

/// The secrets and the time window of signatures.
#[derive(Clone, Debug)]
pub struct HeapEndpoint {
    /// The accepted secrets. If empty, no signature is required.
    pub secrets: Vec<Secret>,
    /// The maximum age of a signature.
    pub max_age: Duration,
    /// How far in the future its timestamp may be.
    pub max_ahead: Duration,
}

impl HeapEndpoint {
    /// Checks the signature of a body. Returns its timestamp in milliseconds.
    ///
    /// # Errors
    /// [`RequestError`] when the signature is missing or invalid.
    pub fn check(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<i64, RequestError> {
        let header = headers.get(HEADER).and_then(|value| value.to_str().ok());
        if self.secrets.is_empty() {
            let stamp = header.and_then(parse).map(|signature| signature.millis);
            return Ok(stamp.unwrap_or_else(|| now.as_millisecond()));
        }
        let header = header.ok_or(RequestError::BadSignature("Heap-Hash is missing"))?;
        let signature = parse(header).ok_or(RequestError::BadSignature("Heap-Hash is malformed"))?;
        let age = now.as_millisecond().saturating_sub(signature.millis);
        let limit = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        if age > limit(self.max_age) || age < -limit(self.max_ahead) {
            return Err(RequestError::BadSignature("the timestamp of Heap-Hash is too old or in the future"));
        }
        let is_match = |secret: &Secret| signature.is_by(secret, body);
        // All secrets are tried, so that the response time does not reveal which one matched.
        let matches = self.secrets.iter().filter(|secret| is_match(secret)).count();
        if matches == 0 { Err(RequestError::WrongSignature) } else { Ok(signature.millis) }
    }
}

struct HeapSignature<'a> {
    text: &'a str,
    millis: i64,
    hmac: Vec<u8>,
}

impl HeapSignature<'_> {
    /// Compares in constant time.
    fn is_by(&self, secret: &Secret, body: &[u8]) -> bool {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else { return false };
        mac.update(self.text.as_bytes());
        mac.update(body);
        mac.verify_slice(&self.hmac).is_ok()
    }
}

fn parse(header: &str) -> Option<HeapSignature<'_>> {
    let (first, second) = header.split_once(',')?;
    let text = first.trim().strip_prefix("ts:")?.trim();
    let hmac = STANDARD.decode(second.trim().strip_prefix("hmac:")?.trim()).ok()?;
    let number: i64 = text.parse().ok().filter(|number| *number >= 0)?;
    let millis = if number >= MILLIS_FROM { number } else { number.checked_mul(1000)? };
    Some(HeapSignature { text, millis, hmac })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"action_type":"segment.users.sync","data":{"segment":{"id":1338065,"name":"Free Customers"},"sync_info":{"page_number":1,"total_pages":1,"sync_task_id":"t1"},"add":[{"id":"u1"}]}}"#;
    const HASH: &str = "ts:1700000000000,hmac:3Dotjoo/rmKrDZKuGPmjvhBLS+a77QsYeXWEVK4OtJk=";

    fn check(secrets: &[&str], hash: Option<&str>, body: &str, now: i64) -> Result<i64, RequestError> {
        let secrets = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        let (max_age, max_ahead) = (Duration::from_secs(60), Duration::from_secs(1));
        let mut headers = HeaderMap::new();
        if let Some(hash) = hash {
            headers.insert(HEADER, hash.parse().unwrap());
        }
        let now = Timestamp::from_millisecond(now).unwrap();
        HeapEndpoint { secrets, max_age, max_ahead }.check(&headers, body.as_bytes(), now)
    }

    #[test]
    fn a_valid_signature_is_accepted_with_either_secret_within_the_time_window() {
        let now = 1_700_000_030_000;
        assert_eq!(check(&["whsec_test"], Some(HASH), BODY, now), Ok(1_700_000_000_000));
        assert_eq!(check(&["new", "whsec_test"], Some(HASH), BODY, now), Ok(1_700_000_000_000));
        assert_eq!(check(&["other"], Some(HASH), BODY, now), Err(RequestError::WrongSignature));
        assert_eq!(check(&["whsec_test"], Some(HASH), &BODY[1..], now), Err(RequestError::WrongSignature));
        for now in [1_700_000_061_000, 1_699_999_998_000] {
            let found = check(&["whsec_test"], Some(HASH), BODY, now);
            assert!(matches!(found, Err(RequestError::BadSignature(_))), "{found:?}");
        }
    }

    #[test]
    fn a_malformed_signature_is_rejected() {
        for hash in [
            None,
            Some(""),
            Some("hmac:AAAA,ts:1"),
            Some("ts:x,hmac:AAAA"),
            Some("ts:1,hmac:%"),
            Some("ts:-5,hmac:AAAA"),
            Some("ts:99999999999999999999,hmac:AAAA"),
        ] {
            let found = check(&["s"], hash, BODY, 1000);
            assert!(matches!(found, Err(RequestError::BadSignature(_))), "{hash:?}: {found:?}");
        }
    }

    #[test]
    fn timestamps_in_seconds_are_recognized_by_their_size() {
        assert_eq!(parse("ts:1700000000,hmac:AAAA").unwrap().millis, 1_700_000_000_000);
        assert_eq!(parse("ts:123456789,hmac:AAAA").unwrap().millis, 123_456_789_000);
        assert_eq!(parse("ts:1700000000000,hmac:AAAA").unwrap().millis, 1_700_000_000_000);
        // Without secrets, a timestamp is still used.
        assert_eq!(check(&[], Some("ts:1700000000,hmac:AAAA"), BODY, 5), Ok(1_700_000_000_000));
        assert_eq!(check(&[], None, BODY, 5), Ok(5));
    }
}
