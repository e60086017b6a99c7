//! The shape of how a cohort is delivered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text::{AttributeName, Length, WholeNumber};

/// How the people of a cohort reach Braze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DeliverSpec {
    /// By the partner's cohort import: a cohort under the segment filter `Heap Cohorts`. It needs `data_import_key` and `partner_api_key`.
    #[default]
    CohortImport,
    /// As an attribute of their profiles, which any customer of Braze may write. It needs `rest_api_key` with the permission `users.track`. People who are known by device id only cannot be reached so.
    Attribute,
}

/// An attribute of people's profiles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum AttributeSpec {
    /// An array attribute, of which the cohort's id is an element. Cohorts may share one.
    #[schemars(example = &"syncline_cohorts")]
    Array(AttributeName),
    /// A boolean attribute of the cohort's own: true for whoever is in it, false for whoever left.
    #[schemars(example = &"in_abandoned_checkout")]
    Boolean(AttributeName),
}

/// Whom Braze is asked for before they are sent. It needs `rest_api_key` with the permission `users.export.ids`, fifty people a request; Braze allows 250 to 2,500 requests a minute. People known by device id are not asked for.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct PreflightSpec {
    /// For how many of those who enter in a run. All of them, if this is not here.
    pub(in crate::config) sample: Option<WholeNumber<1, 1_000_000>>,
    /// After how long Braze is asked again for those whom it did not know. Once it knows them, they are sent again.
    pub(in crate::config) retry_unknown: Length,
}

impl Default for PreflightSpec {
    fn default() -> Self {
        Self { sample: None, retry_unknown: Length::from_secs(24 * 60 * 60) }
    }
}
