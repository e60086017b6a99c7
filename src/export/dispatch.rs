//! Dispatch of mapped events from files and from the inbox: sent, held, ignored or rejected.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

use super::EventCounts;
use super::batch::{BatchOrigin, BatchOutput, ClosedBatch};
use super::ledger::{ExportLedger, locked};
use super::stop::ExportStop;
use crate::event_mapping::{
    AnonymousIds, EventRejectReason, IdentityLink, MappedEvent, MappingOutcome, OwnerLookup,
};
use crate::model::{Clock, Timestamp};
use crate::state::{HoldReason, IdentityKey, IdentityKeyKind, IdentityMap, Reject, StateError};

/// The longest name of an event type that is counted, in bytes.
const TYPE_LEN_MAX: usize = 256;

/// The name of an event type, cut to [`TYPE_LEN_MAX`].
fn short(event_type: &str) -> &str {
    &event_type[..event_type.floor_char_boundary(TYPE_LEN_MAX)]
}

/// Why a feed ends before its end.
#[derive(Debug)]
pub(super) enum FeedEnd {
    /// The delivery stopped; it reports the reason.
    Closed,
    /// The source or the state failed.
    Stopped(ExportStop),
}

impl From<ClosedBatch> for FeedEnd {
    fn from(_: ClosedBatch) -> Self {
        Self::Closed
    }
}

impl From<StateError> for FeedEnd {
    fn from(error: StateError) -> Self {
        Self::Stopped(error.into())
    }
}

/// The time range of the events to send.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimeRange {
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

impl TimeRange {
    pub(super) fn is_endless(&self) -> bool {
        self.since.is_none() && self.until.is_none()
    }

    /// Whether the range contains an event of this second. It contains events without a time.
    pub(super) fn holds(&self, second: Option<i64>) -> bool {
        let Some(second) = second else { return true };
        self.since.is_none_or(|since| second >= since.as_second())
            && self.until.is_none_or(|until| second < until.as_second())
    }
}

/// The identity map as the mapping of events uses it.
pub(super) struct KnownUsers<'a> {
    map: &'a Mutex<IdentityMap>,
    /// The map could not be read, so a missing owner proves nothing.
    failed: RefCell<Option<StateError>>,
    clock: Clock,
}

impl<'a> KnownUsers<'a> {
    pub(super) fn new(map: &'a Mutex<IdentityMap>, clock: Clock) -> Self {
        Self { map, failed: RefCell::default(), clock }
    }

    /// Returns the error of an earlier lookup, if there was one.
    pub(super) fn check(&self) -> Result<(), StateError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Records an identity link as of the time of its event. Returns whether the user was deleted.
    fn learn(&self, link: &IdentityLink<'_>, seen: Option<i64>) -> Result<bool, StateError> {
        let mut map = locked(self.map);
        match link {
            IdentityLink::Tie { external_user_id, keys } => {
                let user_id = keys.user_id.as_deref().unwrap_or_default();
                if map.is_deleted(user_id) {
                    return Ok(true);
                }
                // A time in the future would win over all later links.
                let seen = seen.and_then(|second| Timestamp::from_second(second).ok());
                let seen = seen.unwrap_or(Timestamp::UNIX_EPOCH).min(self.clock.now());
                for (kind, value) in
                    [(IdentityKeyKind::BrazeId, &keys.user_id), (IdentityKeyKind::DeviceId, &keys.device_id)]
                {
                    if let Some(value) = value {
                        map.link(IdentityKey::of(kind, value), external_user_id, seen)?;
                    }
                }
            }
            IdentityLink::Merge { from, into } => map.merge(from, into)?,
            IdentityLink::Deletion { user_id } => {
                map.delete(user_id)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn is_forgotten(&self, who: &str) -> bool {
        locked(self.map).is_being_deleted(who)
    }

    pub(super) fn is_deleted(&self, user_id: &str) -> bool {
        locked(self.map).is_deleted(user_id)
    }
}

impl OwnerLookup for KnownUsers<'_> {
    fn owner(&self, keys: &AnonymousIds<'_>) -> Option<Cow<'_, str>> {
        let text = |key: &Option<Cow<'_, str>>| key.as_deref().unwrap_or_default().to_owned();
        match locked(self.map).owner(&text(&keys.user_id), &text(&keys.device_id)) {
            Ok(owner) => owner.map(Cow::Owned),
            Err(error) => {
                self.failed.replace(Some(error));
                None
            }
        }
    }
}

/// Where an event comes from, for rejects.
pub(super) struct EventLocation<'a> {
    pub(super) event_type: &'a str,
    pub(super) file: Option<&'a str>,
    pub(super) line: u64,
    /// The event as Braze sent it.
    pub(super) event: &'a dyn Fn() -> String,
}

/// Sends, holds, ignores or rejects mapped events, and counts them.
pub(super) struct EventDispatch<'a> {
    pub(super) known: KnownUsers<'a>,
    pub(super) ledger: &'a Mutex<ExportLedger>,
    pub(super) tally: RefCell<EventCounts>,
    /// Elements that are not events, by reason, since the last flush. A body of a few megabytes can hold millions of
    /// them, so each reason becomes one reject with a count.
    pub(super) shapeless: RefCell<BTreeMap<EventRejectReason, NonEventCounts>>,
}

/// The first of several elements that are not events, and their number.
pub(super) struct NonEventCounts {
    detail: String,
    file: Option<String>,
    line: u64,
    event: String,
    count: u64,
}

impl EventDispatch<'_> {
    /// Dispatches one event. Returns whether it is sent.
    pub(super) fn take(
        &self,
        mapped: MappedEvent<'_>,
        location: &EventLocation<'_>,
        origin: BatchOrigin,
        out: &mut BatchOutput,
    ) -> Result<bool, FeedEnd> {
        let mut tally = self.tally.borrow_mut();
        tally.events += 1;
        if !mapped.is_known {
            let name = short(location.event_type);
            match tally.unknown_types.get_mut(name) {
                Some(number) => *number += 1,
                None => drop(tally.unknown_types.insert(name.to_owned(), 1)),
            }
        }
        let is_deleted =
            mapped.link.as_ref().map_or(Ok(false), |link| self.known.learn(link, mapped.seen))?;
        match mapped.outcome {
            _ if is_deleted => tally.ignored("deleted"),
            MappingOutcome::Made { what, who } => {
                out.push(what, &who, origin)?;
                return Ok(true);
            }
            MappingOutcome::Held { what, keys } => {
                let key = |key: &Option<Cow<'_, str>>| key.as_deref().unwrap_or_default().to_owned();
                let (user_id, device_id) = (key(&keys.user_id), key(&keys.device_id));
                if self.known.is_deleted(&user_id) {
                    tally.ignored("deleted");
                } else {
                    let awaited = HoldReason::Unidentified { user_id: &user_id, device_id: &device_id };
                    let is_profile = what == crate::event_mapping::EventKind::Profile;
                    locked(self.ledger).wait_for(awaited, is_profile, &out.withdraw())?;
                    tally.held += 1;
                    return Ok(false);
                }
            }
            MappingOutcome::Ignored(reason) => tally.ignored(reason.as_str()),
            MappingOutcome::Rejected(rejection) if rejection.reason.is_shapeless() => {
                let mut shapeless = self.shapeless.borrow_mut();
                let one = shapeless.entry(rejection.reason).or_insert_with(|| NonEventCounts {
                    detail: rejection.detail,
                    file: location.file.map(str::to_owned),
                    line: location.line,
                    event: (location.event)(),
                    count: 0,
                });
                one.count += 1;
            }
            MappingOutcome::Rejected(rejection) => {
                let event = (location.event)();
                locked(self.ledger).reject(&Reject {
                    reason: rejection.reason.as_str(),
                    detail: &rejection.detail,
                    file: location.file,
                    line: Some(location.line),
                    event: Some(&event),
                    ..Reject::default()
                })?;
            }
        }
        out.discard();
        Ok(false)
    }

    /// Counts an event outside of the time range.
    pub(super) fn skip_out_of_range(&self) {
        let mut tally = self.tally.borrow_mut();
        tally.events += 1;
        tally.ignored("out_of_range");
    }

    /// Adds the counts to the ledger, and fails when the identity map could not be read.
    pub(super) fn flush(&self) -> Result<(), StateError> {
        let mut ledger = locked(self.ledger);
        ledger.add(self.tally.take());
        for (reason, one) in self.shapeless.take() {
            ledger.reject(&Reject {
                reason: reason.as_str(),
                detail: &one.detail,
                file: one.file.as_deref(),
                line: Some(one.line),
                event: Some(&one.event),
                count: (one.count > 1).then_some(one.count),
                ..Reject::default()
            })?;
        }
        drop(ledger);
        self.known.check()
    }
}
