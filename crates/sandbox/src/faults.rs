//! The fault plan, set through the admin API: which requests fail, how, and how often.
//!
//! ```json
//! [{"on": "users", "cohort_id": "c", "skip": 2, "times": 1, "do": {"status": 503}},
//!  {"on": "users", "do": "lose_answer"},
//!  {"on": "track", "times": 0, "share": 0.05, "seed": 7, "do": "reset"}]
//! ```
//!
//! The first fault that matches a request and is not used up happens to it. `skip` is the number of matching requests
//! that pass first. `times` is 1 by default; 0 means always. `share` is the probability for each remaining request;
//! the same `seed` draws the same requests.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rng::Rng;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Endpoint {
    /// Braze: a cohort's name.
    Cohorts,
    /// Braze: a cohort's members.
    Users,
    /// Braze's REST side: lists, details and sizes.
    SegmentsList,
    SegmentsDetails,
    SegmentsSeries,
    CampaignsList,
    CampaignsDetails,
    CanvasList,
    CanvasDetails,
    /// Braze's REST side: people out.
    ExportIds,
    ExportSegment,
    /// Braze's REST side: people in, and who is who.
    UsersTrack,
    AliasNew,
    UsersIdentify,
    UsersMerge,
    UsersDelete,
    /// Braze's REST side: sends.
    CampaignsTrigger,
    CanvasTrigger,
    /// Heap: events.
    Track,
    /// Heap: an anonymous user becomes known.
    Identify,
    /// Heap: properties of users.
    UserProperties,
    /// Heap: properties of accounts.
    AccountProperties,
    /// Heap: tokens, requests and questions of its deletion API.
    Deletion,
}

/// One fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// Requests of this kind; of any if absent.
    on: Option<Endpoint>,
    /// Requests for this cohort; for any if absent.
    cohort_id: Option<String>,
    /// Requests whose body, or whose query if there is none, holds this text; any if absent.
    holding: Option<String>,
    /// Fitting requests that pass before the fault happens.
    #[serde(default)]
    skip: u64,
    /// How often it happens; 0: always.
    #[serde(default = "once")]
    times: u64,
    /// The share of those requests that it happens to; all if absent.
    share: Option<f64>,
    /// Seed of the random numbers.
    #[serde(default)]
    seed: u64,
    /// What happens.
    r#do: Action,
    /// Requests for which a random number was drawn.
    #[serde(skip)]
    drawn: u64,
}

impl Fault {
    /// Whether the fault happens to this request. `at`, its position in the plan, is part of the seed, so that faults with one seed differ.
    fn befalls(&mut self, at: usize) -> bool {
        let Some(share) = self.share else { return true };
        self.drawn += 1;
        Rng::of(self.seed ^ ((at as u64) << 32), self.drawn).share(share)
    }
}

fn once() -> u64 {
    1
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// It is answered with this status and nothing is done.
    Status(u16),
    /// It is answered with this status, these headers and this body, and nothing is done.
    Reply {
        status: u16,
        #[serde(default)]
        headers: Vec<(String, String)>,
        #[serde(default)]
        body: Value,
    },
    /// It is done, and answered with this body: with 201 by Braze's cohorts, with 200 by Heap, with the
    /// status of a success by Braze's REST side.
    DoneBut(Value),
    /// The connection closes before anything is done.
    Reset,
    /// It is done, and the connection closes without an answer.
    LoseAnswer,
    /// Nothing is done and no answer ever comes.
    Hang,
    /// It is done, and no answer ever comes.
    HangAfter,
    /// It is answered after so many milliseconds.
    Delay(u64),
    /// The connection closes without an answer, and it is done later: when `POST /_sandbox/release` says so.
    Hold,
    /// No answer ever comes, and it is done later: when `POST /_sandbox/release` says so.
    HoldAndHang,
}

/// What is said instead of doing what was asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Instead {
    Status(u16),
    Reply { status: u16, headers: Vec<(String, String)>, body: Value },
    HangUp,
}

impl Action {
    /// What happens before anything is done: a wait that may never end, or an answer in its place.
    pub(super) async fn before(&self) -> Option<Instead> {
        match self {
            Self::Status(status) => Some(Instead::Status(*status)),
            Self::Reply { status, headers, body } => {
                Some(Instead::Reply { status: *status, headers: headers.clone(), body: body.clone() })
            }
            Self::Reset => Some(Instead::HangUp),
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

    /// What happens to this request, if anything does.
    pub(super) fn strike(&mut self, on: Endpoint, cohort_id: &str, body: &[u8]) -> Option<Action> {
        let fits = |fault: &Fault| {
            fault.on.is_none_or(|wanted| wanted == on)
                && fault.cohort_id.as_deref().is_none_or(|wanted| wanted == cohort_id)
                && fault
                    .holding
                    .as_deref()
                    .is_none_or(|text| memchr::memmem::find(body, text.as_bytes()).is_some())
        };
        for (at, fault) in self.0.iter_mut().enumerate().filter(|(_, fault)| fits(fault)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if !fault.befalls(at) {
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
    fn faults_happen_when_and_as_often_as_they_should() {
        let plan = r#"[{"on":"users","skip":1,"times":2,"do":{"status":503}},
                       {"cohort_id":"c","holding":"bad","times":0,"do":"reset"}]"#;
        let mut faults = Faults::default();
        faults.set(serde_json::from_str(plan).unwrap());
        let mut users = |cohort: &str, body: &str| faults.strike(Endpoint::Users, cohort, body.as_bytes());
        assert_eq!(users("c", "good"), None);
        assert_eq!(users("d", ""), Some(Action::Status(503)));
        assert_eq!(users("c", "bad"), Some(Action::Status(503)));
        assert_eq!(users("c", "bad"), Some(Action::Reset));
        assert_eq!(users("d", "bad"), None);
        assert_eq!(faults.strike(Endpoint::Cohorts, "c", b"bad"), Some(Action::Reset));
    }

    #[test]
    fn chance_shares_faults_out_the_same_way_again() {
        let plan = r#"[{"times":0,"share":0.1,"seed":7,"do":{"status":429}},
                       {"times":0,"share":0.1,"seed":7,"do":"lose_answer"}]"#;
        let run = || {
            let mut faults = Faults::default();
            faults.set(serde_json::from_str(plan).unwrap());
            (0..10_000).map(|_| faults.strike(Endpoint::Track, "", b"")).collect::<Vec<_>>()
        };
        let first = run();
        assert_eq!(first, run());
        for action in [Action::Status(429), Action::LoseAnswer] {
            let hits = first.iter().filter(|struck| struck.as_ref() == Some(&action)).count();
            assert!((850..1_100).contains(&hits), "{action:?}: {hits}");
        }
    }
}
