//! Converts `on_enter:` and `on_exit:`.

use jiff::civil::Time;

use crate::config::spec;
use crate::config::text::ClockTime;
use crate::config::triggers::{QuietHours, Trigger, TriggerTarget};

pub(super) fn trigger(shape: spec::TriggerSpec) -> Trigger {
    let (of, id) = match (shape.campaign, shape.canvas) {
        (Some(id), _) => (TriggerTarget::Campaign, id.0),
        // The checks guarantee that one of the two is set.
        (None, canvas) => (TriggerTarget::Canvas, canvas.map(|id| id.0).unwrap_or_default()),
    };
    Trigger {
        of,
        id: id.trim().to_owned(),
        properties: shape.properties.into_iter().map(|(name, column)| (name, column.0)).collect(),
        at_most: shape.at_most.0,
        cool_down: shape.cool_down.0,
        within: shape.within.0,
        quiet: shape.quiet.map(quiet),
    }
}

fn quiet(shape: spec::QuietHoursSpec) -> QuietHours {
    QuietHours { from: time(&shape.from), to: time(&shape.to), time_zone: shape.time_zone.0 }
}

/// Parses a value that the schema has validated.
fn time(text: &ClockTime) -> Time {
    format!("{}:00", text.0).parse().unwrap_or(Time::midnight())
}
