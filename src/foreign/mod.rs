//! Foreign text, made safe to show: answers of servers and drivers, names that users of Heap and Braze choose, file
//! names, file headers.
//!
//! [`cleaned`] is for text from a server or a driver: it removes secrets and escapes the rest. [`escaped`] is for
//! foreign text in one line of output, [`markdown`] for foreign text in Markdown. [`terminal`] and [`json`] are a
//! safety net for all output. They do not remove secrets.

mod secrets;
mod users;

use std::borrow::Cow;
use std::fmt::Write as _;

pub use secrets::{SECRET_LEN_MIN, keep_secret, without_secrets};
pub use users::{json_error, shown_path, without_addresses, without_quoted, without_users};

/// Text from a server or a driver, in one line and without secrets.
#[must_use]
pub fn cleaned(text: &str) -> String {
    escaped(&without_secrets(text)).into_owned()
}

/// Foreign text for one line of a terminal or a log. Line breaks, other control characters and bidirectional marks
/// become visible escapes. Escaping twice changes nothing.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unsafe(character) {
            push_escape(&mut safe, character);
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Foreign text for Markdown: a code span, in which markup, HTML, links and mentions have no effect. Valid in a table
/// cell.
#[must_use]
pub fn markdown(text: &str) -> String {
    let safe = escaped(text).replace('|', "\\|");
    if safe.trim().is_empty() {
        return String::new();
    }
    let longest = safe.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if safe.starts_with('`') || safe.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{safe}{pad}{fence}")
}

/// Finished output for a terminal or a log. Line breaks, tabs and our colors stay; other unsafe characters are
/// escaped. No line is a command to a CI runner.
#[must_use]
pub fn terminal(text: &str) -> Cow<'_, str> {
    let is_suspect = |c: char| c != '\n' && is_unsafe(c);
    if !text.contains(is_suspect) && !text.contains("::") && !text.contains("##") {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive('\n') {
        terminal_line(line, &mut safe);
    }
    Cow::Owned(safe)
}

fn terminal_line(line: &str, safe: &mut String) {
    // A CI runner reads a command even after color codes.
    let is_blank = |text: &str| text.trim().is_empty();
    let mut rest = line;
    let (mut is_start, mut before) = (true, String::new());
    while let Some(character) = rest.chars().next() {
        if let Some(len) = color_len(rest) {
            before.push_str(&rest[..len]);
            rest = &rest[len..];
            continue;
        }
        safe.push_str(&std::mem::take(&mut before));
        if is_start && rest.starts_with("::") && !rest.starts_with(":::") {
            safe.push('\\');
        }
        is_start &= is_blank(&rest[..character.len_utf8()]);
        match character {
            '\n' | '\t' => safe.push(character),
            '#' if is_command_mark(rest) => safe.push_str("#\\"),
            c if is_unsafe(c) => push_escape(safe, c),
            c => safe.push(c),
        }
        rest = &rest[character.len_utf8()..];
    }
    safe.push_str(&before);
}

/// Finished JSON. Characters that a terminal or a CI runner would interpret become JSON escapes. The values do not
/// change.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    let is_suspect = |c: char| c != '\n' && is_unsafe(c);
    if !text.contains(is_suspect) && !text.contains("##") {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for (at, character) in text.char_indices() {
        // Outside of strings, JSON has only line breaks and tabs of these characters.
        if is_command_mark(&text[at..]) || (is_unsafe(character) && !matches!(character, '\n' | '\r' | '\t'))
        {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Whether a terminal interprets a character: C0, C1, line separators, bidirectional marks.
#[must_use]
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

fn push_escape(safe: &mut String, character: char) {
    match character {
        '\n' => safe.push_str("\\n"),
        '\r' => safe.push_str("\\r"),
        '\t' => safe.push_str("\\t"),
        other => safe.extend(other.escape_unicode()),
    }
}

/// The length of a color code at the start of a text: `ESC [ digits and semicolons m`.
fn color_len(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

/// Whether a text starts with a command of Azure Pipelines or the older form of GitHub's: `##vso[…`, `##[…`.
fn is_command_mark(text: &str) -> bool {
    text.strip_prefix("##")
        .is_some_and(|rest| rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b]0;x\x07\u{9b}31m\r\n::error::b\u{202e}c\u{2028}d\u{200f}";

    #[test]
    fn foreign_text_stays_in_its_line_and_shows_what_it_is() {
        let shown = "a\\u{1b}]0;x\\u{7}\\u{9b}31m\\r\\n::error::b\\u{202e}c\\u{2028}d\\u{200f}";
        assert_eq!(escaped(HOSTILE), shown);
        assert_eq!(escaped(shown), shown, "twice is once");
        assert_eq!(escaped("é ש 日本 `x`"), "é ש 日本 `x`");
    }

    #[test]
    fn finished_output_keeps_lines_and_colors_and_nothing_else() {
        let red = "\x1b[1;31mred\x1b[0m\n\tnext\n";
        assert_eq!(terminal(red), red);
        assert_eq!(terminal("x\x1b[2Jy\u{85}\n"), "x\\u{1b}[2Jy\\u{85}\n");
    }

    #[test]
    fn no_line_is_a_command_to_a_runner() {
        assert_eq!(terminal(" ::: a.yaml:1\n"), " ::: a.yaml:1\n");
        assert_eq!(terminal("::error::x\n  ::set-env::\na ::b\n"), "\\::error::x\n  \\::set-env::\na ::b\n");
        assert_eq!(terminal("\x1b[31m::error::x\x1b[0m"), "\x1b[31m\\::error::x\x1b[0m");
        for command in ["a ##[error]x", "##vso[task.setvariable]x", "##teamcity[x]", "###[group]x"] {
            let safe = terminal(command);
            assert!(!is_command_mark(safe.split_once('#').map_or("", |(_, rest)| rest)), "{safe}");
            assert!(safe.contains("#\\#"), "{safe}");
        }
        assert_eq!(terminal("## syncline plan\n"), "## syncline plan\n");
    }

    #[test]
    fn markdown_is_a_code_span_that_nothing_leaves() {
        assert_eq!(markdown("Carts"), "`Carts`");
        assert_eq!(markdown("a`b``c"), "```a`b``c```");
        assert_eq!(markdown("`x`"), "`` `x` ``");
        assert_eq!(markdown("a | <img src=x> [l](u)\n# h"), "`a \\| <img src=x> [l](u)\\n# h`");
        assert_eq!(markdown("@org/team a@…"), "`@org/team a@…`");
        assert_eq!(markdown(" \t"), "`\u{20}\\t`");
        assert_eq!(markdown(""), "");
    }

    #[test]
    fn json_says_the_same_in_harmless_letters() {
        let value = serde_json::json!({ "a": HOSTILE, "b": "##[error]x ##vso[y", "c": ["é"] });
        let safe = json(&format!("{value:#}")).into_owned();
        assert!(!safe.chars().any(|c| c != '\n' && is_unsafe(c)) && !safe.contains("##"), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
