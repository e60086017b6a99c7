//! Schedule of a sync: one delivery per page, plus the duplicates, replays and forgeries of the settings.

use std::sync::Arc;

use super::pages::SyncPage;
use super::webhook::WebhookSettings;
use crate::rng::Rng;

/// Kind of delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeliveryKind {
    /// The regular delivery.
    Regular,
    /// A duplicate of the page.
    Duplicate,
    /// A duplicate of a page from an earlier sync.
    LateDuplicate,
    /// A forgery; the number chooses how its signature is wrong.
    Forged(u64),
    /// A replay with a timestamp of an hour ago.
    Replay,
}

#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) page: Arc<SyncPage>,
    pub(super) kind: DeliveryKind,
}

/// The deliveries of these pages and of `late` ones, in order.
pub(super) fn schedule(
    pages: &[Arc<SyncPage>],
    late: Vec<Arc<SyncPage>>,
    webhook: &WebhookSettings,
    rng: &mut Rng,
) -> Vec<Delivery> {
    let mut deliveries: Vec<Delivery> =
        late.into_iter().map(|page| Delivery { page, kind: DeliveryKind::LateDuplicate }).collect();
    for page in pages.iter().filter(|page| !webhook.lose.contains(&page.number())) {
        let mut push = |kind| deliveries.push(Delivery { page: Arc::clone(page), kind });
        if rng.chance(webhook.bad_signatures) {
            push(DeliveryKind::Forged(rng.below(4)));
        }
        push(DeliveryKind::Regular);
        if rng.chance(webhook.duplicates) {
            push(DeliveryKind::Duplicate);
        }
        if rng.chance(webhook.old_timestamps) {
            push(DeliveryKind::Replay);
        }
    }
    if webhook.shuffle {
        rng.shuffle(&mut deliveries);
    }
    deliveries
}
