//! The judge: knows what is true, watches every request, and shares no code with the program.
//!
//! It parses requests itself and follows the vendor's answers. What the program records, it reads only at the end, to
//! compare.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::schedule::Party;

/// A position in the order of events. Times of processes differ a little, so they do not order events.
type Moment = u64;

/// A user as a source and Braze identify them: `u7` by external id, `device:d7` by device.
pub(super) type User = String;

/// What a source says from one moment on.
#[derive(Clone, Debug)]
struct SourceVersion {
    since: Moment,
    /// `None`: it cannot be read as a whole.
    members: Option<BTreeSet<User>>,
}

/// The truth about one cohort.
#[derive(Clone, Debug, Default)]
struct CohortTruth {
    versions: Vec<SourceVersion>,
    /// Users that the last done requests have added, including those that Braze does not know.
    added: BTreeSet<User>,
    /// Users that answered requests have added and not removed: what the program can know.
    settled: BTreeSet<User>,
    /// Who is in a request that had no answer since, and whether the last one was a removal.
    unanswered: BTreeMap<User, bool>,
    /// How often users have entered, by the requests that were done.
    entered: BTreeMap<User, u64>,
    /// How often users were triggered.
    triggered: BTreeMap<User, u64>,
}

/// What one process has done.
#[derive(Clone, Debug, Default)]
struct RunTruth {
    began: Moment,
    /// Members per cohort when the process began, with those in doubt.
    base: BTreeMap<String, usize>,
    removed: BTreeMap<String, BTreeSet<User>>,
    /// Whether an operator has allowed any change.
    is_unlimited: bool,
}

/// One request of a change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) cohort: String,
    pub(super) users: BTreeSet<User>,
    pub(super) is_removal: bool,
}

/// The largest share of members that the guard of the simulated configs allows to leave, in percent.
pub(super) const REMOVED_MAX: usize = 30;
/// Cohorts with fewer members may lose any share.
pub(super) const FROM_MEMBERS: usize = 10;

/// Watches a world.
#[derive(Debug, Default)]
pub(super) struct Judge {
    cohorts: BTreeMap<String, CohortTruth>,
    /// Users with a profile in Braze.
    known: BTreeSet<User>,
    /// The cohorts of the campaigns that are triggered.
    pub(super) campaigns: BTreeMap<String, String>,
    /// Ids of the events that Heap must have in the end.
    pub(super) events: BTreeSet<String>,
    runs: BTreeMap<Party, RunTruth>,
    /// The process that holds the state.
    pub(super) holder: Option<Party>,
    now: Moment,
    has_unsent: bool,
    /// What must not have happened.
    pub(super) violations: Vec<String>,
    /// Requests that have changed a cohort.
    pub(super) changes: u64,
}

impl Judge {
    pub(super) fn know(&mut self, user: &str) {
        self.known.insert(user.to_owned());
    }

    pub(super) fn knows(&self, user: &str) -> bool {
        self.known.contains(user)
    }

    /// A source has a new content.
    pub(super) fn source(&mut self, cohort: &str, members: Option<BTreeSet<User>>) {
        self.now += 1;
        let since = self.now;
        self.cohorts.entry(cohort.to_owned()).or_default().versions.push(SourceVersion { since, members });
    }

    /// A process begins.
    pub(super) fn began(&mut self, run: Party, is_unlimited: bool) {
        self.now += 1;
        self.runs.insert(run, RunTruth { began: self.now, is_unlimited, ..RunTruth::default() });
    }

    /// A process has taken the state. It can know what is in doubt by now.
    pub(super) fn holds(&mut self, run: Party) {
        let has_unsent = self.has_unsent;
        let base = |truth: &CohortTruth| {
            let listed = truth.versions.iter().filter_map(|version| version.members.as_ref()).flatten();
            let listed = listed.filter(|_| has_unsent);
            let possible: BTreeSet<&User> =
                truth.added.iter().chain(truth.unanswered.keys()).chain(listed).collect();
            possible.len()
        };
        let base = self.cohorts.iter().map(|(id, truth)| (id.clone(), base(truth))).collect();
        self.runs.entry(run).or_default().base = base;
    }

    /// A process that holds the state has ended. Unless everything was sent and answered, the state may record the
    /// addition of any user in the source as in doubt.
    pub(super) fn ended(&mut self, is_in_sync: bool) {
        self.has_unsent = !is_in_sync;
    }

    /// A process sends a request, which may or may not arrive.
    pub(super) fn sent(&mut self, run: Party, now: Duration, (path, body): (&str, &[u8])) {
        self.check_trigger(run, now, (path, body));
        for change in changes(path, body) {
            self.check(run, now, &change);
            let truth = self.cohorts.entry(change.cohort.clone()).or_default();
            truth.unanswered.extend(change.users.into_iter().map(|user| (user, change.is_removal)));
        }
    }

    /// A request was done by the vendor.
    pub(super) fn done(&mut self, (path, body): (&str, &[u8]), status: u16) {
        if !(200..300).contains(&status) {
            return;
        }
        for change in changes(path, body) {
            self.changes += 1;
            let truth = self.cohorts.entry(change.cohort).or_default();
            for user in change.users {
                if change.is_removal {
                    truth.added.remove(&user);
                } else if truth.added.insert(user.clone()) {
                    *truth.entered.entry(user).or_default() += 1;
                }
            }
        }
        self.count_triggers(path, body);
    }

    /// A trigger is sent only to users whose addition has an answer.
    fn check_trigger(&mut self, run: Party, now: Duration, (path, body): (&str, &[u8])) {
        let Some((campaign, users)) = recipients(path, body) else { return };
        let cohort = self.campaigns[&campaign].clone();
        let truth = self.cohorts.entry(cohort.clone()).or_default();
        for user in users {
            if !truth.added.contains(&user) || truth.unanswered.contains_key(&user) {
                let text = format!(
                    "{now:?}: process {run} triggers for {user}, who is no settled member of {cohort}"
                );
                self.violations.push(text);
            }
        }
    }

    /// A user is triggered once for each time of entering.
    fn count_triggers(&mut self, path: &str, body: &[u8]) {
        let Some((campaign, users)) = recipients(path, body) else { return };
        let truth = self.cohorts.entry(self.campaigns[&campaign].clone()).or_default();
        for user in users {
            let triggered = truth.triggered.entry(user.clone()).or_default();
            *triggered += 1;
            let entered = truth.entered.get(&user).copied().unwrap_or(0);
            if *triggered > entered {
                let text = format!("{user} was triggered {triggered} times and has entered {entered} times");
                self.violations.push(text);
            }
        }
    }

    /// A process got a response that settles the request.
    pub(super) fn answered(&mut self, (path, body): (&str, &[u8]), status: u16) {
        if status == 201 {
            for change in changes(path, body) {
                let truth = self.cohorts.entry(change.cohort).or_default();
                truth.unanswered.retain(|user, _| !change.users.contains(user));
                match change.is_removal {
                    true => truth.settled.retain(|user| !change.users.contains(user)),
                    false => truth.settled.extend(change.users),
                }
            }
        }
    }

    /// Checks a request when it leaves its process.
    fn check(&mut self, run: Party, now: Duration, change: &Change) {
        let run_truth = self.runs.entry(run).or_default().clone();
        if self.holder != Some(run) {
            self.violations.push(format!("{now:?}: process {run} sends a request without holding the state"));
        }
        let cohort = self.cohorts.entry(change.cohort.clone()).or_default().clone();
        let seen = cohort.visible(run_truth.began);
        for user in &change.users {
            let listed = seen.iter().flatten().any(|members| members.contains(user));
            let unlisted = seen.iter().flatten().any(|members| !members.contains(user));
            if !change.is_removal && !listed {
                let text = format!(
                    "{now:?}: process {run} adds {user} to {}, who is not in its source",
                    change.cohort
                );
                self.violations.push(text);
            }
            if change.is_removal && !unlisted {
                let text = format!(
                    "{now:?}: process {run} removes {user} from {}, who was in every complete version of its source",
                    change.cohort
                );
                self.violations.push(text);
            }
        }
        if change.is_removal {
            self.check_guard(run, now, change, &cohort);
        }
    }

    fn check_guard(&mut self, run: Party, now: Duration, change: &Change, cohort: &CohortTruth) {
        let Some(truth) = self.runs.get_mut(&run).filter(|truth| !truth.is_unlimited) else { return };
        let removed = truth.removed.entry(change.cohort.clone()).or_default();
        // A removal that an earlier run was allowed to send is sent again until it is certain.
        let is_new = |user: &&User| match cohort.unanswered.get(*user) {
            Some(is_removal) => !is_removal,
            None => cohort.settled.contains(*user),
        };
        removed.extend(change.users.iter().filter(is_new).cloned());
        let base = truth.base.get(&change.cohort).copied().unwrap_or(0);
        if base >= FROM_MEMBERS && removed.len() * 100 > base * REMOVED_MAX {
            let text = format!(
                "{now:?}: process {run} removes {} of {base} members from {}: the guard allows {REMOVED_MAX}%",
                removed.len(),
                change.cohort
            );
            self.violations.push(text);
        }
    }

    /// The members that the state records must be those that requests have added.
    pub(super) fn check_recorded(&mut self, cohort: &str, recorded: &BTreeSet<User>) {
        let added = self.cohorts.get(cohort).map(|truth| truth.added.clone()).unwrap_or_default();
        if *recorded != added {
            let text =
                format!("the state records {recorded:?} for {cohort}, and requests have added {added:?}");
            self.violations.push(text);
        }
    }

    /// The members that Braze must have in the end, as it lists them.
    pub(super) fn expected(&self, cohort: &str) -> BTreeSet<User> {
        let truth = self.cohorts.get(cohort);
        let newest = truth.and_then(|truth| truth.versions.last()?.members.clone()).unwrap_or_default();
        newest.intersection(&self.known).cloned().collect()
    }
}

impl CohortTruth {
    /// The versions that a process could read since a moment.
    fn visible(&self, from: Moment) -> Vec<Option<BTreeSet<User>>> {
        let ends = self.versions.iter().skip(1).map(|next| next.since).chain([Moment::MAX]);
        let versions = self.versions.iter().zip(ends).filter(|(_, end)| *end >= from);
        versions.map(|(version, _)| version.members.clone()).collect()
    }
}

/// The campaign and the recipients of a trigger. None: it is another request.
fn recipients(path: &str, body: &[u8]) -> Option<(String, Vec<User>)> {
    let body: Value = serde_json::from_slice(body).ok().filter(|_| path.ends_with("/trigger/send"))?;
    let list = body["recipients"].as_array().cloned().unwrap_or_default();
    let users = list.iter().filter_map(|recipient| Some(recipient["external_user_id"].as_str()?.to_owned()));
    Some((body["campaign_id"].as_str()?.to_owned(), users.collect()))
}

/// The changes in a request. None: it is another request.
pub(super) fn changes(path: &str, body: &[u8]) -> Vec<Change> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    match path.rsplit('/').next() {
        Some("users") => {
            let cohort = body["cohort_id"].as_str().unwrap_or_default().to_owned();
            let list = body["cohort_changes"].as_array().cloned().unwrap_or_default();
            let change = |change: &Value| {
                let devices =
                    texts(&change["device_ids"]).into_iter().map(|device| format!("device:{device}"));
                Change {
                    cohort: cohort.clone(),
                    users: texts(&change["user_ids"]).into_iter().chain(devices).collect(),
                    is_removal: change["should_remove"] == true,
                }
            };
            list.iter().map(change).collect()
        }
        Some("track") if body.get("attributes").is_some() => {
            let list = body["attributes"].as_array().cloned().unwrap_or_default();
            let change = |object: &Value| {
                let user = object["external_id"].as_str()?.to_owned();
                let array = &object["syncline_cohorts"];
                let (cohorts, is_removal) = match array.get("add") {
                    Some(added) => (texts(added), false),
                    None => (texts(&array["remove"]), true),
                };
                let cohort = cohorts.first()?.clone();
                Some(Change { cohort, users: BTreeSet::from([user]), is_removal })
            };
            list.iter().filter_map(change).collect()
        }
        _ => Vec::new(),
    }
}
