//! Reading of the inbox: deliveries of Currents over HTTP into batches, file by file.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use super::batch::{BatchOrigin, BatchOutput};
use super::dispatch::{EventDispatch, EventLocation, FeedEnd, TimeRange};
use super::ledger::{BlockOrigin, ExportLedger, FileRemainder, locked};
use crate::event_mapping::{EventMapper, EventSummary, MappingContext, MappingRules, pieces};
use crate::model::Clock;
use crate::state::{ClosedFile, Delivery, DeliveryContents, Reject, StateReader};

/// What reading deliveries needs.
pub(super) struct InboxReader<'a> {
    pub(super) state: &'a StateReader,
    pub(super) rules: &'a MappingRules,
    pub(super) ledger: &'a Mutex<ExportLedger>,
    pub(super) dispatch: &'a EventDispatch<'a>,
    pub(super) clock: Clock,
    pub(super) span: TimeRange,
}

impl InboxReader<'_> {
    /// Reads these files of the inbox.
    pub(super) fn feed(&self, files: &[ClosedFile], out: &mut BatchOutput) -> Result<(), FeedEnd> {
        let mut mapper = EventMapper::new(self.rules);
        for file in files {
            let DeliveryContents { deliveries, damaged, .. } = self.state.deliveries(file)?;
            let whole = BlockOrigin::Posted(Arc::new(file.clone()));
            for bytes in damaged {
                tracing::error!("a delivery in {} is damaged and is kept as a reject", file.path);
                locked(self.ledger).reject(&Reject {
                    reason: "damaged",
                    detail: "its stored bytes have changed",
                    value: &String::from_utf8_lossy(&bytes),
                    ..Reject::default()
                })?;
            }
            for (line, delivery) in deliveries.iter().enumerate() {
                self.delivery(delivery, line as u64 + 1, &whole, &mut mapper, out)?;
            }
            let mut ledger = locked(self.ledger);
            let number = ledger.open_block(&whole);
            ledger.close_block(number, 0, 0, FileRemainder::None);
        }
        Ok(())
    }

    fn delivery(
        &self,
        delivery: &Delivery,
        line: u64,
        whole: &BlockOrigin,
        mapper: &mut EventMapper<'_>,
        out: &mut BatchOutput,
    ) -> Result<(), FeedEnd> {
        out.check()?;
        let number = locked(self.ledger).open_block(whole);
        let mut sent = 0;
        match pieces(&delivery.body) {
            Ok(events) => {
                for event in events {
                    sent += u64::from(self.event(event, line, BatchOrigin::Block(number), mapper, out)?);
                }
            }
            // The endpoint has checked it; this covers a delivery that another program wrote.
            Err(error) => locked(self.ledger).reject(&Reject {
                reason: "not_json",
                detail: &error.to_string(),
                line: Some(line),
                value: &String::from_utf8_lossy(&delivery.body),
                ..Reject::default()
            })?,
        }
        self.dispatch.flush()?;
        locked(self.ledger).close_block(number, 0, sent, FileRemainder::Open);
        Ok(())
    }

    /// One event as it stands in a body.
    pub(super) fn event(
        &self,
        event: &str,
        line: u64,
        origin: BatchOrigin,
        mapper: &mut EventMapper<'_>,
        out: &mut BatchOutput,
    ) -> Result<bool, FeedEnd> {
        if !self.span.is_endless() && !self.span.holds(EventSummary::read(event).second) {
            self.dispatch.skip_out_of_range();
            return Ok(false);
        }
        let context = MappingContext { now: self.clock.now(), owners: &self.dispatch.known };
        let mapped = mapper.http(event, context, out.begin());
        let event_type = if mapped.is_known { Cow::default() } else { EventSummary::read(event).event_type };
        let in_full = || event.to_owned();
        let location = EventLocation { event_type: &event_type, file: None, line, event: &in_full };
        self.dispatch.take(mapped, &location, origin, out)
    }
}
