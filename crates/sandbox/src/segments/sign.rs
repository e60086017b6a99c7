//! Signature of a delivery, `Heap-Hash: ts:<timestamp>,hmac:<base64>`.
//!
//! As in Heap's reference receiver: HMAC-SHA256 with the webhook's secret as key, over the timestamp as written
//! followed by the raw body. The reference uses milliseconds; the example in the documents is too short for
//! that, so seconds are possible.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

/// Unit of a timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TimestampUnit {
    /// Milliseconds.
    #[default]
    Ms,
    /// Seconds.
    S,
}

impl TimestampUnit {
    pub(super) fn write(self, time: Duration) -> String {
        match self {
            Self::Ms => time.as_millis().to_string(),
            Self::S => time.as_secs().to_string(),
        }
    }
}

/// The value of the `Heap-Hash` header.
pub(super) fn heap_hash(secret: &str, timestamp: &str, body: &[u8]) -> String {
    // HMAC accepts keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(timestamp.as_bytes());
    mac.update(body);
    format!("ts:{timestamp},hmac:{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_over_timestamp_and_raw_body() {
        let body = br#"{"action_type":"segment.users.sync","data":{"segment":{"id":1338065,"name":"Free Customers"},"sync_info":{"page_number":1,"total_pages":1,"sync_task_id":"t1"},"add":[{"id":"u1"}]}}"#;
        assert_eq!(
            heap_hash("whsec_test", "1700000000000", body),
            "ts:1700000000000,hmac:3Dotjoo/rmKrDZKuGPmjvhBLS+a77QsYeXWEVK4OtJk="
        );
        assert_eq!(TimestampUnit::Ms.write(Duration::from_millis(1_500)), "1500");
        assert_eq!(TimestampUnit::S.write(Duration::from_millis(1_500)), "1");
    }
}
