//! Removes identifiers of users from text of servers: a vendor's message about a request may repeat them.

use std::path::Path;

use super::secrets::end_of;

/// The replacement of an identifier.
const MASK: &str = "[user]";
/// The shortest start of an identifier that is recognized at the end of a text that was cut.
const START_LEN_MIN: usize = 3;

/// The text with `[user]` instead of each of these identifiers, in plain form and in every escaped form. An identifier
/// within a longer word stays, because a short one is a part of many words.
#[must_use]
pub fn without_users<'a>(text: &str, users: impl IntoIterator<Item = &'a str>) -> String {
    let mut safe = text.to_owned();
    for user in users.into_iter().filter(|user| !user.is_empty()) {
        safe = without_start(&without_user(&safe, user), user);
    }
    safe
}

fn without_user(text: &str, user: &str) -> String {
    let (mut safe, mut from, mut at) = (String::new(), 0, 0);
    while at < text.len() {
        match end_of(text, at, user).filter(|end| is_alone(text, at, *end)) {
            Some(end) => {
                safe.push_str(&text[from..at]);
                safe.push_str(MASK);
                (from, at) = (end, end);
            }
            None => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    safe + &text[from..]
}

fn is_alone(text: &str, start: usize, end: usize) -> bool {
    let is_letter = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    !is_letter(text[..start].chars().next_back()) && !is_letter(text[end..].chars().next())
}

/// Removes the start of an identifier before the `…` of a text that was cut.
fn without_start(text: &str, user: &str) -> String {
    let Some(stem) = text.strip_suffix('…') else { return text.to_owned() };
    let starts = user.char_indices().map(|(at, character)| &user[..at + character.len_utf8()]);
    let cut = starts.skip(START_LEN_MIN - 1).filter(|start| stem.ends_with(start)).last();
    match cut {
        Some(start) => format!("{}{MASK}…", &stem[..stem.len() - start.len()]),
        None => text.to_owned(),
    }
}

/// The text with `…` instead of what is in quotes, except for names that `known` contains: a database quotes values in
/// errors about data. From the first unknown name on, everything up to the last quote is removed, because a value may
/// contain quotes.
#[must_use]
pub fn without_quoted(text: &str, known: &str) -> String {
    let is_quote = |c: char| matches!(c, '\'' | '"' | '`');
    let (mut safe, mut rest) = (String::new(), text);
    while let Some(open) = rest.find(is_quote) {
        let quote = &rest[open..=open];
        let (before, quoted) = (&rest[..=open], &rest[open + 1..]);
        safe.push_str(before);
        let name = quoted.split_once(quote).filter(|(name, _)| !name.is_empty() && known.contains(name));
        let Some((name, after)) = name else {
            safe.push('…');
            return match quoted.rfind(is_quote) {
                Some(close) => safe + &quoted[close..],
                None => safe,
            };
        };
        safe.push_str(name);
        safe.push_str(quote);
        rest = after;
    }
    safe + rest
}

/// The text with `[user]` instead of e-mail addresses: an address may be a part of a file's name.
#[must_use]
pub fn without_addresses(text: &str) -> String {
    let is_local = |c: char| c.is_alphanumeric() || "._+-'%".contains(c);
    let is_domain = |c: char| c.is_alphanumeric() || ".-".contains(c);
    let (mut safe, mut rest) = (String::new(), text);
    while let Some((at, sign)) = ["@", "%40"].iter().filter_map(|sign| Some((rest.find(sign)?, sign))).min() {
        let (local, domain) = (&rest[..at], &rest[at + sign.len()..]);
        let start = local.trim_end_matches(is_local).len();
        let after = domain.trim_start_matches(is_domain);
        let domain = &domain[..domain.len() - after.len()];
        if start < at && domain.trim_matches('.').contains('.') {
            safe.push_str(&rest[..start]);
            safe.push_str(MASK);
        } else {
            safe.push_str(&rest[..at + sign.len()]);
            safe.push_str(domain);
        }
        rest = after;
    }
    safe + rest
}

/// A path for messages, without e-mail addresses.
#[must_use]
pub fn shown_path(path: &Path) -> String {
    without_addresses(&path.display().to_string())
}

/// A parser's message without values: it quotes what it did not expect. Names of missing fields are ours and stay.
#[must_use]
pub fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let is_safe = !error.is_data() || text.starts_with("missing field");
    if is_safe { text } else { without_quoted(&text, "") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_removed_in_every_form() {
        let users = ["anna@example.com", "7", "o'hara \"x\""];
        for (text, expected) in [
            ("invalid id anna@example.com", "invalid id [user]"),
            ("id 7 of 75 (anna@example.com)", "id [user] of 75 ([user])"),
            ("[\"o'hara \\\"x\\\"\"]", "[\"[user]\"]"),
            ("user anna%40example.com", "user [user]"),
            ("status 503", "status 503"),
            ("cut: anna@exa…", "cut: [user]…"),
            ("cut: an…", "cut: an…"),
        ] {
            assert_eq!(without_users(text, users), expected);
        }
        assert_eq!(without_users("a", [""]), "a");
    }

    #[test]
    fn quoted_values_are_removed() {
        for (text, expected) in [
            ("invalid input for type integer: \"anna\", or 'b'", "invalid input for type integer: \"…'"),
            ("no table `people` and \"anna", "no table `people` and \"…"),
            ("value \"o'x\"anna`y\" is out of range", "value \"…\" is out of range"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_quoted(text, "select * from people"), expected);
        }
    }

    #[test]
    fn addresses_are_removed_from_names() {
        for (text, expected) in [
            ("s3://b/day=1/anna.b@example.com.csv: gone", "s3://b/day=1/[user]: gone"),
            ("lists/anna%40example.com/part.csv", "lists/[user]/part.csv"),
            ("@ a@b, root@host and anna@example.org", "@ a@b, root@host and [user]"),
            ("lists/a.csv", "lists/a.csv"),
        ] {
            assert_eq!(without_addresses(text), expected);
        }
    }

    #[test]
    fn errors_of_json_name_fields_and_no_values() {
        #[derive(Debug, serde::Deserialize)]
        struct Named {
            #[allow(dead_code, reason = "only parsed")]
            id: u64,
        }
        let error = |text: &str| json_error(&serde_json::from_str::<Named>(text).unwrap_err());
        assert_eq!(
            error(r#"{"id":"an\"na"}"#),
            "invalid type: string \"…\", expected u64 at line 1 column 14"
        );
        assert_eq!(error("{}"), "missing field `id` at line 1 column 2");
    }
}
