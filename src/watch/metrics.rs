//! Prometheus counters of `watch`. Gauges, which describe the current state, are in [`super::gauges`].

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::export::ExportReport;
use crate::heap_segments::IngestReport;
use crate::reconcile::CohortReport;

/// Braze's replies after which a request is sent again.
const RETRIED: [&str; 5] = ["locked", "rate_limited", "unavailable", "no_answer", "not_reached"];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CohortLabels {
    cohort: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ChangeLabels {
    cohort: String,
    op: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    cohort: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RejectLabels {
    cohort: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeliveryLabels {
    connection: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NotificationLabels {
    /// The position in the config, because the address is secret.
    webhook: u64,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExportLabels {
    export: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExportOutcomeLabels {
    export: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExportRejectLabels {
    export: String,
    reason: String,
}

/// The counters.
pub(super) struct Metrics {
    runs: Family<ResultLabels, Counter>,
    run_duration: Histogram,
    changes: Family<ChangeLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    retries: Family<CohortLabels, Counter>,
    rejects: Family<RejectLabels, Counter>,
    heap_deliveries: Family<DeliveryLabels, Counter>,
    config_reads: Family<ResultLabels, Counter>,
    notifications: Family<NotificationLabels, Counter>,
    export_events: Family<ExportOutcomeLabels, Counter>,
    export_polls: Family<ExportLabels, Counter>,
    export_rejects: Family<ExportRejectLabels, Counter>,
    export_requests: Family<ExportOutcomeLabels, Counter>,
    registry: Registry,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            runs: Family::default(),
            run_duration: Histogram::new(exponential_buckets(0.005, 4.0, 10)),
            changes: Family::default(),
            requests: Family::default(),
            retries: Family::default(),
            rejects: Family::default(),
            heap_deliveries: Family::default(),
            config_reads: Family::default(),
            notifications: Family::default(),
            export_events: Family::default(),
            export_polls: Family::default(),
            export_rejects: Family::default(),
            export_requests: Family::default(),
            registry: Registry::with_prefix("syncline"),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("runs", "Cohort runs by result", self.runs.clone());
        let help = "Duration of cohort runs";
        registry.register_with_unit("run_duration", help, Unit::Seconds, self.run_duration.clone());
        registry.register(
            "changes",
            "Members added to and removed from cohorts in Braze",
            self.changes.clone(),
        );
        registry.register("requests", "Requests to Braze by outcome", self.requests.clone());
        registry.register("retries", "Requests to Braze that were sent again", self.retries.clone());
        registry.register("rejects", "Source rows and identifiers that were rejected", self.rejects.clone());
        let help = "Deliveries of Heap's webhook by outcome";
        registry.register("heap_deliveries", help, self.heap_deliveries.clone());
        registry.register("config_reads", "Reads of the config by result", self.config_reads.clone());
        let help = "Notifications by webhook and outcome; failed ones are sent again";
        registry.register("notifications", help, self.notifications.clone());
        registry.register("export_events", "Events of exports by outcome", self.export_events.clone());
        let help = "Polls of exports; each lists the folder or bucket";
        registry.register("export_polls", help, self.export_polls.clone());
        registry.register("export_rejects", "Events that were rejected", self.export_rejects.clone());
        registry.register("export_requests", "Requests to Heap by outcome", self.export_requests.clone());
    }

    /// The registry of all counters.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts the end of a cohort run.
    pub(super) fn count_run(&self, result: &str, duration: Duration) {
        self.runs.get_or_create(&ResultLabels { result: result.to_owned() }).inc();
        self.run_duration.observe(duration.as_secs_f64());
    }

    /// Counts the changes and requests of an apply.
    pub(super) fn count_apply(&self, report: &CohortReport) {
        let cohort = report.id.to_string();
        let outcome = &report.outcome;
        for (op, number) in [("add", outcome.added), ("remove", outcome.removed)] {
            self.changes.get_or_create(&ChangeLabels { cohort: cohort.clone(), op }).inc_by(number);
        }
        for (reply, number) in &outcome.requests_by_outcome {
            let labels = RequestLabels { cohort: cohort.clone(), outcome: reply };
            self.requests.get_or_create(&labels).inc_by(*number);
        }
        let retries = RETRIED.iter().filter_map(|reply| outcome.requests_by_outcome.get(reply)).sum();
        self.retries.get_or_create(&CohortLabels { cohort }).inc_by(retries);
    }

    /// Counts rejected source rows by reason.
    pub(super) fn count_rejects<'a>(&self, cohort: &str, reasons: impl IntoIterator<Item = (&'a str, u64)>) {
        for (reason, number) in reasons {
            let labels = RejectLabels { cohort: cohort.to_owned(), reason: reason.to_owned() };
            self.rejects.get_or_create(&labels).inc_by(number);
        }
    }

    /// Counts a poll of an export.
    pub(super) fn count_export_poll(&self, export: &str) {
        self.export_polls.get_or_create(&ExportLabels { export: export.to_owned() }).inc();
    }

    /// Counts the events and requests of an export run.
    pub(super) fn count_export(&self, report: &ExportReport) {
        let (export, tally) = (report.id.to_string(), &report.tally);
        let counts = [
            ("sent", tally.sent),
            ("profile", tally.profiles),
            ("ignored", tally.ignored.values().sum()),
            ("rejected", tally.rejected()),
            ("held", tally.held),
        ];
        for (outcome, number) in counts {
            let labels = ExportOutcomeLabels { export: export.clone(), outcome };
            self.export_events.get_or_create(&labels).inc_by(number);
        }
        for (reason, number) in &tally.rejected {
            let labels = ExportRejectLabels { export: export.clone(), reason: reason.clone() };
            self.export_rejects.get_or_create(&labels).inc_by(*number);
        }
        for (reply, number) in &tally.requests_by_outcome {
            let labels = ExportOutcomeLabels { export: export.clone(), outcome: reply };
            self.export_requests.get_or_create(&labels).inc_by(*number);
        }
    }

    /// Counts the deliveries of an ingest.
    pub(super) fn count_ingest(&self, connection: &str, report: &IngestReport) {
        let counts =
            [("ingested", report.deliveries), ("duplicate", report.duplicates), ("invalid", report.invalid)];
        for (outcome, number) in counts {
            let labels = DeliveryLabels { connection: connection.to_owned(), outcome };
            self.heap_deliveries.get_or_create(&labels).inc_by(number);
        }
    }

    /// Counts notifications of a webhook.
    pub(super) fn count_notifications(&self, webhook: usize, outcome: &'static str, number: u64) {
        let labels = NotificationLabels { webhook: webhook as u64, outcome };
        self.notifications.get_or_create(&labels).inc_by(number);
    }

    /// Counts a read of the config.
    pub(super) fn count_config_read(&self, is_valid: bool) {
        let result = if is_valid { "valid" } else { "invalid" }.to_owned();
        self.config_reads.get_or_create(&ResultLabels { result }).inc();
    }
}
