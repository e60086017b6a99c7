//! What Heaps have told of their segments, in words and in JSON.

use serde_json::{Value, json};

use crate::cli::output::{bold, count, counted, dim, yellow};
use crate::config::Config;
use crate::foreign::escaped;
use crate::model::{ConnectionName, EndpointName, Timestamp, timestamp_text};
use crate::state::{HeapSegments, SegmentSync, SegmentTable, StateError, StateReader};

/// What one Heap has told.
pub(in crate::cli) struct HeapSegmentReport {
    heap: ConnectionName,
    segments: HeapSegments,
    members: Vec<(u64, u64)>,
    /// Bytes that wait in the inbox.
    waiting: u64,
}

/// What all Heaps of the config have told.
pub(in crate::cli) fn told(
    config: &Config,
    state: &StateReader,
) -> Result<Vec<HeapSegmentReport>, StateError> {
    let told_of = config.heap.keys().filter(|heap| config.has_webhook_endpoint(heap));
    let each = told_of.map(|heap| {
        let segments = state.segments(heap)?;
        let mut members = Vec::new();
        for (id, segment) in &segments.by_id {
            let mut cursor = state.segment_members(heap, segment)?;
            let mut number = 0;
            while cursor.advance()?.is_some() {
                number += 1;
            }
            members.push((*id, number));
        }
        let waiting = state.inbox(&EndpointName::of_heap(heap))?.iter().map(|file| file.bytes).sum();
        Ok(HeapSegmentReport { heap: heap.clone(), segments, members, waiting })
    });
    each.collect()
}

fn cohort_of<'a>(config: &'a Config, heap: &ConnectionName, id: u64) -> Option<&'a str> {
    config
        .cohorts
        .iter()
        .find(|cohort| cohort.source.segment_of(heap) == Some(id))
        .map(|cohort| cohort.id.as_str())
}

/// A few lines for each Heap.
pub(in crate::cli) fn lines(told: &[HeapSegmentReport], config: &Config, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    for HeapSegmentReport { heap, segments, members, waiting } in told {
        let none = if segments.number == 0 { "; it has told of no segment yet" } else { "" };
        lines.push(format!("{}  a Heap{none}", bold(heap.as_str())));
        for (id, number) in members {
            if let Some(segment) = segments.by_id.get(id) {
                segment_lines(heap, *id, segment, *number, config, now, &mut lines);
            }
        }
        if *waiting > 0 {
            lines.push(format!("    {} bytes wait in the inbox; the next run uses them", count(*waiting)));
        }
        if segments.invalid > 0 {
            let what = counted_of_deliveries(segments.invalid);
            lines.push(format!("    {} {what} could not be used; see the rejects", yellow("!")));
        }
    }
    lines
}

fn counted_of_deliveries(number: u64) -> String {
    if number == 1 { "1 delivery".to_owned() } else { format!("{} deliveries", count(number)) }
}

fn segment_lines(
    heap: &ConnectionName,
    id: u64,
    segment: &SegmentTable,
    members: u64,
    config: &Config,
    now: Timestamp,
    lines: &mut Vec<String>,
) {
    let age = ago(segment.delivered_at, now);
    let who =
        format!("segment {id} \"{}\": {}, told {age}", escaped(&segment.name), counted(members, "person"));
    let who = who.replace("persons", "people");
    match cohort_of(config, heap, id) {
        Some(cohort) => lines.push(format!("    {who}; the source of {cohort}")),
        None => {
            lines.push(format!("    {} {who}; no cohort uses it", yellow("!")));
            let source = format!("{{ kind: heap_segment, connection: {heap}, segment_id: {id} }}");
            lines.push(dim(&format!("      to use it: `source: {source}`")));
        }
    }
    for sync in segment.syncs.iter().filter(|sync| !sync.removes_count()) {
        lines.push(format!("      {} {}; until then nobody leaves by it", yellow("!"), missing(sync)));
    }
    for gap in &segment.gaps {
        lines.push(format!(
            "      {} pages {} of {} never came by {}: who was told of in them is not known",
            yellow("!"),
            numbers(&gap.missing),
            gap.pages,
            gap.at
        ));
    }
}

fn missing(sync: &SegmentSync) -> String {
    format!("a sync waits for pages {} of {}", numbers(&sync.missing()), sync.pages)
}

fn numbers(pages: &[u32]) -> String {
    pages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// `3 minutes ago`, and the like.
pub(in crate::cli) fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(now.duration_since(then).as_secs()).unwrap_or(0);
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{} ago", counted(number, unit))
}

/// The same for programs.
pub(in crate::cli) fn to_json(told: &[HeapSegmentReport], config: &Config) -> Vec<Value> {
    let segment = |told: &HeapSegmentReport, id: u64, members: u64| {
        let segment = told.segments.by_id.get(&id)?;
        let waiting = segment.syncs.iter().filter(|sync| !sync.removes_count());
        let waiting: Vec<Value> =
            waiting.map(|sync| json!({ "missing": sync.missing(), "pages": sync.pages })).collect();
        Some(json!({
            "id": id,
            "name": segment.name,
            "members": members,
            "delivered_at": timestamp_text(segment.delivered_at),
            "cohort": cohort_of(config, &told.heap, id),
            "waits_for": waiting,
            "gaps": segment.gaps,
        }))
    };
    let one = |told: &HeapSegmentReport| {
        let segments: Vec<Value> =
            told.members.iter().filter_map(|(id, members)| segment(told, *id, *members)).collect();
        json!({
            "connection": told.heap.as_str(),
            "segments": segments,
            "inbox_bytes": told.waiting,
            "put_aside": told.segments.invalid,
        })
    };
    told.iter().map(one).collect()
}
