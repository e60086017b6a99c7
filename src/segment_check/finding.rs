//! What a check can find, each a value with its words. What to do about it is said by `cli`.

use std::fmt;

use crate::config::BrazeObject;
use crate::connector::braze::rest::MessagingKind;
use crate::model::{Identifier, IdentifierKind, Timestamp};
use crate::state::{CheckLevel, SeenSize};

/// Names of evidence: what Braze lists under the segment's name or id, its filters, its size where it could be
/// compared, the canaries, and the recorded membership. A campaign or Canvas has the name that the config gives it.
pub(super) const SEGMENT: &str = "segment";
pub(super) const FILTERS: &str = "filters";
pub(super) const SIZE: &str = "its size";
pub(super) const CANARIES: &str = "canaries";
pub(super) const RECORD: &str = "record";

/// The name of what Braze tells of a single object, which is not the same as that it is listed.
pub(super) fn details_of(what: &str) -> String {
    format!("{what}, details")
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFinding {
    /// What.
    pub what: CheckedObject,
    /// The first check that found it.
    pub since: Timestamp,
    /// The last check before that which saw the evidence, and did not find it.
    pub fine_at: Option<Timestamp>,
}

/// What can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckedObject {
    /// Braze has no such segment; archived ones are in no list.
    SegmentMissing(BrazeObject),
    /// The segment is archived.
    SegmentArchived(String),
    /// It has another name than the config says.
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
    /// Its filters do not name these cohorts, and did before if `before`.
    FilterLacks {
        /// The cohorts.
        cohorts: Vec<String>,
        /// Whether they were named before.
        before: bool,
    },
    /// Its filters name cohorts that the entry does not.
    FilterHas(Vec<String>),
    /// Braze's words for its filters name no cohort that is known here.
    FilterUntold,
    /// The same, and its size is as expected.
    FilterBySize,
    /// It is smaller than it should be.
    SizeLow(ComparedSize),
    /// It is larger than it should be.
    SizeHigh(ComparedSize),
    /// Its size says nothing.
    SizeUntold(SizeUntold),
    /// By the record a canary is not in it.
    CanaryAbsent(Vec<String>),
    /// Braze does not know a canary, and so nobody can be sure that it knows the others.
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
    /// It has another name than the config says.
    UseRenamed(MessagingTarget, String),
    /// Braze did not tell.
    Untold {
        /// Of what.
        about: String,
        /// Why.
        why: EvidenceGap,
    },
    /// Whom campaigns and Canvases target, Braze tells nobody.
    TargetUntold,
    /// Somebody has changed the segment since the last check.
    SegmentEdited(String),
    /// Somebody has changed a campaign or Canvas since the last check.
    UseEdited(MessagingTarget, String),
}

/// A campaign or Canvas, as the config names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagingTarget {
    /// Which of the two.
    pub of: MessagingKind,
    /// Its name or id.
    pub named: BrazeObject,
}

/// A size beside what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedSize {
    /// What Braze says.
    pub seen: SeenSize,
    /// The least that was expected.
    pub least: u64,
    /// The most that was expected.
    pub most: u64,
}

/// Why a size says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeUntold {
    /// Nothing of its cohorts was sent yet.
    NothingSent,
    /// Braze keeps no sizes of it.
    NoTracking,
    /// Braze has none.
    NoSize,
    /// Braze's newest size may be older than what was sent last.
    Older(ComparedSize),
}

/// Why Braze did not tell, as far as it matters to whoever must act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceGap {
    /// In words.
    pub text: String,
    /// Whether it is a matter of the key.
    pub is_key: bool,
    /// Whether the key is of another workspace than the state.
    pub is_other: bool,
    /// Whether it may run by itself.
    pub is_passing: bool,
}

impl CheckedObject {
    /// The kind in a word. With [`What::about`] it tells whether two checks found the same.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::SegmentMissing(_) => "segment_missing",
            Self::SegmentArchived(_) => "segment_archived",
            Self::SegmentRenamed { .. } => "segment_renamed",
            Self::SegmentAmbiguous { .. } => "segment_ambiguous",
            Self::FilterLacks { .. } => "filter_lacks_cohort",
            Self::FilterHas(_) => "filter_has_other_cohort",
            Self::FilterUntold => "filter_untold",
            Self::FilterBySize => "filter_by_size",
            Self::SizeLow(_) => "size_low",
            Self::SizeHigh(_) => "size_high",
            Self::SizeUntold(_) => "size_untold",
            Self::CanaryAbsent(_) => "canary_absent",
            Self::CanaryUnknown(_) => "canary_unknown",
            Self::UseMissing(_) => "use_missing",
            Self::UseAmbiguous(..) => "use_ambiguous",
            Self::UseArchived(_) => "use_archived",
            Self::UseDraft(_) => "use_draft",
            Self::UseStopped(..) => "use_stopped",
            Self::UseUntagged(..) => "use_untagged",
            Self::UseRenamed(..) => "use_renamed",
            Self::Untold { .. } => "untold",
            Self::TargetUntold => "target_untold",
            Self::SegmentEdited(_) => "segment_edited",
            Self::UseEdited(..) => "use_edited",
        }
    }

    /// The evidence that shows it, by a stable name. A check that did not see this evidence says nothing of it.
    #[must_use]
    pub fn evidence(&self) -> String {
        match self {
            Self::SegmentMissing(_) | Self::SegmentAmbiguous { .. } => SEGMENT.to_owned(),
            Self::SegmentArchived(_) | Self::SegmentRenamed { .. } | Self::SegmentEdited(_) => {
                details_of(SEGMENT)
            }
            Self::FilterLacks { .. } | Self::FilterHas(_) | Self::FilterUntold | Self::FilterBySize => {
                FILTERS.to_owned()
            }
            Self::SizeLow(_) | Self::SizeHigh(_) | Self::SizeUntold(_) => SIZE.to_owned(),
            Self::CanaryUnknown(_) => CANARIES.to_owned(),
            Self::CanaryAbsent(_) | Self::TargetUntold => RECORD.to_owned(),
            Self::UseMissing(target) | Self::UseAmbiguous(target, _) => target.to_string(),
            Self::UseArchived(target)
            | Self::UseDraft(target)
            | Self::UseStopped(target, _)
            | Self::UseUntagged(target, _)
            | Self::UseRenamed(target, _)
            | Self::UseEdited(target, _) => details_of(&target.to_string()),
            Self::Untold { about, .. } if about.is_empty() => SEGMENT.to_owned(),
            Self::Untold { about, .. } => about.clone(),
        }
    }

    /// How bad it is.
    #[must_use]
    pub fn level(&self) -> CheckLevel {
        match self {
            Self::SegmentAmbiguous { .. }
            | Self::FilterUntold
            | Self::SizeUntold(_)
            | Self::UseAmbiguous(..)
            | Self::Untold { .. } => CheckLevel::Unknown,
            Self::FilterBySize
            | Self::CanaryAbsent(_)
            | Self::TargetUntold
            | Self::SegmentEdited(_)
            | Self::UseEdited(..) => CheckLevel::Note,
            _ => CheckLevel::Drift,
        }
    }

    /// What it is about: the segment itself if empty.
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
            Self::Untold { about, .. } => about.clone(),
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
        write!(f, "{size} people on {day}, and by the record ")?;
        if least == most { write!(f, "{least}") } else { write!(f, "{least} to {most}") }
    }
}

impl fmt::Display for CheckedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edited =
            |at: &Option<String>| at.as_ref().map(|at| format!("; last edited {at}")).unwrap_or_default();
        match self {
            Self::SegmentMissing(BrazeObject::Name(name)) => {
                write!(f, "Braze lists no segment \"{name}\"; one that is archived is not listed")
            }
            Self::SegmentMissing(BrazeObject::Id(id)) => write!(f, "Braze has no segment with the id {id}"),
            Self::SegmentArchived(name) => write!(f, "the segment \"{name}\" is archived"),
            Self::SegmentRenamed { from, to } => write!(f, "the segment \"{from}\" is called \"{to}\" now"),
            Self::SegmentAmbiguous { name, count } => write!(f, "{count} segments are called \"{name}\""),
            Self::FilterLacks { cohorts, before: true } => {
                write!(f, "its filters do not name {} any more", cohorts.join(", "))
            }
            Self::FilterLacks { cohorts, .. } => write!(f, "its filters do not name {}", cohorts.join(", ")),
            Self::FilterHas(cohorts) => {
                write!(f, "its filters name {}, which this entry does not", cohorts.join(", "))
            }
            Self::FilterUntold => f.write_str(
                "Braze's words for its filters name no cohort that is known here, so whether it uses the right ones cannot be told",
            ),
            Self::FilterBySize => {
                f.write_str("Braze's words for its filters name no cohort; its size is as it should be")
            }
            Self::SizeLow(compared) => write!(f, "it is too small: {compared}"),
            Self::SizeHigh(compared) => write!(f, "it is too large: {compared}"),
            Self::SizeUntold(why) => write!(f, "its size cannot be compared: {why}"),
            Self::CanaryAbsent(ids) => {
                write!(f, "by the record {} not in its cohorts", are(ids, "canary", "canaries"))
            }
            Self::CanaryUnknown(ids) => {
                write!(f, "Braze does not know {}; whom it does not know it never takes in", shortened(ids))
            }
            Self::UseMissing(target) => write!(f, "Braze has no {target}"),
            Self::UseAmbiguous(target, count) => write!(f, "there are {count} of {target}"),
            Self::UseArchived(target) => write!(f, "the {target} is archived"),
            Self::UseDraft(target) => write!(f, "the {target} is a draft, and sends nothing"),
            Self::UseStopped(target, at) => write!(f, "the {target} is stopped or paused{}", edited(at)),
            Self::UseUntagged(target, tag) => write!(f, "the {target} lacks the tag \"{tag}\""),
            Self::UseRenamed(target, to) => write!(f, "the {target} is called \"{to}\" now"),
            Self::Untold { about, why } if about.is_empty() => write!(f, "it could not be asked for: {}", why.text),
            Self::Untold { about, why } => write!(f, "{about} could not be asked for: {}", why.text),
            Self::TargetUntold => {
                f.write_str("whom its campaigns and Canvases target, Braze tells nobody: that they target it is not checked")
            }
            Self::SegmentEdited(at) => write!(f, "somebody changed it at {at}"),
            Self::UseEdited(target, at) => write!(f, "somebody changed the {target} at {at}"),
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

/// People are not named in full: findings are shown on a dashboard and sent to webhooks.
fn shortened(ids: &[String]) -> String {
    let short =
        |id: &String| Identifier { kind: IdentifierKind::ExternalId, label: "", value: id }.shortened();
    ids.iter().map(short).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for SizeUntold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingSent => f.write_str("nothing of its cohorts was sent yet"),
            Self::NoTracking => f.write_str("analytics tracking is off, so Braze keeps no sizes"),
            Self::NoSize => f.write_str("Braze has none of the last days"),
            Self::Older(compared) => {
                write!(f, "{compared}; Braze's number may be older than what was sent last")
            }
        }
    }
}
