//! Text of `/metrics`: the counters, and gauges computed from the status at the time of the request.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::status::{ProcessRole, StatusData, WatchStatus};
use crate::model::Timestamp;
use crate::state::CheckVerdict;
use crate::webhooks::ReplyCounts;

/// The content type of the exposition format.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CohortGaugeLabels {
    cohort: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConditionLabels {
    cohort: String,
    condition: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExportGaugeLabels {
    export: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SegmentLabels {
    segment: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerdictLabels {
    segment: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndpointStatusLabels {
    endpoint: String,
    status: u16,
}

/// All metrics, as text.
pub(super) fn text(status: &WatchStatus, replies: &ReplyCounts) -> String {
    let mut text = String::new();
    // Writing into memory does not fail.
    let _ = encode(&mut text, status.metrics().registry());
    let gauges = Gauges::new(&status.lock(), status.clock().now()).registry(replies);
    let _ = encode(&mut text, &gauges);
    // Each registry ends with an end marker. Only the last marker must stay.
    text.replacen("# EOF\n", "", 1)
}

/// Builds a registry of gauges from the status at one moment.
struct Gauges<'a> {
    status: &'a StatusData,
    now: Timestamp,
    registry: Registry,
}

impl<'a> Gauges<'a> {
    fn new(status: &'a StatusData, now: Timestamp) -> Self {
        Self { status, now, registry: Registry::with_prefix("syncline") }
    }

    fn registry(mut self, replies: &ReplyCounts) -> Registry {
        self.process();
        self.cohorts();
        self.segments();
        self.endpoints(replies);
        self.exports();
        self.registry
    }

    /// Seconds since a time.
    fn age(&self, since: Timestamp) -> i64 {
        self.now.duration_since(since).as_secs().max(0)
    }

    fn process(&mut self) {
        let gauge = |value: u64| -> Gauge<u64, AtomicU64> {
            let gauge = Gauge::default();
            gauge.set(value);
            gauge
        };
        let is_leader = gauge(u64::from(self.status.role == ProcessRole::Leader));
        self.registry.register("leader", "Whether this process is the leader", is_leader);
        let is_valid = gauge(u64::from(self.status.config_error.is_none()));
        self.registry.register("config_valid", "Whether the config on disk is valid and in use", is_valid);
        let help = "Cohorts, exports and segments that are due or running";
        self.registry.register("queue_depth", help, gauge(self.status.queue_depth as u64));
        let digest = vec![("digest", self.status.config_digest.clone())];
        self.registry.register("config", "The config in use", Info::new(digest));
    }

    fn cohorts(&mut self) {
        let (members, in_doubt, success_age) = (
            Family::<CohortGaugeLabels, Gauge>::default(),
            Family::<CohortGaugeLabels, Gauge>::default(),
            Family::<CohortGaugeLabels, Gauge>::default(),
        );
        let conditions = Family::<ConditionLabels, Gauge>::default();
        for (id, status) in &self.status.cohorts {
            let labels = CohortGaugeLabels { cohort: id.to_string() };
            if let Some(number) = status.members {
                members.get_or_create(&labels).set(as_i64(number));
            }
            in_doubt.get_or_create(&labels).set(as_i64(status.in_doubt));
            success_age.get_or_create(&labels).set(self.age(status.last_success_or_start()));
            let labels = ConditionLabels { cohort: id.to_string(), condition: status.condition.code() };
            conditions.get_or_create(&labels).set(1);
        }
        self.registry.register("members", "Members that Braze has accepted", members);
        self.registry.register("in_doubt", "Members that were sent without a reply from Braze", in_doubt);
        let help = "Time since the last successful cohort run";
        self.registry.register_with_unit("last_success_age", help, Unit::Seconds, success_age);
        self.registry.register("condition", "Current condition of each cohort", conditions);
    }

    /// Segments that were checked, each with its last verdict.
    fn segments(&mut self) {
        let (verdicts, check_age) =
            (Family::<VerdictLabels, Gauge>::default(), Family::<SegmentLabels, Gauge>::default());
        for (segment, check) in &self.status.segments {
            let Some(check) = check else { continue };
            let segment = segment.id.to_string();
            for verdict in [CheckVerdict::InSync, CheckVerdict::Unknown, CheckVerdict::Drifted] {
                let labels = VerdictLabels { segment: segment.clone(), verdict: verdict.word() };
                verdicts.get_or_create(&labels).set(i64::from(check.verdict == verdict));
            }
            check_age.get_or_create(&SegmentLabels { segment }).set(self.age(check.at.0));
        }
        self.registry.register("segment_verdict", "Verdict of the last check of a segment", verdicts);
        let help = "Time since the last check of a segment";
        self.registry.register_with_unit("segment_check_age", help, Unit::Seconds, check_age);
    }

    fn endpoints(&mut self, replies: &ReplyCounts) {
        let requests = Family::<EndpointStatusLabels, Counter>::default();
        for ((endpoint, status), number) in replies {
            let labels = EndpointStatusLabels { endpoint: endpoint.clone(), status: *status };
            requests.get_or_create(&labels).inc_by(*number);
        }
        self.registry.register("endpoint_requests", "Requests to webhook endpoints by status", requests);
        let (bytes, lag) =
            (Family::<EndpointLabels, Gauge>::default(), Family::<EndpointLabels, Gauge>::default());
        for (name, heap) in &self.status.heaps {
            let labels = EndpointLabels { endpoint: name.to_string() };
            bytes.get_or_create(&labels).set(as_i64(heap.waiting_bytes));
            lag.get_or_create(&labels).set(heap.waiting_since.map_or(0, |since| self.age(since)));
        }
        let help = "Size of the deliveries that wait for ingest";
        self.registry.register_with_unit("inbox", help, Unit::Bytes, bytes);
        let help = "Time that the oldest delivery has waited for ingest";
        self.registry.register_with_unit("inbox_lag", help, Unit::Seconds, lag);
    }

    fn exports(&mut self) {
        let (waiting, lag, success_age) = (
            Family::<ExportGaugeLabels, Gauge>::default(),
            Family::<ExportGaugeLabels, Gauge>::default(),
            Family::<ExportGaugeLabels, Gauge>::default(),
        );
        for (id, export) in &self.status.exports {
            let labels = ExportGaugeLabels { export: id.to_string() };
            success_age.get_or_create(&labels).set(self.age(export.last_success_or_start()));
            waiting.get_or_create(&labels).set(as_i64(export.waiting));
            lag.get_or_create(&labels).set(export.waiting_since.map_or(0, |since| self.age(since)));
        }
        let help = "Events that wait for a user's identity or for Heap's rate limit";
        self.registry.register("export_waiting", help, waiting);
        let help = "Time since the last successful export run";
        self.registry.register_with_unit("export_last_success_age", help, Unit::Seconds, success_age);
        let help = "Time that the oldest received event has waited for export";
        self.registry.register_with_unit("export_lag", help, Unit::Seconds, lag);
    }
}

fn as_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
