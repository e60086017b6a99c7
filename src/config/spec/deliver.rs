//! The shape of how a cohort is delivered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text::{AttributeName, Length, WholeNumber};

/// Delivery of a cohort to Braze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DeliverSpec {
    /// Partner cohort import: the cohort appears in the segment filter `Heap Cohorts`. It needs `data_import_key` and `partner_api_key`.
    #[default]
    CohortImport,
    /// Custom attribute of the user profile, available to every Braze customer: the segment filter is `Custom Attributes`. It needs `rest_api_key` with the permission `users.track`. Users with only a device id cannot be delivered.
    Attribute,
}

/// A custom attribute of user profiles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum AttributeSpec {
    /// Array attribute that contains the cohort's id. Cohorts may share it.
    #[schemars(example = &"syncline_cohorts")]
    Array(AttributeName),
    /// Boolean attribute of this cohort only: true for members, false for users who left.
    #[schemars(example = &"in_abandoned_checkout")]
    Boolean(AttributeName),
}

/// Check for unknown users before sending. It needs `rest_api_key` with the permission `users.export.ids` and one request for 50 users; Braze allows 250 to 2,500 requests per minute. Users with only a device id are not checked.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct PreflightSpec {
    /// Maximum number of entering users to check per run. All if absent.
    #[schemars(example = 5000)]
    pub(in crate::config) sample: Option<WholeNumber<1, 1_000_000>>,
    /// Time until unknown users are checked again. Once Braze knows them, they are sent again.
    pub(in crate::config) retry_unknown: Length,
}

impl Default for PreflightSpec {
    fn default() -> Self {
        Self { sample: None, retry_unknown: Length::from_secs(24 * 60 * 60) }
    }
}
