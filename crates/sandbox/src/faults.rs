//! The fault plan, set through the admin API: which requests fail, how, and how often.
//!
//! ```json
//! [{"on": "users", "cohort_id": "c", "skip": 2, "times": 1, "do": {"status": 503}},
//!  {"on": "users", "do": "lose_answer"},
//!  {"on": "track", "times": 0, "share": 0.05, "seed": 7, "do": "reset"}]
//! ```
//!
//! The first fault that matches a request and is not used up is applied. `skip` is the number of matching
//! requests that succeed first. `times` is 1 by default; 0 means always. `share` is the probability for each
//! remaining request; the same `seed` draws the same requests.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rng::Rng;

/// Kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Endpoint {
    /// Braze, partner API: the name of a cohort.
    Cohorts,
    /// Braze, partner API: the members of a cohort.
    Users,
    /// Braze, REST API: lists, details and sizes.
    SegmentsList,
    SegmentsDetails,
    SegmentsSeries,
    CampaignsList,
    CampaignsDetails,
    CanvasList,
    CanvasDetails,
    /// Braze, REST API: export of users.
    ExportIds,
    ExportSegment,
    /// Braze, REST API: user data and identities.
    UsersTrack,
    AliasNew,
    UsersIdentify,
    UsersMerge,
    UsersDelete,
    /// Braze, REST API: triggered sends.
    CampaignsTrigger,
    CanvasTrigger,
    /// Heap: events.
    Track,
    /// Heap: identification of an anonymous user.
    Identify,
    /// Heap: user properties.
    UserProperties,
    /// Heap: account properties.
    AccountProperties,
    /// Heap: the deletion API.
    Deletion,
}

/// One entry of the fault plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// Matches this kind of request; any if absent.
    on: Option<Endpoint>,
    /// Matches requests for this cohort; any if absent.
    cohort_id: Option<String>,
    /// Matches requests with this text in the body, or in the query if there is no body; any if absent.
    contains: Option<String>,
    /// Matching requests that succeed before the fault applies.
    #[serde(default)]
    skip: u64,
    /// How often the fault applies; 0 means always.
    #[serde(default = "default_times")]
    times: u64,
    /// Probability that the fault applies to a request; 1.0 if absent.
    share: Option<f64>,
    /// Seed of the random numbers.
    #[serde(default)]
    seed: u64,
    /// What is done to the request.
    r#do: FaultAction,
    /// Random numbers drawn so far.
    #[serde(skip)]
    drawn: u64,
}

impl Fault {
    /// Draws whether the fault applies to this request. The seed includes `at`, the index in the plan, so that
    /// faults with one seed differ.
    fn draw(&mut self, at: usize) -> bool {
        let Some(share) = self.share else { return true };
        self.drawn += 1;
        Rng::of(self.seed ^ ((at as u64) << 32), self.drawn).chance(share)
    }
}

fn default_times() -> u64 {
    1
}

/// What is done to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FaultAction {
    /// Respond with this status; do nothing.
    Status(u16),
    /// Respond with this status, these headers and this body; do nothing.
    Reply {
        status: u16,
        #[serde(default)]
        headers: Vec<(String, String)>,
        #[serde(default)]
        body: Value,
    },
    /// Execute the request and respond with this body. The status is 201 for Braze's cohorts, 200 for Heap, and
    /// the status of a success for Braze's REST API.
    DoneBut(Value),
    /// Close the connection; do nothing.
    Reset,
    /// Execute the request and close the connection without a response.
    LoseAnswer,
    /// Never respond; do nothing.
    Hang,
    /// Execute the request and never respond.
    HangAfter,
    /// Execute the request and respond after this many milliseconds.
    Delay(u64),
    /// Close the connection without a response; execute the request at `POST /_sandbox/release`.
    Hold,
    /// Never respond; execute the request at `POST /_sandbox/release`.
    HoldAndHang,
}

/// Response that replaces the execution of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ReplacementResponse {
    Status(u16),
    Reply { status: u16, headers: Vec<(String, String)>, body: Value },
    HangUp,
}

impl FaultAction {
    /// Applies the part of the fault that precedes the execution: a delay, which may never end, or a response
    /// instead of the execution.
    pub(super) async fn before(fault: Option<&Self>) -> Option<ReplacementResponse> {
        match fault? {
            Self::Status(status) => Some(ReplacementResponse::Status(*status)),
            Self::Reply { status, headers, body } => Some(ReplacementResponse::Reply {
                status: *status,
                headers: headers.clone(),
                body: body.clone(),
            }),
            Self::Reset => Some(ReplacementResponse::HangUp),
            Self::Hang => std::future::pending().await,
            Self::Delay(millis) => {
                tokio::time::sleep(std::time::Duration::from_millis(*millis)).await;
                None
            }
            Self::DoneBut(_) | Self::LoseAnswer | Self::HangAfter | Self::Hold | Self::HoldAndHang => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn set(&mut self, faults: Vec<Fault>) {
        self.0 = faults;
    }

    /// Finds the fault for this request and counts it as used.
    pub(super) fn next_action(&mut self, on: Endpoint, cohort_id: &str, body: &[u8]) -> Option<FaultAction> {
        let matches = |fault: &Fault| {
            fault.on.is_none_or(|expected| expected == on)
                && fault.cohort_id.as_deref().is_none_or(|expected| expected == cohort_id)
                && fault
                    .contains
                    .as_deref()
                    .is_none_or(|text| memchr::memmem::find(body, text.as_bytes()).is_some())
        };
        for (at, fault) in self.0.iter_mut().enumerate().filter(|(_, fault)| matches(fault)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if !fault.draw(at) {
                continue;
            }
            match fault.times {
                0 => return Some(fault.r#do.clone()),
                1 => {
                    fault.times = u64::MAX; // used up
                    return Some(fault.r#do.clone());
                }
                u64::MAX => {}
                _ => {
                    fault.times -= 1;
                    return Some(fault.r#do.clone());
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_apply_to_matching_requests_and_are_used_up() {
        let plan = r#"[{"on":"users","skip":1,"times":2,"do":{"status":503}},
                       {"cohort_id":"c","contains":"bad","times":0,"do":"reset"}]"#;
        let mut faults = Faults::default();
        faults.set(serde_json::from_str(plan).unwrap());
        let mut users =
            |cohort: &str, body: &str| faults.next_action(Endpoint::Users, cohort, body.as_bytes());
        assert_eq!(users("c", "good"), None);
        assert_eq!(users("d", ""), Some(FaultAction::Status(503)));
        assert_eq!(users("c", "bad"), Some(FaultAction::Status(503)));
        assert_eq!(users("c", "bad"), Some(FaultAction::Reset));
        assert_eq!(users("d", "bad"), None);
        assert_eq!(faults.next_action(Endpoint::Cohorts, "c", b"bad"), Some(FaultAction::Reset));
    }

    #[test]
    fn random_faults_repeat_with_the_same_seed_and_keep_their_share() {
        let plan = r#"[{"times":0,"share":0.1,"seed":7,"do":{"status":429}},
                       {"times":0,"share":0.1,"seed":7,"do":"lose_answer"}]"#;
        let run = || {
            let mut faults = Faults::default();
            faults.set(serde_json::from_str(plan).unwrap());
            (0..10_000).map(|_| faults.next_action(Endpoint::Track, "", b"")).collect::<Vec<_>>()
        };
        let first = run();
        assert_eq!(first, run());
        for action in [FaultAction::Status(429), FaultAction::LoseAnswer] {
            let hits = first.iter().filter(|found| found.as_ref() == Some(&action)).count();
            assert!((850..1_100).contains(&hits), "{action:?}: {hits}");
        }
    }
}
