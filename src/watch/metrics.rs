//! What happened, in numbers, as Prometheus collects them. Counters are kept here; whatever is a matter of how
//! things stand now is read from the board when somebody asks.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::status::{ProcessRole, StatusInner, WatchStatus};
use crate::export::ExportReport;
use crate::model::Timestamp;
use crate::reconcile::CohortReport;
use crate::state::CheckVerdict;
use crate::webhooks::ReplyCounts;

/// What Prometheus calls the format.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
struct ReplyLabels {
    cohort: String,
    answer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RejectLabels {
    cohort: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RunLabels {
    result: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HeapLabels {
    connection: String,
    what: &'static str,
}

/// The counters.
pub(super) struct Metrics {
    runs: Family<RunLabels, Counter>,
    seconds: Histogram,
    changes: Family<ChangeLabels, Counter>,
    answers: Family<ReplyLabels, Counter>,
    retries: Family<CohortLabels, Counter>,
    rejects: Family<RejectLabels, Counter>,
    deliveries: Family<HeapLabels, Counter>,
    config_reads: Family<RunLabels, Counter>,
    notifications: Family<OfNotification, Counter>,
    exported: Family<ExportedLabels, Counter>,
    export_looks: Family<ExportLabels, Counter>,
    export_rejects: Family<ExportRejectLabels, Counter>,
    export_answers: Family<ExportReplyLabels, Counter>,
    registry: Registry,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfNotification {
    /// Its place in the config: the address is secret.
    webhook: u64,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExportLabels {
    export: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExportedLabels {
    export: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExportRejectLabels {
    export: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExportReplyLabels {
    export: String,
    answer: &'static str,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("syncline");
        let seconds = Histogram::new(exponential_buckets(0.005, 4.0, 10));
        let (runs, changes, answers) = (Family::default(), Family::default(), Family::default());
        let (retries, rejects, deliveries) = (Family::default(), Family::default(), Family::default());
        let (config_reads, notifications) = (Family::default(), Family::default());
        registry.register("runs", "Runs over a cohort, by how they ended", runs.clone());
        registry.register_with_unit("run_duration", "How long a run took", Unit::Seconds, seconds.clone());
        registry.register("changes", "Members that Braze took in or let go", changes.clone());
        registry.register("requests", "Requests to Braze, by what it answered", answers.clone());
        registry.register("retries", "Requests that were tried again", retries.clone());
        registry.register("rejects", "Rows and identifiers that could not be used", rejects.clone());
        registry.register("heap_deliveries", "Deliveries of Heap's webhook, by use", deliveries.clone());
        registry.register("config_reads", "Times that the config was read, by result", config_reads.clone());
        registry.register(
            "notifications",
            "Notifications by webhook and outcome; failed tries are repeated",
            notifications.clone(),
        );
        let (exported, export_rejects, export_answers) =
            (Family::default(), Family::default(), Family::default());
        registry.register("export_events", "Events of exports, by what became of them", exported.clone());
        let export_looks = Family::default();
        let help = "Times that an export was looked at, which lists its folder or bucket";
        registry.register("export_looks", help, export_looks.clone());
        registry.register("export_rejects", "Events that could not be used", export_rejects.clone());
        registry.register("export_requests", "Requests to Heap, by what it answered", export_answers.clone());
        Self {
            runs,
            seconds,
            changes,
            answers,
            retries,
            rejects,
            deliveries,
            config_reads,
            notifications,
            exported,
            export_looks,
            export_rejects,
            export_answers,
            registry,
        }
    }

    /// A run over one cohort has ended.
    pub(super) fn passed(&self, result: &str, took: Duration) {
        self.runs.get_or_create(&RunLabels { result: result.to_owned() }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// What a run did.
    pub(super) fn applied(&self, report: &CohortReport) {
        let cohort = report.id.to_string();
        let outcome = &report.outcome;
        for (op, number) in [("add", outcome.added), ("remove", outcome.removed)] {
            self.changes.get_or_create(&ChangeLabels { cohort: cohort.clone(), op }).inc_by(number);
        }
        for (answer, number) in &outcome.answers {
            self.answers.get_or_create(&ReplyLabels { cohort: cohort.clone(), answer }).inc_by(*number);
        }
        let again = ["locked", "rate_limited", "unavailable", "no_answer", "not_reached"];
        let retries = again.iter().filter_map(|word| outcome.answers.get(word)).sum();
        self.retries.get_or_create(&CohortLabels { cohort }).inc_by(retries);
    }

    /// Rows that could not be used.
    pub(super) fn rejected<'a>(&self, cohort: &str, reasons: impl IntoIterator<Item = (&'a str, u64)>) {
        for (reason, number) in reasons {
            let labels = RejectLabels { cohort: cohort.to_owned(), reason: reason.to_owned() };
            self.rejects.get_or_create(&labels).inc_by(number);
        }
    }

    /// An export was looked at.
    pub(super) fn export_looked(&self, export: &str) {
        self.export_looks.get_or_create(&ExportLabels { export: export.to_owned() }).inc();
    }

    /// A run of an export has ended.
    pub(super) fn exported(&self, report: &ExportReport) {
        let (export, tally) = (report.id.to_string(), &report.tally);
        let not_wanted = tally.ignored.values().sum();
        let counts = [
            ("sent", tally.sent),
            ("user_described", tally.profiles),
            ("not_wanted", not_wanted),
            ("rejected", tally.rejected()),
            ("held", tally.held),
        ];
        for (outcome, number) in counts {
            self.exported.get_or_create(&ExportedLabels { export: export.clone(), outcome }).inc_by(number);
        }
        for (reason, number) in &tally.rejected {
            let labels = ExportRejectLabels { export: export.clone(), reason: reason.clone() };
            self.export_rejects.get_or_create(&labels).inc_by(*number);
        }
        for (answer, number) in &tally.answers {
            self.export_answers
                .get_or_create(&ExportReplyLabels { export: export.clone(), answer })
                .inc_by(*number);
        }
    }

    /// Deliveries were folded.
    pub(super) fn folded(&self, connection: &str, folded: &crate::heap_segments::IngestReport) {
        let counts =
            [("used", folded.deliveries), ("known", folded.duplicates), ("put_aside", folded.invalid)];
        for (what, number) in counts {
            let labels = HeapLabels { connection: connection.to_owned(), what };
            self.deliveries.get_or_create(&labels).inc_by(number);
        }
    }

    /// Something became of notifications.
    pub(super) fn notified(&self, webhook: usize, what: super::notify::Delivery, number: u64) {
        let labels = OfNotification { webhook: webhook as u64, outcome: what.word() };
        self.notifications.get_or_create(&labels).inc_by(number);
    }

    /// The config was read.
    pub(super) fn config_read(&self, is_valid: bool) {
        let result = if is_valid { "valid" } else { "invalid" }.to_owned();
        self.config_reads.get_or_create(&RunLabels { result }).inc();
    }
}

/// Everything, as text.
pub(super) fn text(board: &WatchStatus, doors: &ReplyCounts) -> String {
    let mut text = String::new();
    // Writing into memory does not fail.
    let _ = encode(&mut text, &board.metrics.registry);
    let now = standing(&board.lock(), doors, board.clock.now());
    let _ = encode(&mut text, &now);
    // Each part ends with the mark of the end; the last one is the one that counts.
    text.replacen("# EOF\n", "", 1)
}

/// How things stand now.
fn standing(inner: &StatusInner, doors: &ReplyCounts, now: Timestamp) -> Registry {
    let mut registry = Registry::with_prefix("syncline");
    let gauge = |value: u64| -> Gauge<u64, AtomicU64> {
        let gauge = Gauge::default();
        gauge.set(value);
        gauge
    };
    let age = |since: Timestamp| u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
    registry.register(
        "leading",
        "Whether this process holds the state",
        gauge(u64::from(inner.role == ProcessRole::Leading)),
    );
    registry.register(
        "config_valid",
        "Whether the config on disk is the one in use",
        gauge(u64::from(inner.config_error.is_none())),
    );
    registry.register(
        "queue_depth",
        "Cohorts and segments that are due or being looked at",
        gauge(inner.queue_depth as u64),
    );
    let digest = [("digest", inner.config_digest.clone())];
    registry.register(
        "config",
        "The config in use",
        prometheus_client::metrics::info::Info::new(digest.to_vec()),
    );
    let (members, in_doubt, since, good) = (
        Family::<CohortLabels, Gauge>::default(),
        Family::<CohortLabels, Gauge>::default(),
        Family::<CohortLabels, Gauge>::default(),
        Family::<ConditionLabels, Gauge>::default(),
    );
    for (id, status) in &inner.cohorts {
        let of = CohortLabels { cohort: id.to_string() };
        let as_i64 = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        if let Some(number) = status.members {
            members.get_or_create(&of).set(as_i64(number));
        }
        in_doubt.get_or_create(&of).set(as_i64(status.in_doubt));
        since.get_or_create(&of).set(as_i64(age(status.last_good.unwrap_or(status.known_since))));
        let labels = ConditionLabels { cohort: id.to_string(), condition: status.condition.word() };
        good.get_or_create(&labels).set(1);
    }
    registry.register("members", "Members that Braze has accepted", members);
    registry.register("in_doubt", "Members of whom it is not known whether Braze took them", in_doubt);
    registry.register_with_unit("since_good_run", "Time since the last good run", Unit::Seconds, since);
    registry.register("condition", "How each cohort stands", good);
    standing_of_segments(&mut registry, inner, &age);
    standing_of_doors(&mut registry, inner, doors, &age);
    registry
}

/// Each segment that was checked, with the verdict that it has.
fn standing_of_segments(registry: &mut Registry, inner: &StatusInner, age: &dyn Fn(Timestamp) -> u64) {
    let (verdicts, checked) =
        (Family::<VerdictLabels, Gauge>::default(), Family::<SegmentLabels, Gauge>::default());
    for (segment, check) in &inner.segments {
        let Some(check) = check else { continue };
        let segment = segment.id.to_string();
        for verdict in [CheckVerdict::InSync, CheckVerdict::Unknown, CheckVerdict::Drifted] {
            let labels = VerdictLabels { segment: segment.clone(), verdict: verdict.word() };
            verdicts.get_or_create(&labels).set(i64::from(check.verdict == verdict));
        }
        let seconds = i64::try_from(age(check.at.0)).unwrap_or(i64::MAX);
        checked.get_or_create(&SegmentLabels { segment }).set(seconds);
    }
    registry.register("segment_verdict", "What the last check of a segment came to", verdicts);
    registry.register_with_unit("since_check", "Time since the last check", Unit::Seconds, checked);
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerdictLabels {
    segment: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SegmentLabels {
    segment: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConditionLabels {
    cohort: String,
    condition: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndpointLabels {
    door: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InboxLabels {
    door: String,
}

fn standing_of_doors(
    registry: &mut Registry,
    inner: &StatusInner,
    doors: &ReplyCounts,
    age: &dyn Fn(Timestamp) -> u64,
) {
    let answered = Family::<EndpointLabels, Counter>::default();
    for ((door, status), number) in doors {
        answered.get_or_create(&EndpointLabels { door: door.clone(), status: *status }).inc_by(*number);
    }
    registry.register("door_requests", "Requests at the doors, by status", answered);
    let (bytes, lag) = (Family::<InboxLabels, Gauge>::default(), Family::<InboxLabels, Gauge>::default());
    for (name, heap) in &inner.heaps {
        let door = InboxLabels { door: name.to_string() };
        bytes.get_or_create(&door).set(i64::try_from(heap.waiting_bytes).unwrap_or(i64::MAX));
        let waits = heap.waiting_since.map_or(0, age);
        lag.get_or_create(&door).set(i64::try_from(waits).unwrap_or(i64::MAX));
    }
    let (waiting, behind) =
        (Family::<ExportLabels, Gauge>::default(), Family::<ExportLabels, Gauge>::default());
    let good = Family::<ExportLabels, Gauge>::default();
    for (id, export) in &inner.exports {
        let of = ExportLabels { export: id.to_string() };
        let since = age(export.last_good.unwrap_or(export.known_since));
        good.get_or_create(&of).set(i64::try_from(since).unwrap_or(i64::MAX));
        waiting.get_or_create(&of).set(i64::try_from(export.waiting).unwrap_or(i64::MAX));
        let since = export.waiting_since.map_or(0, age);
        behind.get_or_create(&of).set(i64::try_from(since).unwrap_or(i64::MAX));
    }
    registry.register("export_waiting", "Events that wait for their person or for Heap's limit", waiting);
    let help = "Time since the last good run of the export";
    registry.register_with_unit("export_since_good_run", help, Unit::Seconds, good);
    registry.register_with_unit("export_lag", "How long what was received waits", Unit::Seconds, behind);
    registry.register_with_unit("inbox", "What was received and not yet used", Unit::Bytes, bytes);
    registry.register_with_unit("inbox_lag", "How long the oldest delivery waits", Unit::Seconds, lag);
}
