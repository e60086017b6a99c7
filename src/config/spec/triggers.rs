//! The shape of the triggers `on_enter:` and `on_exit:`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text::{ClockTime, Length, Text, TimeZone, WholeNumber};

/// A trigger: Braze sends a campaign or a Canvas once for each transition of a user. It needs `rest_api_key` with the permission `campaigns.trigger.send` or `canvas.trigger.send`. The first fill of a cohort triggers nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TriggerSpec {
    /// API identifier of a campaign with API-triggered delivery.
    #[schemars(example = &"3aca937b-9bbc-4e42-9370-05e411967b2b")]
    pub(in crate::config) campaign: Option<Text>,
    /// API identifier of a Canvas with API-triggered delivery. Use either this or `campaign`.
    #[schemars(example = &"5f1b0c1e-31c7-4dd2-8c1f-3f7a2f0e9a11")]
    pub(in crate::config) canvas: Option<Text>,
    /// Properties of the trigger, by name: each value is a column of the source. Only for `on_enter`, because users who left are no longer in the source.
    #[schemars(example = serde_json::json!({ "cart_value": "cart_value" }))]
    #[serde(default)]
    pub(in crate::config) properties: BTreeMap<String, Text>,
    /// Maximum number of users per run. Further users wait for the next run.
    #[serde(default = "default_at_most")]
    pub(in crate::config) at_most: WholeNumber<1, 10000>,
    /// Minimum time between two triggers for the same user.
    #[serde(default = "default_day")]
    pub(in crate::config) cool_down: Length,
    /// How long a transition can wait for its trigger. Later it is dropped and reported.
    #[serde(default = "default_day")]
    pub(in crate::config) within: Length,
    /// Quiet hours: transitions in this period wait until its end.
    #[schemars(example = serde_json::json!({ "from": "21:00", "to": "08:00", "time_zone": "Europe/Berlin" }))]
    pub(in crate::config) quiet: Option<QuietHoursSpec>,
}

fn default_at_most() -> WholeNumber<1, 10000> {
    WholeNumber(1000)
}

fn default_day() -> Length {
    Length::from_secs(24 * 60 * 60)
}

/// Hours of the day without triggers.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct QuietHoursSpec {
    /// Start of the quiet hours.
    #[schemars(example = &"21:00")]
    pub(in crate::config) from: ClockTime,
    /// End of the quiet hours; on the next day if it is earlier than `from`.
    #[schemars(example = &"08:00")]
    pub(in crate::config) to: ClockTime,
    /// Time zone of `from` and `to`.
    #[schemars(example = &"Europe/Berlin")]
    pub(in crate::config) time_zone: TimeZone,
}
