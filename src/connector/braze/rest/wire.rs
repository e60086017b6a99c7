//! What the REST side answers, as far as anybody here needs it. Fields that are not documented to be there are
//! optional; those that are, are required, so that another answer is not taken for an empty one.

use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::model::{Identifier, IdentifierKind};

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ListEntry {
    /// The API identifier.
    pub id: String,
    /// The name.
    pub name: String,
    /// Whether Braze keeps sizes, of a segment.
    #[serde(default)]
    pub analytics_tracking_enabled: Option<bool>,
    /// The tags.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
}

/// What Braze tells of a segment. Whether it is archived is not told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SegmentDetails {
    /// The name.
    pub name: String,
    /// Its filters in words. How they are worded is not documented.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// When somebody last changed it, as Braze writes it.
    #[serde(default)]
    pub updated_at: Option<String>,
}

/// What Braze tells of a campaign or a Canvas. Whom it targets is not told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MessagingDetails {
    /// The name.
    pub name: String,
    /// Whether it is archived.
    pub archived: bool,
    /// Whether it is a draft.
    pub draft: bool,
    /// Whether it runs.
    pub enabled: bool,
    /// The tags.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// When somebody last changed it, as Braze writes it.
    #[serde(default)]
    pub updated_at: Option<String>,
}

/// The size of a segment on a day.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SizeOfDay {
    /// The day, `2024-05-01`.
    pub time: String,
    /// People, estimated.
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
    /// Whether one of them is named so.
    pub(super) fn knows(&self, who: &Identifier<'_>) -> bool {
        let is_it = |alias: &ExportedAlias| alias.alias_label == who.label && alias.alias_name == who.value;
        self.users.iter().any(|user| match who.kind {
            IdentifierKind::ExternalId => user.external_id.as_deref() == Some(who.value),
            IdentifierKind::Alias => user.user_aliases.iter().any(is_it),
            IdentifierKind::DeviceId => false,
        })
    }
}

/// Asks for people of one kind, for as little of a profile as tells who it is.
pub(super) fn people_body(kind: IdentifierKind, people: &[Identifier<'_>]) -> Vec<u8> {
    let fields = ["external_id", "user_aliases"];
    let body = match kind {
        IdentifierKind::Alias => {
            let alias = |who: &Identifier<'_>| json!({ "alias_label": who.label, "alias_name": who.value });
            json!({ "user_aliases": people.iter().map(alias).collect::<Vec<_>>(), "fields_to_export": fields })
        }
        IdentifierKind::ExternalId | IdentifierKind::DeviceId => {
            let ids: Vec<&str> = people.iter().map(|who| who.value).collect();
            json!({ "external_ids": ids, "fields_to_export": fields })
        }
    };
    body.to_string().into_bytes()
}

/// Asks for as little of a profile as can be asked for.
pub(super) fn export_body(external_ids: &[String]) -> Vec<u8> {
    json!({ "external_ids": external_ids, "fields_to_export": ["external_id"] }).to_string().into_bytes()
}

/// Null is as good as absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}
