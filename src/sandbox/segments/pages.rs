//! What a sync says: pages of who entered and who left, and the body that each becomes.

use std::sync::Arc;

use serde_json::{Value, json};

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

#[derive(Clone, Debug)]
struct Place {
    number: usize,
    total: usize,
    task: Arc<str>,
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
        let mut data = json!({ "segment": { "id": self.segment, "name": self.name } });
        if let Some(Place { number, total, task }) = &self.place {
            data["sync_info"] =
                json!({ "page_number": number, "total_pages": total, "sync_task_id": &**task });
            let lists = [("add", &self.add, &self.remove), ("remove", &self.remove, &self.add)];
            for (key, ids, others) in lists {
                // One list a page leaves the other out; an empty sync has an empty list to show.
                if !ids.is_empty() || webhook.both_in_one_page || (key == "add" && others.is_empty()) {
                    data[key] = ids.iter().map(|id| json!({ "id": &**id })).collect();
                }
            }
        }
        let action = if self.is_drain() { "segment.users.drain" } else { "segment.users.sync" };
        let mut body = json!({ "action_type": action, "customer_config": { "fields": [] }, "data": data });
        if let Some(token) = &webhook.id_token {
            body["id_token"] = Value::from(token.as_str());
        }
        if webhook.wrapped {
            body = json!({ "parameters": { "environment_id": "sandbox" }, "heap": body });
        }
        body.to_string().into_bytes()
    }
}

/// The pages of one sync of one segment.
pub(super) fn pages(
    segment: i64,
    name: &str,
    task: &Arc<str>,
    delta: &Delta,
    webhook: &Webhook,
) -> Vec<Page> {
    let parts = parts(delta, webhook);
    let total = parts.len();
    let page = |(at, (add, remove)): (usize, Part<'_>)| Page {
        segment,
        name: name.to_owned(),
        place: Some(Place { number: at + 1, total, task: Arc::clone(task) }),
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
    use super::*;

    fn bodies(delta: &Delta, webhook: &Webhook) -> Vec<Value> {
        let pages = pages(7, "Carts", &"t1".into(), delta, webhook);
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
