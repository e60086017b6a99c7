//! Approvals for people and for JSON: the operator, the reason, and until when.

use serde_json::{Value, json};

use super::time::time_text;
use crate::foreign::escaped;
use crate::model::timestamp_text;
use crate::state::{Approval, Operator};

/// ` by anna@laptop: "the campaign is over"`. Empty if neither is known.
pub(in crate::cli) fn approval_words(by: &Operator, reason: Option<&str>) -> String {
    let by = if by.is_unknown() { String::new() } else { format!(" by {}", escaped(&by.to_string())) };
    let reason = reason.map(|reason| format!(": \"{}\"", escaped(reason))).unwrap_or_default();
    format!("{by}{reason}")
}

/// `approved until 2026-12-05 06:40 UTC by anna@laptop: "the campaign is over"`.
pub(in crate::cli) fn approved_line(approval: &Approval) -> String {
    let words = approval_words(&approval.by, approval.reason.as_deref());
    format!("approved until {}{words}", time_text(approval.expires_at()))
}

/// An approval as JSON.
pub(in crate::cli) fn approval_json(approval: &Approval) -> Value {
    json!({
        "plan": approval.plan,
        "approved_at": timestamp_text(approval.approved_at),
        "expires_at": timestamp_text(approval.expires_at()),
        "by": approval.by,
        "reason": approval.reason,
    })
}
