//! Catalogue of Currents: the documented event types, their readable names, and the fields that are personal or hold JSON.
//!
//! Source: Braze, Currents event glossary, version 12, with three types of version 10 and before that come only over
//! HTTP. Unknown types and fields are no error, because Braze adds some every month.

/// Every known event type, sorted.
pub const TYPES: [&str; 103] = [
    "agentconsole.AgentExecuted",
    "agentconsole.ToolInvocation",
    "contentoptimizer.ComponentStore",
    "users.RandomBucketNumberUpdate",
    "users.UserDeleteRequest",
    "users.UserOrphan",
    "users.behaviors.CustomEvent",
    "users.behaviors.InstallAttribution",
    "users.behaviors.Location",
    "users.behaviors.Purchase",
    "users.behaviors.Uninstall",
    "users.behaviors.app.FirstSession",
    "users.behaviors.app.SessionEnd",
    "users.behaviors.app.SessionStart",
    "users.behaviors.liveactivity.PushToStartTokenChange",
    "users.behaviors.liveactivity.UpdateTokenChange",
    "users.behaviors.pushnotification.TokenStateChange",
    "users.behaviors.subscription.GlobalStateChange",
    "users.behaviors.subscriptiongroup.StateChange",
    "users.campaigns.Conversion",
    "users.campaigns.EnrollInControl",
    "users.canvas.Conversion",
    "users.canvas.Entry",
    "users.canvas.costep.Conversion",
    "users.canvas.costep.Send",
    "users.canvas.exit.MatchedAudience",
    "users.canvas.exit.PerformedEvent",
    "users.canvas.experimentstep.Conversion",
    "users.canvas.experimentstep.SplitEntry",
    "users.canvasstep.Progression",
    "users.messages.banner.Abort",
    "users.messages.banner.Click",
    "users.messages.banner.Dismiss",
    "users.messages.banner.Impression",
    "users.messages.contentcard.Abort",
    "users.messages.contentcard.Click",
    "users.messages.contentcard.Dismiss",
    "users.messages.contentcard.Impression",
    "users.messages.contentcard.Send",
    "users.messages.email.Abort",
    "users.messages.email.Bounce",
    "users.messages.email.Click",
    "users.messages.email.Deferral",
    "users.messages.email.Delivery",
    "users.messages.email.MarkAsSpam",
    "users.messages.email.Open",
    "users.messages.email.Retry",
    "users.messages.email.Send",
    "users.messages.email.SoftBounce",
    "users.messages.email.Unsubscribe",
    "users.messages.featureflag.Impression",
    "users.messages.inappmessage.Abort",
    "users.messages.inappmessage.Click",
    "users.messages.inappmessage.Impression",
    "users.messages.landingpage.Click",
    "users.messages.landingpage.FormSubmission",
    "users.messages.landingpage.Impression",
    "users.messages.line.Abort",
    "users.messages.line.Click",
    "users.messages.line.InboundReceive",
    "users.messages.line.Retry",
    "users.messages.line.Send",
    "users.messages.liveactivity.Outcome",
    "users.messages.liveactivity.Send",
    "users.messages.newsfeedcard.Abort",
    "users.messages.newsfeedcard.Click",
    "users.messages.newsfeedcard.Impression",
    "users.messages.pushnotification.Abort",
    "users.messages.pushnotification.Bounce",
    "users.messages.pushnotification.IosForeground",
    "users.messages.pushnotification.Open",
    "users.messages.pushnotification.Retry",
    "users.messages.pushnotification.Send",
    "users.messages.rcs.Abort",
    "users.messages.rcs.Click",
    "users.messages.rcs.Delivery",
    "users.messages.rcs.InboundReceive",
    "users.messages.rcs.Read",
    "users.messages.rcs.Rejection",
    "users.messages.rcs.Send",
    "users.messages.sms.Abort",
    "users.messages.sms.CarrierSend",
    "users.messages.sms.Delivery",
    "users.messages.sms.DeliveryFailure",
    "users.messages.sms.InboundReceive",
    "users.messages.sms.Rejection",
    "users.messages.sms.Retry",
    "users.messages.sms.Send",
    "users.messages.sms.ShortLinkClick",
    "users.messages.survey.Response",
    "users.messages.webhook.Abort",
    "users.messages.webhook.Failure",
    "users.messages.webhook.Retry",
    "users.messages.webhook.Send",
    "users.messages.whatsapp.Abort",
    "users.messages.whatsapp.Click",
    "users.messages.whatsapp.Delivery",
    "users.messages.whatsapp.Failure",
    "users.messages.whatsapp.InboundReceive",
    "users.messages.whatsapp.Read",
    "users.messages.whatsapp.Retry",
    "users.messages.whatsapp.Send",
    "users.profile.Update",
];

/// Fields that Braze tags as personal data in at least one type, sorted.
pub(super) const PII: [&str; 28] = [
    "abort_log",
    "ad_id",
    "altitude",
    "bounce_reason",
    "channel_identifier",
    "country",
    "deferral_reason",
    "dob",
    "email_address",
    "external_user_id",
    "first_name",
    "flow_response_json",
    "gender",
    "home_city",
    "input",
    "language",
    "last_name",
    "latitude",
    "locale_key",
    "longitude",
    "message_extras",
    "native_line_id",
    "output",
    "phone_number",
    "template_name",
    "to_phone_number",
    "user_id",
    "user_phone_number",
];

/// Fields with JSON inside a text, sorted. In files, `properties` has another name.
pub(super) const OPENED: [&str; 8] = [
    "conversion_behavior",
    "custom_attributes",
    "custom_properties",
    "flow_response_json",
    "message_extras",
    "properties",
    "purchase_properties",
    "tool_arguments",
];

/// Whether Braze documents this type.
#[must_use]
pub fn is_known(event_type: &str) -> bool {
    TYPES.binary_search(&event_type).is_ok()
}

/// Whether the field at the start of a property name is personal data.
pub(super) fn is_personal(path: &str) -> bool {
    let field = path.split('.').next().unwrap_or_default();
    PII.binary_search(&field).is_ok()
}

/// Whether a field holds JSON inside a text.
pub(super) fn is_opened(path: &str) -> bool {
    OPENED.binary_search(&path).is_ok()
}

/// Fields with a role beyond being a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldRole {
    CustomEvent,
    Purchase,
    Profile,
    Orphan,
    Deletion,
    Other,
}

impl FieldRole {
    pub(super) fn of(event_type: &str) -> Self {
        match event_type {
            "users.behaviors.CustomEvent" => Self::CustomEvent,
            "users.behaviors.Purchase" => Self::Purchase,
            "users.profile.Update" => Self::Profile,
            "users.UserOrphan" => Self::Orphan,
            "users.UserDeleteRequest" => Self::Deletion,
            _ => Self::Other,
        }
    }

    /// The name of a field over HTTP. Properties are named by it.
    pub(super) fn path(self, field: &str) -> &str {
        match (self, field) {
            (Self::CustomEvent, "properties") => "custom_properties",
            (Self::Purchase, "properties") => "purchase_properties",
            _ => field,
        }
    }
}

/// Readable names of type segments that splitting at capital letters gets wrong.
const LABELS: [(&str, &str); 20] = [
    ("agentconsole", "Agent Console"),
    ("campaigns", "Campaign"),
    ("canvasstep", "Canvas Step"),
    ("contentcard", "Content Card"),
    ("contentoptimizer", "Content Optimizer"),
    ("costep", "Content Optimizer Step"),
    ("experimentstep", "Experiment Step"),
    ("featureflag", "Feature Flag"),
    ("inappmessage", "In-App Message"),
    ("IosForeground", "iOS Foreground"),
    ("landingpage", "Landing Page"),
    ("line", "LINE"),
    ("liveactivity", "Live Activity"),
    ("newsfeedcard", "News Feed Card"),
    ("pushnotification", "Push Notification"),
    ("rcs", "RCS"),
    ("sms", "SMS"),
    ("subscriptiongroup", "Subscription Group"),
    ("webhook", "Webhook"),
    ("whatsapp", "WhatsApp"),
];

/// The readable name of an event type, without a prefix: `users.messages.email.Open` is `Email Open`.
///
/// `users`, and `messages` or `behaviors` after it, are left out. An unknown type keeps its full name if its
/// readable name belongs to a known type.
#[must_use]
pub fn readable(event_type: &str) -> String {
    let name = words(event_type);
    let is_taken = !is_known(event_type) && TYPES.iter().any(|known| words(known) == name);
    if name.is_empty() || is_taken { event_type.to_owned() } else { name }
}

fn words(event_type: &str) -> String {
    let mut rest = event_type.strip_prefix("users.").unwrap_or(event_type);
    for silent in ["messages.", "behaviors."] {
        rest = rest.strip_prefix(silent).unwrap_or(rest);
    }
    let mut name = String::new();
    for segment in rest.split('.') {
        let label = LABELS.iter().find(|(known, _)| *known == segment);
        if !name.is_empty() {
            name.push(' ');
        }
        match label {
            Some((_, label)) => name.push_str(label),
            None => split_words(segment, &mut name),
        }
    }
    name.trim().to_owned()
}

/// `MarkAsSpam` is `Mark As Spam`, `email` is `Email`.
fn split_words(segment: &str, name: &mut String) {
    let mut before = None;
    for char in segment.chars() {
        let begins = before.is_some_and(|before: char| before.is_lowercase() && char.is_uppercase());
        if begins {
            name.push(' ');
        }
        name.push(if before.is_none() { char.to_ascii_uppercase() } else { char });
        before = Some(char);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_tables_are_sorted() {
        assert!(TYPES.is_sorted() && PII.is_sorted() && OPENED.is_sorted());
    }

    #[test]
    fn no_two_types_share_a_name() {
        let names: BTreeSet<String> = TYPES.iter().map(|known| readable(known).to_lowercase()).collect();
        assert_eq!(names.len(), TYPES.len());
    }

    #[test]
    fn names_that_people_read() {
        for (event_type, expected) in [
            ("users.messages.email.Open", "Email Open"),
            ("users.messages.email.MarkAsSpam", "Email Mark As Spam"),
            ("users.messages.inappmessage.Click", "In-App Message Click"),
            ("users.messages.pushnotification.IosForeground", "Push Notification iOS Foreground"),
            ("users.messages.sms.ShortLinkClick", "SMS Short Link Click"),
            ("users.behaviors.Purchase", "Purchase"),
            ("users.behaviors.app.SessionStart", "App Session Start"),
            ("users.behaviors.subscription.GlobalStateChange", "Subscription Global State Change"),
            ("users.campaigns.EnrollInControl", "Campaign Enroll In Control"),
            ("users.canvas.exit.MatchedAudience", "Canvas Exit Matched Audience"),
            ("users.canvas.costep.Send", "Canvas Content Optimizer Step Send"),
            ("users.canvasstep.Progression", "Canvas Step Progression"),
            ("users.UserOrphan", "User Orphan"),
            ("agentconsole.ToolInvocation", "Agent Console Tool Invocation"),
            ("users.messages.fax.PaperJam", "Fax Paper Jam"),
            ("", ""),
        ] {
            assert_eq!(readable(event_type), expected);
        }
    }

    #[test]
    fn an_unknown_type_never_gets_a_known_name() {
        assert_eq!(readable("users.behaviors.email.Open"), "users.behaviors.email.Open");
    }

    #[test]
    fn names_below_a_personal_field_are_personal() {
        assert!(is_personal("message_extras.a.b") && is_personal("email_address"));
        assert!(!is_personal("custom_properties.email_address") && !is_personal("campaign_id"));
    }
}
