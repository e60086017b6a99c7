//! Release of held events: their user is identified by now, Heap's limit allows them, or they are overdue.

use std::sync::Mutex;
use std::time::Duration;

use super::batch::{BatchOrigin, BatchOutput, user_key_of_text};
use super::discover_files::age;
use super::dispatch::{EventDispatch, FeedEnd};
use super::ledger::{ExportLedger, locked};
use crate::connector::heap::HeapClient;
use crate::event_mapping::{AnonymousIds, EventKind, EventUser, OwnerLookup as _, complete};
use crate::model::{Clock, ExportId};
use crate::state::{HeldEvent, HeldEventsFile, HoldReason, Reject, StateReader};

/// What releasing held events needs.
pub(super) struct HeldEventsContext<'a> {
    pub(super) state: &'a StateReader,
    pub(super) export: &'a ExportId,
    pub(super) heap: &'a HeapClient,
    pub(super) ledger: &'a Mutex<ExportLedger>,
    pub(super) dispatch: &'a EventDispatch<'a>,
    pub(super) clock: Clock,
    pub(super) age_max: Duration,
    pub(super) len_max: u64,
}

impl HeldEventsContext<'_> {
    /// Reads all files of held events once, and dispatches what is due.
    pub(super) fn feed(&self, out: &mut BatchOutput) -> Result<(), FeedEnd> {
        let files = locked(self.ledger).record.held.clone();
        let users: u64 = files.iter().map(|file| file.awaiting_user).sum();
        let mut excess = users.saturating_sub(self.len_max);
        for (list, file) in files.iter().enumerate().filter(|(_, file)| file.held() > 0) {
            self.file(list, file, &mut excess, out)?;
            self.dispatch.known.check()?;
        }
        Ok(())
    }

    fn file(
        &self,
        list: usize,
        file: &HeldEventsFile,
        excess: &mut u64,
        out: &mut BatchOutput,
    ) -> Result<(), FeedEnd> {
        let mut rows = self.state.held_events(self.export, file)?;
        let mut settled = file.settled.ranges().iter().peekable();
        while let Some((row, waiting)) = rows.advance()? {
            while settled.next_if(|range| range.end <= row).is_some() {}
            if settled.peek().is_none_or(|range| row < range.start) {
                let is_unidentified = matches!(waiting.awaited, HoldReason::Unidentified { .. });
                self.row(BatchOrigin::Waiting { list, row, is_unidentified }, &waiting, excess, out)?;
            }
        }
        Ok(())
    }

    fn row(
        &self,
        origin: BatchOrigin,
        waiting: &HeldEvent<'_>,
        excess: &mut u64,
        out: &mut BatchOutput,
    ) -> Result<(), FeedEnd> {
        let what = if waiting.is_profile { EventKind::Profile } else { EventKind::Event };
        match waiting.awaited {
            HoldReason::Limit { who } => {
                if self.dispatch.known.is_forgotten(who) {
                    locked(self.ledger).done(origin);
                } else if !self.heap.limiter.is_exhausted(user_key_of_text(who), self.clock.monotonic()) {
                    out.begin().extend_from_slice(waiting.event);
                    out.push(what, &EventUser::Identity(who.into()), origin)?;
                }
            }
            HoldReason::Unidentified { user_id, device_id } => {
                let keys = AnonymousIds {
                    user_id: (!user_id.is_empty()).then(|| user_id.into()),
                    device_id: (!device_id.is_empty()).then(|| device_id.into()),
                };
                if self.dispatch.known.is_deleted(user_id) {
                    locked(self.ledger).done(origin);
                } else if let Some(owner) = self.dispatch.known.owner(&keys) {
                    let who = EventUser::Identity(owner);
                    complete(waiting.event, &who, out.begin());
                    out.push(what, &who, origin)?;
                } else if age(waiting.since, self.clock.now()) >= self.age_max {
                    self.give_up(origin, waiting, "never_identified")?;
                } else if *excess > 0 {
                    *excess -= 1;
                    self.give_up(origin, waiting, "too_many_held")?;
                }
            }
        }
        Ok(())
    }

    fn give_up(&self, origin: BatchOrigin, waiting: &HeldEvent<'_>, reason: &str) -> Result<(), FeedEnd> {
        let HoldReason::Unidentified { user_id, device_id } = waiting.awaited else { return Ok(()) };
        let key = serde_json::json!({ "user_id": user_id, "device_id": device_id }).to_string();
        let held = String::from_utf8_lossy(waiting.event);
        let mut ledger = locked(self.ledger);
        ledger.reject(&Reject { reason, value: &key, sent: Some(&held), ..Reject::default() })?;
        ledger.done(origin);
        Ok(())
    }
}
