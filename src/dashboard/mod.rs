//! The read-only web page of `watch`: cohorts, exports and segments, and what needs attention.
//!
//! A pure function from [`DashboardView`] to HTML: it reads no clock and no state, and makes no request. The page has no
//! script and loads nothing; [`HEADERS`] makes the browser enforce that. Every text goes through a writer that escapes it.

mod alerts;
mod cohort_page;
mod cohort_parts;
mod cohort_state;
mod cohorts;
mod format;
mod header;
mod heap;
mod host;
mod html;
mod listing;
mod plot;
mod query;
mod tables;
mod view;

pub use host::is_own_host;
pub use query::{CohortOrder, PageQuery};
pub use view::{
    BlockedView, CohortStateView, CohortView, ConfigView, DashboardView, ExportFailureView, ExportView,
    HistoryView, InboxView, InvalidConfigView, MissingPagesView, NextStep, OrphanedView, PlanView,
    PlannedView, RejectedRequestsView, RemedyView, RoleView, SegmentCheckView, SegmentVerdictView, SizePoint,
    SourceView, UndeclaredSegmentView,
};

use alerts::headline;
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
        "default-src 'none'; style-src 'sha256-6BD3kVQzrceAunhDymu2RSyXisMS4o/hseS32khmMUA='; img-src data:; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// Renders the main page.
#[must_use]
pub fn page(view: &DashboardView) -> String {
    let alerts = alerts::find(view);
    document(view, &headline(view, &alerts), |html| {
        header::header(html, view);
        html.node("main", &[], |html| {
            header::summary(html, view, &alerts);
            cohorts::section(html, view);
            heap::section(html, view);
            tables::rejected_requests(html, view);
            tables::exports(html, view);
            tables::segments(html, view);
            tables::history(html, view);
        });
    })
}

/// Renders the page of a cohort, `cohorts/<id>`. None: there is no such cohort.
#[must_use]
pub fn cohort_page(view: &DashboardView, id: &str) -> Option<String> {
    let cohort = view.cohorts.iter().find(|cohort| cohort.id.as_str() == id)?;
    let title = format!("{}: {}", cohort.name, cohort_state::label(&cohort.state));
    Some(document(view, &title, |html| {
        header::cohort_header(html, view);
        cohort_page::main(html, view, cohort);
    }))
}

fn document(view: &DashboardView, title: &str, body: impl FnOnce(&mut Html)) -> String {
    let mut html = Html::page();
    html.node("html", &[("lang", "en")], |html| {
        html.node("head", &[], |html| head(html, view, title));
        html.node("body", &[], |html| {
            body(html);
            header::footer(html, view);
        });
    });
    html.newline();
    html.into_string()
}

fn head(html: &mut Html, view: &DashboardView, title: &str) {
    html.void("meta", &[("charset", "utf-8")]);
    html.leaf("title", &[], &format!("{title} – syncline"));
    html.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.void("meta", &[("name", "robots"), ("content", "noindex")]);
    if let Some(seconds) = view.query.refresh_seconds {
        html.void("meta", &[("http-equiv", "refresh"), ("content", &seconds.to_string())]);
    }
    html.void("link", &[("rel", "icon"), ("href", ICON)]);
    html.style(STYLE);
    html.newline();
}
