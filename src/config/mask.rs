//! Masks secrets that were written into the config, before any message can repeat them.
//!
//! Secrets belong in the environment or in files, and a config that contains one is an error. The error shows the line,
//! possibly in a CI log, so the secret is masked first.

use super::source_text::{ConfigSources, SourceSpan};
use super::tree::{TreeEntry, TreeNode, TreeValue};

/// Keys of connections and export sources with the location of a secret as value.
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
/// Parts of names of options with secret values.
const SECRET_WORDS: [&str; 6] = ["password", "passphrase", "secret", "token", "private_key", "credential"];
/// Replacement of a secret in messages.
pub(super) const MASKED: &str = "[secret]";

/// Masks all secrets in a tree and in its text.
pub(super) fn mask(tree: &mut TreeNode, sources: &mut ConfigSources) {
    let TreeValue::Map(entries) = &mut tree.value else { return };
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

fn each(node: &mut TreeNode, visit: &mut dyn FnMut(&mut TreeNode)) {
    if let TreeValue::Map(entries) = &mut node.value {
        entries.iter_mut().for_each(|entry| visit(&mut entry.node));
    }
}

/// Addresses of notifications often contain a token.
fn mask_notify(watch: &mut TreeNode, sources: &mut ConfigSources) {
    let TreeValue::Map(entries) = &mut watch.value else { return };
    let lists = entries.iter_mut().filter(|entry| entry.key == "notify");
    for item in lists.filter_map(|entry| entry.node.items_mut()).flatten() {
        let TreeValue::Map(entries) = &mut item.value else { continue };
        let urls = entries.iter_mut().filter(|entry| entry.key == "url");
        urls.for_each(|entry| mask_misplaced(&mut entry.node, None, sources));
    }
}

fn mask_connection(connection: &mut TreeNode, sources: &mut ConfigSources) {
    let TreeValue::Map(entries) = &mut connection.value else { return };
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

/// Options of a driver with a secret name, or an address with a password.
fn mask_options(options: &mut TreeNode, sources: &mut ConfigSources) {
    let TreeValue::Map(entries) = &mut options.value else { return };
    for entry in entries {
        if is_secret_option(&entry.key)
            || matches!(&entry.node.value, TreeValue::Text(text) if has_password(text))
        {
            mask_misplaced(&mut entry.node, None, sources);
        }
    }
}

/// Spans of values under an unknown key that may be secrets: all if the key looks like that of a secret, otherwise
/// those that look like a token.
pub(super) fn suspects(entry: &TreeEntry) -> Vec<SourceSpan> {
    let mut found = Vec::new();
    gather(&entry.key, &entry.node, is_secret_key(&entry.key), &mut found);
    found
}

/// The span of a value that looks like a misplaced token.
pub(super) fn suspect(node: &TreeNode) -> Vec<SourceSpan> {
    node.as_text().filter(|text| is_token(text)).map(|_| node.span).into_iter().collect()
}

fn gather(key: &str, node: &TreeNode, is_secret: bool, found: &mut Vec<SourceSpan>) {
    match &node.value {
        TreeValue::Map(entries) => entries
            .iter()
            .for_each(|entry| gather(&entry.key, &entry.node, is_secret || is_secret_key(&entry.key), found)),
        TreeValue::List(items) => items.iter().for_each(|item| gather(key, item, is_secret, found)),
        TreeValue::Text(text) if key == "file" || (key == "env" && is_variable(text)) => {}
        TreeValue::Text(text) if is_secret || is_long_word(text) => found.push(node.span),
        TreeValue::Number(_) if is_secret => found.push(node.span),
        TreeValue::Text(_) | TreeValue::Number(_) | TreeValue::Null | TreeValue::Bool(_) => {}
    }
}

/// Whether a key is that of a secret, or a misspelling of one.
fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let is_near = |known: &&str| strsim::damerau_levenshtein(known, &key) <= 3.min(known.len() / 3);
    is_secret_option(&key)
        || ["key", "auth", "passwd", "pwd"].iter().any(|word| key.contains(word))
        || SECRET_KEYS.iter().any(is_near)
}

/// Whether a string in an unexpected position may be a secret: one long word with letters and digits, or with letters of
/// both cases.
fn is_long_word(text: &str) -> bool {
    const LEN_MIN: usize = 12;
    let has = |of: fn(&char) -> bool| text.chars().any(|c| of(&c));
    let is_mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
    text.chars().count() >= LEN_MIN
        && !text.contains(char::is_whitespace)
        && (is_mixed || (has(char::is_ascii_digit) && has(char::is_ascii_alphabetic)))
}

/// Whether a string looks like a token: not a path or URL, with a part of random letters and digits.
fn is_token(text: &str) -> bool {
    const LEN_MIN: usize = 16;
    const PART_LEN_MIN: usize = 8;
    let is_random = |part: &str| {
        part.len() >= PART_LEN_MIN
            && part.contains(|c: char| c.is_ascii_digit())
            && part.contains(|c: char| c.is_ascii_alphabetic())
    };
    text.len() >= LEN_MIN
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.+=~".contains(c))
        && text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_random)
}

/// Whether a value was masked.
pub(super) fn is_masked(node: &TreeNode) -> bool {
    node.as_text() == Some(MASKED)
}

/// Whether an option of a driver is secret, by its name.
fn is_secret_option(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Whether an address contains a password.
fn has_password(text: &str) -> bool {
    let user = text.rsplit_once('@').map(|(user, _)| user.rsplit_once("//").map_or(user, |(_, user)| user));
    user.is_some_and(|user| user.contains(':')) || text.to_ascii_lowercase().contains("password=")
}

/// Keeps `env: NAME` and `file: path`; masks all other values.
fn mask_misplaced(node: &mut TreeNode, key: Option<&str>, sources: &mut ConfigSources) {
    match &mut node.value {
        TreeValue::Map(entries) => {
            entries.iter_mut().for_each(|entry| mask_misplaced(&mut entry.node, Some(&entry.key), sources));
        }
        TreeValue::List(items) => items.iter_mut().for_each(|item| mask_misplaced(item, None, sources)),
        TreeValue::Text(text) if key == Some("file") || (key == Some("env") && is_variable(text)) => {}
        TreeValue::Text(text) if variable_in_braces(text).is_some() => {}
        TreeValue::Text(_) | TreeValue::Number(_) => {
            sources.mask(node.span);
            node.value = TreeValue::Text(MASKED.to_owned());
        }
        TreeValue::Null | TreeValue::Bool(_) => {}
    }
}

/// The variable in `${NAME}`, as other tools refer to it. It is not a secret.
pub(super) fn variable_in_braces(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}').filter(|name| is_variable(name))
}

/// Whether a string is a valid name of an environment variable.
pub(super) fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// User and password in an endpoint.
fn mask_user(node: &TreeNode, sources: &mut ConfigSources) {
    let Some(text) = sources.file(node.span).and_then(|file| file.text.get(node.span.range())) else {
        return;
    };
    let Some(at) = text.rfind('@') else { return };
    let start = text.find("//").map_or(0, |slashes| slashes + 2);
    let as_u32 = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    let span =
        SourceSpan { start: node.span.start + as_u32(start), end: node.span.start + as_u32(at), ..node.span };
    sources.mask(span);
}

/// Masks the rest of the line after the key of a secret, in text that is not YAML and has no tree.
pub(super) fn mask_lines(text: &str) -> String {
    let line = |line: &str| {
        let colon = SECRET_KEYS.iter().find_map(|key| {
            let start = line.find(key)?;
            Some(start + line[start..].find(':')?)
        });
        let first = line.find(':').filter(|colon| {
            is_secret_key(line[..*colon].trim_matches(|c: char| c.is_whitespace() || "-{\"'".contains(c)))
        });
        let colon = colon.into_iter().chain(first).min();
        match colon {
            Some(colon) if !["env", "file"].iter().any(|key| line[colon..].contains(key)) => {
                line[..=colon].to_owned() + &stars(&line[colon + 1..])
            }
            _ => without_tokens(line),
        }
    };
    text.split_inclusive('\n').map(line).collect()
}

/// A mask of the same length.
fn stars(text: &str) -> String {
    let hidden = |c: char| if c.is_whitespace() { c.to_string() } else { "*".repeat(c.len_utf8()) };
    text.chars().map(hidden).collect()
}

/// A line with asterisks for words that look like tokens.
fn without_tokens(line: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.+=~/:".contains(c);
    let mut shown = String::with_capacity(line.len());
    for word in line.split_inclusive(|c| !is_part(c)) {
        let token = word.trim_end_matches(|c| !is_part(c) || c == ':');
        if is_token(token) {
            shown.push_str(&"*".repeat(token.len()));
            shown.push_str(&word[token.len()..]);
        } else {
            shown.push_str(word);
        }
    }
    shown
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
    fn a_token_in_a_text_that_is_no_yaml() {
        let text = "connections:\n  rest_api_kee: 'short'\n  - 0f3a91c2-77aa-4b1d-9c1e-aa12bb34cc56: [\n  path: a/part-2026-11-01.csv\n";
        let expected = "connections:\n  rest_api_kee: *******\n  - ************************************: [\n  path: a/part-2026-11-01.csv\n";
        assert_eq!(mask_lines(text), expected);
        assert_eq!(mask_lines(text).len(), text.len());
    }

    #[test]
    fn what_looks_like_a_token() {
        for token in
            ["0f3a91c2-77aa-4b1d-9c1e-aa12bb34cc56", "sk_live_51H8xyzabc", "eyJhbGciOiJIUzI1NiJ9.x.y"]
        {
            assert!(is_token(token) && is_long_word(token), "{token}");
        }
        for plain in ["abandoned_checkout_2026", "https://rest.iad-01.braze.com", "a/part-00001.csv", "US-01"]
        {
            assert!(!is_token(plain), "{plain}");
        }
        for key in
            ["rest_api_kee", "data_import_kye", "pasword", "tokn", "acces_token", "webhook_secert", "auth"]
        {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["instnce", "cohrts", "endpont", "gaurd", "naem", "include"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn names_of_variables() {
        assert!(is_variable("BRAZE_KEY") && is_variable("_k1"));
        assert!(!is_variable("") && !is_variable("1k") && !is_variable("0f3a-91c2"));
    }
}
