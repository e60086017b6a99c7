//! The shape of `on_enter:` and `on_exit:`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text::{ClockTime, Length, Text, TimeZone, WholeNumber};

/// What is triggered in Braze, once for each person and entry. It needs `rest_api_key` with the permission `campaigns.trigger.send` or `canvas.trigger.send`. Whoever comes with the first fill of a cohort triggers nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TriggerSpec {
    /// The API identifier of a campaign with API-triggered delivery.
    #[schemars(example = &"3aca937b-9bbc-4e42-9370-05e411967b2b")]
    pub(in crate::config) campaign: Option<Text>,
    /// The API identifier of a Canvas with API-triggered delivery, instead of `campaign`.
    pub(in crate::config) canvas: Option<Text>,
    /// What it is told of each person: columns of the source, by the names of the properties. Only for whoever enters: whoever has left is in no source.
    #[serde(default)]
    pub(in crate::config) properties: BTreeMap<String, Text>,
    /// For how many people it is triggered in one run. The others wait for the next one.
    #[serde(default = "default_at_most")]
    pub(in crate::config) at_most: WholeNumber<1, 10000>,
    /// How long nothing is triggered for a person again.
    #[serde(default = "default_day")]
    pub(in crate::config) cool_down: Length,
    /// How long an entry is worth something. What could not be triggered by then is dropped and reported.
    #[serde(default = "default_day")]
    pub(in crate::config) within: Length,
    /// Hours of the day in which nothing is triggered. Who enters in them waits.
    pub(in crate::config) quiet: Option<QuietHoursSpec>,
}

fn default_at_most() -> WholeNumber<1, 10000> {
    WholeNumber(1000)
}

fn default_day() -> Length {
    Length::from_secs(24 * 60 * 60)
}

/// Hours of the day in which people are left alone.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct QuietHoursSpec {
    /// From then on.
    #[schemars(example = &"21:00")]
    pub(in crate::config) from: ClockTime,
    /// Until then; on the next day if it is earlier.
    #[schemars(example = &"08:00")]
    pub(in crate::config) to: ClockTime,
    /// In this time zone.
    #[schemars(example = &"Europe/Berlin")]
    pub(in crate::config) time_zone: TimeZone,
}
