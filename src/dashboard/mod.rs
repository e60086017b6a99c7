//! The read-only page of `watch`: what is in sync, what waits and on whom, for people who do not read logs.
//!
//! A pure function from a [`Board`] to HTML: no clock, no state is read, no request is made. It has no script,
//! no address but its own and no style but its own, and [`HEADERS`] has the browser hold it to that. Every text
//! goes through a writer that escapes it.

mod alerts;
mod cohorts;
mod format;
mod header;
mod heap;
mod host;
mod html;
mod plot;
mod tables;
mod view;

pub use host::is_own_host;
pub use view::{
    BlockedView, CohortStateView, CohortView, ConfigView, DashboardView, ExportFailureView, ExportView,
    HistoryView, IgnoredConfigView, InboxView, MissingPagesView, NextStep, OrphanedView, PlanView,
    RemedyView, RoleView, SegmentCheckView, SegmentVerdictView, SizePoint, SourceView, UndeclaredSegmentView,
};

use html::Html;

const STYLE: &str = include_str!("style.css");

/// The icon in the browser's tab: an image of its own, so that none is asked for.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
    %3Ccircle cx='8' cy='8' r='8' fill='%231b5e8c'/%3E%3Cpath d='M4 6.2h8M4 9.8h8' stroke='%23fff' \
    stroke-width='1.8' stroke-linecap='round'/%3E%3C/svg%3E";

/// What the browser must be told with the page. The hash in it is that of the style.
pub const HEADERS: [(&str, &str); 6] = [
    ("content-type", "text/html; charset=utf-8"),
    (
        "content-security-policy",
        "default-src 'none'; style-src 'sha256-rYu5uMuA+zfw2itjEY/6Vb7nI+rbntjTTaFIBPbw11c='; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// Shortest and longest time after which the page may ask to be loaded again, in seconds.
const REFRESH_SECONDS: std::ops::RangeInclusive<u32> = 5..=3600;

/// After how many seconds the browser shall load the page again, by the query of its address:
/// `refresh=60`. Not unless it is asked for: whoever is reading does not want the page to jump.
#[must_use]
pub fn refresh_of(query: Option<&str>) -> Option<u32> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("refresh="))?;
    value.parse().ok().map(|seconds: u32| seconds.clamp(*REFRESH_SECONDS.start(), *REFRESH_SECONDS.end()))
}

/// The page.
#[must_use]
pub fn page(board: &DashboardView) -> String {
    let matters = alerts::of(board);
    let mut html = Html::page();
    html.node("html", &[("lang", "en")], |html| {
        html.node("head", &[], |html| head(html, board, &matters));
        html.node("body", &[], |html| {
            header::header(html, board);
            html.node("main", &[], |html| {
                header::summary(html, board, &matters);
                cohorts::section(html, board);
                heap::section(html, board);
                tables::exports(html, board);
                tables::segments(html, board);
                tables::history(html, board);
            });
            header::footer(html, board);
        });
    });
    html.newline();
    html.into_string()
}

fn head(html: &mut Html, board: &DashboardView, matters: &[alerts::Alert]) {
    html.void("meta", &[("charset", "utf-8")]);
    html.leaf("title", &[], &format!("{} – syncline", alerts::headline(board, matters)));
    html.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.void("meta", &[("name", "robots"), ("content", "noindex")]);
    if let Some(seconds) = board.refresh_seconds {
        html.void("meta", &[("http-equiv", "refresh"), ("content", &seconds.to_string())]);
    }
    html.void("link", &[("rel", "icon"), ("href", ICON)]);
    html.style(STYLE);
    html.newline();
}
