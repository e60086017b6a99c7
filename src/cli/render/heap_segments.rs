//! Heap segments in `syncline status`: text and JSON.

use serde_json::{Value, json};

use super::time::age_text;
use crate::cli::output::{bold, counted, counted_as, dim, yellow};
use crate::config::Config;
use crate::foreign::escaped;
use crate::model::{ConnectionName, EndpointName, Timestamp, timestamp_text};
use crate::state::{HeapSegments, SegmentSync, SegmentTable, StateError, StateReader};

/// The segments of one Heap connection, as received by its webhook endpoint.
pub(in crate::cli) struct HeapSegmentReport {
    heap: ConnectionName,
    segments: HeapSegments,
    members: Vec<(u64, u64)>,
    /// Size of the deliveries that wait for ingest.
    inbox_bytes: u64,
}

/// Reads the segment tables and the inbox size of every Heap connection with a webhook endpoint.
pub(in crate::cli) fn reports(
    config: &Config,
    state: &StateReader,
) -> Result<Vec<HeapSegmentReport>, StateError> {
    let heaps = config.heap.keys().filter(|heap| config.has_webhook_endpoint(heap));
    let reports = heaps.map(|heap| {
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
        let inbox_bytes = state.inbox(&EndpointName::of_heap(heap))?.iter().map(|file| file.bytes).sum();
        Ok(HeapSegmentReport { heap: heap.clone(), segments, members, inbox_bytes })
    });
    reports.collect()
}

fn cohort_of<'a>(config: &'a Config, heap: &ConnectionName, id: u64) -> Option<&'a str> {
    config
        .cohorts
        .iter()
        .find(|cohort| cohort.source.segment_of(heap) == Some(id))
        .map(|cohort| cohort.id.as_str())
}

/// The lines of every Heap connection.
pub(in crate::cli) fn lines(reports: &[HeapSegmentReport], config: &Config, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    for HeapSegmentReport { heap, segments, members, inbox_bytes } in reports {
        let none = if segments.number == 0 { "; no segment received yet" } else { "" };
        lines.push(format!("{}  Heap connection{none}", bold(heap.as_str())));
        for (id, number) in members {
            if let Some(segment) = segments.by_id.get(id) {
                segment_lines(heap, *id, segment, *number, config, now, &mut lines);
            }
        }
        if *inbox_bytes > 0 {
            lines.push(format!("    in the inbox for the next run: {}", counted(*inbox_bytes, "byte")));
        }
        if segments.invalid > 0 {
            let deliveries = delivery_count(segments.invalid);
            lines.push(format!("    {} {deliveries} invalid; see the rejects", yellow("!")));
        }
    }
    lines
}

fn delivery_count(number: u64) -> String {
    counted_as(number, "delivery", "deliveries")
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
    let age = age_text(segment.delivered_at, now);
    let summary = format!(
        "segment {id} \"{}\": {}, delivered {age}",
        escaped(&segment.name),
        counted(members, "member")
    );
    match cohort_of(config, heap, id) {
        Some(cohort) => lines.push(format!("    {summary}; the source of {cohort}")),
        None => {
            lines.push(format!("    {} {summary}; no cohort uses it", yellow("!")));
            let source = format!("{{ kind: heap_segment, connection: {heap}, segment_id: {id} }}");
            lines.push(dim(&format!("      to use it: `source: {source}`")));
        }
    }
    for sync in segment.syncs.iter().filter(|sync| !sync.removes_count()) {
        lines.push(format!("      {} {}; until then it removes no members", yellow("!"), missing(sync)));
    }
    for gap in &segment.gaps {
        lines.push(format!(
            "      {} pages {} of {} never arrived by {}; membership may be incomplete",
            yellow("!"),
            numbers(&gap.missing, gap.missing_count()),
            gap.pages,
            gap.at
        ));
    }
}

fn missing(sync: &SegmentSync) -> String {
    format!(
        "a sync waits for pages {} of {}",
        numbers(&sync.missing(), u64::from(sync.missing_count())),
        sync.pages
    )
}

/// The first page numbers, and how many follow.
fn numbers(pages: &[u32], count: u64) -> String {
    let listed = pages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match count.saturating_sub(pages.len() as u64) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

/// The JSON of every Heap connection.
pub(in crate::cli) fn to_json(reports: &[HeapSegmentReport], config: &Config) -> Vec<Value> {
    reports.iter().map(|report| report_json(report, config)).collect()
}

fn report_json(report: &HeapSegmentReport, config: &Config) -> Value {
    let segments =
        report.members.iter().filter_map(|(id, members)| segment_json(report, *id, *members, config));
    json!({
        "connection": report.heap.as_str(),
        "segments": segments.collect::<Vec<_>>(),
        "inbox_bytes": report.inbox_bytes,
        "invalid_deliveries": report.segments.invalid,
    })
}

fn segment_json(report: &HeapSegmentReport, id: u64, members: u64, config: &Config) -> Option<Value> {
    let segment = report.segments.by_id.get(&id)?;
    let waiting = segment.syncs.iter().filter(|sync| !sync.removes_count());
    let waiting: Vec<Value> =
        waiting.map(|sync| json!({ "missing": sync.missing(), "pages": sync.pages })).collect();
    Some(json!({
        "id": id,
        "name": segment.name,
        "members": members,
        "delivered_at": timestamp_text(segment.delivered_at),
        "cohort": cohort_of(config, &report.heap, id),
        "waits_for": waiting,
        "gaps": segment.gaps,
    }))
}
