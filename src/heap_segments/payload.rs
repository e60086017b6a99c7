//! The JSON body of Heap's webhook. The parser is tolerant where Heap's documentation is vague: the body may be nested
//! under `heap`, and numbers may be strings.
//!
//! Source: Heap, "Segment Sync" (`segment.users.sync`, and `segment.users.drain`, which Heap has deprecated):
//! `action_type`, `data.segment`, `data.sync_info`, `data.add` and `data.remove` with an `id` each.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use xxhash_rust::xxh3::xxh3_64;

use crate::foreign::json_error;
use crate::model::Timestamp;
use crate::state::Delivery;

/// Upper limit of pages in a sync: a billion users at a thousand per page.
const PAGES_MAX: u32 = 1_000_000;

/// Why a delivery is invalid.
#[derive(Debug)]
pub(super) struct InvalidDelivery {
    /// The reason, as a stable code.
    pub(super) reason: &'static str,
    /// Details.
    pub(super) detail: String,
}

/// The content of a delivery.
pub(super) enum WebhookPayload<'a> {
    /// A page with users who entered or left a segment.
    Sync(DeliveryPage<'a>),
    /// The sync of the segment was switched off: it has no members.
    Drain {
        /// The segment's id.
        segment: u64,
        /// Its name.
        name: Cow<'a, str>,
    },
}

/// One page of a sync.
pub(super) struct DeliveryPage<'a> {
    pub(super) segment: u64,
    pub(super) name: Cow<'a, str>,
    pub(super) sync: String,
    pub(super) page: u32,
    pub(super) pages: u32,
    /// Hash of the body, which identifies the content of the page.
    pub(super) hash: u64,
    pub(super) signed: i64,
    pub(super) received: Timestamp,
    pub(super) add: Vec<PayloadMember<'a>>,
    pub(super) remove: Vec<PayloadMember<'a>>,
}

#[derive(Deserialize)]
struct PayloadBody<'a> {
    #[serde(borrow, default)]
    heap: Option<PayloadInner<'a>>,
    #[serde(borrow, default)]
    action_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<PayloadData<'a>>,
}

#[derive(Deserialize)]
struct PayloadInner<'a> {
    #[serde(borrow, default)]
    action_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<PayloadData<'a>>,
}

#[derive(Deserialize)]
struct PayloadData<'a> {
    #[serde(borrow)]
    segment: SegmentBody<'a>,
    #[serde(borrow, default)]
    sync_info: Option<SyncInfo<'a>>,
    #[serde(borrow, default)]
    add: Option<Vec<PayloadMember<'a>>>,
    #[serde(borrow, default)]
    remove: Option<Vec<PayloadMember<'a>>>,
}

#[derive(Deserialize)]
struct SegmentBody<'a> {
    id: LooseNumber,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct SyncInfo<'a> {
    #[serde(default)]
    page_number: Option<LooseNumber>,
    #[serde(default)]
    total_pages: Option<LooseNumber>,
    #[serde(borrow, default)]
    sync_task_id: Option<IdText<'a>>,
}

/// A user.
#[derive(Deserialize)]
pub(super) struct PayloadMember<'a> {
    #[serde(borrow, default)]
    pub(super) id: Option<IdText<'a>>,
}

/// A string, or a number as its text.
#[derive(Debug)]
pub(super) struct IdText<'a>(pub(super) Cow<'a, str>);

/// A whole number, or a string that contains one.
#[derive(Clone, Copy)]
struct LooseNumber(u64);

struct IdTextVisitor;

impl<'de> Visitor<'de> for IdTextVisitor {
    type Value = IdText<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<IdText<'de>, E> {
        Ok(IdText(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<IdText<'de>, E> {
        Ok(IdText(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<IdText<'de>, E> {
        Ok(IdText(Cow::Owned(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<IdText<'de>, E> {
        Ok(IdText(Cow::Owned(number.to_string())))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for IdText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdTextVisitor)
    }
}

impl<'de> Deserialize<'de> for LooseNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let IdText(text) = IdText::deserialize(deserializer)?;
        let number = text.parse().map_err(|_| de::Error::custom("not a whole number"))?;
        Ok(Self(number))
    }
}

impl<'a> WebhookPayload<'a> {
    /// Parses a delivery.
    pub(super) fn read(delivery: &'a Delivery) -> Result<Self, InvalidDelivery> {
        let invalid = |detail: String| InvalidDelivery { reason: "invalid_body", detail };
        let body: PayloadBody<'a> =
            serde_json::from_slice(&delivery.body).map_err(|e| invalid(json_error(&e)))?;
        let (action, data) = match body.heap {
            Some(inner) if body.data.is_none() => (inner.action_type, inner.data),
            _ => (body.action_type, body.data),
        };
        let data = data.ok_or_else(|| invalid("there is no `data`".to_owned()))?;
        match action.as_deref() {
            Some("segment.users.sync") => DeliveryPage::read(data, delivery).map(Self::Sync),
            Some("segment.users.drain") => {
                Ok(Self::Drain { segment: data.segment.id.0, name: data.segment.name.unwrap_or_default() })
            }
            other => Err(InvalidDelivery {
                reason: "unknown_action",
                detail: format!("`{}`", other.unwrap_or_default()),
            }),
        }
    }
}

impl<'a> DeliveryPage<'a> {
    fn read(data: PayloadData<'a>, delivery: &Delivery) -> Result<Self, InvalidDelivery> {
        let invalid = |what: &str| InvalidDelivery { reason: "invalid_body", detail: what.to_owned() };
        if data.add.is_none() && data.remove.is_none() {
            return Err(invalid("there is neither `add` nor `remove`"));
        }
        let hash = xxh3_64(&delivery.body);
        let info = data.sync_info.as_ref();
        let number = |number: Option<LooseNumber>| number.map_or(Ok(1), |LooseNumber(n)| u32::try_from(n));
        let page = number(info.and_then(|info| info.page_number));
        let pages = number(info.and_then(|info| info.total_pages));
        let (Ok(page), Ok(pages)) = (page, pages) else { return Err(invalid("page numbers out of range")) };
        if pages > PAGES_MAX {
            return Err(invalid("more pages than a sync can have"));
        }
        if page > pages {
            return Err(invalid("a page number beyond the last page"));
        }
        let name = data.sync_info.and_then(|info| info.sync_task_id).map(|IdText(id)| id.into_owned());
        // Without an id each delivery is a sync of its own, identified by its time and content.
        let sync = name.filter(|name| !name.is_empty());
        let is_named = sync.is_some();
        let received = delivery.received.as_millisecond();
        Ok(Self {
            segment: data.segment.id.0,
            name: data.segment.name.unwrap_or_default(),
            sync: sync.unwrap_or_else(|| format!("unnamed {received} {hash:016x}")),
            page: if is_named { page } else { 1 },
            pages: if is_named { pages } else { 1 },
            hash,
            signed: delivery.stamp,
            received: delivery.received,
            add: data.add.unwrap_or_default(),
            remove: data.remove.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, check: impl FnOnce(Result<WebhookPayload<'_>, InvalidDelivery>)) {
        let body = body.as_bytes().to_vec();
        check(WebhookPayload::read(&Delivery { received: Timestamp::UNIX_EPOCH, stamp: 5, body }));
    }

    const DATA: &str = r#""data":{"segment":{"id":1338065,"name":"Free Customers"},
        "sync_info":{"page_number":2,"total_pages":5,"sync_task_id":"t1"},"add":[{"id":"u1"},{"id":7}],"remove":[]}"#;

    #[test]
    fn both_nestings_are_equivalent() {
        let plain = format!(
            r#"{{"id_token":"x","action_type":"segment.users.sync","customer_config":{{"fields":[]}},{DATA}}}"#
        );
        let wrapped =
            format!(r#"{{"parameters":{{}},"heap":{{"action_type":"segment.users.sync",{DATA}}}}}"#);
        for body in [plain, wrapped] {
            read(&body, |payload| {
                let Ok(WebhookPayload::Sync(page)) = payload else { panic!("{:?}", payload.err()) };
                assert_eq!((page.segment, &*page.name, &*page.sync), (1_338_065, "Free Customers", "t1"));
                assert_eq!((page.page, page.pages, page.signed), (2, 5, 5));
                let ids: Vec<&str> = page.add.iter().map(|m| &*m.id.as_ref().unwrap().0).collect();
                assert_eq!(ids, ["u1", "7"]);
            });
        }
    }

    #[test]
    fn a_delivery_without_a_sync_id_is_a_whole_sync() {
        let body =
            r#"{"action_type":"segment.users.sync","data":{"segment":{"id":"7"},"add":[{"id":"u1"}]}}"#;
        read(body, |payload| {
            let Ok(WebhookPayload::Sync(page)) = payload else { panic!("{:?}", payload.err()) };
            assert_eq!((page.segment, page.page, page.pages), (7, 1, 1));
            assert!(page.sync.starts_with("unnamed 0 "), "{}", page.sync);
        });
    }

    #[test]
    fn invalid_deliveries_have_a_reason() {
        for (body, reason) in [
            ("", "invalid_body"),
            ("[]", "invalid_body"),
            ("{}", "invalid_body"),
            (r#"{"action_type":"segment.users.sync","data":{"segment":{"id":1}}}"#, "invalid_body"),
            (
                r#"{"action_type":"segment.users.sync","data":{"segment":{"id":"x"},"add":[]}}"#,
                "invalid_body",
            ),
            (
                r#"{"action_type":"segment.users.join","data":{"segment":{"id":1},"add":[]}}"#,
                "unknown_action",
            ),
            (
                r#"{"action_type":"segment.users.sync","data":{"segment":{"id":1},"sync_info":{"page_number":3,"total_pages":2},"add":[]}}"#,
                "invalid_body",
            ),
        ] {
            read(body, |payload| assert_eq!(payload.err().map(|e| e.reason), Some(reason), "{body}"));
        }
        let drain = r#"{"action_type":"segment.users.drain","data":{"segment":{"id":1,"name":"N"}}}"#;
        read(drain, |payload| assert!(matches!(payload, Ok(WebhookPayload::Drain { segment: 1, .. }))));
    }
}
