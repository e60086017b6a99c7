//! What a sync says: pages of who entered and who left, and the body that each becomes.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::members::Delta;
use super::webhook::Webhook;

/// One delivery's contents.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) segment: i64,
    name: String,
    /// None in a drain, which has no pages.
    place: Option<Place>,
    pub(super) add: Vec<Arc<str>>,
    pub(super) remove: Vec<Arc<str>>,
}

#[derive(Clone, Debug, Serialize)]
struct Place {
    #[serde(rename = "page_number")]
    number: usize,
    #[serde(rename = "total_pages")]
    total: usize,
    #[serde(rename = "sync_task_id")]
    task: String,
}

impl Page {
    pub(super) fn drain(segment: i64, name: &str) -> Self {
        Self { segment, name: name.to_owned(), place: None, add: Vec::new(), remove: Vec::new() }
    }

    pub(super) fn is_drain(&self) -> bool {
        self.place.is_none()
    }

    /// Its number, from 1.
    pub(super) fn number(&self) -> usize {
        self.place.as_ref().map_or(1, |place| place.number)
    }

    /// A page that looks like this one and tells of somebody who does not exist.
    pub(super) fn forged(&self) -> Self {
        let (name, place) = (self.name.clone(), self.place.clone());
        let add = vec![format!("forged-{}-{}", self.segment, self.number()).into()];
        Self { segment: self.segment, name, place, add, remove: self.add.clone() }
    }

    /// The body as it is sent.
    pub(super) fn body(&self, webhook: &Webhook) -> Vec<u8> {
        let list = |ids, shown| (shown || webhook.both_in_one_page).then_some(Ids(ids));
        let body = Body {
            id_token: webhook.id_token.as_deref(),
            action_type: if self.is_drain() { "segment.users.drain" } else { "segment.users.sync" },
            customer_config: Config { fields: [] },
            data: Data {
                segment: Named { id: self.segment, name: &self.name },
                sync_info: self.place.as_ref(),
                // One list a page leaves the other out; an empty sync has an empty list to show.
                add: list(&self.add, !self.add.is_empty() || self.remove.is_empty())
                    .filter(|_| !self.is_drain()),
                remove: list(&self.remove, !self.remove.is_empty()).filter(|_| !self.is_drain()),
            },
        };
        let bytes = if webhook.wrapped {
            serde_json::to_vec(&Wrapped { parameters: Parameters { environment_id: "sandbox" }, heap: body })
        } else {
            serde_json::to_vec(&body)
        };
        bytes.unwrap_or_default()
    }
}

/// The body under a key, as LaunchDarkly's gateway hands it on.
#[derive(Serialize)]
struct Wrapped<'a> {
    parameters: Parameters,
    heap: Body<'a>,
}

#[derive(Serialize)]
struct Parameters {
    environment_id: &'static str,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    action_type: &'static str,
    customer_config: Config,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Config {
    fields: [(); 0],
}

#[derive(Serialize)]
struct Data<'a> {
    segment: Named<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_info: Option<&'a Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    add: Option<Ids<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove: Option<Ids<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    id: i64,
    name: &'a str,
}

/// Each identifier as an object.
struct Ids<'a>(&'a [Arc<str>]);

#[derive(Serialize)]
struct Id<'a> {
    id: &'a str,
}

impl Serialize for Ids<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|id| Id { id }))
    }
}

/// The pages of one sync of one segment.
pub(super) fn pages(segment: i64, name: &str, task: &str, delta: &Delta, webhook: &Webhook) -> Vec<Page> {
    let parts = parts(delta, webhook);
    let total = parts.len();
    let page = |(at, (add, remove)): (usize, Part<'_>)| Page {
        segment,
        name: name.to_owned(),
        place: Some(Place { number: at + 1, total, task: task.to_owned() }),
        add: add.to_vec(),
        remove: remove.to_vec(),
    };
    parts.into_iter().enumerate().map(page).collect()
}

/// Those who enter and those who leave by one page.
type Part<'a> = (&'a [Arc<str>], &'a [Arc<str>]);

fn parts<'a>(delta: &'a Delta, webhook: &Webhook) -> Vec<Part<'a>> {
    let page_len = webhook.page_len.max(1);
    let mut parts: Vec<Part<'a>> = if webhook.both_in_one_page {
        let half = page_len.div_ceil(2);
        let chunk = |list: &'a [Arc<str>], at: usize| list.chunks(half).nth(at).unwrap_or(&[]);
        let total = delta.add.len().max(delta.remove.len()).div_ceil(half);
        (0..total).map(|at| (chunk(&delta.add, at), chunk(&delta.remove, at))).collect()
    } else {
        let add = delta.add.chunks(page_len).map(|part| (part, &[][..]));
        add.chain(delta.remove.chunks(page_len).map(|part| (&[][..], part))).collect()
    };
    if parts.is_empty() && webhook.empty {
        parts.push((&[], &[]));
    }
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bodies(delta: &Delta, webhook: &Webhook) -> Vec<Value> {
        let pages = pages(7, "Carts", "t1", delta, webhook);
        pages.iter().map(|page| serde_json::from_slice(&page.body(webhook)).unwrap()).collect()
    }

    fn delta(add: usize, remove: usize) -> Delta {
        let ids = |prefix: &str, n| (0..n).map(|i| format!("{prefix}{i}").into()).collect();
        Delta { add: ids("a", add), remove: ids("r", remove) }
    }

    #[test]
    fn lists_are_paged_apart_or_together() {
        let mut webhook = Webhook { page_len: 2, ..Webhook::default() };
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
    fn nothing_changed_is_nothing_sent_unless_asked_for() {
        assert!(bodies(&delta(0, 0), &Webhook::default()).is_empty());
        let webhook = Webhook { empty: true, wrapped: true, ..Webhook::default() };
        let empty = bodies(&delta(0, 0), &webhook);
        assert_eq!(empty[0]["heap"]["data"]["add"], json!([]));
    }

    #[test]
    fn a_drain_names_the_segment_alone() {
        let webhook = Webhook { id_token: Some("x".to_owned()), ..Webhook::default() };
        let body: Value = serde_json::from_slice(&Page::drain(7, "Carts").body(&webhook)).unwrap();
        assert_eq!(
            body,
            json!({ "id_token": "x", "action_type": "segment.users.drain", "customer_config": { "fields": [] },
                    "data": { "segment": { "id": 7, "name": "Carts" } } })
        );
    }
}
