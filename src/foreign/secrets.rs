//! Removes the secrets of this process from foreign text.
//!
//! Only text of servers, drivers and libraries is searched, where it enters the program. A secret is found in plain
//! form and in every escaped form: for JSON, a URL, a shell, SQL or HTML, also with backslashes that were escaped
//! again. Secrets shorter than [`SECRET_LEN_MIN`] characters are likely common words and are not searched.

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

/// The minimum length, in characters, of a secret that is removed.
pub const SECRET_LEN_MIN: usize = 8;
/// The minimum length of one line of a multi-line secret, such as a private key.
const LINE_LEN_MIN: usize = 16;
/// Most backslashes before an escaped character: text that was escaped several times has several.
const BACKSLASHES_MAX: usize = 8;
/// The replacement of a secret.
const MASK: &str = "[secret]";

static SECRETS: RwLock<Vec<Box<str>>> = RwLock::new(Vec::new());

/// Registers a secret for removal from foreign text.
pub fn keep_secret(secret: &str) {
    let lines = secret.lines().map(str::trim).filter(|line| is_long(line, LINE_LEN_MIN));
    let lines = lines.filter(|line| *line != secret && !line.starts_with("-----"));
    for part in std::iter::once(secret).filter(|secret| is_long(secret, SECRET_LEN_MIN)).chain(lines) {
        let is_known = |known: &[Box<str>]| known.iter().any(|known| **known == *part);
        if is_known(&SECRETS.read().unwrap_or_else(PoisonError::into_inner)) {
            continue;
        }
        let mut known = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
        if !is_known(&known) {
            known.push(part.into());
            // Longer secrets come first, because one secret may be the prefix of another.
            known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }
}

fn is_long(text: &str, len_min: usize) -> bool {
    text.chars().nth(len_min - 1).is_some()
}

/// The text with `[secret]` instead of every secret, in any of its forms.
#[must_use]
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    secrets.iter().fold(Cow::Borrowed(text), |text, secret| match without(&text, secret) {
        Some(shorter) => Cow::Owned(shorter),
        None => text,
    })
}

/// The text without one secret; none if the text does not contain it.
fn without(text: &str, secret: &str) -> Option<String> {
    let (mut safe, mut from, mut at) = (String::new(), 0, 0);
    while at < text.len() {
        match end_of(text, at, secret) {
            Some(end) => {
                safe.push_str(&text[from..at]);
                safe.push_str(MASK);
                (from, at) = (end, end);
            }
            None => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    (from > 0).then(|| safe + &text[from..])
}

/// The end of a secret that starts at `start`, in any of its forms.
pub(super) fn end_of(text: &str, start: usize, secret: &str) -> Option<usize> {
    // All possible positions after the characters so far: one character has several forms.
    let (mut ends, mut next) = (vec![start], Vec::new());
    for character in secret.chars() {
        next.clear();
        for end in &ends {
            forms(&text[*end..], character, |len| next.push(end + len));
        }
        next.sort_unstable();
        next.dedup();
        std::mem::swap(&mut ends, &mut next);
        if ends.is_empty() {
            return None;
        }
    }
    ends.last().copied()
}

/// Reports the length of every form of a character at the start of the text.
fn forms(text: &str, character: char, mut found: impl FnMut(usize)) {
    let bare = text.trim_start_matches('\\');
    let backslashes = (text.len() - bare.len()).min(BACKSLASHES_MAX);
    if character == '\\' {
        (1..=backslashes).for_each(&mut found);
    } else if bare.starts_with(character) && text.len() - bare.len() == backslashes {
        found(backslashes + character.len_utf8());
    }
    if backslashes > 0 && text.len() - bare.len() == backslashes {
        let short = match character {
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            '\u{8}' => Some('b'),
            '\u{c}' => Some('f'),
            _ => None,
        };
        if short.is_some_and(|short| bare.starts_with(short)) {
            found(backslashes + 1);
        }
        if let Some(len) = unicode_len(bare, character) {
            found(backslashes + len);
        }
    }
    if let Some(len) = percent_len(text, character) {
        found(len);
    }
    let spelled: &[&str] = match character {
        ' ' => &["+"],
        '\n' => &[" "],
        '\'' => &["'\\''", "'\"'\"'", "''", "&#39;", "&#x27;", "&apos;"],
        '"' => &["\"\"", "&quot;", "&#34;", "&#x22;"],
        '&' => &["&amp;", "&#38;"],
        '<' => &["&lt;", "&#60;"],
        '>' => &["&gt;", "&#62;"],
        _ => &[],
    };
    spelled.iter().filter(|form| text.starts_with(**form)).for_each(|form| found(form.len()));
}

/// `u00e9`, `ud83d\ude00`, `u{e9}` or `x1b`, after the first backslash.
fn unicode_len(text: &str, character: char) -> Option<usize> {
    let starts = |form: &str| text.get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form));
    let mut units = [0; 2];
    let units: Vec<String> =
        character.encode_utf16(&mut units).iter().map(|unit| format!("u{unit:04x}")).collect();
    let code = u32::from(character);
    [units.join("\\"), units.join("\\\\"), format!("u{{{code:x}}}"), format!("x{code:02x}")]
        .iter()
        .find(|form| starts(form))
        .map(String::len)
}

/// `%22`, or `%C3%A9` for a multi-byte character.
fn percent_len(text: &str, character: char) -> Option<usize> {
    if !text.starts_with('%') {
        return None;
    }
    let mut bytes = [0; 4];
    let form: String = character.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02x}")).collect();
    text.get(..form.len()).filter(|start| start.eq_ignore_ascii_case(&form)).map(str::len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "p\"ass\\wörd'<&>/ 😀%x";

    fn hides(text: &str) {
        assert_eq!(without(&format!("tried {text}."), SECRET).as_deref(), Some("tried [secret]."), "{text}");
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let json = serde_json::to_string(SECRET).unwrap();
        let json = json.trim_matches('"');
        hides(SECRET);
        hides(json);
        let again = serde_json::to_string(json).unwrap();
        hides(again.trim_matches('"'));
        hides(&json.replace('/', "\\/").replace('ö', "\\u00f6").replace('😀', "\\uD83D\\uDE00"));
        hides(&SECRET.escape_debug().to_string());
        hides(&SECRET.escape_unicode().to_string());
        hides(&url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect::<String>());
        hides(&SECRET.replace('%', "%25").replace(' ', "%20").replace('"', "%22").replace('ö', "%c3%b6"));
        hides(&SECRET.replace('\'', "'\\''"));
        hides(&SECRET.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"));
    }

    #[test]
    fn what_is_no_secret_stays() {
        assert_eq!(without("nothing here", SECRET), None);
        assert_eq!(without(&SECRET[..SECRET.len() - 1], SECRET), None);
        keep_secret("short");
        assert_eq!(without_secrets("a short text"), "a short text");
    }

    #[test]
    fn the_longer_of_two_secrets_goes_first_and_lines_of_a_key_go_too() {
        keep_secret("canary-of-foreign");
        keep_secret("canary-of-foreign-text");
        assert_eq!(without_secrets("x canary-of-foreign-text y"), "x [secret] y");
        keep_secret("-----BEGIN KEY-----\nMIICdgIBADANBgkq\n-----END KEY-----");
        assert_eq!(without_secrets("bad line MIICdgIBADANBgkq"), "bad line [secret]");
    }

    proptest! {
        #[test]
        fn any_secret_is_removed_however_json_writes_it(secret in "\\PC{8,20}", before in "[a-z ]{0,5}") {
            let json = serde_json::to_string(&secret).unwrap();
            for text in [format!("{before}\u{1}{secret}\u{1}"), format!("{before}\u{1}{json}\u{1}")] {
                let safe = without(&text, &secret);
                prop_assert!(safe.is_some_and(|safe| safe.contains(MASK) && !safe.contains(&secret)));
            }
        }

        #[test]
        fn backslashes_take_no_time(text in "\\\\{0,200}", secret in "\\\\{8,60}") {
            let _ = without(&text, &secret);
        }
    }
}
