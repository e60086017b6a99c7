//! Remedies for the findings of segment checks, in Braze's dashboard or in the config.

use crate::cli::suggested_command::SuggestedCommand;
use crate::config::{BrazeObject, Config, SegmentConfig};
use crate::connector::braze::rest::MessagingKind;
use crate::model::{CohortId, ConnectionName, DeliveryMethod};
use crate::segment_check::{CheckedObject, MessagingTarget, SizeUnknown};

/// The steps of the remedy, in order. Empty if no action is needed.
pub(in crate::cli) fn steps(
    what: &CheckedObject,
    segment: &SegmentConfig,
    config: &Config,
    again: &SuggestedCommand,
) -> Vec<String> {
    let (here, size, canaries) =
        (segment.line_of("segment"), segment.line_of("size"), segment.line_of("canaries"));
    let about_segment = |steps: String| vec![steps];
    match what {
        CheckedObject::SegmentMissing(BrazeObject::Name(name)) => [
            vec![format!("in Braze, under Audience, Segments: create a segment called \"{name}\"")],
            filters(segment, config),
            vec![
                "turn on Analytics Tracking in it, and save".to_owned(),
                format!("if it is there under another name, or was archived: correct `segment:` ({here})"),
            ],
        ]
        .concat(),
        CheckedObject::SegmentMissing(BrazeObject::Id(_)) => about_segment(format!(
            "correct `segment:` ({here}); the segment's page in Braze shows its API identifier"
        )),
        CheckedObject::SegmentArchived(name) => about_segment(format!(
            "in Braze, under Audience, Segments, among the archived ones: unarchive \"{name}\""
        )),
        CheckedObject::SegmentRenamed { from, to } => {
            about_segment(format!("rename it to \"{from}\" in Braze, or write `name: {to}` ({here})"))
        }
        CheckedObject::SegmentAmbiguous { .. } => about_segment(format!(
            "name it by its API identifier, as its page in Braze shows it: `segment: {{ id: … }}` ({here})"
        )),
        CheckedObject::FilterLacks { .. } | CheckedObject::FilterHas(_) | CheckedObject::FilterUnreadable => {
            let mut steps = vec![format!("in Braze, check the filters of \"{}\":", segment_name(segment))];
            steps.extend(filters(segment, config));
            if *what == CheckedObject::FilterUnreadable && !segment.size.compare {
                steps.push(format!("or compare its size instead: `size: {{ compare: true }}` ({size})"));
            }
            steps
        }
        CheckedObject::SizeLow(_) => vec![
            format!("if it has more filters on purpose: `size: {{ min: … }}` ({size})"),
            "if not: check that these users have a profile in Braze, which ignores members without one"
                .to_owned(),
        ],
        CheckedObject::SizeHigh(_) => about_segment(format!(
            "check its filters in Braze; if they are correct: `size: {{ max: … }}` ({size})"
        )),
        CheckedObject::SizeUnknown(why) => size_steps(why, segment, again),
        CheckedObject::CanaryUnknown(_) => {
            about_segment(format!("create profiles for them in Braze, or correct `canaries:` ({canaries})"))
        }
        CheckedObject::CanaryAbsent(_) => {
            about_segment(format!("add them to the source of a cohort, or correct `canaries:` ({canaries})"))
        }
        _ => use_steps(what, segment.line_of("used_by"), &segment.connection, again),
    }
}

fn use_steps(
    what: &CheckedObject,
    here: &str,
    connection: &ConnectionName,
    again: &SuggestedCommand,
) -> Vec<String> {
    let step = match what {
        CheckedObject::UseMissing(_) => format!("correct `used_by:` ({here}), or create it in Braze"),
        CheckedObject::UseAmbiguous(target, _) => format!("name it by its API identifier under `used_by:` ({here}), as its page under {} shows it", page(target)),
        CheckedObject::UseArchived(target) => format!("in Braze, under {}: unarchive it, or delete it from `used_by:` ({here})", page(target)),
        CheckedObject::UseDraft(target) => format!("in Braze, under {}: launch it, or delete it from `used_by:` ({here})", page(target)),
        CheckedObject::UseStopped(target, _) => format!("in Braze, under {}: resume it, or delete it from `used_by:` ({here})", page(target)),
        CheckedObject::UseUntagged(target, tag) => format!("in Braze, under {}: check that it targets the segment, and add the tag \"{tag}\"", page(target)),
        CheckedObject::UseRenamed(_, to) => format!("write `name: {to}` under `used_by:` ({here}), or rename it in Braze"),
        CheckedObject::NotReported { why, .. } if why.is_other => format!("if it is a new key of the same workspace: {}; if not, give that workspace a `state:` of its own", again.adopt(connection.as_str())),
        CheckedObject::NotReported { why, .. } if why.is_key => "create a REST API key with this permission in Braze, under Settings, APIs and Identifiers; a key's permissions cannot be changed".to_owned(),
        CheckedObject::NotReported { .. } => "check again later".to_owned(),
        _ => return Vec::new(),
    };
    vec![step]
}

fn page(target: &MessagingTarget) -> &'static str {
    match target.of {
        MessagingKind::Campaign => "Messaging, Campaigns",
        MessagingKind::Canvas => "Messaging, Canvas",
    }
}

fn size_steps(why: &SizeUnknown, segment: &SegmentConfig, again: &SuggestedCommand) -> Vec<String> {
    let here = segment.line_of("size");
    vec![match why {
        SizeUnknown::NothingSent => again.command("reconcile"),
        SizeUnknown::NoTracking => format!(
            "in Braze, turn on Analytics Tracking in \"{}\", or turn this check off: `size: {{ compare: false }}` ({here})",
            segment_name(segment)
        ),
        SizeUnknown::NoSize | SizeUnknown::Older(_) => {
            "check again tomorrow: Braze counts once a day".to_owned()
        }
    }]
}

fn segment_name(segment: &SegmentConfig) -> &str {
    match &segment.named {
        BrazeObject::Id(text) | BrazeObject::Name(text) => text,
    }
}

/// The filters that the segment should have, as Braze's dashboard calls them.
fn filters(segment: &SegmentConfig, config: &Config) -> Vec<String> {
    let partner = config.braze.get(&segment.connection).map_or("", |braze| braze.partner.as_str());
    let mut letters = partner.chars();
    let partner: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let one = |verb: &str, id: &CohortId| {
        let Some(cohort) = config.cohorts.iter().find(|cohort| cohort.id == *id) else {
            return String::new();
        };
        match (&cohort.delivery, verb) {
            (DeliveryMethod::CohortImport, _) => {
                format!("  filter \"{partner} Cohorts\" {verb} \"{}\"", cohort.name)
            }
            (DeliveryMethod::Array(attribute), "includes") => {
                format!("  filter \"Custom Attributes\", \"{attribute}\" includes value \"{id}\"")
            }
            (DeliveryMethod::Array(attribute), _) => {
                format!("  filter \"Custom Attributes\", \"{attribute}\" doesn't include value \"{id}\"")
            }
            (DeliveryMethod::Boolean(attribute), "includes") => {
                format!("  filter \"Custom Attributes\", \"{attribute}\" is true")
            }
            (DeliveryMethod::Boolean(attribute), _) => {
                format!("  filter \"Custom Attributes\", \"{attribute}\" is not true")
            }
        }
    };
    let joint = if segment.all { "all of these:" } else { "any of these:" };
    let mut lines = Vec::new();
    lines.extend((segment.include.len() > 1).then(|| format!("  {joint}")));
    lines.extend(segment.include.iter().map(|id| one("includes", id)));
    let more = segment.exclude.iter().map(|id| format!("{}, with AND", one("does not include", id)));
    lines.extend(more);
    lines
}
