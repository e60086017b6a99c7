//! The Heap section: deliveries that wait for ingest, missing pages, and segments that no cohort uses.

use super::format::{age, bytes, count, counted, counted_as};
use super::html::Html;
use super::view::{DashboardView, InboxView, MissingPagesView, UndeclaredSegmentView};

/// The most undeclared segments that are listed.
const UNDECLARED_MAX: usize = 20;

pub(super) fn section(html: &mut Html, view: &DashboardView) {
    if view.inboxes.is_empty() {
        return;
    }
    html.node("section", &[("aria-labelledby", "heap")], |html| {
        html.leaf("h2", &[("id", "heap")], "From Heap");
        for inbox in &view.inboxes {
            connection(html, view, inbox);
        }
    });
    html.newline();
}

fn connection(html: &mut Html, view: &DashboardView, inbox: &InboxView) {
    html.node("article", &[("class", "box")], |html| {
        html.leaf("h3", &[], inbox.connection.as_str());
        html.node("p", &[], |html| {
            html.text("Webhook: ");
            html.leaf("code", &[], &inbox.url);
        });
        html.node("p", &[], |html| {
            match inbox.last_delivery {
                Some(last) => {
                    html.text("The last delivery arrived ");
                    age(html, last, view.now);
                    html.text("; ");
                    waiting(html, view, inbox);
                }
                None => html.text("No delivery has arrived yet"),
            }
            html.text(".");
        });
        pages(html, view, "Pages that have not arrived yet", "last page", &inbox.missing);
        pages(html, view, "Pages that never arrived", "given up", &inbox.gaps);
        if inbox.invalid > 0 {
            let number = counted_as(inbox.invalid, "delivery", "deliveries");
            html.leaf("p", &[], &format!("{number} so far were invalid; they are kept as rejects."));
        }
        undeclared(html, view, &inbox.undeclared);
    });
}

fn waiting(html: &mut Html, view: &DashboardView, inbox: &InboxView) {
    match inbox.waiting_since {
        Some(since) if inbox.bytes > 0 => {
            html.text(&format!("{} wait to be processed, the oldest arrived ", bytes(inbox.bytes)));
            age(html, since, view.now);
        }
        _ => html.text("all deliveries are processed"),
    }
}

fn pages(
    html: &mut Html,
    view: &DashboardView,
    title: &'static str,
    event: &'static str,
    all: &[MissingPagesView],
) {
    if all.is_empty() {
        return;
    }
    html.leaf("h4", &[], title);
    html.node("ul", &[], |html| {
        for sync in all {
            html.node("li", &[], |html| {
                html.name(&sync.name);
                let (missing, whole) = (count(sync.missing), counted(sync.pages, "page"));
                html.text(&format!(" ({}): {missing} of {whole}, {event} ", sync.segment));
                age(html, sync.at, view.now);
            });
        }
    });
}

fn undeclared(html: &mut Html, view: &DashboardView, segments: &[UndeclaredSegmentView]) {
    if segments.is_empty() {
        return;
    }
    let title = format!("{} that no cohort uses", counted(segments.len() as u64, "segment"));
    html.leaf("h4", &[], &title);
    html.leaf("p", &[], "Their members are kept, so that you can declare a cohort later.");
    html.node("ul", &[], |html| {
        for segment in segments.iter().take(UNDECLARED_MAX) {
            html.node("li", &[], |html| {
                html.name(&segment.name);
                html.text(&format!(" ({}), last delivery ", segment.segment));
                age(html, segment.last_delivery, view.now);
            });
        }
        let more = segments.len().saturating_sub(UNDECLARED_MAX);
        if more > 0 {
            html.node("li", &[], |html| html.prose(&format!("and {more} more; `syncline status` lists all")));
        }
    });
}
