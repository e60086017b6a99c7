//! How many members a cohort had over time, as a small drawing.
//!
//! A cohort keeps its size until a run changes it, so the line goes in steps, from the first point to now.
//! When there are more points than the drawing can show, each part of the time keeps its lowest and its highest:
//! a dip is never averaged away. The scale begins at zero unless that would make all that happened a flat line.

use super::format::{absolute, count, plural, time};
use super::html::Html;
use super::view::SizePoint;
use crate::model::Timestamp;

/// The drawing's own units; how large it is on the page, the style says.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 88.0;
/// Room for the line's own width.
const MARGIN: f64 = 6.0;
/// Parts of the time that are told apart.
const PARTS: usize = 48;

/// Draws the sizes of a cohort. `id` is used for what must have one name in the page.
pub(super) fn plot(html: &mut Html, id: &str, name: &str, sizes: &[SizePoint], now: Timestamp) {
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
        html.leaf("p", &[("class", "plot none")], "No history yet");
        return;
    };
    let (title, more) = (format!("size-{id}"), format!("size-{id}-more"));
    let labels = format!("{title} {more}");
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
            html.leaf("desc", &[("id", &more)], &description(sizes, first, last));
            html.node("path", &[("d", &path(sizes, now))], |_| {});
        });
        html.node("figcaption", &[], |html| {
            html.node("span", &[], |html| {
                html.text(&count(first.members));
                html.text(" on ");
                time(html, first.at, &first.at.strftime("%-d %b").to_string());
            });
            html.leaf("span", &[], &format!("now {}", count(last.members)));
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
        plural(sizes.len() as u64, "point"),
    )
}

fn extremes(sizes: &[SizePoint]) -> (u64, u64) {
    let low = sizes.iter().map(|size| size.members).min().unwrap_or(0);
    (low, sizes.iter().map(|size| size.members).max().unwrap_or(0))
}

/// The line and, in one path with it, the area below. What closes the path is outside of the drawing.
fn path(sizes: &[SizePoint], now: Timestamp) -> String {
    let (from, until) = (sizes[0].at, sizes[sizes.len() - 1].at.max(now));
    let (low, high) = scale(sizes);
    let mut before = (0.0, y(sizes[0].members, low, high));
    let mut path = format!("M-9 {:.0}V{:.0}", 2.0 * HEIGHT, before.1);
    for size in thinned(sizes, from, until) {
        let point = (x(size.at, from, until), y(size.members, low, high));
        let (moves, climbs) = (point.0 != before.0, point.1 != before.1);
        // Where nothing changes, the next step goes on.
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

/// The lowest and the highest number that the drawing has room for. Zero is in it as soon as the size has ever
/// changed by a fifth; otherwise the drawing is four times as high as what happened.
fn scale(sizes: &[SizePoint]) -> (f64, f64) {
    let (low, high) = extremes(sizes);
    #[allow(clippy::cast_precision_loss, reason = "a drawing has no more than a hundred steps")]
    let (low, high) = (low as f64, high as f64);
    let span = high - low;
    if span >= high / 5.0 {
        return (0.0, high.max(1.0));
    }
    // A flat line has no span of its own, and next to a huge number 1 is none.
    let room = 1.5 * span.max(1.0).max(high * 1e-9);
    (low - room, high + room)
}

fn x(at: Timestamp, from: Timestamp, until: Timestamp) -> f64 {
    (share(at, from, until) * WIDTH).round()
}

/// How much of the time had passed.
fn share(at: Timestamp, from: Timestamp, until: Timestamp) -> f64 {
    let whole = until.duration_since(from).as_secs_f64();
    if whole <= 0.0 { 0.0 } else { at.duration_since(from).as_secs_f64() / whole }
}

fn y(members: u64, low: f64, high: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a drawing has no more than a hundred steps")]
    let share = (members as f64 - low) / (high - low);
    (MARGIN + (1.0 - share) * (HEIGHT - 2.0 * MARGIN)).round()
}

/// The first point, and the lowest and the highest of each part of the time.
fn thinned(sizes: &[SizePoint], from: Timestamp, until: Timestamp) -> Vec<SizePoint> {
    if sizes.len() <= 2 * PARTS {
        return sizes.to_vec();
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to PARTS")]
    let part = |size: &SizePoint| (share(size.at, from, until) * PARTS as f64) as usize;
    let mut kept = vec![sizes[0]];
    for group in sizes.chunk_by(|a, b| part(a) == part(b)) {
        let low = (0..group.len()).min_by_key(|place| group[*place].members).unwrap_or(0);
        let high = (0..group.len()).max_by_key(|place| group[*place].members).unwrap_or(0);
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
    fn nothing_is_said_in_words() {
        assert_eq!(drawn(&[]), "<p class=\"plot none\">No history yet</p>");
    }

    #[test]
    fn one_point_and_a_flat_line_are_in_the_middle() {
        assert_eq!(path(&sizes(&[5200]), now()), "M-9 176V44H489V176Z");
        assert_eq!(path(&sizes(&[7, 7, 7]), now()), "M-9 176V44H489V176Z");
        assert_eq!(path(&sizes(&[0]), now()), "M-9 176V82H489V176Z", "nobody is at the bottom");
        assert_eq!(path(&sizes(&[9]), sizes(&[9])[0].at), "M-9 176V44H489V176Z", "no time has passed");
    }

    #[test]
    fn it_goes_in_steps_from_the_first_point_to_now() {
        assert_eq!(path(&sizes(&[0, 100, 100, 50]), now()), "M-9 176V82H48V6H144V44H489V176Z");
    }

    #[test]
    fn a_small_change_is_seen_and_is_small() {
        let heights: Vec<f64> = {
            let all = sizes(&[10_000, 10_010]);
            let (low, high) = scale(&all);
            all.iter().map(|size| y(size.members, low, high)).collect()
        };
        let step = heights[0] - heights[1];
        assert!(step > 9.0 && step < HEIGHT / 4.0, "{step}");
    }

    #[test]
    fn any_number_has_a_place() {
        assert_eq!(path(&sizes(&[0, u64::MAX, 1]), now()), "M-9 176V82H48V6H96V82H489V176Z");
        assert_eq!(path(&sizes(&[u64::MAX; 3]), now()), "M-9 176V44H489V176Z");
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
    fn it_is_described_for_those_who_cannot_see_it() {
        let html = drawn(&[1000, 0, 1200]);
        assert!(html.contains("role=\"img\" aria-labelledby=\"size-carts size-carts-more\""), "{html}");
        assert!(
            html.contains("<title id=\"size-carts\">Members of &lt;Carts&gt; over time</title>"),
            "{html}"
        );
        assert!(html.contains("lowest 0, highest 1,200, 3 points."), "{html}");
        assert!(html.contains("1,000 on <time"), "{html}");
        assert!(html.contains("<span>now 1,200</span>"), "{html}");
    }
}
