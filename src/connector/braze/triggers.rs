//! Triggers campaigns and Canvases for single users.
//!
//! Source: Braze, "Send campaigns using API-triggered delivery" and "Send Canvases using API-triggered delivery": at
//! most 50 recipients, each by `external_user_id` or `user_alias`, with `trigger_properties` or `context`. Braze has no
//! idempotency key for triggers, so a request without a response must not be sent again.

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::BrazeClient;
use crate::config::TriggerTarget;
use crate::connector::destination::{Recipient, RequestFailure, RequestOutcome, TriggerEndpoint};
use crate::connector::headers::display_text;
use crate::connector::rate_limit::RateLimiter;
use crate::foreign::without_users;
use crate::model::IdentifierKind;

/// The notice in a response about something that will not take effect.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TriggerReplyBody {
    notice: Option<String>,
}

impl TriggerEndpoint for BrazeClient {
    fn trigger_limiter(&self) -> &RateLimiter {
        &self.trigger_limiter
    }

    fn trigger<'a>(
        &'a self,
        target: TriggerTarget,
        id: &'a str,
        recipients: &'a [Recipient<'a>],
    ) -> BoxFuture<'a, (RequestOutcome, Option<String>)> {
        let (path, body) = request(target, id, recipients);
        Box::pin(async move {
            let Some(key) = &self.keys.rest else {
                self.trigger_limiter.release();
                return (
                    RequestOutcome::Failed(RequestFailure::Unauthorized(
                        "no key for this endpoint is configured".to_owned(),
                    )),
                    None,
                );
            };
            let (reply, body) = self.post_trigger(key, path, body.to_string().into_bytes()).await;
            let body = body.and_then(|body| serde_json::from_slice::<TriggerReplyBody>(&body).ok());
            let users: Vec<_> = recipients.iter().map(|(user, _)| *user).collect();
            let notice = body.and_then(|body| body.notice).map(|notice| display_text(&notice));
            let values = || users.iter().map(|user| user.value);
            (reply.outcome.without_users(&users), notice.map(|notice| without_users(&notice, values())))
        })
    }
}

fn request(target: TriggerTarget, id: &str, recipients: &[Recipient<'_>]) -> (&'static str, Value) {
    match target {
        TriggerTarget::Campaign => {
            let recipients = recipient_objects(recipients, "trigger_properties");
            ("campaigns/trigger/send", json!({ "campaign_id": id, "recipients": recipients }))
        }
        TriggerTarget::Canvas => {
            let recipients = recipient_objects(recipients, "context");
            ("canvas/trigger/send", json!({ "canvas_id": id, "recipients": recipients }))
        }
    }
}

fn recipient_objects(recipients: &[Recipient<'_>], properties_key: &str) -> Vec<Value> {
    let object = |(user, properties): &Recipient<'_>| {
        let mut object = match user.kind {
            IdentifierKind::Alias => {
                json!({ "user_alias": { "alias_label": user.label, "alias_name": user.value } })
            }
            // Triggers are never planned for device ids.
            IdentifierKind::ExternalId | IdentifierKind::DeviceId => {
                json!({ "external_user_id": user.value })
            }
        };
        if !properties.is_empty() {
            object[properties_key] = json!(properties);
        }
        object
    };
    recipients.iter().map(object).collect()
}
