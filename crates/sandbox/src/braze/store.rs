//! What the sandbox holds to be true: people, cohorts, and who is in which. Pure; changed by facts only,
//! so that its memory is a list of facts.
//!
//! Braze, "Partner cohort import": identified people are found by external id or alias, anonymous ones
//! by device id; the device id of an identified person is ignored, also of one who was anonymous first;
//! people who do not exist are ignored and never made.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::catalog::{Catalog, Messaging, Segment, Sent};
use super::people::{Alias, Person, Profiles, Who};
use crate::People;

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(super) enum Fact {
    /// The admin API introduced a person.
    Person(Person),
    /// A cohort got its name.
    Named {
        cohort_id: String,
        name: String,
        created_at: String,
    },
    /// Members were sent.
    Changed {
        cohort_id: String,
        cohort_changes: Vec<Change>,
    },
    /// An anonymous person became known.
    Identified {
        device_id: String,
        external_id: String,
    },
    /// A person got an alias, or an alias made a person.
    Aliased {
        external_id: Option<String>,
        alias: Alias,
    },
    /// A person known by this became known by an external id.
    Known {
        by: Who,
        external_id: String,
    },
    /// One profile melted into another.
    Merged {
        gone: Who,
        kept: Who,
    },
    /// A profile was deleted.
    Deleted {
        who: Who,
    },
    /// Attributes were set; `make` says whether that makes a profile.
    Described {
        who: Who,
        make: bool,
        attributes: Map<String, Value>,
    },
    /// The admin API made or replaced a segment, a campaign or a Canvas.
    Segment(Segment),
    Campaign(Messaging),
    Canvas(Messaging),
    /// A campaign or a Canvas was triggered.
    Sent(Sent),
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
pub(super) struct BrazeStore {
    people: People,
    /// Whether membership moves along when a profile melts into another.
    merge_keeps_membership: bool,
    pub(super) profiles: Profiles,
    pub(super) cohorts: BTreeMap<String, Cohort>,
    pub(super) catalog: Catalog,
    /// Identifiers of nobody, and device ids of identified people: ignored without a word.
    pub(super) ignored: u64,
}

impl BrazeStore {
    pub(super) fn new(people: People, merge_keeps_membership: bool) -> Self {
        Self {
            people,
            merge_keeps_membership,
            profiles: Profiles::default(),
            cohorts: BTreeMap::new(),
            catalog: Catalog::default(),
            ignored: 0,
        }
    }

    pub(super) fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Person(person) => drop(self.profiles.introduce(person)),
            Fact::Named { cohort_id, name, created_at } => {
                let cohort = self.cohorts.entry(cohort_id).or_default();
                cohort.name = Some(name);
                cohort.created_at = Some(created_at);
            }
            Fact::Changed { cohort_id, cohort_changes } => self.change(&cohort_id, cohort_changes),
            Fact::Identified { device_id, external_id } => self.identify_device(&device_id, external_id),
            Fact::Aliased { external_id, alias } => self.alias(external_id.as_deref(), alias),
            Fact::Known { by, external_id } => self.identify(&by, external_id),
            Fact::Merged { gone, kept } => self.merge_named(&gone, &kept),
            Fact::Deleted { who } => self.delete(&who),
            Fact::Described { who, make, attributes } => self.describe(who, make, &attributes),
            Fact::Segment(segment) => self.catalog.segments.put(segment),
            Fact::Campaign(campaign) => self.catalog.campaigns.put(campaign),
            Fact::Canvas(canvas) => self.catalog.canvases.put(canvas),
            Fact::Sent(sent) => self.catalog.sent.push(sent),
        }
    }

    /// The anonymous profile gets an external id, or its device goes to the profile that has the id already.
    fn identify_device(&mut self, device_id: &str, external_id: String) {
        let Some(anonymous) = self.profiles.find(&Who::DeviceId(device_id.to_owned())).first().copied()
        else {
            return;
        };
        match self.profiles.known(&external_id) {
            None => self.profiles.name(anonymous, external_id),
            Some(known) if known == anonymous => {}
            Some(known) => {
                if self.profiles.hand_over(device_id, anonymous, known) {
                    self.melt(anonymous, known);
                }
            }
        }
    }

    /// Without an external id a new alias makes a profile; with an unknown one nothing happens.
    fn alias(&mut self, external_id: Option<&str>, alias: Alias) {
        match external_id {
            Some(id) => {
                if let Some(at) = self.profiles.known(id) {
                    self.profiles.alias(at, alias);
                }
            }
            None if self.profiles.find(&Who::UserAlias(alias.clone())).is_empty() => {
                self.profiles.introduce(Person { aliases: vec![alias], ..Person::default() });
            }
            None => {}
        }
    }

    /// Somebody without an external id gets one, or melts into the profile that has it. Of somebody who has
    /// another one nothing is changed.
    fn identify(&mut self, by: &Who, external_id: String) {
        let Some(at) = self.profiles.find(by).first().copied() else { return };
        if self.profiles.get(at).external_id.is_some() {
            return;
        }
        match self.profiles.known(&external_id) {
            None => self.profiles.name(at, external_id),
            Some(known) => self.melt(at, known),
        }
    }

    fn merge_named(&mut self, gone: &Who, kept: &Who) {
        let (gone, kept) = (self.profiles.find(gone), self.profiles.find(kept));
        // Whoever is not found, or is found more than once, is passed over without a word.
        if let ([gone], [kept]) = (&gone[..], &kept[..])
            && gone != kept
        {
            self.melt(*gone, *kept);
        }
    }

    /// Braze's list of what is merged does not have cohorts in it; what becomes of them is not documented.
    fn melt(&mut self, gone: usize, kept: usize) {
        self.profiles.merge(gone, kept);
        for cohort in self.cohorts.values_mut() {
            if cohort.members.remove(&gone) && self.merge_keeps_membership {
                cohort.members.insert(kept);
            }
        }
    }

    fn delete(&mut self, who: &Who) {
        for at in self.profiles.find(who) {
            self.profiles.delete(at);
            for cohort in self.cohorts.values_mut() {
                cohort.members.remove(&at);
            }
        }
    }

    fn describe(&mut self, who: Who, make: bool, attributes: &Map<String, Value>) {
        let mut found = self.profiles.find(&who);
        if found.is_empty() && make {
            let person = match who {
                Who::ExternalId(id) => Person { external_id: Some(id), ..Person::default() },
                Who::UserAlias(alias) => Person { aliases: vec![alias], ..Person::default() },
                _ => return,
            };
            found.push(self.profiles.introduce(person));
        }
        self.ignored += u64::from(found.is_empty());
        for at in found {
            self.profiles.describe(at, attributes);
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
            let known = self.profiles.known(&id);
            found.push(known.or_else(|| self.make(Person { external_id: Some(id), ..Person::default() })));
        }
        for alias in change.aliases {
            let known = self.profiles.find(&Who::UserAlias(alias.clone())).first().copied();
            found.push(known.or_else(|| self.make(Person { aliases: vec![alias], ..Person::default() })));
        }
        for device in change.device_ids {
            let known = self.profiles.find(&Who::DeviceId(device.clone())).first().copied();
            let person =
                known.or_else(|| self.make(Person { device_ids: vec![device], ..Person::default() }));
            found.push(person.filter(|at| self.profiles.get(*at).external_id.is_none()));
        }
        self.ignored += found.iter().filter(|person| person.is_none()).count() as u64;
        found.into_iter().flatten()
    }

    fn make(&mut self, person: Person) -> Option<usize> {
        (self.people == People::Any).then(|| self.profiles.introduce(person))
    }

    /// The members of a cohort, each by the identifier that knows it best.
    pub(super) fn members(&self, cohort_id: &str) -> Option<BTreeSet<String>> {
        let cohort = self.cohorts.get(cohort_id)?;
        Some(cohort.members.iter().map(|at| label(self.profiles.get(*at))).collect())
    }

    pub(super) fn size(&self, cohort_id: &str) -> usize {
        self.cohorts.get(cohort_id).map_or(0, |cohort| cohort.members.len())
    }

    /// Who is in a segment: in any of the cohorts that it includes, or in all of them, and in none that it
    /// excludes. One that includes none has nobody.
    pub(super) fn in_segment(&self, segment: &Segment) -> Vec<usize> {
        let sets = |ids: &[String]| -> Vec<Option<HashSet<usize>>> {
            ids.iter().map(|id| self.filtered(id)).collect()
        };
        let (include, exclude) = (sets(&segment.include), sets(&segment.exclude));
        let has = |set: &Option<HashSet<usize>>, at: &usize| set.as_ref().is_some_and(|set| set.contains(at));
        let all: BTreeSet<usize> = include.iter().flatten().flatten().copied().collect();
        let wanted = |at: &usize| {
            let every = !segment.all || include.iter().all(|set| has(set, at));
            every && !exclude.iter().any(|set| has(set, at))
        };
        all.into_iter().filter(wanted).collect()
    }

    /// Who passes a filter: `carts` is a cohort, `attribute=value` an attribute that is this or has it as an element.
    fn filtered(&self, filter: &str) -> Option<HashSet<usize>> {
        match filter.split_once('=') {
            Some((name, value)) => Some(self.with_attribute(name, value).collect()),
            None => self.cohorts.get(filter).map(|cohort| cohort.members.clone()),
        }
    }

    /// Whose attribute is this value, or an array that has it.
    pub(super) fn with_attribute<'a>(
        &'a self,
        name: &'a str,
        value: &'a str,
    ) -> impl Iterator<Item = usize> + 'a {
        let is = move |known: &Value| match known {
            Value::String(text) => text == value,
            other => serde_json::from_str::<Value>(value).is_ok_and(|value| value == *other),
        };
        let has = move |person: &Person| match person.attributes.get(name) {
            Some(Value::Array(list)) => list.iter().any(is),
            Some(one) => is(one),
            None => false,
        };
        // Of a profile that has melted into another one there is nothing left to name it by.
        let is_there = |person: &Person| {
            person.external_id.is_some() || !person.aliases.is_empty() || !person.device_ids.is_empty()
        };
        let found = move |(at, person): (usize, &Person)| (is_there(person) && has(person)).then_some(at);
        self.profiles.iter().enumerate().filter_map(found)
    }

    /// The name that the segment filter shows for a cohort, or the filter on an attribute.
    pub(super) fn cohort_name<'a>(&'a self, cohort_id: &'a str) -> &'a str {
        self.cohorts.get(cohort_id).and_then(|cohort| cohort.name.as_deref()).unwrap_or(cohort_id)
    }

    /// Facts that make this store again, people first.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        let people = self.profiles.iter().cloned().map(Fact::Person);
        let named = self.cohorts.iter().filter_map(|(id, cohort)| {
            let (name, created_at) = (cohort.name.clone()?, cohort.created_at.clone()?);
            Some(Fact::Named { cohort_id: id.clone(), name, created_at })
        });
        let filled = self.cohorts.iter().map(|(id, cohort)| Fact::Changed {
            cohort_id: id.clone(),
            cohort_changes: cohort.members.iter().map(|at| naming(self.profiles.get(*at))).collect(),
        });
        let catalog = &self.catalog;
        people
            .chain(named)
            .chain(filled)
            .chain(catalog.segments.iter().cloned().map(Fact::Segment))
            .chain(catalog.campaigns.iter().cloned().map(Fact::Campaign))
            .chain(catalog.canvases.iter().cloned().map(Fact::Canvas))
            .chain(catalog.sent.iter().cloned().map(Fact::Sent))
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

/// A person by the identifier that knows them best.
pub(super) fn label(person: &Person) -> String {
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
        Fact::Person(Person { external_id, device_ids, ..Person::default() })
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
        let mut store = BrazeStore::new(people, false);
        facts.iter().cloned().for_each(|fact| store.learn(fact));
        let found = (store.members("c").unwrap_or_default().into_iter().collect(), store.ignored);
        // A store made again from its own facts is the same store.
        let mut again = BrazeStore::new(people, false);
        store.facts().for_each(|fact| again.learn(fact));
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
