//! The shape of how a cohort is delivered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text::AttributeName;

/// How the people of a cohort reach Braze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Deliver {
    /// By the partner's cohort import: a cohort under the segment filter `Heap Cohorts`. It needs `data_import_key` and `partner_api_key`.
    #[default]
    CohortImport,
    /// As an attribute of their profiles, which any customer of Braze may write. It needs `rest_api_key` with the permission `users.track`. People who are known by device id only cannot be reached so.
    Attribute,
}

/// An attribute of people's profiles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum Attribute {
    /// An array attribute, of which the cohort's id is an element. Cohorts may share one.
    #[schemars(example = &"syncline_cohorts")]
    Array(AttributeName),
    /// A boolean attribute of the cohort's own: true for whoever is in it, false for whoever left.
    #[schemars(example = &"in_abandoned_checkout")]
    Boolean(AttributeName),
}
