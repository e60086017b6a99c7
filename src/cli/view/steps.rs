//! What a person does in Braze's dashboard, or in the config, about what a check has found.

use crate::config::{Config, Named, Segment};
use crate::connector::braze::rest::Messaging;
use crate::model::{CohortId, ConnectionName, Delivery};
use crate::targeting::{SizeUntold, Target, What};

/// The steps, in their order; none where there is nothing to be done.
pub(in crate::cli) fn steps(what: &What, segment: &Segment, config: &Config) -> Vec<String> {
    let here = &segment.declared_at;
    let about_segment = |steps: String| vec![steps];
    match what {
        What::SegmentMissing(Named::Name(name)) => [
            vec![format!("in Braze, under Audience, Segments: create a segment called \"{name}\"")],
            filters(segment, config),
            vec![
                "turn on Analytics Tracking in it, and save".to_owned(),
                format!("if it is there under another name, or was archived: correct `segment:` ({here})"),
            ],
        ]
        .concat(),
        What::SegmentMissing(Named::Id(_)) => about_segment(format!(
            "correct `segment:` ({here}); the segment's page in Braze shows its API identifier"
        )),
        What::SegmentArchived(name) => about_segment(format!(
            "in Braze, under Audience, Segments, among the archived ones: unarchive \"{name}\""
        )),
        What::SegmentRenamed { from, to } => {
            about_segment(format!("rename it to \"{from}\" in Braze, or write `name: {to}` ({here})"))
        }
        What::SegmentAmbiguous { .. } => about_segment(format!(
            "name it by its API identifier, as its page in Braze shows it: `segment: {{ id: … }}` ({here})"
        )),
        What::FilterLacks { .. } | What::FilterHas(_) | What::FilterUntold => {
            let mut steps = vec![format!("in Braze, look at the filters of \"{}\":", segment_name(segment))];
            steps.extend(filters(segment, config));
            if *what == What::FilterUntold && !segment.size.compare {
                steps.push(format!("or let its size speak: `size: {{ compare: true }}` ({here})"));
            }
            steps
        }
        What::SizeLow(_) => vec![
            format!("if it has more filters on purpose: `size: {{ min: … }}` ({here})"),
            "if not: are there profiles for these people in Braze? It takes in nobody whom it does not know"
                .to_owned(),
        ],
        What::SizeHigh(_) => about_segment(format!(
            "look at its filters in Braze; if it is right: `size: {{ max: … }}` ({here})"
        )),
        What::SizeUntold(why) => size_steps(why, segment),
        What::CanaryUnknown(_) => {
            about_segment(format!("make profiles for them in Braze, or correct `canaries:` ({here})"))
        }
        What::CanaryAbsent(_) => {
            about_segment(format!("put them into the source of a cohort, or correct `canaries:` ({here})"))
        }
        _ => use_steps(what, here, &segment.connection),
    }
}

fn use_steps(what: &What, here: &str, connection: &ConnectionName) -> Vec<String> {
    let step = match what {
        What::UseMissing(_) => format!("correct `used_by:` ({here}), or make it in Braze"),
        What::UseAmbiguous(target, _) => format!("name it by its API identifier under `used_by:` ({here}), as its page under {} shows it", page(target)),
        What::UseArchived(target) => format!("in Braze, under {}: unarchive it, or take it out of `used_by:` ({here})", page(target)),
        What::UseDraft(target) => format!("in Braze, under {}: launch it, or take it out of `used_by:` ({here})", page(target)),
        What::UseStopped(target, _) => format!("in Braze, under {}: resume it, or take it out of `used_by:` ({here})", page(target)),
        What::UseUntagged(target, tag) => format!("in Braze, under {}: see that it targets the segment, and give it the tag \"{tag}\"", page(target)),
        What::UseRenamed(_, to) => format!("write `name: {to}` under `used_by:` ({here}), or rename it in Braze"),
        What::Untold { why, .. } if why.is_other => format!("if it is a new key of the same workspace: syncline state adopt {connection}; if not, give that workspace a `state:` of its own"),
        What::Untold { why, .. } if why.is_key => "make a REST API key with this permission in Braze, under Settings, APIs and Identifiers; a key's permissions cannot be changed".to_owned(),
        What::Untold { .. } => "check again later".to_owned(),
        _ => return Vec::new(),
    };
    vec![step]
}

fn page(target: &Target) -> &'static str {
    match target.of {
        Messaging::Campaign => "Messaging, Campaigns",
        Messaging::Canvas => "Messaging, Canvas",
    }
}

fn size_steps(why: &SizeUntold, segment: &Segment) -> Vec<String> {
    let here = &segment.declared_at;
    vec![match why {
        SizeUntold::NothingSent => "syncline reconcile".to_owned(),
        SizeUntold::NoTracking => format!(
            "in Braze, turn on Analytics Tracking in \"{}\", or do without: `size: {{ compare: false }}` ({here})",
            segment_name(segment)
        ),
        SizeUntold::NoSize | SizeUntold::Older(_) => {
            "check again tomorrow: Braze counts once a day".to_owned()
        }
    }]
}

fn segment_name(segment: &Segment) -> &str {
    match &segment.named {
        Named::Id(text) | Named::Name(text) => text,
    }
}

/// The filters that the segment should have, as Braze's dashboard calls them.
fn filters(segment: &Segment, config: &Config) -> Vec<String> {
    let partner = config.braze.get(&segment.connection).map_or("", |braze| braze.partner.as_str());
    let mut letters = partner.chars();
    let partner: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let one = |verb: &str, id: &CohortId| {
        let Some(cohort) = config.cohorts.iter().find(|cohort| cohort.id == *id) else {
            return String::new();
        };
        match (&cohort.delivery, verb) {
            (Delivery::CohortImport, _) => {
                format!("  filter \"{partner} Cohorts\" {verb} \"{}\"", cohort.name)
            }
            (Delivery::Array(attribute), _) => {
                format!("  filter \"Custom Attributes\", array \"{attribute}\" {verb} \"{id}\"")
            }
            (Delivery::Boolean(attribute), "includes") => {
                format!("  filter \"Custom Attributes\", \"{attribute}\" is true")
            }
            (Delivery::Boolean(attribute), _) => {
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
