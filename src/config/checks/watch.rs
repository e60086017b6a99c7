//! Checks of `watch`: safe endpoints, valid schedules, Heap segments.

use std::collections::HashMap;
use std::net::SocketAddr;

use jiff::ToSpan as _;
use jiff::civil::Date;

use super::{connections, is_kind};
use crate::config::problem::{Problem, ProblemCode, did_you_mean, listed};
use crate::config::source_text::SourceSpan;
use crate::config::tree::{TreeEntry, TreeNode, TreeValue};
use crate::model::is_loopback_host;

/// A Heap segment belongs to a Heap connection.
pub(super) fn segments_are_heaps(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let segments = super::sources(tree).filter(|source| is_kind(source, "heap_segment"));
    for (name, span) in segments.filter_map(|source| source.text("connection")) {
        if !heaps(tree).any(|entry| entry.key == name) {
            no_heap(tree, name, span, problems);
        }
    }
}

fn heaps(tree: &TreeNode) -> impl Iterator<Item = &TreeEntry> {
    connections(tree).iter().filter(|entry| is_kind(&entry.node, "heap"))
}

/// Reports an unknown Heap connection.
pub(super) fn no_heap(tree: &TreeNode, name: &str, span: SourceSpan, problems: &mut Vec<Problem>) {
    let heaps: Vec<&str> = heaps(tree).map(|entry| entry.key.as_str()).collect();
    let problem = Problem::new(ProblemCode::UnknownConnection, format!("unknown Heap connection `{name}`"))
        .at(span, "no connection of `kind: heap` has this name");
    problems.push(match (did_you_mean(name, heaps.iter().copied()), heaps.as_slice()) {
        (Some(near), _) => problem.hint(format!("did you mean `{near}`?")),
        (None, []) => problem.hint(format!("add it: `connections: {{ {name}: {{ kind: heap, … }} }}`")),
        (None, heaps) => problem.hint(format!("known connections: {}", listed(heaps))),
    });
}

/// Heap sends one value for each user: the column `id`.
pub(super) fn segments_have_one_column(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let is_segment =
        |cohort: &&TreeNode| cohort.get("source").is_some_and(|source| is_kind(source, "heap_segment"));
    for rule in tree.items("cohorts").iter().filter(is_segment).flat_map(|cohort| cohort.items("match")) {
        let alias = rule.get("alias").and_then(|alias| alias.text("name"));
        let column = alias.or_else(|| rule.text("external_id")).or_else(|| rule.text("device_id"));
        if let Some((column, span)) = column.filter(|(column, _)| column.trim() != "id") {
            problems.push(
                Problem::new(ProblemCode::UnknownColumn, format!("a Heap segment has no column `{column}`"))
                    .at(span, "the only column is `id`")
                    .hint("use `id`: it contains the identity that Heap sends"),
            );
        }
    }
}

fn listen(tree: &TreeNode) -> Option<(SocketAddr, SourceSpan)> {
    let (text, span) = tree.get("watch")?.text("listen")?;
    Some((text.parse().ok()?, span))
}

fn is_true(node: Option<&TreeNode>) -> bool {
    node.is_some_and(|node| matches!(node.value, TreeValue::Bool(true)))
}

/// Signatures and user ids must not leave this machine unencrypted.
pub(super) fn public_endpoints_are_encrypted(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let Some((address, span)) = listen(tree).filter(|(address, _)| !address.ip().is_loopback()) else {
        return;
    };
    let watch = tree.get("watch");
    let has_tls = watch.is_some_and(|watch| watch.get("tls").is_some());
    if !has_tls && !is_true(watch.and_then(|watch| watch.get("behind_proxy"))) {
        problems.push(
            Problem::new(
                ProblemCode::UnsafeAddress,
                format!("the endpoints at {address} would accept unencrypted requests from other machines"),
            )
            .at(span, "not a loopback address")
            .hint("add `tls: { certificate: …, key: … }`, or `behind_proxy: true` if a proxy terminates TLS"),
        );
    }
}

/// Heap and Braze send to the public address, so it must be complete and encrypted.
pub(super) fn public_url_is_usable(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let Some((text, span)) = tree.get("watch").and_then(|watch| watch.text("public_url")) else { return };
    let why = match url::Url::parse(text.trim()) {
        Err(_) => "not a URL",
        Ok(url) if !["https", "http"].contains(&url.scheme()) => "neither https nor http",
        Ok(url) if url.scheme() == "http" && !is_loopback_host(&url) => "would be unencrypted",
        Ok(url) if !url.username().is_empty() || url.password().is_some() => "contains a user or a password",
        Ok(url) if url.query().is_some() || url.fragment().is_some() => "has a query or a fragment",
        Ok(_) => return,
    };
    problems.push(
        Problem::new(ProblemCode::BadEndpoint, "`watch.public_url` cannot be the address of the endpoints")
            .at(span, why)
            .hint("for example `https://syncline.example.com`; the paths of the endpoints follow it"),
    );
}

/// Endpoints that other machines can reach need a secret.
pub(super) fn public_endpoints_are_authenticated(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let Some((_, span)) = listen(tree).filter(|(address, _)| !address.ip().is_loopback()) else { return };
    let is_http =
        |export: &&TreeNode| export.get("source").is_some_and(|source| is_kind(source, "currents_http"));
    for export in tree.items("exports").iter().filter(is_http) {
        let Some(source) = export.entry("source").filter(|source| source.node.get("token").is_none()) else {
            continue;
        };
        problems.push(
            Problem::new(ProblemCode::MissingCredentials, "the HTTP source has no `token`")
                .at(source.key_span, "without it, anyone could send events")
                .see(span, "other machines can reach the endpoint")
                .hint("add `token: { env: CURRENTS_TOKEN }`, and set the same token in Braze"),
        );
    }
    for entry in heaps(tree) {
        let is_sandbox = entry.node.text("region").is_some_and(|(region, _)| region == "sandbox");
        let is_target = |export: &TreeNode| export.text("to").is_some_and(|(to, _)| to == entry.key);
        let is_source =
            |source: &TreeNode| source.text("connection").is_some_and(|(name, _)| name == entry.key);
        // A connection that only receives events has no endpoint.
        let has_endpoint =
            super::sources(tree).any(is_source) || !tree.items("exports").iter().any(is_target);
        if !is_sandbox && has_endpoint && entry.node.get("webhook_secret").is_none() {
            problems.push(
                Problem::new(
                    ProblemCode::MissingCredentials,
                    format!("connection `{}` has no `webhook_secret`", entry.key),
                )
                .at(entry.key_span, "without it, anyone could change its segments")
                .see(span, "other machines can reach the endpoint")
                .hint("add `webhook_secret: { env: HEAP_WEBHOOK_SECRET }`; Heap's Developer Hub shows it"),
            );
        }
    }
}

/// Paths of endpoints are unique.
pub(super) fn endpoint_paths_differ(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let mut first: HashMap<String, SourceSpan> = HashMap::new();
    let own = |(path, span): (&str, SourceSpan)| (path.to_owned(), span);
    let of_heaps = heaps(tree).map(|entry| {
        let path = entry.node.get("webhook").and_then(|webhook| webhook.text("path"));
        path.map_or_else(|| (format!("/heap/{}", entry.key), entry.key_span), own)
    });
    let of_exports = tree.items("exports").iter().filter_map(|export| {
        let source = export.get("source").filter(|source| is_kind(source, "currents_http"))?;
        let (id, span) = export.text("id")?;
        Some(source.text("path").map_or_else(|| (format!("/currents/{id}"), span), own))
    });
    for (path, span) in of_heaps.chain(of_exports) {
        if let Some(earlier) = first.get(&path) {
            problems.push(
                Problem::new(ProblemCode::DuplicatePath, format!("two endpoints have the path `{path}`"))
                    .at(span, "second use")
                    .see(*earlier, "first use")
                    .hint("set a different `path:`; for Heap it is under `webhook:`"),
            );
        } else {
            first.insert(path, span);
        }
    }
}

/// Schedules have valid cron expressions and time zones.
pub(super) fn schedules_come_to_be(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let cohorts_and_exports = tree.items("cohorts").iter().chain(tree.items("exports"));
    let each = cohorts_and_exports.filter_map(|one| one.get("schedule"));
    let each = each.chain(tree.items("segments").iter().filter_map(|segment| segment.get("check")));
    let whole = tree.get("watch").and_then(|watch| watch.get("schedule"));
    for cron in whole.into_iter().chain(each).filter_map(|schedule| schedule.get("cron")) {
        if let Some((at, span)) = cron.text("at").filter(|(at, _)| at.split_whitespace().count() == 5)
            && let Some(why) = never(at)
        {
            problems.push(
                Problem::new(ProblemCode::BadSchedule, format!("the schedule `{at}` never occurs")).at(span, why).hint(
                    "five fields: minute, hour, day of month, month, day of week, for example `0 */4 * * *`",
                ),
            );
        }
        if let Some((name, span)) = cron.text("time_zone")
            && jiff::tz::TimeZone::get(name).is_err()
        {
            problems.push(
                Problem::new(ProblemCode::BadSchedule, format!("unknown time zone `{name}`"))
                    .at(span, "not in the time zone database")
                    .hint("for example `Europe/Berlin`, `America/New_York` or `UTC`"),
            );
        }
    }
}

/// Period in which each day of the month falls on each day of the week, including leap days.
const CALENDAR: std::ops::Range<i16> = 2024..2064;

/// The reason why a cron expression never occurs: it is invalid, or has only days such as 30 February.
fn never(at: &str) -> Option<String> {
    let cron = match at.parse::<croner::Cron>() {
        Ok(cron) => cron,
        Err(error) => return Some(error.to_string()),
    };
    let is_day = |date: Date| {
        let weekday = date.weekday().to_sunday_zero_offset().unsigned_abs();
        let weekday = croner::Weekday::from_days_from_sunday(weekday.into());
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        cron.pattern.day_match(date.year().into(), month.into(), day.into(), weekday).unwrap_or(false)
    };
    let has_day = |year, month| {
        Date::new(year, month, 1).is_ok_and(|first| {
            let days = first.series(1.day()).take(first.days_in_month().unsigned_abs().into());
            days.into_iter().any(is_day)
        })
    };
    let mut months =
        (1..=12).filter(|month: &i8| cron.pattern.month_match(month.unsigned_abs().into()).unwrap_or(false));
    let occurs = months.any(|month| CALENDAR.clone().any(|year| has_day(year, month)));
    (!occurs).then(|| "none of its months has such a day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::never;

    #[test]
    fn only_days_that_the_calendar_has_occur() {
        for occurs in [
            "0 4 29 2 *",
            "0 4 31 1,2 *",
            "0 4 30 2 MON",
            "0 4 L 2 *",
            "* * * * *",
            "0 0 * 2 5#5",
            "0 0 1W * *",
        ] {
            assert_eq!(never(occurs), None, "{occurs}");
        }
        for not in ["0 4 30 2 *", "0 4 31 4,6,9,11 *", "0 4 30,31 FEB *", "61 * * * *"] {
            assert!(never(not).is_some(), "{not}");
        }
    }
}
