//! Keys that somebody wrote into the config itself: taken out before anything can repeat them.
//!
//! A key belongs in the environment or in a file of its own, and a config that holds one is refused. The
//! refusal shows the source line, and it may be shown in a CI log, so the key must be gone by then.

use super::source::{Sources, Span};
use super::tree::{Node, Value};

/// The keys of a connection, or of an export's source, whose value is a place of a secret, and never the secret.
const SECRET_KEYS: [&str; 10] = [
    "data_import_key",
    "partner_api_key",
    "rest_api_key",
    "password",
    "secrets",
    "webhook_secret",
    "webhook_secret_previous",
    "api_key",
    "token",
    "token_previous",
];
/// What is in the name of an option whose value is a secret.
const SECRET_WORDS: [&str; 6] = ["password", "passphrase", "secret", "token", "private_key", "credential"];
/// What stands for a secret in messages.
const MASKED: &str = "[secret]";

/// Masks every secret in a tree and in the text that it came from.
pub(super) fn mask(tree: &mut Node, sources: &mut Sources) {
    let Value::Map(entries) = &mut tree.value else { return };
    for entry in entries {
        match entry.key.as_str() {
            "connections" => each(&mut entry.node, &mut |connection| mask_connection(connection, sources)),
            "exports" => {
                let sources = &mut *sources;
                entry.node.items_mut().into_iter().flatten().for_each(|export| {
                    each(export, &mut |source| mask_connection(source, sources));
                });
            }
            "watch" => mask_notify(&mut entry.node, sources),
            "environments" => each(&mut entry.node, &mut |overlay| mask(overlay, sources)),
            _ => {}
        }
    }
}

fn each(node: &mut Node, visit: &mut dyn FnMut(&mut Node)) {
    if let Value::Map(entries) = &mut node.value {
        entries.iter_mut().for_each(|entry| visit(&mut entry.node));
    }
}

/// An address that is told of things holds a token more often than not.
fn mask_notify(watch: &mut Node, sources: &mut Sources) {
    let Value::Map(entries) = &mut watch.value else { return };
    let lists = entries.iter_mut().filter(|entry| entry.key == "notify");
    for item in lists.filter_map(|entry| entry.node.items_mut()).flatten() {
        let Value::Map(entries) = &mut item.value else { continue };
        let urls = entries.iter_mut().filter(|entry| entry.key == "url");
        urls.for_each(|entry| mask_misplaced(&mut entry.node, None, sources));
    }
}

fn mask_connection(connection: &mut Node, sources: &mut Sources) {
    let Value::Map(entries) = &mut connection.value else { return };
    for entry in entries {
        if SECRET_KEYS.contains(&entry.key.as_str()) {
            mask_misplaced(&mut entry.node, None, sources);
        } else if entry.key == "endpoint" {
            mask_user(&entry.node, sources);
        } else if entry.key == "options" {
            mask_options(&mut entry.node, sources);
        }
    }
}

/// Options of a driver that are secrets by their name, or addresses with a password in them.
fn mask_options(options: &mut Node, sources: &mut Sources) {
    let Value::Map(entries) = &mut options.value else { return };
    for entry in entries {
        if is_secret_option(&entry.key)
            || matches!(&entry.node.value, Value::Text(text) if has_password(text))
        {
            mask_misplaced(&mut entry.node, None, sources);
        }
    }
}

/// Whether a value was taken out.
pub(super) fn is_masked(node: &Node) -> bool {
    node.as_text() == Some(MASKED)
}

/// Whether an option of a driver must not be shown, by its name.
fn is_secret_option(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Whether an address has a user's password in it.
fn has_password(text: &str) -> bool {
    let user = text.rsplit_once('@').map(|(user, _)| user.rsplit_once("//").map_or(user, |(_, user)| user));
    user.is_some_and(|user| user.contains(':')) || text.to_ascii_lowercase().contains("password=")
}

/// Leaves `env: NAME` and `file: path` as they are; anything else may be a key.
fn mask_misplaced(node: &mut Node, key: Option<&str>, sources: &mut Sources) {
    match &mut node.value {
        Value::Map(entries) => {
            entries.iter_mut().for_each(|entry| mask_misplaced(&mut entry.node, Some(&entry.key), sources));
        }
        Value::List(items) => items.iter_mut().for_each(|item| mask_misplaced(item, None, sources)),
        Value::Text(text) if key == Some("file") || (key == Some("env") && is_variable(text)) => {}
        Value::Text(_) | Value::Number(_) => {
            sources.mask(node.span);
            node.value = Value::Text(MASKED.to_owned());
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// Whether a text can be the name of an environment variable.
pub(super) fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// User and password in an endpoint.
fn mask_user(node: &Node, sources: &mut Sources) {
    let Some(text) = sources.file(node.span).and_then(|file| file.text.get(node.span.range())) else {
        return;
    };
    let Some(at) = text.rfind('@') else { return };
    let start = text.find("//").map_or(0, |slashes| slashes + 2);
    let as_u32 = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    let span =
        Span { start: node.span.start + as_u32(start), end: node.span.start + as_u32(at), ..node.span };
    sources.mask(span);
}

/// Masks what follows a secret's key on its line, in a text that is no YAML: there is no tree to go by.
pub(super) fn mask_lines(text: &str) -> String {
    let line = |line: &str| {
        let colon = SECRET_KEYS.iter().find_map(|key| {
            let start = line.find(key)?;
            Some(start + line[start..].find(':')?)
        });
        match colon {
            Some(colon) if !["env", "file"].iter().any(|place| line[colon..].contains(place)) => {
                let hidden = line[colon + 1..].chars().map(|c| if c.is_whitespace() { c } else { '*' });
                line[..=colon].chars().chain(hidden).collect()
            }
            _ => line.to_owned(),
        }
    };
    text.split_inclusive('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_parsed_keeps_its_secret() {
        let text = "a:\n  data_import_key: [ 0f3a-b\n  partner_api_key: { env: KEY\n";
        let expected = "a:\n  data_import_key: * ******\n  partner_api_key: { env: KEY\n";
        assert_eq!(mask_lines(text), expected);
    }

    #[test]
    fn names_of_variables() {
        assert!(is_variable("BRAZE_KEY") && is_variable("_k1"));
        assert!(!is_variable("") && !is_variable("1k") && !is_variable("0f3a-91c2"));
    }
}
