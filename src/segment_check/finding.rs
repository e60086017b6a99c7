//! Findings of a segment check, with their messages. `cli` adds the remedies.

use std::fmt;

use crate::config::BrazeObject;
use crate::connector::braze::rest::MessagingKind;
use crate::model::{Identifier, IdentifierKind, Timestamp, counted};
use crate::state::{CheckLevel, SeenSize};

/// Names of evidence: the segment's entry in Braze's list, its filters, its size, the canaries, and the recorded
/// memberships. A campaign or Canvas is named as in the config.
pub(super) const SEGMENT: &str = "segment";
pub(super) const FILTERS: &str = "filters";
pub(super) const SIZE: &str = "its size";
pub(super) const CANARIES: &str = "canaries";
pub(super) const RECORD: &str = "recorded membership";

/// The name of the evidence from an object's details, as opposed to its list entry.
pub(super) fn details_of(what: &str) -> String {
    format!("{what}, details")
}

/// A dated finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFinding {
    /// The finding.
    pub what: CheckedObject,
    /// The first check that found it.
    pub since: Timestamp,
    /// The last earlier check that saw the evidence without the finding.
    pub absent_at: Option<Timestamp>,
}

/// The kinds of findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckedObject {
    /// Braze lists no such segment. Archived segments are not listed.
    SegmentMissing(BrazeObject),
    /// The segment is archived.
    SegmentArchived(String),
    /// Its name differs from the config.
    SegmentRenamed {
        /// The name in the config.
        from: String,
        /// The name in Braze.
        to: String,
    },
    /// Several segments have the name.
    SegmentAmbiguous {
        /// The name.
        name: String,
        /// How many.
        count: usize,
    },
    /// Its filters do not name these cohorts.
    FilterLacks {
        /// The cohorts.
        cohorts: Vec<String>,
        /// Whether they were named before.
        before: bool,
    },
    /// Its filters name cohorts that the config does not.
    FilterHas(Vec<String>),
    /// Braze's filter text names no cohort of the config.
    FilterUnreadable,
    /// Braze's filter text names no cohort of the config, but the size is as expected.
    FilterBySize,
    /// It is smaller than expected.
    SizeLow(ComparedSize),
    /// It is larger than expected.
    SizeHigh(ComparedSize),
    /// Its size cannot be compared.
    SizeUnknown(SizeUnknown),
    /// A canary is not a recorded member.
    CanaryAbsent(Vec<String>),
    /// Braze does not know a canary, so it may not know other members either.
    CanaryUnknown(Vec<String>),
    /// A campaign or Canvas is not in Braze.
    UseMissing(MessagingTarget),
    /// Several have the name.
    UseAmbiguous(MessagingTarget, usize),
    /// It is archived.
    UseArchived(MessagingTarget),
    /// It is a draft.
    UseDraft(MessagingTarget),
    /// It is not running.
    UseStopped(MessagingTarget, Option<String>),
    /// It lacks the tag.
    UseUntagged(MessagingTarget, String),
    /// Its name differs from the config.
    UseRenamed(MessagingTarget, String),
    /// Braze did not report it.
    NotReported {
        /// The object.
        about: String,
        /// The reason.
        why: EvidenceGap,
    },
    /// Braze's API does not return the segments that campaigns and Canvases target.
    TargetUnchecked,
    /// The segment was edited since the last check.
    SegmentEdited(String),
    /// A campaign or Canvas was edited since the last check.
    UseEdited(MessagingTarget, String),
}

/// A campaign or Canvas, as the config names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagingTarget {
    /// Campaign or Canvas.
    pub of: MessagingKind,
    /// Its name or id.
    pub named: BrazeObject,
}

/// A size with the expected range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedSize {
    /// The size by Braze.
    pub seen: SeenSize,
    /// The smallest expected size.
    pub least: u64,
    /// The largest expected size.
    pub most: u64,
}

/// The reason why a size cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeUnknown {
    /// Its cohorts were never sent.
    NothingSent,
    /// Analytics tracking is off, so Braze has no sizes.
    NoTracking,
    /// Braze has no size for the last days.
    NoSize,
    /// Braze's newest size may be older than the last change.
    Older(ComparedSize),
}

/// The reason why Braze did not report something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceGap {
    /// The message.
    pub text: String,
    /// Whether the key is wrong or lacks a permission.
    pub is_key: bool,
    /// Whether the key belongs to another workspace than the state.
    pub is_other: bool,
    /// Whether it may resolve itself.
    pub is_passing: bool,
}

impl CheckedObject {
    /// The code of the kind. Together with [`CheckedObject::about`] it identifies a finding across checks.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::SegmentMissing(_) => "segment_missing",
            Self::SegmentArchived(_) => "segment_archived",
            Self::SegmentRenamed { .. } => "segment_renamed",
            Self::SegmentAmbiguous { .. } => "segment_ambiguous",
            Self::FilterLacks { .. } => "filter_lacks_cohort",
            Self::FilterHas(_) => "filter_has_other_cohort",
            Self::FilterUnreadable => "filter_unreadable",
            Self::FilterBySize => "filter_by_size",
            Self::SizeLow(_) => "size_low",
            Self::SizeHigh(_) => "size_high",
            Self::SizeUnknown(_) => "size_unknown",
            Self::CanaryAbsent(_) => "canary_absent",
            Self::CanaryUnknown(_) => "canary_unknown",
            Self::UseMissing(_) => "use_missing",
            Self::UseAmbiguous(..) => "use_ambiguous",
            Self::UseArchived(_) => "use_archived",
            Self::UseDraft(_) => "use_draft",
            Self::UseStopped(..) => "use_stopped",
            Self::UseUntagged(..) => "use_untagged",
            Self::UseRenamed(..) => "use_renamed",
            Self::NotReported { .. } => "not_reported",
            Self::TargetUnchecked => "target_unchecked",
            Self::SegmentEdited(_) => "segment_edited",
            Self::UseEdited(..) => "use_edited",
        }
    }

    /// The name of the evidence behind the finding. A check without this evidence neither confirms nor clears it.
    #[must_use]
    pub fn evidence(&self) -> String {
        match self {
            Self::SegmentMissing(_) | Self::SegmentAmbiguous { .. } => SEGMENT.to_owned(),
            Self::SegmentArchived(_) | Self::SegmentRenamed { .. } | Self::SegmentEdited(_) => {
                details_of(SEGMENT)
            }
            Self::FilterLacks { .. } | Self::FilterHas(_) | Self::FilterUnreadable | Self::FilterBySize => {
                FILTERS.to_owned()
            }
            Self::SizeLow(_) | Self::SizeHigh(_) | Self::SizeUnknown(_) => SIZE.to_owned(),
            Self::CanaryUnknown(_) => CANARIES.to_owned(),
            Self::CanaryAbsent(_) | Self::TargetUnchecked => RECORD.to_owned(),
            Self::UseMissing(target) | Self::UseAmbiguous(target, _) => target.to_string(),
            Self::UseArchived(target)
            | Self::UseDraft(target)
            | Self::UseStopped(target, _)
            | Self::UseUntagged(target, _)
            | Self::UseRenamed(target, _)
            | Self::UseEdited(target, _) => details_of(&target.to_string()),
            Self::NotReported { about, .. } if about.is_empty() => SEGMENT.to_owned(),
            Self::NotReported { about, .. } => about.clone(),
        }
    }

    /// The severity.
    #[must_use]
    pub fn level(&self) -> CheckLevel {
        match self {
            Self::SegmentAmbiguous { .. }
            | Self::FilterUnreadable
            | Self::SizeUnknown(_)
            | Self::UseAmbiguous(..)
            | Self::NotReported { .. } => CheckLevel::Unknown,
            Self::FilterBySize
            | Self::CanaryAbsent(_)
            | Self::TargetUnchecked
            | Self::SegmentEdited(_)
            | Self::UseEdited(..) => CheckLevel::Note,
            _ => CheckLevel::Drift,
        }
    }

    /// The object of the finding; empty for the segment itself.
    #[must_use]
    pub fn about(&self) -> String {
        match self {
            Self::UseMissing(target)
            | Self::UseAmbiguous(target, _)
            | Self::UseArchived(target)
            | Self::UseDraft(target)
            | Self::UseStopped(target, _)
            | Self::UseUntagged(target, _)
            | Self::UseRenamed(target, _)
            | Self::UseEdited(target, _) => target.to_string(),
            Self::NotReported { about, .. } => about.clone(),
            _ => String::new(),
        }
    }
}

impl fmt::Display for MessagingTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::about(self.of, &self.named))
    }
}

impl fmt::Display for ComparedSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seen: SeenSize { day, size }, least, most } = self;
        write!(f, "{} on {day}, expected ", counted(*size, "user"))?;
        if least == most { write!(f, "{least}") } else { write!(f, "{least} to {most}") }
    }
}

impl fmt::Display for CheckedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edited =
            |at: &Option<String>| at.as_ref().map(|at| format!("; last edited {at}")).unwrap_or_default();
        match self {
            Self::SegmentMissing(BrazeObject::Name(name)) => {
                write!(f, "Braze lists no segment \"{name}\"; archived segments are not listed")
            }
            Self::SegmentMissing(BrazeObject::Id(id)) => write!(f, "Braze has no segment with the id {id}"),
            Self::SegmentArchived(name) => write!(f, "the segment \"{name}\" is archived"),
            Self::SegmentRenamed { from, to } => write!(f, "the segment \"{from}\" is now named \"{to}\""),
            Self::SegmentAmbiguous { name, count } => write!(f, "{count} segments are named \"{name}\""),
            Self::FilterLacks { cohorts, before: true } => {
                write!(f, "its filters no longer name {}", cohorts.join(", "))
            }
            Self::FilterLacks { cohorts, .. } => write!(f, "its filters do not name {}", cohorts.join(", ")),
            Self::FilterHas(cohorts) => {
                write!(f, "its filters name {}, which the config does not", cohorts.join(", "))
            }
            Self::FilterUnreadable => f.write_str(
                "Braze's filter text names no cohort of the config, so its filters cannot be checked",
            ),
            Self::FilterBySize => f.write_str("Braze's filter text names no cohort; its size is as expected"),
            Self::SizeLow(compared) => write!(f, "it is too small: {compared}"),
            Self::SizeHigh(compared) => write!(f, "it is too large: {compared}"),
            Self::SizeUnknown(why) => write!(f, "its size cannot be compared: {why}"),
            Self::CanaryAbsent(ids) => {
                write!(f, "{} not among the recorded members", are(ids, "canary", "canaries"))
            }
            Self::CanaryUnknown(ids) => {
                write!(f, "Braze does not know {}; it silently drops users without a profile", shortened(ids))
            }
            Self::UseMissing(target) => write!(f, "Braze has no {target}"),
            Self::UseAmbiguous(target, count) => write!(f, "there are {count} of {target}"),
            Self::UseArchived(target) => write!(f, "the {target} is archived"),
            Self::UseDraft(target) => write!(f, "the {target} is a draft and sends nothing"),
            Self::UseStopped(target, at) => write!(f, "the {target} is stopped or paused{}", edited(at)),
            Self::UseUntagged(target, tag) => write!(f, "the {target} lacks the tag \"{tag}\""),
            Self::UseRenamed(target, to) => write!(f, "the {target} is now named \"{to}\""),
            Self::NotReported { about, why } if about.is_empty() => {
                write!(f, "not reported by Braze: {}", why.text)
            }
            Self::NotReported { about, why } => write!(f, "{about} not reported by Braze: {}", why.text),
            Self::TargetUnchecked => f.write_str(
                "not checked: Braze's API does not expose which segments a campaign or Canvas targets",
            ),
            Self::SegmentEdited(at) => write!(f, "edited at {at}"),
            Self::UseEdited(target, at) => write!(f, "the {target} was edited at {at}"),
        }
    }
}

/// `canary a is`, `canaries a, b are`.
fn are(ids: &[String], one: &str, many: &str) -> String {
    match ids {
        [_] => format!("{one} {} is", shortened(ids)),
        _ => format!("{many} {} are", shortened(ids)),
    }
}

/// Shortens ids: findings are shown on the dashboard and sent to webhooks.
fn shortened(ids: &[String]) -> String {
    let short =
        |id: &String| Identifier { kind: IdentifierKind::ExternalId, label: "", value: id }.shortened();
    ids.iter().map(short).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for SizeUnknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingSent => f.write_str("its cohorts were never sent"),
            Self::NoTracking => f.write_str("analytics tracking is off, so Braze keeps no sizes"),
            Self::NoSize => f.write_str("Braze has no size for the last days"),
            Self::Older(compared) => {
                write!(f, "{compared}; Braze's size may be older than the last change")
            }
        }
    }
}
