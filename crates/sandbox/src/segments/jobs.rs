//! Which deliveries a run makes of its pages, and in which order: each page, and what else the settings
//! have come on the same wire.

use std::sync::Arc;

use super::pages::Page;
use super::webhook::Webhook;
use crate::rng::Rng;

/// What a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The one that is due.
    Due,
    /// The same page again.
    Again,
    /// A page of an earlier sync again.
    Late,
    /// Somebody else's, with the signature that this number chooses.
    Forged(u64),
    /// The same page, from an hour ago.
    Old,
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) page: Arc<Page>,
    pub(super) kind: Kind,
}

/// The deliveries of these pages and of `late` ones, in order.
pub(super) fn jobs(pages: &[Arc<Page>], late: Vec<Arc<Page>>, webhook: &Webhook, rng: &mut Rng) -> Vec<Job> {
    let mut jobs: Vec<Job> = late.into_iter().map(|page| Job { page, kind: Kind::Late }).collect();
    for page in pages.iter().filter(|page| !webhook.lose.contains(&page.number())) {
        let mut push = |kind| jobs.push(Job { page: Arc::clone(page), kind });
        if rng.share(webhook.bad_signatures) {
            push(Kind::Forged(rng.below(4)));
        }
        push(Kind::Due);
        if rng.share(webhook.duplicates) {
            push(Kind::Again);
        }
        if rng.share(webhook.old_timestamps) {
            push(Kind::Old);
        }
    }
    if webhook.shuffle {
        rng.shuffle(&mut jobs);
    }
    jobs
}
