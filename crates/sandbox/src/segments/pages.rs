//! Pages of a sync and their JSON bodies.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::members::Delta;
use super::webhook::WebhookSettings;

/// Contents of one delivery.
#[derive(Debug)]
pub(super) struct SyncPage {
    pub(super) segment: i64,
    name: String,
    /// `None` in a drain, which has no pages.
    sync_info: Option<SyncInfo>,
    pub(super) add: Vec<Arc<str>>,
    pub(super) remove: Vec<Arc<str>>,
}

#[derive(Clone, Debug, Serialize)]
struct SyncInfo {
    #[serde(rename = "page_number")]
    number: usize,
    #[serde(rename = "total_pages")]
    total: usize,
    #[serde(rename = "sync_task_id")]
    task: String,
}

impl SyncPage {
    pub(super) fn drain(segment: i64, name: &str) -> Self {
        Self { segment, name: name.to_owned(), sync_info: None, add: Vec::new(), remove: Vec::new() }
    }

    pub(super) fn is_drain(&self) -> bool {
        self.sync_info.is_none()
    }

    /// Page number, from 1.
    pub(super) fn number(&self) -> usize {
        self.sync_info.as_ref().map_or(1, |sync_info| sync_info.number)
    }

    /// A forgery of this page, with a user who does not exist.
    pub(super) fn forged(&self) -> Self {
        let (name, sync_info) = (self.name.clone(), self.sync_info.clone());
        let add = vec![format!("forged-{}-{}", self.segment, self.number()).into()];
        Self { segment: self.segment, name, sync_info, add, remove: self.add.clone() }
    }

    /// The JSON body.
    pub(super) fn body(&self, webhook: &WebhookSettings) -> Vec<u8> {
        let list = |ids, is_shown| (is_shown || webhook.both_in_one_page).then_some(UserIds(ids));
        let body = PageBody {
            id_token: webhook.id_token.as_deref(),
            action_type: if self.is_drain() { "segment.users.drain" } else { "segment.users.sync" },
            customer_config: CustomerConfig { fields: [] },
            data: PageData {
                segment: SegmentRef { id: self.segment, name: &self.name },
                sync_info: self.sync_info.as_ref(),
                // A page with one list omits the other; an empty sync has an empty `add`.
                add: list(&self.add, !self.add.is_empty() || self.remove.is_empty())
                    .filter(|_| !self.is_drain()),
                remove: list(&self.remove, !self.remove.is_empty()).filter(|_| !self.is_drain()),
            },
        };
        let bytes = if webhook.wrapped {
            serde_json::to_vec(&GatewayBody {
                parameters: GatewayParameters { environment_id: "sandbox" },
                heap: body,
            })
        } else {
            serde_json::to_vec(&body)
        };
        bytes.unwrap_or_default()
    }
}

/// The body under a key, as LaunchDarkly's gateway sends it.
#[derive(Serialize)]
struct GatewayBody<'a> {
    parameters: GatewayParameters,
    heap: PageBody<'a>,
}

#[derive(Serialize)]
struct GatewayParameters {
    environment_id: &'static str,
}

#[derive(Serialize)]
struct PageBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    action_type: &'static str,
    customer_config: CustomerConfig,
    data: PageData<'a>,
}

#[derive(Serialize)]
struct CustomerConfig {
    fields: [(); 0],
}

#[derive(Serialize)]
struct PageData<'a> {
    segment: SegmentRef<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_info: Option<&'a SyncInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    add: Option<UserIds<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove: Option<UserIds<'a>>,
}

#[derive(Serialize)]
struct SegmentRef<'a> {
    id: i64,
    name: &'a str,
}

/// Identifiers, each as an object.
struct UserIds<'a>(&'a [Arc<str>]);

#[derive(Serialize)]
struct UserId<'a> {
    id: &'a str,
}

impl Serialize for UserIds<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|id| UserId { id }))
    }
}

/// The pages of one sync of one segment.
pub(super) fn pages(
    segment: i64,
    name: &str,
    task: &str,
    delta: &Delta,
    webhook: &WebhookSettings,
) -> Vec<SyncPage> {
    let page_parts = page_parts(delta, webhook);
    let total = page_parts.len();
    let page = |(at, (add, remove)): (usize, PagePart<'_>)| SyncPage {
        segment,
        name: name.to_owned(),
        sync_info: Some(SyncInfo { number: at + 1, total, task: task.to_owned() }),
        add: add.to_vec(),
        remove: remove.to_vec(),
    };
    page_parts.into_iter().enumerate().map(page).collect()
}

/// Users who enter and who leave in one page.
type PagePart<'a> = (&'a [Arc<str>], &'a [Arc<str>]);

fn page_parts<'a>(delta: &'a Delta, webhook: &WebhookSettings) -> Vec<PagePart<'a>> {
    let page_len = webhook.page_len.max(1);
    let mut page_parts: Vec<PagePart<'a>> = if webhook.both_in_one_page {
        let half = page_len.div_ceil(2);
        let chunk = |list: &'a [Arc<str>], at: usize| list.chunks(half).nth(at).unwrap_or(&[]);
        let total = delta.add.len().max(delta.remove.len()).div_ceil(half);
        (0..total).map(|at| (chunk(&delta.add, at), chunk(&delta.remove, at))).collect()
    } else {
        let add = delta.add.chunks(page_len).map(|part| (part, &[][..]));
        add.chain(delta.remove.chunks(page_len).map(|part| (&[][..], part))).collect()
    };
    if page_parts.is_empty() && webhook.empty {
        page_parts.push((&[], &[]));
    }
    page_parts
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bodies(delta: &Delta, webhook: &WebhookSettings) -> Vec<Value> {
        let pages = pages(7, "Carts", "t1", delta, webhook);
        pages.iter().map(|page| serde_json::from_slice(&page.body(webhook)).unwrap()).collect()
    }

    fn delta(add: usize, remove: usize) -> Delta {
        let ids = |prefix: &str, n| (0..n).map(|i| format!("{prefix}{i}").into()).collect();
        Delta { add: ids("a", add), remove: ids("r", remove) }
    }

    #[test]
    fn both_lists_have_separate_pages_or_share_them() {
        let mut webhook = WebhookSettings { page_len: 2, ..WebhookSettings::default() };
        let apart = bodies(&delta(3, 1), &webhook);
        assert_eq!(apart.len(), 3);
        assert_eq!(
            apart[1]["data"],
            json!({ "segment": { "id": 7, "name": "Carts" },
                    "sync_info": { "page_number": 2, "total_pages": 3, "sync_task_id": "t1" },
                    "add": [{ "id": "a2" }] })
        );
        assert_eq!(apart[2]["data"]["remove"], json!([{ "id": "r0" }]));
        webhook.both_in_one_page = true;
        let together = bodies(&delta(3, 1), &webhook);
        assert_eq!(together.len(), 3);
        assert_eq!(together[0]["data"]["add"], json!([{ "id": "a0" }]));
        assert_eq!(together[0]["data"]["remove"], json!([{ "id": "r0" }]));
        assert_eq!(together[2]["data"]["remove"], json!([]));
    }

    #[test]
    fn a_segment_without_changes_sends_a_page_only_if_configured() {
        assert!(bodies(&delta(0, 0), &WebhookSettings::default()).is_empty());
        let webhook = WebhookSettings { empty: true, wrapped: true, ..WebhookSettings::default() };
        let empty = bodies(&delta(0, 0), &webhook);
        assert_eq!(empty[0]["heap"]["data"]["add"], json!([]));
    }

    #[test]
    fn a_drain_contains_only_the_segment() {
        let webhook = WebhookSettings { id_token: Some("x".to_owned()), ..WebhookSettings::default() };
        let body: Value = serde_json::from_slice(&SyncPage::drain(7, "Carts").body(&webhook)).unwrap();
        assert_eq!(
            body,
            json!({ "id_token": "x", "action_type": "segment.users.drain", "customer_config": { "fields": [] },
                    "data": { "segment": { "id": 7, "name": "Carts" } } })
        );
    }
}
