//! Checks of deliveries: required keys, and attributes that no other cohort or system uses.

use std::collections::HashMap;

use super::triggers::declared_triggers;
use super::{brazes, is_sandbox};
use crate::config::problem::{Problem, ProblemCode, did_you_mean};
use crate::config::source_text::SourceSpan;
use crate::config::tree::{TreeEntry, TreeNode};

/// Standard attributes of Braze profiles (Braze, "User attributes object"). Writing a cohort into one of them would
/// overwrite user data.
const PROFILE_FIELDS: [&str; 31] = [
    "alias_label",
    "alias_name",
    "braze_id",
    "country",
    "current_location",
    "date_of_first_session",
    "date_of_last_session",
    "dob",
    "email",
    "email_click_tracking_disabled",
    "email_open_tracking_disabled",
    "email_subscribe",
    "external_id",
    "facebook",
    "first_name",
    "gender",
    "home_city",
    "image_url",
    "language",
    "last_name",
    "marked_email_as_spam_at",
    "phone",
    "push_subscribe",
    "push_tokens",
    "sms_subscribe",
    "subscription_group_id",
    "subscription_groups",
    "time_zone",
    "twitter",
    "user_alias",
    "user_id",
];

/// The alternative for everyone who is no partner of Braze.
const WITHOUT_PARTNER_KEY: &str =
    "Without a partner key, use `deliver: attribute` in the cohorts: it needs only `rest_api_key`";

/// The cohorts of a connection.
fn cohorts_to<'a>(tree: &'a TreeNode, connection: &'a str) -> impl Iterator<Item = &'a TreeNode> {
    let uses = move |cohort: &&TreeNode| cohort.text("to").is_some_and(|(to, _)| to == connection);
    tree.items("cohorts").iter().filter(uses)
}

fn by_attribute(cohort: &TreeNode) -> Option<SourceSpan> {
    cohort.text("deliver").filter(|(word, _)| *word == "attribute").map(|(_, span)| span)
}

/// Whether the key for the delivery of a cohort is misspelled, or its value is a word that does not exist.
fn is_misspelled(cohort: &TreeNode) -> bool {
    cohort.entries().iter().any(|entry| match entry.key.as_str() {
        "deliver" => !entry.node.as_text().is_some_and(|word| ["attribute", "cohort_import"].contains(&word)),
        key => key.eq_ignore_ascii_case("deliver") || did_you_mean(key, ["deliver"]).is_some(),
    })
}

/// A connection needs the keys of the delivery methods of its cohorts. A connection without cohorts needs those of one
/// method.
pub(super) fn real_vendors_have_keys(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for entry in brazes(tree).filter(|entry| !is_sandbox(&entry.node)) {
        if !entry.node.entries().iter().any(|e| e.key == "instance" || e.key == "endpoint") {
            continue;
        }
        // Which keys are needed is not known before the misspelled word is corrected.
        if cohorts_to(tree, &entry.key).any(is_misspelled) {
            continue;
        }
        let attribute = cohorts_to(tree, &entry.key).find_map(by_attribute);
        let uses_it = |cohort: &TreeNode| cohort.text("to").is_some_and(|(to, _)| to == entry.key);
        let asks = tree.items("cohorts").iter().filter(|cohort| uses_it(cohort));
        let asks = asks.filter_map(|cohort| cohort.entry("preflight")).map(|entry| entry.key_span).next();
        let trigger =
            declared_triggers(tree).find(|(cohort, _)| uses_it(cohort)).map(|(_, trigger)| trigger.key_span);
        let imports = cohorts_to(tree, &entry.key).any(|cohort| by_attribute(cohort).is_none());
        let needs_nothing = attribute.is_none() && entry.node.get("rest_api_key").is_some();
        if imports || !(attribute.is_some() || needs_nothing) {
            for key in ["data_import_key", "partner_api_key"] {
                problems.extend(lacks(entry, key, None));
            }
        }
        if let Some(span) = attribute {
            problems.extend(lacks(
                entry,
                "rest_api_key",
                Some((span, "this cohort is delivered by attribute")),
            ));
        } else if let Some(span) = trigger {
            problems.extend(lacks(entry, "rest_api_key", Some((span, "this trigger needs it"))));
        } else if let Some(span) = asks {
            problems.extend(lacks(entry, "rest_api_key", Some((span, "`preflight` needs it"))));
        }
    }
}

fn lacks(entry: &TreeEntry, key: &str, because: Option<(SourceSpan, &str)>) -> Option<Problem> {
    if entry.node.get(key).is_some() {
        return None;
    }
    let variable = key.to_uppercase();
    let problem =
        Problem::new(ProblemCode::MissingCredentials, format!("connection `{}` has no `{key}`", entry.key))
            .at(entry.key_span, format!("missing `{key}`"));
    let problem = match because {
        Some((span, why)) => problem.see(span, why),
        None => problem,
    };
    let add = format!("add `{key}: {{ env: BRAZE_{variable} }}`; only the sandbox needs no keys");
    Some(problem.hint(if key == "rest_api_key" { add } else { format!("{add}. {WITHOUT_PARTNER_KEY}") }))
}

/// `attribute:` has an effect only with `deliver: attribute`.
pub(super) fn attributes_are_written(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for cohort in tree.items("cohorts") {
        if let Some(entry) = cohort.entry("attribute").filter(|_| by_attribute(cohort).is_none()) {
            problems.push(
                Problem::new(ProblemCode::BadAttribute, "`attribute` has no effect")
                    .at(entry.key_span, "the cohort is delivered by cohort import")
                    .hint("add `deliver: attribute`, or delete `attribute`"),
            );
        }
    }
}

/// Connection, kind, name and span of a cohort's attribute.
fn attribute(cohort: &TreeNode) -> Option<(&str, &str, &str, SourceSpan)> {
    by_attribute(cohort)?;
    let (to, _) = cohort.text("to")?;
    let attribute = cohort.get("attribute")?;
    let kind = ["array", "boolean"].into_iter().find(|kind| attribute.get(kind).is_some())?;
    let (name, span) = attribute.text(kind)?;
    Some((to, kind, name, span))
}

/// A boolean attribute can represent only one cohort.
pub(super) fn attributes_differ(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let mut first: HashMap<(&str, &str), (&str, SourceSpan)> = HashMap::new();
    for (to, kind, name, span) in tree.items("cohorts").iter().filter_map(attribute) {
        match first.get(&(to, name)) {
            None => drop(first.insert((to, name), (kind, span))),
            Some((known, _)) if (kind, *known) == ("array", "array") => {}
            Some((_, earlier)) => problems.push(
                Problem::new(
                    ProblemCode::BadAttribute,
                    format!("two cohorts in `{to}` use the attribute `{name}`"),
                )
                .at(span, "second use")
                .see(*earlier, "first use")
                .hint("only array attributes can be shared; use another boolean attribute"),
            ),
        }
    }
}

/// Cohorts must not overwrite standard attributes.
pub(super) fn profile_fields_are_left_alone(tree: &TreeNode, problems: &mut Vec<Problem>) {
    for (_, _, name, span) in tree.items("cohorts").iter().filter_map(attribute) {
        if PROFILE_FIELDS.contains(&name.to_ascii_lowercase().as_str()) {
            problems.push(
                Problem::new(ProblemCode::BadAttribute, format!("`{name}` is a standard field of Braze"))
                    .at(span, "would overwrite data of user profiles")
                    .hint("use an attribute for cohorts only, for example `syncline_cohorts`"),
            );
        }
    }
}
