//! The user of an event, and its identity link.

use std::borrow::Cow;

use md5::{Digest as _, Md5};

use super::catalogue::FieldRole;
use super::outcome::{
    AnonymousIds, EventRejectReason, EventUser, IdentityLink, IgnoredReason, OwnerLookup, Rejection,
};
use super::rules::MappingRules;
use super::settings::{AnonymousPolicy, IdentityFrom};
use crate::model::{InvalidIdentifier, normalize_identifier};

/// The longest identity in characters (Heap, `/api/track`).
const IDENTITY_LEN_MAX: usize = 255;

/// The user ids of an event, as written.
#[derive(Clone, Debug, Default)]
pub(super) struct EventIds<'a> {
    pub(super) external_user_id: Option<Cow<'a, [u8]>>,
    pub(super) user_id: Option<Cow<'a, [u8]>>,
    pub(super) device_id: Option<Cow<'a, [u8]>>,
    pub(super) orphaned_by_id: Option<Cow<'a, [u8]>>,
}

/// The user that an event is sent for, or the reason why it is not sent.
pub(super) enum UserDecision<'a> {
    Known(EventUser<'a>),
    Awaited(AnonymousIds<'a>),
    Ignored(IgnoredReason),
    Rejected(Rejection),
}

impl<'a> EventIds<'a> {
    /// The identity link of the event.
    pub(super) fn link(&self, role: FieldRole) -> Option<IdentityLink<'a>> {
        match role {
            FieldRole::Orphan => {
                Some(IdentityLink::Merge { from: id(&self.user_id)?, into: id(&self.orphaned_by_id)? })
            }
            FieldRole::Deletion => Some(IdentityLink::Deletion { user_id: id(&self.user_id)? }),
            _ => {
                let external_user_id = id(&self.external_user_id)?;
                let keys = self.keys();
                (!keys.is_empty()).then_some(IdentityLink::Tie { external_user_id, keys })
            }
        }
    }

    fn keys(&self) -> AnonymousIds<'a> {
        AnonymousIds { user_id: id(&self.user_id), device_id: id(&self.device_id) }
    }

    /// The user by the rules. `aliases` has the values of the properties that the rules name as identity, in their order.
    pub(super) fn user(
        &self,
        rules: &MappingRules,
        aliases: &'a [Option<String>],
        owners: &'a dyn OwnerLookup,
        is_profile: bool,
    ) -> UserDecision<'a> {
        let mut aliases = aliases.iter();
        for from in &rules.identity {
            let found = match from {
                IdentityFrom::ExternalUserId => identity(&self.external_user_id),
                IdentityFrom::BrazeUserId => identity(&self.user_id),
                IdentityFrom::Property(_) => {
                    identity(&aliases.next().and_then(Option::as_ref).map(|text| text.as_bytes().into()))
                }
            };
            match found {
                Ok(None) => {}
                Ok(Some(identity)) => return UserDecision::Known(EventUser::Identity(identity)),
                Err(reason) => {
                    let field = match from {
                        IdentityFrom::ExternalUserId => "external_user_id",
                        IdentityFrom::BrazeUserId => "user_id",
                        IdentityFrom::Property(name) => name,
                    };
                    return UserDecision::Rejected(Rejection::new(reason, field));
                }
            }
        }
        self.anonymous(rules.anonymous, owners, is_profile)
    }

    fn anonymous(
        &self,
        policy: AnonymousPolicy,
        owners: &'a dyn OwnerLookup,
        is_profile: bool,
    ) -> UserDecision<'a> {
        let keys = self.keys();
        if keys.is_empty() {
            return UserDecision::Ignored(IgnoredReason::NoUser);
        }
        if let Some(owner) = owners.owner(&keys) {
            return UserDecision::Known(EventUser::Identity(owner));
        }
        match (policy, keys.user_id.as_ref().or(keys.device_id.as_ref())) {
            (AnonymousPolicy::Hold, _) => UserDecision::Awaited(keys),
            // Heap accepts user properties for identities only.
            (AnonymousPolicy::Hash, Some(key)) if !is_profile => {
                UserDecision::Known(EventUser::UserId(heap_user_id(key)))
            }
            _ => UserDecision::Ignored(IgnoredReason::Anonymous),
        }
    }
}

/// An id that identifies one user; `None` for empty texts and placeholders.
fn id<'a>(value: &Option<Cow<'a, [u8]>>) -> Option<Cow<'a, str>> {
    judged(value, usize::MAX).ok().flatten()
}

fn identity<'a>(value: &Option<Cow<'a, [u8]>>) -> Result<Option<Cow<'a, str>>, EventRejectReason> {
    let found = judged(value, 4 * IDENTITY_LEN_MAX).map_err(|unusable| match unusable {
        InvalidIdentifier::Placeholder | InvalidIdentifier::Number(_) => {
            EventRejectReason::IdentityPlaceholder
        }
        InvalidIdentifier::TooLong => EventRejectReason::IdentityTooLong,
        InvalidIdentifier::ControlCharacter => EventRejectReason::IdentityControlCharacter,
        InvalidIdentifier::NotUtf8 => EventRejectReason::IdentityNotUtf8,
    })?;
    match found {
        Some(text) if text.len() > IDENTITY_LEN_MAX && text.chars().count() > IDENTITY_LEN_MAX => {
            Err(EventRejectReason::IdentityTooLong)
        }
        found => Ok(found),
    }
}

fn judged<'a>(
    value: &Option<Cow<'a, [u8]>>,
    len_max: usize,
) -> Result<Option<Cow<'a, str>>, InvalidIdentifier> {
    fn text(bytes: &[u8]) -> Result<&str, InvalidIdentifier> {
        std::str::from_utf8(bytes).map_err(|_| InvalidIdentifier::NotUtf8)
    }
    match value {
        None => Ok(None),
        Some(Cow::Borrowed(bytes)) => {
            normalize_identifier(bytes, len_max, &[])?.map(|bytes| text(bytes).map(Cow::Borrowed)).transpose()
        }
        Some(Cow::Owned(bytes)) => normalize_identifier(bytes, len_max, &[])?
            .map(|bytes| text(bytes).map(|text| Cow::Owned(text.to_owned())))
            .transpose(),
    }
}

/// The Heap user id of an anonymous id: 53 bits of the id's MD5, as in Heap's own integration with a customer data
/// platform.
#[must_use]
pub fn heap_user_id(id: &str) -> u64 {
    let digest = Md5::digest(id.as_bytes());
    let part =
        |at: usize| digest[at..at + 4].iter().rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
    part(0) | (part(8) & ((1 << 21) - 1)) << 32
}

#[cfg(test)]
mod tests {
    use super::super::settings::MappingSettings;
    use super::*;

    #[test]
    fn the_hash_is_the_documented_one() {
        assert_eq!(heap_user_id("5a41f0df-b69a-4a99-b656-79506a86c3f8"), 8_325_872_782_136_936);
        assert!((0..1000).all(|n| heap_user_id(&n.to_string()) < 1 << 53));
    }

    fn ids<'a>(external: &'a str, user: &'a str, device: &'a str) -> EventIds<'a> {
        let some = |text: &'a str| Some(Cow::Borrowed(text.as_bytes()));
        EventIds {
            external_user_id: some(external),
            user_id: some(user),
            device_id: some(device),
            orphaned_by_id: some("b2"),
        }
    }

    struct One(&'static str);

    impl OwnerLookup for One {
        fn owner(&self, keys: &AnonymousIds<'_>) -> Option<Cow<'_, str>> {
            (keys.device_id.as_deref() == Some("d1")).then_some(self.0.into())
        }
    }

    fn check(ids: &EventIds<'_>, anonymous: AnonymousPolicy, owners: &dyn OwnerLookup, expected: &str) {
        let rules = MappingRules::new(&MappingSettings { anonymous, ..MappingSettings::default() }).unwrap();
        let found = match ids.user(&rules, &[], owners, false) {
            UserDecision::Known(EventUser::Identity(identity)) => format!("is {identity}"),
            UserDecision::Known(EventUser::UserId(number)) => format!("number {number}"),
            UserDecision::Awaited(keys) => {
                format!("awaits {} {}", keys.user_id.unwrap_or_default(), keys.device_id.unwrap_or_default())
            }
            UserDecision::Ignored(reason) => reason.as_str().to_owned(),
            UserDecision::Rejected(no) => format!("{} {}", no.reason.as_str(), no.detail),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn placeholders_are_not_identities() {
        let (drop, hash, hold) = (AnonymousPolicy::Drop, AnonymousPolicy::Hash, AnonymousPolicy::Hold);
        check(&ids(" u1 ", "b1", "d1"), drop, &(), "is u1");
        check(&ids("[REDACTED]", "b1", "d1"), hash, &(), "identity_placeholder external_user_id");
        check(&ids("undefined", "b1", "d1"), hold, &One("u9"), "identity_placeholder external_user_id");
        check(&ids(&"é".repeat(255), "", ""), drop, &(), &format!("is {}", "é".repeat(255)));
        check(&ids(&"x".repeat(256), "b1", ""), drop, &(), "identity_too_long external_user_id");
        check(&ids("a\u{7}", "b1", ""), drop, &(), "identity_control_character external_user_id");
        check(&ids("", "b1", "d1"), drop, &(), "anonymous");
        check(&ids("", "b1", "d1"), drop, &One("u9"), "is u9");
        check(&ids("", "b1", "d1"), hold, &(), "awaits b1 d1");
        check(&ids("", "null", "d1"), hold, &(), "awaits  d1");
        check(&ids("", "5a41f0df-b69a-4a99-b656-79506a86c3f8", "d1"), hash, &(), "number 8325872782136936");
        check(&ids("", "", ""), hash, &(), "no_user");
    }

    #[test]
    fn links_of_every_kind() {
        let keys = |user: &'static str, device: &'static str| AnonymousIds {
            user_id: (!user.is_empty()).then_some(user.into()),
            device_id: (!device.is_empty()).then_some(device.into()),
        };
        let tie = |keys| Some(IdentityLink::Tie { external_user_id: "u1".into(), keys });
        assert_eq!(ids("u1", "b1", "").link(FieldRole::Other), tie(keys("b1", "")));
        assert_eq!(ids("u1", "", "d1").link(FieldRole::CustomEvent), tie(keys("", "d1")));
        assert_eq!(ids("[REDACTED]", "b1", "d1").link(FieldRole::Other), None);
        assert_eq!(ids("u1", "", "").link(FieldRole::Other), None);
        let merge = IdentityLink::Merge { from: "b1".into(), into: "b2".into() };
        assert_eq!(ids("", "b1", "d1").link(FieldRole::Orphan), Some(merge));
        assert_eq!(
            ids("", "b1", "").link(FieldRole::Deletion),
            Some(IdentityLink::Deletion { user_id: "b1".into() })
        );
    }
}
