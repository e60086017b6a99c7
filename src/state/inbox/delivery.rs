//! Encoding of deliveries in inbox files.
//!
//! A delivery has: its length (4 bytes, little-endian), the XXH3-64 of the rest (8), when it was received (8,
//! milliseconds), the endpoint's stamp (8), and its body. A file that was not closed may end with a partial delivery,
//! which was never acknowledged. Damage before an intact delivery was acknowledged, so it is returned separately.

use xxhash_rust::xxh3::xxh3_64;

use crate::model::Timestamp;

/// Length of the header before a body.
pub(super) const HEAD_LEN: usize = 4 + 8 + 8 + 8;

/// Times at which a delivery may have been received: the years 2001 to 2286.
const RECEIVED_MILLIS: std::ops::Range<i64> = 1_000_000_000_000..10_000_000_000_000;

/// A delivery: one HTTP body that an endpoint received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When it was received.
    pub received: Timestamp,
    /// A number of the endpoint's own. Heap's webhook: the signed time in milliseconds.
    pub stamp: i64,
    /// The HTTP body.
    pub body: Vec<u8>,
}

/// The content of an inbox file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryContents {
    /// The deliveries, in the order of arrival.
    pub deliveries: Vec<Delivery>,
    /// Length of the partial delivery at the end.
    pub torn: usize,
    /// Damaged bytes before intact deliveries: each contains one or more deliveries.
    pub damaged: Vec<Vec<u8>>,
}

impl DeliveryContents {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let (mut contents, mut at) = (Self::default(), 0);
        while at < bytes.len() {
            // Deliveries after a damaged one were acknowledged as well, so the next intact one is searched.
            let here = Delivery::read(&bytes[at..]).map(|found| (at, found));
            let later =
                || (at + 1..bytes.len()).find_map(|from| Some((from, Delivery::find(&bytes[from..])?)));
            let whole = here.or_else(later);
            let Some((from, (delivery, len))) = whole else {
                contents.torn = bytes.len() - at;
                break;
            };
            if from > at {
                contents.damaged.push(bytes[at..from].to_vec());
            }
            contents.deliveries.push(delivery);
            at = from + len;
        }
        contents
    }
}

impl Delivery {
    pub(in crate::state) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let len = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.received.as_millisecond().to_le_bytes());
        out.extend_from_slice(&self.stamp.to_le_bytes());
        out.extend_from_slice(&self.body);
        let hash = xxh3_64(&out[start + 12..]);
        out[start + 4..start + 12].copy_from_slice(&hash.to_le_bytes());
    }

    /// As [`Self::read`], where any bytes may stand: bytes that cannot be a header are not hashed, because a search would
    /// hash the rest of the file for each of its bytes.
    fn find(bytes: &[u8]) -> Option<(Self, usize)> {
        let received = i64::from_le_bytes(bytes.get(12..20)?.try_into().ok()?);
        if RECEIVED_MILLIS.contains(&received) { Self::read(bytes) } else { None }
    }

    /// Reads one delivery from the start. `None`: it is not intact.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let number = |at: usize| Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let end = HEAD_LEN.checked_add(len)?;
        let rest = bytes.get(12..end)?;
        if number(4)?.cast_unsigned() != xxh3_64(rest) {
            return None;
        }
        let received = Timestamp::from_millisecond(number(12)?).ok()?;
        Some((Self { received, stamp: number(20)?, body: bytes[HEAD_LEN..end].to_vec() }, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(body: &str) -> Delivery {
        let received = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        Delivery { received, stamp: -7, body: body.as_bytes().to_vec() }
    }

    fn bytes_of(all: &[Delivery]) -> Vec<u8> {
        let mut bytes = Vec::new();
        all.iter().for_each(|delivery| delivery.write(&mut bytes));
        bytes
    }

    #[test]
    fn a_truncated_delivery_is_dropped_and_earlier_ones_survive() {
        let all = [delivery("one"), delivery(""), delivery("three")];
        let bytes = bytes_of(&all);
        let ends = [0, HEAD_LEN + 3, 2 * HEAD_LEN + 3, 3 * HEAD_LEN + 8];
        for cut in 0..=bytes.len() {
            let found = DeliveryContents::read(&bytes[..cut]);
            let count = ends.iter().filter(|end| **end <= cut).count() - 1;
            assert_eq!(found.deliveries, all[..count]);
            assert_eq!((found.torn, found.damaged.len()), (cut - ends[count], 0));
        }
    }

    #[test]
    fn a_flipped_bit_is_detected_and_other_deliveries_survive() {
        let all = [delivery("one"), delivery("body"), delivery("three")];
        let (bytes, first) = (bytes_of(&all), HEAD_LEN + 3);
        for at in first..first + HEAD_LEN + 4 {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let found = DeliveryContents::read(&bad);
            assert_eq!(found.deliveries, [all[0].clone(), all[2].clone()], "{at}");
            assert_eq!(found.damaged, [bad[first..first + HEAD_LEN + 4].to_vec()]);
            assert_eq!(found.torn, 0);
        }
    }

    /// Otherwise a search would hash most of the file for each byte of damage.
    #[test]
    fn a_header_with_an_impossible_time_is_not_searched() {
        let mut bytes = bytes_of(&[delivery("one")]);
        bytes[HEAD_LEN] ^= 1;
        let damaged = bytes.len();
        let early = Delivery { received: Timestamp::UNIX_EPOCH, stamp: 0, body: b"{}".to_vec() };
        early.write(&mut bytes);
        assert_eq!(DeliveryContents::read(&bytes).torn, bytes.len());
        assert_eq!(DeliveryContents::read(&bytes[damaged..]).deliveries, [early]);
    }

    /// A disk may leave zeros after a power failure.
    #[test]
    fn zeros_are_no_deliveries() {
        let mut bytes = bytes_of(&[delivery("one")]);
        bytes.resize(bytes.len() + 5000, 0);
        assert_eq!(DeliveryContents::read(&bytes).torn, 5000);
    }
}
