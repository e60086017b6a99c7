//! Text of `/metrics`: the counters, and gauges computed from the status at the time of the request.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::process_metrics;
use super::status::{ProcessRole, StatusData, WatchStatus};
use crate::model::Timestamp;
use crate::state::CheckVerdict;
use crate::webhooks::ReplyCounts;

/// The formats of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricsFormat {
    OpenMetrics,
    /// Prometheus's text format.
    Text,
}

impl MetricsFormat {
    /// The format for an `Accept` header: OpenMetrics for a client that names it, the text format for all others.
    pub(super) fn accepted(accept: Option<&str>) -> Self {
        let is_open_metrics = |range: &str| {
            let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
            let is_named = parts.next().as_deref() == Some("application/openmetrics-text");
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            is_named && weight != Some(0.0)
        };
        match accept {
            Some(accept) if accept.split(',').any(is_open_metrics) => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CohortGaugeLabels {
    cohort: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RejectedLabels {
    cohort: String,
    reason: String,
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
pub(super) fn text(status: &WatchStatus, replies: &ReplyCounts, format: MetricsFormat) -> String {
    let mut text = String::new();
    // Writing into memory does not fail.
    let _ = encode(&mut text, status.metrics().registry());
    let (gauges, started) = {
        let data = status.lock();
        (Gauges::new(&data, status.clock().now()).registry(replies), data.started)
    };
    let _ = encode(&mut text, &gauges);
    let _ = encode(&mut text, &process_metrics::registry(started));
    match format {
        // Each registry ends with an end marker. Only the last marker must stay.
        MetricsFormat::OpenMetrics => text.replacen("# EOF\n", "", 2),
        MetricsFormat::Text => text_format(&text),
    }
}

/// The same metrics in the text format: it has no units, no `info` and no end marker, and a counter's name has its
/// suffix in the metadata too.
fn text_format(open_metrics: &str) -> String {
    let (mut text, mut help) = (String::with_capacity(open_metrics.len()), "");
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            let meaning = help.split_once(' ').map_or("", |(_, meaning)| meaning);
            text.push_str(&format!("# HELP {name}{suffix} {meaning}\n# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
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
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        self.registry.register("build", "The version of this process", Info::new(version));
    }

    fn cohorts(&mut self) {
        let (members, in_doubt, success_age) = (
            Family::<CohortGaugeLabels, Gauge>::default(),
            Family::<CohortGaugeLabels, Gauge>::default(),
            Family::<CohortGaugeLabels, Gauge>::default(),
        );
        let conditions = Family::<ConditionLabels, Gauge>::default();
        let successes = Family::<CohortGaugeLabels, Gauge>::default();
        let rejected = Family::<RejectedLabels, Gauge>::default();
        for (id, status) in &self.status.cohorts {
            let labels = CohortGaugeLabels { cohort: id.to_string() };
            if let Some(number) = status.members {
                members.get_or_create(&labels).set(as_i64(number));
            }
            in_doubt.get_or_create(&labels).set(as_i64(status.in_doubt));
            success_age.get_or_create(&labels).set(self.age(status.last_success_or_start()));
            if let Some(last) = status.last_success {
                successes.get_or_create(&labels).set(last.as_second());
            }
            for (reason, number) in &status.rejects {
                let labels = RejectedLabels { cohort: id.to_string(), reason: reason.clone() };
                rejected.get_or_create(&labels).set(as_i64(*number));
            }
            let labels = ConditionLabels { cohort: id.to_string(), condition: status.condition.code() };
            conditions.get_or_create(&labels).set(1);
        }
        self.registry.register("members", "Members that Braze has accepted", members);
        self.registry.register("in_doubt", "Members that were sent without a reply from Braze", in_doubt);
        let help = "Time since the last successful cohort run";
        self.registry.register_with_unit("last_success_age", help, Unit::Seconds, success_age);
        let help =
            "Time of the last successful cohort run, in Unix time; after a restart that of the recorded run";
        self.registry.register_with_unit("last_success_timestamp", help, Unit::Seconds, successes);
        self.registry.register("rejected", "Source rows and identifiers rejected in the last run", rejected);
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
        let (waiting, lag, success_age, successes) = (
            Family::<ExportGaugeLabels, Gauge>::default(),
            Family::<ExportGaugeLabels, Gauge>::default(),
            Family::<ExportGaugeLabels, Gauge>::default(),
            Family::<ExportGaugeLabels, Gauge>::default(),
        );
        for (id, export) in &self.status.exports {
            let labels = ExportGaugeLabels { export: id.to_string() };
            success_age.get_or_create(&labels).set(self.age(export.last_success_or_start()));
            if let Some(last) = export.last_success {
                successes.get_or_create(&labels).set(last.as_second());
            }
            waiting.get_or_create(&labels).set(as_i64(export.waiting));
            lag.get_or_create(&labels).set(export.waiting_since.map_or(0, |since| self.age(since)));
        }
        let help = "Events that wait for a user's identity or for Heap's rate limit";
        self.registry.register("export_waiting", help, waiting);
        let help = "Time since the last successful export run";
        self.registry.register_with_unit("export_last_success_age", help, Unit::Seconds, success_age);
        let help =
            "Time of the last successful export run, in Unix time; after a restart that of the recorded run";
        self.registry.register_with_unit("export_last_success_timestamp", help, Unit::Seconds, successes);
        let help = "Time that the oldest received event has waited for export";
        self.registry.register_with_unit("export_lag", help, Unit::Seconds, lag);
    }
}

fn as_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_names_openmetrics_gets_it() {
        for (accept, format) in [
            (None, MetricsFormat::Text),
            (Some("*/*"), MetricsFormat::Text),
            (Some("text/plain;version=0.0.4"), MetricsFormat::Text),
            (Some("application/openmetrics-text;q=0, text/plain"), MetricsFormat::Text),
            (
                Some("text/plain;q=0.2, application/openmetrics-text;version=1.0.0;q=0.5"),
                MetricsFormat::OpenMetrics,
            ),
        ] {
            assert_eq!(MetricsFormat::accepted(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn the_text_format_has_its_own_types_and_no_end_marker() {
        let text = text_format(
            "# HELP a Runs.\n# TYPE a counter\na_total 1\n# HELP b Size.\n# TYPE b gauge\n# UNIT b bytes\n\
             b 2\n# HELP c Build.\n# TYPE c info\nc_info{v=\"1\"} 1\n# EOF\n",
        );
        let expected = "# HELP a_total Runs.\n# TYPE a_total counter\na_total 1\n# HELP b Size.\n# TYPE b gauge\n\
             b 2\n# HELP c_info Build.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n";
        assert_eq!(text, expected);
    }
}
