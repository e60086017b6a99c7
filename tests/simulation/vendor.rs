//! The environment's view of the vendors: creates users and campaigns, and reads what they hold.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::Request;
use serde_json::{Value, json};

use super::features::{CohortFeatures, campaign_of};
use super::judge::User;
use super::world::World;

impl World {
    fn post(&self, path: &str, body: &Value, now: Duration) {
        let request = Request::post(path).header("content-type", "application/json");
        let response = self.call(request.body(serde_json::to_vec(body).unwrap()).unwrap(), now);
        assert!(response.status < 300, "{path}: {}", String::from_utf8_lossy(&response.body));
    }

    fn get(&self, path: &str, now: Duration) -> String {
        let response = self.call(Request::get(path).body(Vec::new()).unwrap(), now);
        match response.status {
            404 => String::new(), // a cohort that was never sent
            _ => String::from_utf8(response.body).unwrap(),
        }
    }

    pub(super) fn create_campaign(&self, cohort: &str) {
        let campaign = json!([{ "id": campaign_of(cohort), "name": cohort, "is_api": true }]);
        self.post("/_sandbox/campaigns", &campaign, Duration::ZERO);
    }

    /// Creates profiles in Braze.
    pub(super) fn create_profiles(&self, users: &[User], now: Duration) {
        let profile = |user: &User| match user.strip_prefix("device:") {
            Some(device) => json!({ "device_ids": [device] }),
            None => json!({ "external_id": user }),
        };
        let profiles: Vec<Value> = users.iter().map(profile).collect();
        self.post("/_sandbox/users", &Value::from(profiles), now);
    }

    /// The members of a cohort in Braze.
    pub(super) fn members(&self, cohort: &CohortFeatures, now: Duration) -> BTreeSet<User> {
        let id = &cohort.id;
        let text = match cohort.is_attribute {
            true => self.get(&format!("/_sandbox/attributes/syncline_cohorts/{id}"), now),
            false => self.get(&format!("/_sandbox/cohorts/{id}/members"), now),
        };
        text.lines().map(user_of_line).collect()
    }

    /// The ids of the events in Heap.
    pub(super) fn event_ids(&self, now: Duration) -> BTreeSet<String> {
        self.get("/_sandbox/heap/events/keys", now).lines().map(str::to_owned).collect()
    }
}

/// A line of the sandbox's list of members: `external_id u1`.
fn user_of_line(line: &str) -> User {
    match line.split_once(' ') {
        Some(("device_id", device)) => format!("device:{device}"),
        Some((_, user)) => user.to_owned(),
        None => line.to_owned(),
    }
}
