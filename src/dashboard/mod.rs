//! The read-only web page of `watch`: cohorts, exports and segments, and what needs attention.
//!
//! A pure function from [`DashboardView`] to HTML: it reads no clock and no state, and makes no request. The page has no
//! script and loads nothing; [`HEADERS`] makes the browser enforce that. Every text goes through a writer that escapes it.

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
    HistoryView, InboxView, InvalidConfigView, MissingPagesView, NextStep, OrphanedView, PlanView,
    RemedyView, RoleView, SegmentCheckView, SegmentVerdictView, SizePoint, SourceView, UndeclaredSegmentView,
};

use alerts::{Alert, headline};
use html::Html;

const STYLE: &str = include_str!("style.css");

/// The icon of the page, inline so that the browser requests none.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
    %3Ccircle cx='8' cy='8' r='8' fill='%231b5e8c'/%3E%3Cpath d='M4 6.2h8M4 9.8h8' stroke='%23fff' \
    stroke-width='1.8' stroke-linecap='round'/%3E%3C/svg%3E";

/// HTTP headers of the page. The hash in the policy is that of the style.
pub const HEADERS: [(&str, &str); 6] = [
    ("content-type", "text/html; charset=utf-8"),
    (
        "content-security-policy",
        "default-src 'none'; style-src 'sha256-f3cV5sgtPEFKBQaQ64SpzN4qsfx+Cw/gLwLp/MiBowM='; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// The shortest and longest interval of reloads, in seconds.
const REFRESH_SECONDS: std::ops::RangeInclusive<u32> = 5..=3600;

/// The interval of reloads in seconds, from the query of the address: `refresh=60`. Without it the page does not reload,
/// because a reload disturbs reading.
#[must_use]
pub fn refresh_of(query: Option<&str>) -> Option<u32> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("refresh="))?;
    value.parse().ok().map(|seconds: u32| seconds.clamp(*REFRESH_SECONDS.start(), *REFRESH_SECONDS.end()))
}

/// Renders the page.
#[must_use]
pub fn page(view: &DashboardView) -> String {
    let alerts = alerts::find(view);
    let mut html = Html::page();
    html.node("html", &[("lang", "en")], |html| {
        html.node("head", &[], |html| head(html, view, &alerts));
        html.node("body", &[], |html| {
            header::header(html, view);
            html.node("main", &[], |html| {
                header::summary(html, view, &alerts);
                cohorts::section(html, view);
                heap::section(html, view);
                tables::exports(html, view);
                tables::segments(html, view);
                tables::history(html, view);
            });
            header::footer(html, view);
        });
    });
    html.newline();
    html.into_string()
}

fn head(html: &mut Html, view: &DashboardView, alerts: &[Alert]) {
    html.void("meta", &[("charset", "utf-8")]);
    html.leaf("title", &[], &format!("{} – syncline", headline(view, alerts)));
    html.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.void("meta", &[("name", "robots"), ("content", "noindex")]);
    if let Some(seconds) = view.refresh_seconds {
        html.void("meta", &[("http-equiv", "refresh"), ("content", &seconds.to_string())]);
    }
    html.void("link", &[("rel", "icon"), ("href", ICON)]);
    html.style(STYLE);
    html.newline();
}
