//! Request and response bodies of the REST endpoints that read. Documented fields are required, so that another response
//! is not parsed as an empty one. The other fields are optional.

use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::model::{Identifier, IdentifierKind};

/// A segment, a campaign or a Canvas in a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ListEntry {
    /// The API identifier.
    pub id: String,
    /// The name.
    pub name: String,
    /// Whether Braze records sizes. Segments only.
    #[serde(default)]
    pub analytics_tracking_enabled: Option<bool>,
    /// The tags.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
}

/// Details of a segment. Braze does not report whether it is archived.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SegmentDetails {
    /// The name.
    pub name: String,
    /// Its filters in words, in an undocumented format.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// The time of the last change, in Braze's format.
    #[serde(default)]
    pub updated_at: Option<String>,
}

/// Details of a campaign or a Canvas. Braze does not report which segments it targets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MessagingDetails {
    /// The name.
    pub name: String,
    /// Whether it is archived.
    pub archived: bool,
    /// Whether it is a draft.
    pub draft: bool,
    /// Whether it is active.
    pub enabled: bool,
    /// The tags.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// The time of the last change, in Braze's format.
    #[serde(default)]
    pub updated_at: Option<String>,
}

/// The size of a segment on a day.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SizeOfDay {
    /// The day, `2024-05-01`.
    pub time: String,
    /// Estimated users.
    pub size: u64,
}

#[derive(Deserialize)]
pub(super) struct SegmentsPage {
    pub(super) segments: Vec<ListEntry>,
}

#[derive(Deserialize)]
pub(super) struct CampaignsPage {
    pub(super) campaigns: Vec<ListEntry>,
}

#[derive(Deserialize)]
pub(super) struct CanvasPage {
    pub(super) canvases: Vec<ListEntry>,
}

#[derive(Deserialize)]
pub(super) struct SizeSeries {
    pub(super) data: Vec<SizeOfDay>,
}

#[derive(Deserialize)]
pub(super) struct ExportedUsers {
    pub(super) users: Vec<ExportedUser>,
}

#[derive(Deserialize)]
pub(super) struct ExportedUser {
    pub(super) external_id: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    user_aliases: Vec<ExportedAlias>,
}

#[derive(Deserialize)]
struct ExportedAlias {
    alias_name: String,
    alias_label: String,
}

impl ExportedUsers {
    /// Whether one of the users has this identifier.
    pub(super) fn contains(&self, identifier: &Identifier<'_>) -> bool {
        let matches = |alias: &ExportedAlias| {
            alias.alias_label == identifier.label && alias.alias_name == identifier.value
        };
        self.users.iter().any(|user| match identifier.kind {
            IdentifierKind::ExternalId => user.external_id.as_deref() == Some(identifier.value),
            IdentifierKind::Alias => user.user_aliases.iter().any(matches),
            IdentifierKind::DeviceId => false,
        })
    }
}

/// An export of users with identifiers of one kind, limited to the identifying fields.
pub(super) fn users_body(kind: IdentifierKind, users: &[Identifier<'_>]) -> Vec<u8> {
    let fields = ["external_id", "user_aliases"];
    let body = match kind {
        IdentifierKind::Alias => {
            let alias =
                |user: &Identifier<'_>| json!({ "alias_label": user.label, "alias_name": user.value });
            json!({ "user_aliases": users.iter().map(alias).collect::<Vec<_>>(), "fields_to_export": fields })
        }
        IdentifierKind::ExternalId | IdentifierKind::DeviceId => {
            let ids: Vec<&str> = users.iter().map(|user| user.value).collect();
            json!({ "external_ids": ids, "fields_to_export": fields })
        }
    };
    body.to_string().into_bytes()
}

/// An export of users by external id, limited to that field.
pub(super) fn export_body(external_ids: &[String]) -> Vec<u8> {
    json!({ "external_ids": external_ids, "fields_to_export": ["external_id"] }).to_string().into_bytes()
}

/// Null means the default, like an absent field.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}
