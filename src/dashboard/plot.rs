//! Chart of a cohort's size over time, as SVG.
//!
//! A size stays until a run changes it, so the line is a step function from the first point to now. With more points
//! than the chart can show, each interval keeps its minimum and maximum, so that no dip disappears. Every chart begins at
//! zero and ends at the maximum. Small changes are printed below the chart: minimum, maximum and change.

use super::format::{absolute, count, counted, time};
use super::html::Html;
use super::view::SizePoint;
use crate::model::Timestamp;

/// The size of the chart in its own units. The style sets its size on the page.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 88.0;
/// The margin for the width of the line.
const MARGIN: f64 = 6.0;
/// The number of time intervals.
const INTERVALS: usize = 48;

/// Draws the sizes of a cohort. `id` makes element ids unique on the page.
pub(super) fn plot(html: &mut Html, id: &str, name: &str, sizes: &[SizePoint], now: Timestamp) {
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
        html.leaf("p", &[("class", "plot none")], "No history yet");
        return;
    };
    let (title, details) = (format!("size-{id}"), format!("size-{id}-details"));
    let labels = format!("{title} {details}");
    let view = format!("0 0 {WIDTH} {HEIGHT}");
    html.node("figure", &[("class", "plot")], |html| {
        let drawing = [
            ("viewBox", &*view),
            ("preserveAspectRatio", "none"),
            ("role", "img"),
            ("aria-labelledby", &labels),
        ];
        html.node("svg", &drawing, |html| {
            html.leaf("title", &[("id", &title)], &format!("Members of {name} over time"));
            html.leaf("desc", &[("id", &details)], &description(sizes, first, last));
            html.node("path", &[("d", &path(sizes, now))], |_| {});
        });
        html.node("figcaption", &[], |html| {
            html.node("span", &[], |html| {
                html.text(&count(first.members));
                html.text(" on ");
                time(html, first.at, &first.at.strftime("%-d %b").to_string());
            });
            html.leaf("span", &[], &format!("now {}", count(last.members)));
            html.leaf("span", &[], &figures(sizes, first, last));
        });
    });
}

fn description(sizes: &[SizePoint], first: &SizePoint, last: &SizePoint) -> String {
    let (low, high) = extremes(sizes);
    format!(
        "{} on {}, {} since {}; lowest {}, highest {}, {}.",
        count(first.members),
        absolute(first.at),
        count(last.members),
        absolute(last.at),
        count(low),
        count(high),
        counted(sizes.len() as u64, "point"),
    )
}

fn extremes(sizes: &[SizePoint]) -> (u64, u64) {
    let low = sizes.iter().map(|size| size.members).min().unwrap_or(0);
    (low, sizes.iter().map(|size| size.members).max().unwrap_or(0))
}

/// The line and the area below it, in one path. The closing edges are outside the chart.
fn path(sizes: &[SizePoint], now: Timestamp) -> String {
    let (from, until) = (sizes[0].at, sizes[sizes.len() - 1].at.max(now));
    let (low, high) = scale(sizes);
    let mut before = (0.0, y(sizes[0].members, low, high));
    let mut path = format!("M-9 {:.0}V{:.0}", 2.0 * HEIGHT, before.1);
    for size in thinned(sizes, from, until) {
        let point = (x(size.at, from, until), y(size.members, low, high));
        let (moves, climbs) = (point.0 != before.0, point.1 != before.1);
        // A constant size needs no point.
        if climbs {
            if moves {
                path.push_str(&format!("H{:.0}", point.0));
            }
            path.push_str(&format!("V{:.0}", point.1));
            before = point;
        }
    }
    path.push_str(&format!("H{:.0}V{:.0}Z", WIDTH + 9.0, 2.0 * HEIGHT));
    path
}

/// The range of every chart: from zero to the maximum.
fn scale(sizes: &[SizePoint]) -> (f64, f64) {
    #[allow(clippy::cast_precision_loss, reason = "a chart has about a hundred steps")]
    let high = extremes(sizes).1 as f64;
    (0.0, high.max(1.0))
}

/// `minimum 1,000, maximum 1,200, change +200`.
fn figures(sizes: &[SizePoint], first: &SizePoint, last: &SizePoint) -> String {
    let (low, high) = extremes(sizes);
    let sign = match last.members.cmp(&first.members) {
        std::cmp::Ordering::Less => "−",
        std::cmp::Ordering::Equal => "±",
        std::cmp::Ordering::Greater => "+",
    };
    let change = count(last.members.abs_diff(first.members));
    format!("minimum {}, maximum {}, change {sign}{change}", count(low), count(high))
}

fn x(at: Timestamp, from: Timestamp, until: Timestamp) -> f64 {
    (share(at, from, until) * WIDTH).round()
}

/// The share of the time range that has passed at a time.
fn share(at: Timestamp, from: Timestamp, until: Timestamp) -> f64 {
    let whole = until.duration_since(from).as_secs_f64();
    if whole <= 0.0 { 0.0 } else { at.duration_since(from).as_secs_f64() / whole }
}

fn y(members: u64, low: f64, high: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a chart has about a hundred steps")]
    let share = (members as f64 - low) / (high - low);
    (MARGIN + (1.0 - share) * (HEIGHT - 2.0 * MARGIN)).round()
}

/// The first point, and the minimum and maximum of each interval.
fn thinned(sizes: &[SizePoint], from: Timestamp, until: Timestamp) -> Vec<SizePoint> {
    if sizes.len() <= 2 * INTERVALS {
        return sizes.to_vec();
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to INTERVALS")]
    let interval = |size: &SizePoint| (share(size.at, from, until) * INTERVALS as f64) as usize;
    let mut kept = vec![sizes[0]];
    for group in sizes.chunk_by(|a, b| interval(a) == interval(b)) {
        let low = (0..group.len()).min_by_key(|index| group[*index].members).unwrap_or(0);
        let high = (0..group.len()).max_by_key(|index| group[*index].members).unwrap_or(0);
        kept.extend([group[low.min(high)], group[low.max(high)]]);
    }
    kept.extend(sizes.last());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(members: &[u64]) -> Vec<SizePoint> {
        let at = |hour: usize| Timestamp::from_second(1_790_000_000 + 3600 * hour as i64).unwrap();
        members
            .iter()
            .enumerate()
            .map(|(hour, members)| SizePoint { at: at(hour), members: *members })
            .collect()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_790_000_000 + 3600 * 10).unwrap()
    }

    fn drawn(members: &[u64]) -> String {
        let mut html = Html::default();
        plot(&mut html, "carts", "<Carts>", &sizes(members), now());
        html.into_string()
    }

    #[test]
    fn a_cohort_without_sizes_has_no_chart() {
        assert_eq!(drawn(&[]), "<p class=\"plot none\">No history yet</p>");
    }

    #[test]
    fn a_single_point_and_a_flat_line_are_at_the_maximum() {
        assert_eq!(path(&sizes(&[5200]), now()), "M-9 176V6H489V176Z");
        assert_eq!(path(&sizes(&[7, 7, 7]), now()), "M-9 176V6H489V176Z");
        assert_eq!(path(&sizes(&[0]), now()), "M-9 176V82H489V176Z", "zero is at the bottom");
        assert_eq!(path(&sizes(&[9]), sizes(&[9])[0].at), "M-9 176V6H489V176Z", "no time has passed");
    }

    #[test]
    fn the_line_is_a_step_function() {
        assert_eq!(path(&sizes(&[0, 100, 100, 50]), now()), "M-9 176V82H48V6H144V44H489V176Z");
    }

    #[test]
    fn a_small_change_is_printed_and_does_not_change_the_scale() {
        assert_eq!(scale(&sizes(&[10_000, 10_010])), (0.0, 10_010.0));
        let figures = |members| {
            let all = sizes(members);
            figures(&all, &all[0], &all[all.len() - 1])
        };
        assert_eq!(figures(&[10_000, 10_010]), "minimum 10,000, maximum 10,010, change +10");
        assert_eq!(figures(&[1200, 0, 1000]), "minimum 0, maximum 1,200, change −200");
        assert_eq!(figures(&[7, 9, 7]), "minimum 7, maximum 9, change ±0");
    }

    #[test]
    fn extreme_sizes_fit_into_the_chart() {
        assert_eq!(path(&sizes(&[0, u64::MAX, 1]), now()), "M-9 176V82H48V6H96V82H489V176Z");
        assert_eq!(path(&sizes(&[u64::MAX; 3]), now()), "M-9 176V6H489V176Z");
    }

    #[test]
    fn thousands_of_points_stay_small_and_keep_a_dip() {
        let mut members = vec![5000; 20_000];
        members[7777] = 0;
        let all = sizes(&members);
        let dip = path(&all, all[19_999].at);
        assert!(dip.contains("V82H") && dip.len() < 60, "{dip}");
        let mixed: Vec<u64> = (0..20_000).map(|n| n * 7919 % 4999).collect();
        let long = path(&sizes(&mixed), all[19_999].at);
        assert!(long.len() < 1000, "{}", long.len());
    }

    #[test]
    fn the_chart_has_a_text_description() {
        let html = drawn(&[1000, 0, 1200]);
        assert!(html.contains("role=\"img\" aria-labelledby=\"size-carts size-carts-details\""), "{html}");
        assert!(
            html.contains("<title id=\"size-carts\">Members of &lt;Carts&gt; over time</title>"),
            "{html}"
        );
        assert!(html.contains("lowest 0, highest 1,200, 3 points."), "{html}");
        assert!(html.contains("1,000 on <time"), "{html}");
        assert!(html.contains("<span>now 1,200</span>"), "{html}");
    }
}
