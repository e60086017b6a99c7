//! The inputs of a look-up, and the identifiers to look up: an asked text as every kind that it can be, with its owners
//! and the owners' devices.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, IdentitySource, SourceAccess};
use crate::model::{
    CohortId, Identifier, IdentifierKind, MatchRule, MemberKey, Timestamp, normalize_identifier, visible_form,
};
use crate::source::RejectReason;
use crate::state::{IdentityKey, IdentityOwners, KnownHandles, OwnerEvidence, StateError, StateReader};

/// The label of the alias that Heap's user ids are by default.
const HEAP_LABEL: &str = "heap_user_id";

/// A kind of identifier that can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// The external id of a user.
    ExternalId,
    /// An alias: `label:name`, or a name under any label of the config. Heap's user ids are aliases.
    Alias,
    /// A device.
    DeviceId,
    /// Braze's own id of a user.
    BrazeId,
}

impl IdKind {
    /// The name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExternalId => "external_id",
            Self::Alias => "alias",
            Self::DeviceId => "device_id",
            Self::BrazeId => "braze_id",
        }
    }
}

/// Where and how to look.
#[derive(Clone, Copy)]
pub struct LookupInputs<'a> {
    /// The state.
    pub state: &'a StateReader,
    /// The config.
    pub config: &'a Config,
    /// The only kind that the identifiers can be. `None`: any.
    pub kind: Option<IdKind>,
    /// The cohorts to look in; all of config and state if empty.
    pub only: &'a [CohortId],
    /// Credentials to read the sources with. `None`: sources are not read.
    pub sources: Option<&'a SourceAccess>,
    /// The current time.
    pub now: Timestamp,
}

/// An entry of the identity map.
#[derive(Clone, Debug)]
pub struct KnownOwner {
    /// The kind of the identifier.
    pub kind: IdKind,
    /// The label of an alias.
    pub label: String,
    /// The owner.
    pub evidence: OwnerEvidence,
}

/// Keys of identifiers, with the subjects that they belong to.
pub(super) type SubjectsByKey = BTreeMap<MemberKey, Vec<usize>>;

/// An identifier by which rows and rejects may name a user. It may be too long for any system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowName {
    kind: IdentifierKind,
    label: String,
    pub(super) value: String,
}

impl RowName {
    /// Whether the name can be the value of a rule's column.
    pub(super) fn is_of(&self, rule: &MatchRule) -> bool {
        self.kind == rule.kind && self.label == *rule.label
    }

    /// The complete identifier, as rejects of requests have it.
    pub(super) fn in_full(&self) -> String {
        Identifier { kind: self.kind, label: &self.label, value: &self.value }.in_full()
    }
}

impl From<&Identifier<'_>> for RowName {
    fn from(identifier: &Identifier<'_>) -> Self {
        let Identifier { kind, label, value } = *identifier;
        Self { kind, label: label.to_owned(), value: value.to_owned() }
    }
}

/// One asked identifier.
pub(super) struct AskedId {
    pub(super) text: String,
    /// The identifiers that the text can be, and those of its owners.
    pub(super) names: BTreeSet<RowName>,
    /// Identifiers that the text can be, packed, and the external ids of its owners.
    pub(super) candidates: BTreeMap<MemberKey, SubjectIdentifier>,
    /// The same in the caseless form, packed. To Braze they are other users.
    pub(super) variants: BTreeMap<MemberKey, Vec<u8>>,
    /// The external ids that the user has, or may have.
    pub(super) external_ids: BTreeSet<String>,
    pub(super) owners: Vec<KnownOwner>,
    /// Why no row can match the text.
    pub(super) invalid: Option<RejectReason>,
}

/// An identifier to look up.
pub(super) struct SubjectIdentifier {
    pub(super) packed: Vec<u8>,
    /// Whether it is the owner of the asked identifier.
    pub(super) is_owner: bool,
}

/// All asked identifiers.
pub(super) struct Subjects {
    pub(super) all: Vec<AskedId>,
    pub(super) owners: Option<IdentityOwners>,
    /// Devices and aliases of the users, by index in `people`.
    pub(super) handles: Option<KnownHandles>,
    /// The external id of each user, and the subjects that the user is. Sorted by external id.
    pub(super) people: Vec<(String, Vec<usize>)>,
}

impl Subjects {
    pub(super) fn new(identifiers: &[String], inputs: LookupInputs<'_>) -> Result<Self, StateError> {
        let (owners, labels) = (inputs.state.owners()?, labels(inputs.config));
        let (mut all, mut people) = (Vec::with_capacity(identifiers.len()), BTreeMap::new());
        for (at, text) in identifiers.iter().enumerate() {
            let subject = subject(text.trim(), &labels, owners.as_ref(), inputs)?;
            for id in &subject.external_ids {
                people.entry(id.clone()).or_insert_with(Vec::new).push(at);
            }
            all.push(subject);
        }
        let people: Vec<(String, Vec<usize>)> = people.into_iter().collect();
        let handles = match owners {
            // It reads the whole identity map.
            Some(_) if !people.is_empty() => {
                let ids: Vec<&str> = people.iter().map(|(id, _)| id.as_str()).collect();
                Some(inputs.state.handles_of(&ids)?).filter(|handles| !handles.is_empty())
            }
            _ => None,
        };
        Ok(Self { all, owners, handles, people })
    }

    /// How many devices, aliases and Braze ids the identity map assigns to each subject.
    pub(super) fn handle_counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.all.len()];
        for (user, count) in self.handles.iter().flat_map(KnownHandles::counts) {
            let subjects = self.people.get(user).map(|(_, subjects)| subjects);
            subjects.into_iter().flatten().for_each(|subject| counts[*subject] += count);
        }
        counts
    }

    /// Returns the subjects that a device or an alias belongs to, by the newest evidence of the identity map.
    pub(super) fn owner_of(&self, identifier: &Identifier<'_>) -> Result<&[usize], StateError> {
        let is_known = self.handles.as_ref().is_some_and(|handles| handles.contains(identifier));
        let known = self.owners.as_ref().filter(|_| is_known).zip(IdentityKey::of_member(identifier));
        let Some((owners, handle)) = known else { return Ok(&[]) };
        let Some(OwnerEvidence::Owner { owner, .. }) = owners.answers().evidence(handle)? else {
            return Ok(&[]);
        };
        let found = self.people.binary_search_by(|(external_id, _)| external_id.cmp(&owner)).ok();
        Ok(found.and_then(|at| self.people.get(at)).map_or(&[], |(_, subjects)| subjects))
    }
}

/// The labels of aliases in the config.
fn labels(config: &Config) -> BTreeSet<&str> {
    let rules = config.cohorts.iter().flat_map(|cohort| &cohort.rules).map(|rule| &*rule.label);
    let declared = config.identity.iter().filter_map(IdentitySource::label);
    rules.chain(declared).chain([HEAP_LABEL]).filter(|label| !label.is_empty()).collect()
}

/// The key and the packed form of an identifier; none if no system accepts its length.
fn packed(identifier: Identifier<'_>, state: &StateReader) -> Option<(MemberKey, Vec<u8>)> {
    let (label, value) = (identifier.label, identifier.value);
    let is_usable = !value.is_empty()
        && value.len() <= identifier.kind.value_len_max()
        && label.len() <= usize::from(u8::MAX);
    is_usable.then(|| {
        let mut packed = Vec::new();
        identifier.pack_into(&mut packed);
        (state.key_of(&identifier), packed)
    })
}

/// Why matching rejects a text as each of these identifiers. `None`: it accepts one of them.
fn invalid(asked: &[Identifier<'_>]) -> Option<RejectReason> {
    let why = |identifier: &Identifier<'_>| {
        let len_max = identifier.kind.value_len_max();
        normalize_identifier(identifier.value.as_bytes(), len_max, &[]).err()
    };
    let all: Option<Vec<_>> = asked.iter().map(why).collect();
    all?.first().map(|why| (*why).into())
}

fn subject(
    text: &str,
    labels: &BTreeSet<&str>,
    owners: Option<&IdentityOwners>,
    inputs: LookupInputs<'_>,
) -> Result<AskedId, StateError> {
    let (mut asked, mut handles) = (Vec::new(), Vec::new());
    let is_asked = |kind| inputs.kind.is_none_or(|only| only == kind);
    if is_asked(IdKind::ExternalId) {
        asked.push(Identifier { kind: IdentifierKind::ExternalId, label: "", value: text });
    }
    if is_asked(IdKind::DeviceId) {
        asked.push(Identifier { kind: IdentifierKind::DeviceId, label: "", value: text });
        handles.push((IdKind::DeviceId, IdentityKey::DeviceId(text)));
    }
    if is_asked(IdKind::BrazeId) {
        handles.push((IdKind::BrazeId, IdentityKey::BrazeId(text)));
    }
    if is_asked(IdKind::Alias) {
        // A label may have a colon.
        let written = text.match_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
        for (label, name) in written.chain(labels.iter().map(|label| (*label, text))) {
            if !label.is_empty() && label.len() <= usize::from(u8::MAX) {
                asked.push(Identifier { kind: IdentifierKind::Alias, label, value: name });
                handles.push((IdKind::Alias, IdentityKey::Alias { label, name }));
            }
        }
    }
    let candidate = |packed, is_owner| SubjectIdentifier { packed, is_owner };
    let of_asked = asked.iter().filter_map(|identifier| packed(*identifier, inputs.state));
    let mut subject = AskedId {
        text: text.to_owned(),
        names: asked.iter().filter(|identifier| !identifier.value.is_empty()).map(RowName::from).collect(),
        candidates: of_asked.map(|(key, packed)| (key, candidate(packed, false))).collect(),
        variants: BTreeMap::new(),
        external_ids: BTreeSet::new(),
        owners: Vec::new(),
        invalid: invalid(&asked),
    };
    subject.external_ids.extend(is_asked(IdKind::ExternalId).then(|| text.to_owned()));
    for (kind, handle) in handles {
        let Some(evidence) = owners.map(|owners| owners.answers().evidence(handle)).transpose()?.flatten()
        else {
            continue;
        };
        if let OwnerEvidence::Owner { owner, .. } = &evidence {
            let owned = Identifier { kind: IdentifierKind::ExternalId, label: "", value: owner };
            subject.names.insert(RowName::from(&owned));
            if let Some((key, packed)) = packed(owned, inputs.state) {
                subject.candidates.entry(key).or_insert_with(|| candidate(packed, true));
            }
            subject.external_ids.insert(owner.clone());
        }
        let label = match handle {
            IdentityKey::Alias { label, .. } => label.to_owned(),
            _ => String::new(),
        };
        subject.owners.push(KnownOwner { kind, label, evidence });
    }
    for identifier in asked {
        let value = &*visible_form(identifier.value);
        let variant = packed(Identifier { value, ..identifier }, inputs.state);
        subject.variants.extend(variant.filter(|(key, _)| !subject.candidates.contains_key(key)));
    }
    Ok(subject)
}
