//! Evidence about a segment from Braze's API, and about its campaigns and Canvases. Makes no judgment.
//!
//! Lists are read once for all segments of a workspace. Before an object counts as absent, its list is read a second
//! time, because a list that changes while its pages are read may skip an item.

use tokio::sync::OnceCell;

use crate::config::{BrazeObject, SegmentConfig};
use crate::connector::braze::rest::{
    BrazeRestClient, ListEntry, MessagingDetails, MessagingKind, RestError, SegmentDetails, SizeOfDay,
};
use crate::state::SegmentCheck;

/// The number of days of the requested size series: Braze's newest size may be from yesterday.
const DAYS: u32 = 7;
/// The number of objects with one name that are examined for archived ones.
const NAMESAKES_MAX: usize = 10;

type EvidenceCache<T> = Result<T, RestError>;
type CachedList = OnceCell<EvidenceCache<Vec<ListEntry>>>;

/// Requests to one workspace, with a cache of its lists.
#[derive(Debug)]
pub struct EvidenceRequest<'a> {
    rest: &'a BrazeRestClient,
    segments: [CachedList; 2],
    campaigns: [CachedList; 2],
    canvases: [CachedList; 2],
}

impl<'a> EvidenceRequest<'a> {
    /// A request with an empty cache.
    #[must_use]
    pub fn new(rest: &'a BrazeRestClient) -> Self {
        Self {
            rest,
            segments: Default::default(),
            campaigns: Default::default(),
            canvases: Default::default(),
        }
    }

    /// The fingerprint of the REST key.
    pub(super) fn mark(&self, salt: &str) -> String {
        self.rest.key_fingerprint(salt)
    }

    /// The list of segments; with `again` its second reading.
    async fn segments(&self, again: bool) -> EvidenceCache<&[ListEntry]> {
        let list = self.segments[usize::from(again)].get_or_init(|| self.rest.segments()).await;
        list.as_deref().map_err(Clone::clone)
    }

    async fn list(&self, of: MessagingKind, again: bool) -> EvidenceCache<&[ListEntry]> {
        let lists = match of {
            MessagingKind::Campaign => &self.campaigns,
            MessagingKind::Canvas => &self.canvases,
        };
        let list = lists[usize::from(again)].get_or_init(|| self.rest.list(of)).await;
        list.as_deref().map_err(Clone::clone)
    }
}

/// The result of looking up a name or an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LookupResult<T> {
    One(T),
    /// No object.
    Absent,
    /// This number of objects with one name.
    Many(usize),
}

/// A segment in Braze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenObject {
    pub(super) id: String,
    /// Whether the list has it; archived segments are not listed.
    pub(super) listed: bool,
    pub(super) tracking: Option<bool>,
    pub(super) details: SegmentDetails,
}

/// A campaign or a Canvas of the config, with its lookup in Braze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MessagingUse {
    pub(super) of: MessagingKind,
    pub(super) named: BrazeObject,
    pub(super) found: EvidenceCache<LookupResult<(String, MessagingDetails)>>,
}

/// The evidence about one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentEvidence {
    pub(super) segment: EvidenceCache<LookupResult<SeenObject>>,
    /// `None` if sizes are not compared, or the segment was not found.
    pub(super) sizes: Option<EvidenceCache<Vec<SizeOfDay>>>,
    pub(super) uses: Vec<MessagingUse>,
    /// Canaries without a Braze profile.
    pub(super) unknown: EvidenceCache<Vec<String>>,
}

/// Requests all evidence. A failed request is part of the evidence and stops no other request.
pub(super) async fn gather(
    asking: &EvidenceRequest<'_>,
    segment: &SegmentConfig,
    last: Option<&SegmentCheck>,
) -> SegmentEvidence {
    let known = last.and_then(|last| last.segment.as_ref()).map(|seen| seen.id.as_str());
    let found = find_segment(asking, &segment.named, known).await;
    let sizes = match &found {
        Ok(LookupResult::One(seen)) if segment.size.compare => Some(asking.rest.sizes(&seen.id, DAYS).await),
        _ => None,
    };
    let mut uses = Vec::new();
    let campaigns = segment.campaigns.iter().map(|named| (MessagingKind::Campaign, named));
    let canvases = segment.canvases.iter().map(|named| (MessagingKind::Canvas, named));
    for (of, named) in campaigns.chain(canvases) {
        let about = super::about(of, named);
        let known = last.and_then(|last| last.uses.iter().find(|seen| seen.about == about));
        let found = find_use(asking, of, named, known.map(|seen| seen.id.as_str())).await;
        uses.push(MessagingUse { of, named: named.clone(), found });
    }
    let unknown = asking.rest.unknown_external_ids(&segment.canaries).await;
    SegmentEvidence { segment: found, sizes, uses, unknown }
}

/// The evidence if requests are not allowed.
pub(super) fn nothing(segment: &SegmentConfig, why: &RestError) -> SegmentEvidence {
    let campaigns = segment.campaigns.iter().map(|named| (MessagingKind::Campaign, named));
    let canvases = segment.canvases.iter().map(|named| (MessagingKind::Canvas, named));
    let missing = |(of, named): (MessagingKind, &BrazeObject)| MessagingUse {
        of,
        named: named.clone(),
        found: Err(why.clone()),
    };
    SegmentEvidence {
        segment: Err(why.clone()),
        sizes: None,
        uses: campaigns.chain(canvases).map(missing).collect(),
        unknown: Err(why.clone()),
    }
}

/// Finds a segment by id or name. A renamed segment is found by its last known id.
async fn find_segment(
    asking: &EvidenceRequest<'_>,
    named: &BrazeObject,
    known: Option<&str>,
) -> EvidenceCache<LookupResult<SeenObject>> {
    let id = match named {
        BrazeObject::Id(id) => Some(id.clone()),
        BrazeObject::Name(name) => {
            let mut ids = by_name(asking.segments(false).await?, name);
            if ids.is_empty() {
                ids = by_name(asking.segments(true).await?, name);
            }
            if ids.len() > 1 {
                return Ok(LookupResult::Many(ids.len()));
            }
            ids.pop().or_else(|| known.map(str::to_owned))
        }
    };
    let Some(id) = id else { return Ok(LookupResult::Absent) };
    let Some(details) = asking.rest.segment(&id).await? else { return Ok(LookupResult::Absent) };
    let mut entry = asking.segments(false).await?.iter().find(|entry| entry.id == id);
    if entry.is_none() {
        entry = asking.segments(true).await?.iter().find(|entry| entry.id == id);
    }
    let tracking = entry.and_then(|entry| entry.analytics_tracking_enabled);
    Ok(LookupResult::One(SeenObject { listed: entry.is_some(), tracking, details, id }))
}

/// Finds a campaign or a Canvas. Among several with one name, the one that is not archived counts.
async fn find_use(
    asking: &EvidenceRequest<'_>,
    of: MessagingKind,
    named: &BrazeObject,
    known: Option<&str>,
) -> EvidenceCache<LookupResult<(String, MessagingDetails)>> {
    let ids = match named {
        BrazeObject::Id(id) => vec![id.clone()],
        BrazeObject::Name(name) => {
            let mut ids = by_name(asking.list(of, false).await?, name);
            if ids.is_empty() {
                ids = by_name(asking.list(of, true).await?, name);
            }
            if ids.is_empty() {
                ids.extend(known.map(str::to_owned));
            }
            ids
        }
    };
    if ids.len() > NAMESAKES_MAX {
        return Ok(LookupResult::Many(ids.len()));
    }
    let mut found = Vec::new();
    for id in ids {
        found.extend(asking.rest.details(of, &id).await?.map(|details| (id, details)));
    }
    if found.len() > 1 && found.iter().any(|(_, details)| !details.archived) {
        found.retain(|(_, details)| !details.archived);
    }
    Ok(match found.len() {
        0 => LookupResult::Absent,
        1 => found.pop().map_or(LookupResult::Absent, LookupResult::One),
        many => LookupResult::Many(many),
    })
}

fn by_name(entries: &[ListEntry], name: &str) -> Vec<String> {
    entries.iter().filter(|entry| entry.name.trim() == name).map(|entry| entry.id.clone()).collect()
}
