//! What the sandbox holds to be true: people, cohorts, and who is in which. Pure; changed by facts only,
//! so that its memory is a list of facts.
//!
//! Braze, "Partner cohort import": identified people are found by external id or alias, anonymous ones
//! by device id; the device id of an identified person is ignored, also of one who was anonymous first;
//! people who do not exist are ignored and never made.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::sandbox::People;

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(super) enum Fact {
    /// The door introduced a person.
    Person(Person),
    /// A cohort got its name.
    Named { cohort_id: String, name: String, created_at: String },
    /// Members were sent.
    Changed { cohort_id: String, cohort_changes: Vec<Change> },
    /// An anonymous person became known.
    Identified { device_id: String, external_id: String },
}

/// A profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Person {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) external_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<Alias>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) device_ids: Vec<String>,
}

/// A user alias, as Braze writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Alias {
    pub(super) alias_label: String,
    pub(super) alias_name: String,
}

/// One element of `cohort_changes`, checked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Change {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) user_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) device_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<Alias>,
    #[serde(default)]
    pub(super) should_remove: bool,
}

impl Change {
    pub(super) fn len(&self) -> usize {
        self.user_ids.len() + self.device_ids.len() + self.aliases.len()
    }
}

/// A cohort.
#[derive(Debug, Default)]
pub(super) struct Cohort {
    pub(super) name: Option<String>,
    pub(super) created_at: Option<String>,
    members: HashSet<usize>,
}

#[derive(Debug)]
pub(super) struct World {
    people: People,
    profiles: Vec<Person>,
    by_external_id: HashMap<String, usize>,
    by_alias: HashMap<Alias, usize>,
    by_device: HashMap<String, usize>,
    pub(super) cohorts: BTreeMap<String, Cohort>,
    /// Identifiers of nobody, and device ids of identified people: ignored without a word.
    pub(super) ignored: u64,
}

impl World {
    pub(super) fn new(people: People) -> Self {
        Self {
            people,
            profiles: Vec::new(),
            by_external_id: HashMap::new(),
            by_alias: HashMap::new(),
            by_device: HashMap::new(),
            cohorts: BTreeMap::new(),
            ignored: 0,
        }
    }

    pub(super) fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Person(person) => drop(self.introduce(person)),
            Fact::Named { cohort_id, name, created_at } => {
                let cohort = self.cohorts.entry(cohort_id).or_default();
                cohort.name = Some(name);
                cohort.created_at = Some(created_at);
            }
            Fact::Changed { cohort_id, cohort_changes } => self.change(&cohort_id, cohort_changes),
            Fact::Identified { device_id, external_id } => self.identify(&device_id, external_id),
        }
    }

    fn introduce(&mut self, person: Person) -> usize {
        let at = self.profiles.len();
        if let Some(id) = &person.external_id {
            self.by_external_id.insert(id.clone(), at);
        }
        self.by_alias.extend(person.aliases.iter().cloned().map(|alias| (alias, at)));
        self.by_device.extend(person.device_ids.iter().cloned().map(|device| (device, at)));
        self.profiles.push(person);
        at
    }

    /// The anonymous profile gets an external id, or melts into the profile that has it already.
    fn identify(&mut self, device_id: &str, external_id: String) {
        let Some(&anonymous) = self.by_device.get(device_id) else { return };
        match self.by_external_id.get(&external_id).copied() {
            None => {
                self.profiles[anonymous].external_id = Some(external_id.clone());
                self.by_external_id.insert(external_id, anonymous);
            }
            Some(known) => {
                self.by_device.insert(device_id.to_owned(), known);
                self.profiles[known].device_ids.push(device_id.to_owned());
                self.profiles[anonymous].device_ids.retain(|device| device != device_id);
            }
        }
    }

    /// Objects are applied in the order in which they stand (not settled by any document).
    fn change(&mut self, cohort_id: &str, changes: Vec<Change>) {
        for change in changes {
            let remove = change.should_remove;
            let found: Vec<usize> = self.find(change).collect();
            let cohort = self.cohorts.entry(cohort_id.to_owned()).or_default();
            for person in found {
                if remove {
                    cohort.members.remove(&person);
                } else {
                    cohort.members.insert(person);
                }
            }
        }
    }

    fn find(&mut self, change: Change) -> impl Iterator<Item = usize> {
        let mut found = Vec::with_capacity(change.len());
        for id in change.user_ids {
            let known = self.by_external_id.get(&id).copied();
            found.push(known.or_else(|| self.make(Person { external_id: Some(id), ..Person::default() })));
        }
        for alias in change.aliases {
            let known = self.by_alias.get(&alias).copied();
            found.push(known.or_else(|| self.make(Person { aliases: vec![alias], ..Person::default() })));
        }
        for device in change.device_ids {
            let known = self.by_device.get(&device).copied();
            let person =
                known.or_else(|| self.make(Person { device_ids: vec![device], ..Person::default() }));
            found.push(person.filter(|at| self.profiles[*at].external_id.is_none()));
        }
        self.ignored += found.iter().filter(|person| person.is_none()).count() as u64;
        found.into_iter().flatten()
    }

    fn make(&mut self, person: Person) -> Option<usize> {
        (self.people == People::Any).then(|| self.introduce(person))
    }

    /// The members of a cohort, each by the identifier that knows it best.
    pub(super) fn members(&self, cohort_id: &str) -> Option<BTreeSet<String>> {
        let cohort = self.cohorts.get(cohort_id)?;
        Some(cohort.members.iter().map(|at| label(&self.profiles[*at])).collect())
    }

    pub(super) fn size(&self, cohort_id: &str) -> usize {
        self.cohorts.get(cohort_id).map_or(0, |cohort| cohort.members.len())
    }

    /// Facts that make this world again, people first.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        let people = self.profiles.iter().cloned().map(Fact::Person);
        let named = self.cohorts.iter().filter_map(|(id, cohort)| {
            let (name, created_at) = (cohort.name.clone()?, cohort.created_at.clone()?);
            Some(Fact::Named { cohort_id: id.clone(), name, created_at })
        });
        let filled = self.cohorts.iter().map(|(id, cohort)| Fact::Changed {
            cohort_id: id.clone(),
            cohort_changes: cohort.members.iter().map(|at| naming(&self.profiles[*at])).collect(),
        });
        people.chain(named).chain(filled)
    }
}

/// A change that adds this one person.
fn naming(person: &Person) -> Change {
    match (&person.external_id, person.aliases.first(), person.device_ids.first()) {
        (Some(id), ..) => Change { user_ids: vec![id.clone()], ..Change::default() },
        (None, Some(alias), _) => Change { aliases: vec![alias.clone()], ..Change::default() },
        (None, None, device) => {
            Change { device_ids: device.cloned().into_iter().collect(), ..Change::default() }
        }
    }
}

fn label(person: &Person) -> String {
    match (&person.external_id, person.aliases.first(), person.device_ids.first()) {
        (Some(id), ..) => format!("external_id {id}"),
        (None, Some(alias), _) => format!("alias {}:{}", alias.alias_label, alias.alias_name),
        (None, None, device) => format!("device_id {}", device.map_or("", String::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(external_id: Option<&str>, device: &str) -> Fact {
        let (external_id, device_ids) = (external_id.map(str::to_owned), vec![device.to_owned()]);
        Fact::Person(Person { external_id, aliases: Vec::new(), device_ids })
    }

    fn send(user_ids: &[&str], device_ids: &[&str], should_remove: bool) -> Fact {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let change = Change {
            user_ids: owned(user_ids),
            device_ids: owned(device_ids),
            aliases: Vec::new(),
            should_remove,
        };
        Fact::Changed { cohort_id: "c".to_owned(), cohort_changes: vec![change] }
    }

    fn members(people: People, facts: &[Fact]) -> (Vec<String>, u64) {
        let mut world = World::new(people);
        facts.iter().cloned().for_each(|fact| world.learn(fact));
        let found = (world.members("c").unwrap_or_default().into_iter().collect(), world.ignored);
        // A world made again from its own facts is the same world.
        let mut again = World::new(people);
        world.facts().for_each(|fact| again.learn(fact));
        assert_eq!(again.members("c").unwrap_or_default().into_iter().collect::<Vec<_>>(), found.0);
        found
    }

    #[test]
    fn strangers_are_ignored_unless_anybody_goes() {
        assert_eq!(members(People::Known, &[send(&["u1"], &["d1"], false)]), (vec![], 2));
        let any = members(People::Any, &[send(&["u1"], &["d1"], false)]);
        assert_eq!(any, (vec!["device_id d1".to_owned(), "external_id u1".to_owned()], 0));
    }

    #[test]
    fn the_device_of_an_identified_person_is_ignored() {
        let facts = [person(Some("u1"), "d1"), send(&[], &["d1"], false)];
        assert_eq!(members(People::Known, &facts), (vec![], 1));
    }

    #[test]
    fn once_identified_a_member_cannot_be_removed_by_device() {
        let identified = Fact::Identified { device_id: "d1".to_owned(), external_id: "u1".to_owned() };
        let facts = [person(None, "d1"), send(&[], &["d1"], false), identified, send(&[], &["d1"], true)];
        assert_eq!(members(People::Known, &facts), (vec!["external_id u1".to_owned()], 1));
        let mut facts = facts.to_vec();
        facts.push(send(&["u1"], &[], true));
        assert_eq!(members(People::Known, &facts).0, Vec::<String>::new());
    }
}
