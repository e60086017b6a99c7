//! Campaigns and Canvases that are triggered for single people.
//!
//! Source: Braze, "Send campaigns using API-triggered delivery" and "Send Canvases using API-triggered delivery": at
//! most 50 recipients, each by `external_user_id` or `user_alias`, with `trigger_properties` or `context`. There is
//! no idempotency key, so a request without an answer must not be sent again.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{BrazeClient, ReplyDetails, answer, wire};
use crate::config::TriggerTarget;
use crate::connector::headers::shown;
use crate::connector::http::Auth;
use crate::model::{Identifier, IdentifierKind};

/// Recipients in one request.
pub const RECIPIENTS_MAX: usize = 50;

/// Somebody for whom something is triggered, and what is told of them.
pub type Recipient<'a> = (Identifier<'a>, &'a BTreeMap<String, String>);

/// What Braze says besides its answer, where something will not take effect.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TriggerReplyBody {
    notice: Option<String>,
}

impl BrazeClient {
    /// Triggers a campaign or a Canvas. With an answer comes Braze's notice, if it has one: a Canvas that is paused is
    /// triggered without effect.
    pub async fn trigger(
        &self,
        of: TriggerTarget,
        id: &str,
        recipients: &[Recipient<'_>],
    ) -> (ReplyDetails, Option<String>) {
        let Some(key) = &self.keys.rest else { return (self.no_key(&self.trigger_gate), None) };
        let (path, body) = match of {
            TriggerTarget::Campaign => {
                let recipients = list(recipients, "trigger_properties");
                ("campaigns/trigger/send", json!({ "campaign_id": id, "recipients": recipients }))
            }
            TriggerTarget::Canvas => {
                let recipients = list(recipients, "context");
                ("canvas/trigger/send", json!({ "canvas_id": id, "recipients": recipients }))
            }
        };
        let url = format!("{}/{path}", self.base);
        let result =
            self.http.post_as(&url, &Auth::Bearer(key.expose()), body.to_string().into_bytes()).await;
        let now = self.clock.now();
        let reply = answer::read(&result, &wire::ArrayLayout::default(), now);
        self.trigger_gate.learn(&reply, now);
        let said =
            result.ok().and_then(|answer| serde_json::from_slice::<TriggerReplyBody>(&answer.body).ok());
        let notice = said.and_then(|body| body.notice).map(|notice| shown(&notice));
        (reply, notice)
    }

    /// Whether there is a key to trigger with.
    #[must_use]
    pub fn can_trigger(&self) -> bool {
        self.keys.rest.is_some()
    }
}

fn list(recipients: &[Recipient<'_>], key: &str) -> Vec<Value> {
    let one = |(who, properties): &Recipient<'_>| {
        let mut object = match who.kind {
            IdentifierKind::Alias => {
                json!({ "user_alias": { "alias_label": who.label, "alias_name": who.value } })
            }
            // Devices are nobody's name here, and are not planned.
            IdentifierKind::ExternalId | IdentifierKind::DeviceId => json!({ "external_user_id": who.value }),
        };
        if !properties.is_empty() {
            object[key] = json!(properties);
        }
        object
    };
    recipients.iter().map(one).collect()
}
