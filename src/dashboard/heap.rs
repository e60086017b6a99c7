//! What Heap has sent: how much of it waits, what is missing, and what nobody uses.

use super::format::{age, bytes, count, counted, plural};
use super::html::Html;
use super::view::{DashboardView, InboxView, MissingPagesView, UndeclaredSegmentView};

pub(super) fn section(html: &mut Html, board: &DashboardView) {
    if board.inboxes.is_empty() {
        return;
    }
    html.node("section", &[("aria-labelledby", "heap")], |html| {
        html.leaf("h2", &[("id", "heap")], "From Heap");
        for inbox in &board.inboxes {
            connection(html, board, inbox);
        }
    });
    html.newline();
}

fn connection(html: &mut Html, board: &DashboardView, inbox: &InboxView) {
    html.node("article", &[("class", "box")], |html| {
        html.leaf("h3", &[], inbox.connection.as_str());
        html.node("p", &[], |html| {
            match inbox.last_delivery {
                Some(last) => {
                    html.text("Heap last sent something ");
                    age(html, last, board.now);
                    html.text("; ");
                    waiting(html, board, inbox);
                }
                None => html.text("Heap has sent nothing to this address yet"),
            }
            html.text(".");
        });
        pages(html, board, "Pages still to come", "last page", &inbox.missing);
        pages(html, board, "Pages that never came", "given up", &inbox.gaps);
        if inbox.put_aside > 0 {
            let number = counted(inbox.put_aside, "delivery", "deliveries");
            html.leaf("p", &[], &format!("{number} could not be understood, ever, and were put aside."));
        }
        undeclared(html, board, &inbox.undeclared);
    });
}

fn waiting(html: &mut Html, board: &DashboardView, inbox: &InboxView) {
    match inbox.waiting_since {
        Some(since) if inbox.bytes > 0 => {
            html.text(&format!("{} of it waits to be used, the oldest came ", bytes(inbox.bytes)));
            age(html, since, board.now);
        }
        _ => html.text("all of it has been used"),
    }
}

fn pages(
    html: &mut Html,
    board: &DashboardView,
    title: &'static str,
    then: &'static str,
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
                let (missing, whole) = (count(sync.missing), plural(sync.pages, "page"));
                html.text(&format!(" ({}): {missing} of {whole}, {then} ", sync.segment));
                age(html, sync.at, board.now);
            });
        }
    });
}

fn undeclared(html: &mut Html, board: &DashboardView, segments: &[UndeclaredSegmentView]) {
    if segments.is_empty() {
        return;
    }
    html.node("details", &[], |html| {
        let summary = format!("{} that no cohort uses", plural(segments.len() as u64, "segment"));
        html.leaf("summary", &[], &summary);
        html.leaf("p", &[], "What Heap tells of them is kept, so that a cohort can be declared later.");
        html.node("ul", &[], |html| {
            for segment in segments {
                html.node("li", &[], |html| {
                    html.name(&segment.name);
                    html.text(&format!(" ({}), last told ", segment.segment));
                    age(html, segment.delivered_at, board.now);
                });
            }
        });
    });
}
