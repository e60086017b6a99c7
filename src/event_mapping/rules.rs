//! Rules of an export: selected types, and the names of types and properties, compiled from the settings.
//!
//! Rules decide by names alone and see no values.

use super::catalogue::{self, FieldRole};
use super::glob::{GlobRename, NameGlobError, NameGlobs};
use super::json::{cut, quoted};
use super::settings::{AnonymousPolicy, CustomEventNaming, IdentityFrom, MappingSettings, Pii};

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct RulesError {
    /// The setting, for example `include` or `properties.rename`.
    pub setting: &'static str,
    /// The error.
    pub problem: NameGlobError,
}

/// The compiled rules of one export. They are immutable and shared by threads.
#[derive(Clone, Debug)]
pub struct MappingRules {
    include: NameGlobs,
    exclude: NameGlobs,
    overrides: Vec<(String, String)>,
    event_prefix: String,
    property_prefix: String,
    custom_events: CustomEventNaming,
    keep: NameGlobs,
    drop: NameGlobs,
    rename: Vec<GlobRename>,
    /// `None`: personal fields are sent like others. Otherwise only matching ones are sent.
    personal: Option<NameGlobs>,
    pub(super) identity: Vec<IdentityFrom>,
    pub(super) anonymous: AnonymousPolicy,
    pub(super) key_prefix: String,
    pub(super) future_seconds_max: Option<u32>,
    profiles: bool,
}

/// The rules for one event type.
#[derive(Clone, Debug)]
pub(super) struct TypeRules {
    pub(super) role: FieldRole,
    pub(super) is_known: bool,
    pub(super) is_selected: bool,
    /// Whether the event becomes user properties.
    pub(super) is_profile: bool,
    /// The name in Heap as JSON; `None` if it depends on the event.
    pub(super) name: Option<Box<[u8]>>,
}

impl MappingRules {
    /// Checks and compiles settings.
    ///
    /// # Errors
    /// [`RulesError`] names the first faulty setting.
    pub fn new(settings: &MappingSettings) -> Result<Self, RulesError> {
        let named = |setting| move |problem| RulesError { setting, problem };
        let types = |setting, patterns: &[String]| NameGlobs::of_types(patterns).map_err(named(setting));
        let paths = |setting, patterns: &[String]| NameGlobs::of_paths(patterns).map_err(named(setting));
        let personal = match &settings.pii {
            Pii::Keep => None,
            Pii::Drop => Some(NameGlobs::default()),
            Pii::Only(fields) => Some(paths("pii", fields)?),
        };
        let renames = settings.properties.rename.iter().map(|(from, to)| GlobRename::new(from, to));
        let renames = renames.collect::<Result<_, _>>();
        Ok(Self {
            include: types("include", &settings.include)?,
            exclude: types("exclude", &settings.exclude)?,
            overrides: settings.naming.overrides.clone(),
            event_prefix: settings.naming.event_prefix.clone(),
            property_prefix: settings.naming.property_prefix.clone(),
            custom_events: settings.naming.custom_events,
            keep: paths("properties.keep", &settings.properties.keep)?,
            drop: paths("properties.drop", &settings.properties.drop)?,
            rename: renames.map_err(named("properties.rename"))?,
            personal,
            identity: settings.identity.clone(),
            anonymous: settings.anonymous,
            key_prefix: settings.connector_id.iter().map(|id| format!("{id}:")).collect(),
            future_seconds_max: settings.future_seconds_max,
            profiles: settings.profiles,
        })
    }

    /// Whether events of this type are sent to Heap as events.
    #[must_use]
    pub fn is_selected(&self, event_type: &str) -> bool {
        let is_included = self.include.is_empty() || self.include.matches(event_type);
        is_included && !self.exclude.matches(event_type)
    }

    /// The name of this event type in Heap; `custom` is the name of a custom event.
    #[must_use]
    pub fn event_name(&self, event_type: &str, custom: Option<&str>) -> String {
        if let Some((_, name)) = self.overrides.iter().find(|(of, _)| of == event_type) {
            return cut(name).to_owned();
        }
        let base = match (custom.map(str::trim).filter(|name| !name.is_empty()), self.custom_events) {
            (Some(name), CustomEventNaming::Labeled) => format!("Custom Event: {name}"),
            (Some(name), CustomEventNaming::Bare) => name.to_owned(),
            (None, _) => catalogue::readable(event_type),
        };
        cut(&format!("{}{base}", self.event_prefix)).to_owned()
    }

    pub(super) fn of_type(&self, event_type: &str) -> TypeRules {
        let role = FieldRole::of(event_type);
        let is_profile = self.profiles && role == FieldRole::Profile;
        let has_own_name =
            role == FieldRole::CustomEvent && !self.overrides.iter().any(|(of, _)| of == event_type);
        let mut name = Vec::new();
        quoted(&mut name, &self.event_name(event_type, None));
        TypeRules {
            role,
            is_known: catalogue::is_known(event_type),
            is_selected: is_profile || self.is_selected(event_type),
            is_profile,
            name: (!has_own_name).then(|| name.into_boxed_slice()),
        }
    }

    /// Whether a property with this name, or one below it, may be sent.
    pub(super) fn may_keep(&self, path: &str) -> bool {
        let is_personal = catalogue::is_personal(path);
        let is_left_out = self.personal.as_ref().is_some_and(NameGlobs::is_empty) && is_personal;
        !is_left_out && !self.drop.matches(path)
    }

    /// Whether a property that serves as identity has this name or lies below it.
    pub(super) fn seeks_below(&self, path: &str) -> bool {
        self.identity.iter().any(|from| match from {
            IdentityFrom::Property(name) => {
                name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
            _ => false,
        })
    }

    /// Appends the key of a property as JSON, with its colon. Returns `false` and appends nothing if the property is not
    /// sent.
    pub(super) fn key(&self, path: &str, is_profile: bool, out: &mut Vec<u8>) -> bool {
        let is_personal = || catalogue::is_personal(path);
        let is_let_in = self.personal.as_ref().is_none_or(|named| !is_personal() || named.matches(path));
        let is_kept = self.keep.is_empty() || self.keep.matches(path);
        if !is_let_in || !is_kept || self.drop.matches(path) || (is_profile && is_about_the_update(path)) {
            return false;
        }
        let renamed = self.rename.iter().find_map(|rename| rename.of(path));
        let name = match &renamed {
            Some(name) => name,
            // Heap's own email property has this name, in lower case.
            None if is_profile && path == "email_address" && self.property_prefix.is_empty() => "email",
            None => path,
        };
        quoted(out, cut(&escaped(format!("{}{name}", self.property_prefix))));
        out.push(b':');
        true
    }
}

/// Fields of a profile update that are not about the user.
fn is_about_the_update(path: &str) -> bool {
    matches!(path, "app_group_id" | "app_id" | "update_source")
}

/// Prefixes an underscore to names that Heap rejects for user properties: `id` and `user_id` in any case, and the empty
/// name.
fn escaped(name: String) -> String {
    let is_reserved = ["", "id", "user_id"].iter().any(|reserved| name.eq_ignore_ascii_case(reserved));
    if is_reserved { format!("_{name}") } else { name }
}

/// Checks one glob, so that a config error can name its position.
///
/// # Errors
/// [`NameGlobError`] with the reason.
pub fn check_glob(pattern: &str) -> Result<(), NameGlobError> {
    NameGlobs::of_types(&[pattern.to_owned()]).map(drop)
}

/// Checks one rename, so that a config error can name its position.
///
/// # Errors
/// [`NameGlobError`] with the reason.
pub fn check_rename(from: &str, to: &str) -> Result<(), NameGlobError> {
    GlobRename::new(from, to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::settings::{EventNaming, PropertyFilter};
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn check(rules: &MappingRules, keys: &[(&str, &str)]) {
        for (path, expected) in keys {
            let mut key = Vec::new();
            rules.key(path, false, &mut key);
            let key = String::from_utf8(key).unwrap();
            assert_eq!(key.trim_end_matches(':').trim_matches('"'), *expected, "{path}");
        }
    }

    #[test]
    fn types_are_selected_by_globs() {
        let rules = |include: &[&str], exclude: &[&str]| {
            let settings = MappingSettings {
                include: texts(include),
                exclude: texts(exclude),
                ..MappingSettings::default()
            };
            MappingRules::new(&settings).unwrap()
        };
        let some = rules(&["users.messages.**"], &["users.messages.*.Abort"]);
        assert!(some.is_selected("users.messages.email.Open"));
        assert!(!some.is_selected("users.messages.email.Abort") && !some.is_selected("users.UserOrphan"));
        assert!(rules(&[], &[]).is_selected("anything.at.All"));
    }

    #[test]
    fn names_of_events() {
        let mut settings = MappingSettings::default();
        let name = |settings: &MappingSettings, event_type: &str, custom: Option<&str>| {
            MappingRules::new(settings).unwrap().event_name(event_type, custom)
        };
        let custom = "users.behaviors.CustomEvent";
        assert_eq!(name(&settings, "users.messages.email.Open", None), "Braze Email Open");
        assert_eq!(name(&settings, custom, Some("Cart left")), "Braze Custom Event: Cart left");
        assert_eq!(name(&settings, custom, Some(" ")), "Braze Custom Event");
        assert_eq!(name(&settings, custom, Some(&"x".repeat(2000))).len(), 1023);
        settings.naming = EventNaming {
            event_prefix: "braze-".to_owned(),
            custom_events: CustomEventNaming::Bare,
            overrides: vec![("users.behaviors.Purchase".to_owned(), "Order paid".to_owned())],
            ..EventNaming::default()
        };
        assert_eq!(name(&settings, "users.messages.email.Open", None), "braze-Email Open");
        assert_eq!(name(&settings, custom, Some("Cart left")), "braze-Cart left");
        assert_eq!(name(&settings, "users.behaviors.Purchase", None), "Order paid");
    }

    #[test]
    fn keys_that_heap_rejects_are_escaped() {
        let rules =
            MappingRules::new(&MappingSettings { pii: Pii::Keep, ..MappingSettings::default() }).unwrap();
        check(
            &rules,
            &[
                ("id", "_id"),
                ("Id", "_Id"),
                ("user_id", "_user_id"),
                ("", "_"),
                ("campaign_id", "campaign_id"),
            ],
        );
        let naming = EventNaming { property_prefix: "braze-".to_owned(), ..EventNaming::default() };
        let rules =
            MappingRules::new(&MappingSettings { pii: Pii::Keep, naming, ..MappingSettings::default() })
                .unwrap();
        check(&rules, &[("id", "braze-id"), ("user_id", "braze-user_id")]);
    }

    #[test]
    fn properties_are_kept_dropped_and_renamed() {
        let properties = PropertyFilter {
            keep: texts(&["campaign_*", "custom_properties"]),
            drop: texts(&["custom_properties.secret", "*_name"]),
            rename: vec![("custom_properties.**".to_owned(), "**".to_owned())],
        };
        let rules = MappingRules::new(&MappingSettings { properties, ..MappingSettings::default() }).unwrap();
        check(
            &rules,
            &[
                ("campaign_id", "campaign_id"),
                ("campaign_name", ""),
                ("canvas_id", ""),
                ("custom_properties.a.b", "a.b"),
                ("custom_properties.secret.x", ""),
            ],
        );
    }

    #[test]
    fn personal_fields_are_sent_only_on_request() {
        let rules = |pii| MappingRules::new(&MappingSettings { pii, ..MappingSettings::default() }).unwrap();
        let fields = ["email_address", "message_extras.a", "timezone"];
        let check = |pii, expected: [&str; 3]| {
            check(&rules(pii), &fields.into_iter().zip(expected).collect::<Vec<_>>());
        };
        check(Pii::Drop, ["", "", "timezone"]);
        check(Pii::Keep, fields);
        check(Pii::Only(texts(&["message_extras"])), ["", "message_extras.a", "timezone"]);
        assert!(!rules(Pii::Drop).may_keep("message_extras"));
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let settings = MappingSettings { exclude: texts(&[""]), ..MappingSettings::default() };
        assert_eq!(
            MappingRules::new(&settings).unwrap_err().to_string(),
            "exclude: an empty pattern matches nothing"
        );
    }
}
