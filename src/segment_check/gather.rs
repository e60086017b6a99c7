//! Asking Braze what it tells of a segment and of what uses it. Judges nothing.
//!
//! Lists are read once for all segments of a workspace. What is in no list is looked for a second time before it
//! is called absent: a list that changes while its pages are read may skip an item.

use tokio::sync::OnceCell;

use crate::config::{BrazeObject, SegmentConfig};
use crate::connector::braze::rest::{
    BrazeRestClient, ListEntry, MessagingDetails, MessagingKind, RestError, SegmentDetails, SizeOfDay,
};
use crate::state::SegmentCheck;

/// Days of sizes that are asked for: Braze's newest one may be of yesterday.
const DAYS: u32 = 7;
/// Things of one name that are looked at, to see whether all but one are archived.
const NAMESAKES_MAX: usize = 10;

type EvidenceCache<T> = Result<T, RestError>;
type List = OnceCell<EvidenceCache<Vec<ListEntry>>>;

/// A workspace that is asked, and what it has told already.
#[derive(Debug)]
pub struct EvidenceRequest<'a> {
    rest: &'a BrazeRestClient,
    segments: [List; 2],
    campaigns: [List; 2],
    canvases: [List; 2],
}

impl<'a> EvidenceRequest<'a> {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(rest: &'a BrazeRestClient) -> Self {
        Self {
            rest,
            segments: Default::default(),
            campaigns: Default::default(),
            canvases: Default::default(),
        }
    }

    /// The fingerprint of the workspace that is asked.
    pub(super) fn mark(&self, salt: &str) -> String {
        self.rest.key_fingerprint(salt)
    }

    /// The list of segments, as it was read first or, with `again`, a second time.
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

/// What was found under a name or an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LookupResult<T> {
    One(T),
    /// Nothing.
    Absent,
    /// So many, of one name.
    Many(usize),
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenObject {
    pub(super) id: String,
    /// Whether it is in the list: archived ones are not.
    pub(super) listed: bool,
    pub(super) tracking: Option<bool>,
    pub(super) details: SegmentDetails,
}

/// A campaign or a Canvas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MessagingUse {
    pub(super) of: MessagingKind,
    pub(super) named: BrazeObject,
    pub(super) found: EvidenceCache<LookupResult<(String, MessagingDetails)>>,
}

/// Everything that Braze tells of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentEvidence {
    pub(super) segment: EvidenceCache<LookupResult<SeenObject>>,
    /// None: not asked, since they are not compared or there is nothing to ask for.
    pub(super) sizes: Option<EvidenceCache<Vec<SizeOfDay>>>,
    pub(super) uses: Vec<MessagingUse>,
    /// Canaries whom Braze does not know.
    pub(super) unknown: EvidenceCache<Vec<String>>,
}

/// Asks for all of it. What Braze does not tell is in the evidence, and stops nothing else.
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

/// What there is when nobody may be asked.
pub(super) fn nothing(segment: &SegmentConfig, why: &RestError) -> SegmentEvidence {
    let campaigns = segment.campaigns.iter().map(|named| (MessagingKind::Campaign, named));
    let canvases = segment.canvases.iter().map(|named| (MessagingKind::Canvas, named));
    let untold = |(of, named): (MessagingKind, &BrazeObject)| MessagingUse {
        of,
        named: named.clone(),
        found: Err(why.clone()),
    };
    SegmentEvidence {
        segment: Err(why.clone()),
        sizes: None,
        uses: campaigns.chain(canvases).map(untold).collect(),
        unknown: Err(why.clone()),
    }
}

/// Finds a segment. One that is not under its name any more is looked for under the id that it had.
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

/// Finds a campaign or a Canvas. Of several with one name, the one that is not archived is meant.
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
