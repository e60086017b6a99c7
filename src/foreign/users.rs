//! Removes identifiers of users from text of servers: a vendor's message about a request may repeat them.

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

/// The text with `…` instead of everything in quotes: a database quotes values in errors about data.
#[must_use]
pub fn without_quoted(text: &str) -> String {
    let (mut safe, mut open) = (String::new(), None);
    for character in text.chars() {
        match open {
            Some(quote) if character == quote => open = None,
            Some(_) => continue,
            None if matches!(character, '\'' | '"' | '`') => {
                safe.push(character);
                safe.push('…');
                open = Some(character);
                continue;
            }
            None => {}
        }
        safe.push(character);
    }
    safe
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
        let text = "invalid input syntax for type integer: \"anna\", or 'b' and \"cut";
        assert_eq!(without_quoted(text), "invalid input syntax for type integer: \"…\", or '…' and \"…");
    }
}
