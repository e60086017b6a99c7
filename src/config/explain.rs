//! Turns schema errors into problems: the fault, its span, and a suggestion.
//!
//! The messages depend only on keywords of the schema, never on particular keys of the config, so a new setting needs
//! no code here.

use std::collections::{HashMap, HashSet};

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::paths::LocationSegment;
use serde_json::Value;

use super::braze_instance::instance_of_address;
use super::mask;
use super::problem::{Problem, ProblemCode, QUOTE_IT, did_you_mean, listed};
use super::suggest::{form, in_mapping, synonym, yaml};
use super::text::SLUG_RULE;
use super::tree::{PathStep, TreeEntry, TreeIndex, TreeNode, TreeValue};

/// The node that an error is about, and the rule that it breaks.
struct ErrorTarget<'a> {
    node: &'a TreeNode,
    /// The name of the node in messages.
    name: String,
    /// The part of the schema that the error comes from.
    rule: SchemaAt<'a>,
    tree: &'a TreeIndex<'a>,
    schema: &'a Value,
}

/// Appends the problems of all errors. A misspelled key that must be there is one problem, not two.
pub(super) fn explain_all(
    errors: &[ValidationError<'_>],
    tree: &TreeIndex<'_>,
    schema: &Value,
    problems: &mut Vec<Problem>,
) {
    let mut missing: HashMap<&str, Vec<&str>> = HashMap::new();
    for error in errors {
        if let Kind::Required { property } = error.kind() {
            missing.entry(error.instance_path().as_str()).or_default().extend(property.as_str());
        }
    }
    let mut renamed: HashSet<(&str, &str)> = HashSet::new();
    for error in errors {
        let Kind::AdditionalProperties { unexpected } = error.kind() else { continue };
        let at = error.instance_path().as_str();
        let Some(missing) = missing.get(at) else { continue };
        let has_example = SchemaAt::new(schema, error).example_mapping().is_some();
        let is_meant = |name: &&str| unexpected.iter().any(|key| did_you_mean(key, [*name]).is_some());
        renamed.extend(missing.iter().filter(|name| has_example || is_meant(name)).map(|name| (at, *name)));
    }
    let is_renamed = |error: &ValidationError<'_>| match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            renamed.contains(&(error.instance_path().as_str(), name))
        }
        _ => false,
    };
    errors.iter().filter(|error| !is_renamed(error)).for_each(|error| explain(error, tree, schema, problems));
}

/// Appends the problems of an error.
fn explain(error: &ValidationError<'_>, tree: &TreeIndex<'_>, schema: &Value, problems: &mut Vec<Problem>) {
    let path = steps(error.instance_path().iter());
    let target = ErrorTarget {
        node: tree.nearest(&path),
        name: named(&path, tree),
        rule: SchemaAt::new(schema, error),
        tree,
        schema,
    };
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            match (unexpected.as_slice(), target.rule.example_mapping()) {
                (keys, Some(example)) => problems.push(unknown_keys(keys, &example, &target)),
                (keys, None) => problems.extend(keys.iter().map(|key| unknown_key(key, &target))),
            }
        }
        Kind::OneOfNotValid { context } | Kind::AnyOf { context } => {
            explain_choice(context, &target, problems);
        }
        kind => problems.push(explain_one(kind, target.node, &target.name, &target.rule, (error, schema))),
    }
}

/// Converts a path of the schema library into steps through the tree.
fn steps<'a>(path: impl Iterator<Item = LocationSegment<'a>>) -> Vec<PathStep> {
    path.map(|segment| match segment {
        LocationSegment::Property(key) => PathStep::Key(key.into_owned()),
        LocationSegment::Index(at) => PathStep::Index(at),
    })
    .collect()
}

/// Reports that the built-in schema does not compile, which is a bug.
pub(super) fn broken_schema(error: &str) -> Problem {
    Problem::new(ProblemCode::BadFormat, format!("the built-in schema is broken: {error}"))
}

/// The part of the schema that an error comes from.
struct SchemaAt<'a> {
    parent: Option<&'a Value>,
}

impl<'a> SchemaAt<'a> {
    fn new(schema: &'a Value, error: &ValidationError<'_>) -> Self {
        let path = error.schema_path().as_str();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        Self { parent: schema.pointer(parent) }
    }

    fn keys(&self) -> Vec<&'a str> {
        let properties = self.parent.and_then(|parent| parent.get("properties")?.as_object());
        properties.map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    /// Whether users choose the keys, so that the schema restricts only their form.
    fn has_free_names(&self) -> bool {
        self.parent.is_some_and(|parent| parent.get("patternProperties").is_some())
    }

    /// An example of a valid value, as YAML.
    fn example(&self) -> Option<String> {
        let example = self.parent?.get("examples")?.get(0)?;
        Some(example.as_str().map_or_else(|| yaml(example), str::to_owned))
    }

    /// An example of the whole mapping, if its keys are fixed.
    fn example_mapping(&self) -> Option<String> {
        let is_mapping = self.parent?.get("examples")?.get(0)?.is_object();
        (is_mapping && !self.has_free_names()).then(|| self.example()).flatten()
    }

    /// What to do if none of the listed values fits.
    fn unlisted(&self) -> Option<&'a str> {
        self.text("unlistedHint")
    }

    /// The allowed words, if the schema is a choice of words.
    fn words(&self) -> Vec<&'a str> {
        let choices =
            self.parent.and_then(|parent| parent.get("oneOf").or_else(|| parent.get("anyOf"))?.as_array());
        choices.into_iter().flatten().filter_map(|choice| choice.get("const")?.as_str()).collect()
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.parent?.get(key)?.as_str()
    }
}

/// The name of a node in messages: its key, or for an item of a list its id, such as "cohort `vip`".
fn named(path: &[PathStep], tree: &TreeIndex<'_>) -> String {
    let key = path.iter().rev().find_map(|step| match step {
        PathStep::Key(key) => Some(key.as_str()),
        PathStep::Index(_) => None,
    });
    match (key, path.last()) {
        (Some(list), Some(PathStep::Index(_))) => {
            let id = tree.nearest(path).get("id").filter(|id| mask::suspect(id).is_empty());
            let id = id.and_then(|id| id.as_text()).filter(|id| !id.trim().is_empty());
            id.map_or_else(
                || format!("an item of `{list}`"),
                |id| format!("{} `{id}`", list.strip_suffix('s').unwrap_or(list)),
            )
        }
        (Some(key), _) => format!("`{key}`"),
        (None, _) => "the config".to_owned(),
    }
}

/// One problem for all unknown keys of a small mapping, with an example of the whole mapping.
fn unknown_keys(keys: &[String], example: &str, at: &ErrorTarget<'_>) -> Problem {
    let entries: Vec<&TreeEntry> = keys.iter().filter_map(|key| at.tree.entry(at.node, key)).collect();
    let span = entries.first().map_or(at.node.span, |entry| entry.key_span);
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let keys = if keys.len() == 1 { "key" } else { "keys" };
    Problem::new(ProblemCode::UnknownKey, format!("unknown {keys} {} in {}", listed(&names), at.name))
        .suspect(entries.into_iter().flat_map(mask::suspects).collect())
        .at(span, format!("unknown {keys}"))
        .hint(format!("for example `{example}`"))
}

fn unknown_key(key: &str, at: &ErrorTarget<'_>) -> Problem {
    let ErrorTarget { node, name, rule, tree, .. } = at;
    let span = tree.entry(node, key).map_or(node.span, |entry| entry.key_span);
    if rule.has_free_names() {
        return Problem::new(ProblemCode::BadFormat, format!("invalid name `{key}` in {name}"))
            .suspect(tree.entry(node, key).map(mask::suspects).unwrap_or_default())
            .at(span, format!("expected {SLUG_RULE}"));
    }
    let known = rule.keys();
    let problem = Problem::new(ProblemCode::UnknownKey, format!("unknown key `{key}` in {name}"))
        .suspect(tree.entry(node, key).map(mask::suspects).unwrap_or_default());
    match did_you_mean(key, known.iter().copied()) {
        Some(near) => problem.at(span, "unknown key").hint(format!("did you mean `{near}`?")),
        None => problem.at(span, "unknown key").hint(format!("known keys: {}", listed(&known))),
    }
}

/// One of several shapes of a value, with the key that distinguishes it.
struct ExpectedForm<'a> {
    /// The tag, such as `kind: file`.
    tag: Option<(&'a str, &'a str)>,
    /// The only key, as in `{ env: … }`.
    only_key: Option<&'a str>,
}

impl<'a> ExpectedForm<'a> {
    fn all(choice: &SchemaAt<'a>) -> Vec<Self> {
        let parent = choice.parent;
        let shapes = parent.and_then(|p| p.get("oneOf").or_else(|| p.get("anyOf"))?.as_array());
        shapes.into_iter().flatten().map(Self::of).collect()
    }

    fn of(schema: &'a Value) -> Self {
        let properties = schema.get("properties").and_then(Value::as_object);
        let mut properties = properties.into_iter().flatten();
        let tag =
            properties.clone().find_map(|(key, value)| Some((key.as_str(), value.get("const")?.as_str()?)));
        let only_key = match (properties.next(), properties.next()) {
            (Some((key, _)), None) => Some(key.as_str()),
            _ => None,
        };
        Self { tag, only_key }
    }

    fn is(&self, node: &TreeNode) -> bool {
        match (self.tag, self.only_key) {
            (Some((key, value)), _) => node.text(key).is_some_and(|(text, _)| text == value),
            (None, Some(key)) => node.get(key).is_some(),
            (None, None) => false,
        }
    }
}

/// Explains a value that has none of several shapes, by the errors of the shape that its tag names.
fn explain_choice(
    context: &[Vec<ValidationError<'static>>],
    at: &ErrorTarget<'_>,
    problems: &mut Vec<Problem>,
) {
    let ErrorTarget { node, name, rule, tree, schema } = at;
    let shapes = ExpectedForm::all(rule);
    let keys: Vec<&str> = shapes.iter().filter_map(|shape| shape.only_key).collect();
    let words = rule.words();
    let TreeValue::Map(entries) = &node.value else {
        if !words.is_empty() {
            return problems.push(unknown_value(node, name, &words, rule));
        }
        let wanted = if keys.is_empty() {
            "a mapping".to_owned()
        } else {
            format!("a mapping with {}", one_of(&keys))
        };
        let problem = Problem::new(
            ProblemCode::WrongType,
            format!("{name}: expected {wanted}, found {}", kind_of(node)),
        );
        let problem =
            problem.suspect(mask::suspect(node)).at(node.head(), format!("found {}", kind_of(node)));
        problems.push(match mapping_hint(node, &keys, at) {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
        return;
    };
    let meant = shapes.iter().position(|shape| shape.is(node));
    // An overlay need not repeat the tag: then the shape with the fewest errors applies.
    let is_overlay = rule.parent.is_some_and(|parent| parent.get("anyOf").is_some());
    let is_marked = shapes.iter().filter_map(|shape| shape.tag).any(|(key, _)| node.get(key).is_some());
    let fits_best = || (0..context.len()).min_by_key(|shape| context[*shape].len());
    let meant = meant.or_else(|| fits_best().filter(|_| is_overlay && !is_marked));
    if let Some(errors) = meant.and_then(|meant| context.get(meant)) {
        explain_all(errors, tree, schema, problems);
        return;
    }
    let tags: Vec<(&str, &str)> = shapes.iter().filter_map(|shape| shape.tag).collect();
    problems.push(match (tags.first(), entries.first()) {
        (Some((key, _)), _) => wrong_tag(key, &tags, node, name, rule),
        (None, Some(entry)) => suggest(
            Problem::new(ProblemCode::UnknownKey, format!("unknown key `{}` in {name}", entry.key))
                .suspect(mask::suspects(entry))
                .at(entry.key_span, "unknown key"),
            &entry.key,
            &keys,
        ),
        (None, None) => Problem::new(ProblemCode::MissingKey, format!("{name} is empty"))
            .at(node.span, format!("expected {}", one_of(&keys))),
    });
}

/// The mapping that is meant by a value that stands instead of it.
fn mapping_hint(node: &TreeNode, keys: &[&str], at: &ErrorTarget<'_>) -> Option<String> {
    let text = node.as_text()?;
    if keys.contains(&"env") && keys.contains(&"file") {
        return Some(secret_hint(text));
    }
    let parent = at.rule.parent?;
    in_mapping(text, keys, parent, at.schema).map(|form| format!("write `{form}`"))
}

/// A secret, or a reference to one, where only its location may stand.
fn secret_hint(text: &str) -> String {
    match mask::variable_in_braces(text) {
        Some(name) => format!("write `{{ env: {name} }}`"),
        None => "write `{ env: NAME }`, the name of an environment variable; if this is the key itself, replace it at \
                 the vendor, because git keeps it"
            .to_owned(),
    }
}

fn wrong_tag(key: &str, tags: &[(&str, &str)], node: &TreeNode, name: &str, rule: &SchemaAt<'_>) -> Problem {
    let known: Vec<&str> = tags.iter().map(|(_, value)| *value).collect();
    match node.get(key) {
        Some(given) => unknown_value(given, &format!("`{key}`"), &known, rule),
        None => Problem::new(ProblemCode::MissingKey, format!("missing key `{key}` in {name}"))
            .at(node.head(), format!("`{key}:` is missing here"))
            .hint(format!("expected {}", one_of(&known))),
    }
}

fn suggest(problem: Problem, given: &str, known: &[&str]) -> Problem {
    let near = synonym(given, known).or_else(|| did_you_mean(given, known.iter().copied()));
    match near {
        Some(near) if known.len() > 1 => problem.hint(format!("did you mean `{near}`?")),
        _ => problem.hint(format!("expected {}", one_of(known))),
    }
}

fn unknown_value(node: &TreeNode, name: &str, known: &[&str], rule: &SchemaAt<'_>) -> Problem {
    let given = shown(node);
    let problem = Problem::new(ProblemCode::UnknownValue, format!("unknown value `{given}` of {name}"));
    let problem = problem.suspect(mask::suspect(node)).at(node.span, "unknown value");
    match rule.unlisted().map(|hint| (hint, instance_of_address(&given))) {
        Some((_, Some(instance))) => problem.hint(format!("did you mean `{instance}`?")),
        // A new value of a vendor is not a typo of an old one.
        Some((hint, None)) => problem.hint(format!("known: {}; {hint}", listed(known))),
        None => suggest(problem, &given, known),
    }
}

fn explain_one(
    kind: &Kind,
    node: &TreeNode,
    name: &str,
    rule: &SchemaAt<'_>,
    (error, root): (&ValidationError<'_>, &Value),
) -> Problem {
    match kind {
        Kind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            Problem::new(ProblemCode::MissingKey, format!("missing key `{key}` in {name}"))
                .at(node.head(), format!("`{key}:` is missing here"))
        }
        Kind::Type { kind } => wrong_type(kind, node, name, rule, root),
        Kind::Enum { options } => {
            let known: Vec<String> = options.as_array().into_iter().flatten().map(plain).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            unknown_value(node, name, &known, rule)
        }
        Kind::Constant { expected_value } => unknown_value(node, name, &[&plain(expected_value)], rule),
        Kind::Pattern { .. } => {
            let expected = rule.text("patternErrorMessage").unwrap_or("another form");
            let problem =
                Problem::new(ProblemCode::BadFormat, format!("invalid value `{}` of {name}", shown(node)))
                    .suspect(mask::suspect(node))
                    .at(node.span, format!("expected {expected}"));
            match right_form(node, rule, root) {
                Some(form) => problem.hint(format!("write `{form}`")),
                None => problem,
            }
        }
        Kind::Minimum { limit } => out_of_range(node, name, &format!("must be at least {limit}")),
        Kind::Maximum { limit } => out_of_range(node, name, &format!("must be at most {limit}")),
        Kind::MinLength { limit } => {
            out_of_range(node, name, &format!("must have at least {limit} characters"))
        }
        Kind::MaxLength { limit } => {
            out_of_range(node, name, &format!("must have at most {limit} characters"))
        }
        Kind::MinItems { limit: 1 } => out_of_range(node, name, "must not be empty"),
        Kind::MinItems { limit } => out_of_range(node, name, &format!("must have at least {limit} items")),
        Kind::MaxItems { limit } => out_of_range(node, name, &format!("must have at most {limit} items")),
        _ => Problem::new(ProblemCode::BadFormat, format!("{name} is invalid"))
            .at(node.head(), error.to_string()),
    }
}

fn out_of_range(node: &TreeNode, name: &str, rule: &str) -> Problem {
    Problem::new(ProblemCode::OutOfRange, format!("{name} {rule}")).at(node.head(), rule.to_owned())
}

/// The form that is meant, if the schema accepts one. A value that may be a secret is not repeated.
fn right_form(node: &TreeNode, rule: &SchemaAt<'_>, root: &Value) -> Option<String> {
    mask::suspect(node).is_empty().then(|| form(&node.to_json(), rule.parent?, root)).flatten()
}

fn wrong_type(kind: &TypeKind, node: &TreeNode, name: &str, rule: &SchemaAt<'_>, root: &Value) -> Problem {
    let wanted: Vec<String> = match kind {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(set) => set.iter().map(|t| t.to_string()).filter(|t| t != "null").collect(),
    };
    let words: Vec<&str> = wanted.iter().map(|t| in_words(t)).collect();
    let problem = Problem::new(
        ProblemCode::WrongType,
        format!("{name}: expected {}, found {}", words.join(" or "), kind_of(node)),
    )
    .suspect(mask::suspect(node))
    .at(node.head(), format!("found {}", kind_of(node)));
    if let Some(form) = right_form(node, rule, root) {
        return problem.hint(format!("write `{form}`"));
    }
    if wanted == ["array"] && matches!(node.value, TreeValue::Map(_)) {
        return problem.hint("begin each item of the list with `- `");
    }
    if let Some(example) = rule.example() {
        return problem.hint(format!("for example `{example}`"));
    }
    let quotable = matches!(node.value, TreeValue::Null | TreeValue::Number(_) | TreeValue::Bool(_));
    if quotable && wanted.iter().any(|t| t == "string") {
        return problem.hint(QUOTE_IT);
    }
    problem
}

fn in_words(json_type: &str) -> &'static str {
    match json_type {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "a boolean",
        "array" => "a list",
        "object" => "a mapping",
        _ => "another type",
    }
}

fn kind_of(node: &TreeNode) -> &'static str {
    match &node.value {
        TreeValue::Null => "nothing",
        TreeValue::Bool(_) => "a boolean",
        TreeValue::Number(_) => "a number",
        TreeValue::Text(_) => "a string",
        TreeValue::List(_) => "a list",
        TreeValue::Map(_) => "a mapping",
    }
}

/// A value for a message, masked if it may be a misplaced secret.
fn shown(node: &TreeNode) -> String {
    if mask::suspect(node).is_empty() { plain(&node.to_json()) } else { mask::MASKED.to_owned() }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn one_of(names: &[&str]) -> String {
    if names.len() == 1 { listed(names) } else { format!("one of {}", listed(names)) }
}
