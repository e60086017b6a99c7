//! State of the simulated Braze: profiles, cohorts and membership. Pure; only facts change it, so that a log of
//! facts restores it.
//!
//! Source: Braze, "Partner cohort import". Identified users are found by external id or alias, anonymous ones
//! by device id. The device id of an identified user is ignored, also if the user was anonymous first. Users
//! who do not exist are ignored and never created.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::catalog::{BrazeSegment, CampaignOrCanvas, Catalog, TriggeredSend};
use super::profiles::{Alias, ProfileIdentifier, Profiles, UserProfile};
use crate::ExistingUsers;

/// A change of the state, as it is logged.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(super) enum BrazeFact {
    /// The admin API created a user.
    User(UserProfile),
    /// A cohort got its name.
    Named {
        cohort_id: String,
        name: String,
        created_at: String,
    },
    /// Members were added or removed.
    Changed {
        cohort_id: String,
        cohort_changes: Vec<CohortChange>,
    },
    /// An anonymous user was identified.
    Identified {
        device_id: String,
        external_id: String,
    },
    /// A user got an alias, or an alias created a user.
    Aliased {
        external_id: Option<String>,
        alias: Alias,
    },
    /// A user with this identifier got an external id.
    ExternalIdAssigned {
        by: ProfileIdentifier,
        external_id: String,
    },
    /// One profile was merged into another.
    Merged {
        source: ProfileIdentifier,
        target: ProfileIdentifier,
    },
    /// A profile was deleted.
    Deleted {
        identifier: ProfileIdentifier,
    },
    /// Attributes were set; `create` creates a missing profile.
    Described {
        identifier: ProfileIdentifier,
        create: bool,
        attributes: Map<String, Value>,
    },
    /// The admin API created or replaced a segment, a campaign or a Canvas.
    Segment(BrazeSegment),
    Campaign(CampaignOrCanvas),
    Canvas(CampaignOrCanvas),
    /// A campaign or a Canvas was triggered.
    Triggered(TriggeredSend),
}

/// One checked element of `cohort_changes`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct CohortChange {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) user_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) device_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<Alias>,
    #[serde(default)]
    pub(super) should_remove: bool,
}

impl CohortChange {
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
    existing_users: ExistingUsers,
    /// Whether the remaining profile gets the membership of a merged one.
    merge_keeps_membership: bool,
    pub(super) profiles: Profiles,
    pub(super) cohorts: BTreeMap<String, Cohort>,
    pub(super) catalog: Catalog,
    /// Identifiers without a profile and device ids of identified users. Braze ignores both silently.
    pub(super) ignored: u64,
}

impl BrazeStore {
    pub(super) fn new(existing_users: ExistingUsers, merge_keeps_membership: bool) -> Self {
        Self {
            existing_users,
            merge_keeps_membership,
            profiles: Profiles::default(),
            cohorts: BTreeMap::new(),
            catalog: Catalog::default(),
            ignored: 0,
        }
    }

    pub(super) fn apply(&mut self, fact: BrazeFact) {
        match fact {
            BrazeFact::User(profile) => drop(self.profiles.insert(profile)),
            BrazeFact::Named { cohort_id, name, created_at } => {
                let cohort = self.cohorts.entry(cohort_id).or_default();
                cohort.name = Some(name);
                cohort.created_at = Some(created_at);
            }
            BrazeFact::Changed { cohort_id, cohort_changes } => self.change(&cohort_id, cohort_changes),
            BrazeFact::Identified { device_id, external_id } => self.identify_device(&device_id, external_id),
            BrazeFact::Aliased { external_id, alias } => self.alias(external_id.as_deref(), alias),
            BrazeFact::ExternalIdAssigned { by, external_id } => self.identify(&by, external_id),
            BrazeFact::Merged { source, target } => self.merge(&source, &target),
            BrazeFact::Deleted { identifier } => self.delete(&identifier),
            BrazeFact::Described { identifier, create, attributes } => {
                self.set_attributes(identifier, create, &attributes);
            }
            BrazeFact::Segment(segment) => self.catalog.segments.put(segment),
            BrazeFact::Campaign(campaign) => self.catalog.campaigns.put(campaign),
            BrazeFact::Canvas(canvas) => self.catalog.canvases.put(canvas),
            BrazeFact::Triggered(send) => self.catalog.sends.push(send),
        }
    }

    /// Gives the anonymous profile the external id, or moves its device to the profile that already has the id.
    fn identify_device(&mut self, device_id: &str, external_id: String) {
        let Some(anonymous) =
            self.existing(&ProfileIdentifier::DeviceId(device_id.to_owned())).first().copied()
        else {
            return;
        };
        match self.profiles.find_external_id(&external_id) {
            None => self.profiles.set_external_id(anonymous, external_id),
            Some(known) if known == anonymous => {}
            Some(known) => {
                if self.profiles.move_device(device_id, anonymous, known) {
                    self.merge_profiles(anonymous, known);
                }
            }
        }
    }

    /// Without an external id, a new alias creates a profile. With an unknown external id nothing happens.
    fn alias(&mut self, external_id: Option<&str>, alias: Alias) {
        match external_id {
            Some(id) => {
                if let Some(at) =
                    self.existing(&ProfileIdentifier::ExternalId(id.to_owned())).first().copied()
                {
                    self.profiles.add_alias(at, alias);
                }
            }
            None if self.profiles.find(&ProfileIdentifier::UserAlias(alias.clone())).is_empty() => {
                self.profiles.insert(UserProfile { aliases: vec![alias], ..UserProfile::default() });
            }
            None => {}
        }
    }

    /// Gives a profile without an external id this one, or merges it into the profile that has it. A profile
    /// with another external id does not change.
    fn identify(&mut self, by: &ProfileIdentifier, external_id: String) {
        let Some(at) = self.existing(by).first().copied() else { return };
        if self.profiles.get(at).external_id.is_some() {
            return;
        }
        match self.profiles.find_external_id(&external_id) {
            None => self.profiles.set_external_id(at, external_id),
            Some(known) => self.merge_profiles(at, known),
        }
    }

    fn merge(&mut self, source: &ProfileIdentifier, target: &ProfileIdentifier) {
        let (source, target) = (self.existing(source), self.existing(target));
        // An identifier that matches no profile or several is silently ignored.
        if let ([source], [target]) = (&source[..], &target[..])
            && source != target
        {
            self.merge_profiles(*source, *target);
        }
    }

    /// Braze does not document what happens to cohort membership in a merge.
    fn merge_profiles(&mut self, source: usize, target: usize) {
        self.profiles.merge(source, target);
        for cohort in self.cohorts.values_mut() {
            if cohort.members.remove(&source) && self.merge_keeps_membership {
                cohort.members.insert(target);
            }
        }
    }

    fn delete(&mut self, identifier: &ProfileIdentifier) {
        for at in self.profiles.find(identifier) {
            self.profiles.delete(at);
            for cohort in self.cohorts.values_mut() {
                cohort.members.remove(&at);
            }
        }
    }

    fn set_attributes(
        &mut self,
        identifier: ProfileIdentifier,
        create: bool,
        attributes: &Map<String, Value>,
    ) {
        let mut found = self.existing(&identifier);
        if found.is_empty() && create {
            found.extend(identifier.into_profile().map(|profile| self.profiles.insert(profile)));
        }
        self.ignored += u64::from(found.is_empty());
        for at in found {
            self.profiles.set_attributes(at, attributes);
        }
    }

    /// Applies objects in their order. No document settles this.
    fn change(&mut self, cohort_id: &str, changes: Vec<CohortChange>) {
        for change in changes {
            let remove = change.should_remove;
            let found: Vec<usize> = self.find(change).collect();
            let cohort = self.cohorts.entry(cohort_id.to_owned()).or_default();
            for profile in found {
                if remove {
                    cohort.members.remove(&profile);
                } else {
                    cohort.members.insert(profile);
                }
            }
        }
    }

    fn find(&mut self, change: CohortChange) -> impl Iterator<Item = usize> {
        let mut found = Vec::with_capacity(change.len());
        let users = change.user_ids.into_iter().map(ProfileIdentifier::ExternalId);
        for identifier in users.chain(change.aliases.into_iter().map(ProfileIdentifier::UserAlias)) {
            found.push(self.existing(&identifier).first().copied());
        }
        for device in change.device_ids {
            let profile = self.existing(&ProfileIdentifier::DeviceId(device)).first().copied();
            found.push(profile.filter(|at| self.profiles.get(*at).external_id.is_none()));
        }
        self.ignored += found.iter().filter(|profile| profile.is_none()).count() as u64;
        found.into_iter().flatten()
    }

    /// The profiles with this identifier. With [`ExistingUsers::Any`] a missing one is created.
    fn existing(&mut self, identifier: &ProfileIdentifier) -> Vec<usize> {
        let mut found = self.profiles.find(identifier);
        if found.is_empty() && self.existing_users == ExistingUsers::Any {
            let created = identifier.clone().into_profile().map(|profile| self.profiles.insert(profile));
            found.extend(created);
        }
        found
    }

    /// Facts that create the missing profiles of a request that only reads. None, unless every identifier has
    /// a profile.
    pub(super) fn missing<'a>(
        &self,
        identifiers: impl IntoIterator<Item = &'a ProfileIdentifier>,
    ) -> Vec<BrazeFact> {
        if self.existing_users == ExistingUsers::Created {
            return Vec::new();
        }
        let mut created: Vec<&ProfileIdentifier> = Vec::new();
        for identifier in identifiers {
            if self.profiles.find(identifier).is_empty() && !created.contains(&identifier) {
                created.push(identifier);
            }
        }
        created.into_iter().filter_map(|one| one.clone().into_profile()).map(BrazeFact::User).collect()
    }

    /// The members of a cohort, each by its best identifier.
    pub(super) fn members(&self, cohort_id: &str) -> Option<BTreeSet<String>> {
        let cohort = self.cohorts.get(cohort_id)?;
        Some(cohort.members.iter().map(|at| label(self.profiles.get(*at))).collect())
    }

    pub(super) fn size(&self, cohort_id: &str) -> usize {
        self.cohorts.get(cohort_id).map_or(0, |cohort| cohort.members.len())
    }

    /// Users in a segment: in any (or all) of the included cohorts and in none of the excluded ones. A segment
    /// that includes no cohort is empty.
    pub(super) fn in_segment(&self, segment: &BrazeSegment) -> Vec<usize> {
        let sets = |ids: &[String]| -> Vec<Option<HashSet<usize>>> {
            ids.iter().map(|id| self.matching(id)).collect()
        };
        let (include, exclude) = (sets(&segment.include), sets(&segment.exclude));
        let has = |set: &Option<HashSet<usize>>, at: &usize| set.as_ref().is_some_and(|set| set.contains(at));
        let all: BTreeSet<usize> = include.iter().flatten().flatten().copied().collect();
        let is_member = |at: &usize| {
            let every = !segment.all || include.iter().all(|set| has(set, at));
            every && !exclude.iter().any(|set| has(set, at))
        };
        all.into_iter().filter(is_member).collect()
    }

    /// Users that match a filter: `carts` is a cohort; `attribute=value` is an attribute with this value, or an
    /// array that contains it.
    fn matching(&self, filter: &str) -> Option<HashSet<usize>> {
        match filter.split_once('=') {
            Some((name, value)) => Some(self.with_attribute(name, value).collect()),
            None => self.cohorts.get(filter).map(|cohort| cohort.members.clone()),
        }
    }

    /// Users with this attribute value, or with an array that contains it.
    pub(super) fn with_attribute<'a>(
        &'a self,
        name: &'a str,
        value: &'a str,
    ) -> impl Iterator<Item = usize> + 'a {
        let is = move |known: &Value| match known {
            Value::String(text) => text == value,
            other => serde_json::from_str::<Value>(value).is_ok_and(|value| value == *other),
        };
        let has = move |profile: &UserProfile| match profile.attributes.get(name) {
            Some(Value::Array(list)) => list.iter().any(is),
            Some(one) => is(one),
            None => false,
        };
        // A merged or deleted profile has no identifier left.
        let has_identifier = |profile: &UserProfile| {
            profile.external_id.is_some() || !profile.aliases.is_empty() || !profile.device_ids.is_empty()
        };
        let found = move |(at, profile): (usize, &UserProfile)| {
            (has_identifier(profile) && has(profile)).then_some(at)
        };
        self.profiles.iter().enumerate().filter_map(found)
    }

    /// Why a segment cannot have these filters: Braze's dashboard only offers cohorts that exist.
    pub(super) fn check_filters(&self, segment: &BrazeSegment) -> Result<(), String> {
        let mut filters = segment.include.iter().chain(&segment.exclude);
        let unknown = filters.find(|filter| !filter.contains('=') && !self.cohorts.contains_key(*filter));
        unknown.map_or(Ok(()), |id| Err(no_cohort(id, &format!("filter on \"syncline_cohorts={id}\""))))
    }

    /// Name of a cohort in the segment filter, or the filter on an attribute.
    pub(super) fn cohort_name<'a>(&'a self, cohort_id: &'a str) -> &'a str {
        self.cohorts.get(cohort_id).and_then(|cohort| cohort.name.as_deref()).unwrap_or(cohort_id)
    }

    /// Facts that restore this state, profiles first.
    pub(super) fn facts(&self) -> impl Iterator<Item = BrazeFact> {
        let profiles = self.profiles.iter().cloned().map(BrazeFact::User);
        let named = self.cohorts.iter().filter_map(|(id, cohort)| {
            let (name, created_at) = (cohort.name.clone()?, cohort.created_at.clone()?);
            Some(BrazeFact::Named { cohort_id: id.clone(), name, created_at })
        });
        let filled = self.cohorts.iter().map(|(id, cohort)| BrazeFact::Changed {
            cohort_id: id.clone(),
            cohort_changes: cohort
                .members
                .iter()
                .map(|at| change_that_adds(self.profiles.get(*at)))
                .collect(),
        });
        let catalog = &self.catalog;
        profiles
            .chain(named)
            .chain(filled)
            .chain(catalog.segments.iter().cloned().map(BrazeFact::Segment))
            .chain(catalog.campaigns.iter().cloned().map(BrazeFact::Campaign))
            .chain(catalog.canvases.iter().cloned().map(BrazeFact::Canvas))
            .chain(catalog.sends.iter().cloned().map(BrazeFact::Triggered))
    }
}

/// The message for an unknown cohort. A cohort delivered by attribute exists on profiles only.
pub(super) fn no_cohort(id: &str, by_attribute: &str) -> String {
    format!(
        "no cohort `{id}`. GET /_sandbox/cohorts lists the cohorts. With `deliver: attribute`, {by_attribute}\n"
    )
}

/// A change that adds this user.
fn change_that_adds(profile: &UserProfile) -> CohortChange {
    match (&profile.external_id, profile.aliases.first(), profile.device_ids.first()) {
        (Some(id), ..) => CohortChange { user_ids: vec![id.clone()], ..CohortChange::default() },
        (None, Some(alias), _) => CohortChange { aliases: vec![alias.clone()], ..CohortChange::default() },
        (None, None, device) => {
            CohortChange { device_ids: device.cloned().into_iter().collect(), ..CohortChange::default() }
        }
    }
}

/// The best identifier of a user, as text.
pub(super) fn label(profile: &UserProfile) -> String {
    match (&profile.external_id, profile.aliases.first(), profile.device_ids.first()) {
        (Some(id), ..) => format!("external_id {id}"),
        (None, Some(alias), _) => format!("alias {}:{}", alias.alias_label, alias.alias_name),
        (None, None, device) => format!("device_id {}", device.map_or("", String::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(external_id: Option<&str>, device: &str) -> BrazeFact {
        let (external_id, device_ids) = (external_id.map(str::to_owned), vec![device.to_owned()]);
        BrazeFact::User(UserProfile { external_id, device_ids, ..UserProfile::default() })
    }

    fn send(user_ids: &[&str], device_ids: &[&str], should_remove: bool) -> BrazeFact {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let change = CohortChange {
            user_ids: owned(user_ids),
            device_ids: owned(device_ids),
            aliases: Vec::new(),
            should_remove,
        };
        BrazeFact::Changed { cohort_id: "c".to_owned(), cohort_changes: vec![change] }
    }

    fn members(existing_users: ExistingUsers, facts: &[BrazeFact]) -> (Vec<String>, u64) {
        let mut store = BrazeStore::new(existing_users, false);
        facts.iter().cloned().for_each(|fact| store.apply(fact));
        let found = (store.members("c").unwrap_or_default().into_iter().collect(), store.ignored);
        // The facts of a store restore the same store.
        let mut restored = BrazeStore::new(existing_users, false);
        store.facts().for_each(|fact| restored.apply(fact));
        assert_eq!(restored.members("c").unwrap_or_default().into_iter().collect::<Vec<_>>(), found.0);
        found
    }

    #[test]
    fn unknown_users_are_ignored_unless_every_user_exists() {
        assert_eq!(members(ExistingUsers::Created, &[send(&["u1"], &["d1"], false)]), (vec![], 2));
        let any = members(ExistingUsers::Any, &[send(&["u1"], &["d1"], false)]);
        assert_eq!(any, (vec!["device_id d1".to_owned(), "external_id u1".to_owned()], 0));
    }

    #[test]
    fn attributes_follow_the_same_rule_as_members() {
        let described = |existing_users| {
            let mut store = BrazeStore::new(existing_users, false);
            let attributes = [("plan".to_owned(), Value::from("pro"))].into_iter().collect();
            let identifier = ProfileIdentifier::ExternalId("u1".to_owned());
            store.apply(BrazeFact::Described { identifier, create: false, attributes });
            (store.with_attribute("plan", "pro").count(), store.ignored)
        };
        assert_eq!(described(ExistingUsers::Any), (1, 0));
        assert_eq!(described(ExistingUsers::Created), (0, 1));
    }

    #[test]
    fn the_device_of_an_identified_user_is_ignored() {
        let facts = [profile(Some("u1"), "d1"), send(&[], &["d1"], false)];
        assert_eq!(members(ExistingUsers::Created, &facts), (vec![], 1));
    }

    #[test]
    fn once_identified_a_member_cannot_be_removed_by_device() {
        let identified = BrazeFact::Identified { device_id: "d1".to_owned(), external_id: "u1".to_owned() };
        let facts = [profile(None, "d1"), send(&[], &["d1"], false), identified, send(&[], &["d1"], true)];
        assert_eq!(members(ExistingUsers::Created, &facts), (vec!["external_id u1".to_owned()], 1));
        let mut facts = facts.to_vec();
        facts.push(send(&["u1"], &[], true));
        assert_eq!(members(ExistingUsers::Created, &facts).0, Vec::<String>::new());
    }
}
