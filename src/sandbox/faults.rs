//! The fault plan: what goes wrong, when, and how often. Set through the private door.
//!
//! ```json
//! [{"on": "users", "cohort_id": "c", "skip": 2, "times": 1, "do": {"status": 503}},
//!  {"on": "users", "do": "lose_answer"}]
//! ```
//!
//! The first fault that fits a request and is not used up happens to it. `skip` lets that many fitting
//! requests pass first; `times` is 1 unless it is given, and 0 stands for always.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Endpoint {
    /// A cohort's name.
    Cohorts,
    /// A cohort's members.
    Users,
}

/// One fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// Requests of this kind; of any if absent.
    on: Option<Endpoint>,
    /// Requests for this cohort; for any if absent.
    cohort_id: Option<String>,
    /// Requests whose body holds this text; any if absent.
    holding: Option<String>,
    /// Fitting requests that pass before the fault happens.
    #[serde(default)]
    skip: u64,
    /// How often it happens; 0: always.
    #[serde(default = "once")]
    times: u64,
    /// What happens.
    r#do: Action,
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
    /// It is done, and answered with 201 and this body.
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
        for fault in self.0.iter_mut().filter(|fault| fits(fault)) {
            if fault.skip > 0 {
                fault.skip -= 1;
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
}
