//! Recognizes common mistakes in invalid YAML, with their span and a hint.
//!
//! The parser reports the kind of error and the position where it stopped; the mistake is often on the line above.
//! Messages never repeat the text, which may contain a secret.

use std::ops::Range;

use serde_yaml::ExternalMessageSource;
use serde_yaml::granit_parser::ErrorKind;

/// A mistake in YAML syntax.
pub(super) struct YamlMistake {
    /// The byte range of the mistake.
    pub(super) span: Range<usize>,
    /// The message.
    pub(super) message: &'static str,
    /// The text of the span.
    pub(super) label: String,
    /// The remedy.
    pub(super) hint: String,
}

/// The kind of a syntax error; `None` for other errors.
pub(super) fn kind_of(error: &serde_yaml::Error) -> Option<ErrorKind> {
    match error {
        serde_yaml::Error::ExternalMessage { source, .. } => match source.as_ref() {
            ExternalMessageSource::Parser(error) => Some(error.kind().clone()),
            _ => None,
        },
        serde_yaml::Error::UnknownAnchor { .. } => Some(ErrorKind::UnknownAnchor),
        _ => None,
    }
}

/// The common mistake that stopped the parser at byte `at` with an error of this kind, if any.
pub(super) fn recognize(text: &str, at: usize, kind: &ErrorKind) -> Option<YamlMistake> {
    let lines = lines(text);
    let here = lines.iter().rposition(|line| line.start <= at)?;
    if let Some(mistake) = tab(&lines, here, kind) {
        return Some(mistake);
    }
    match kind {
        ErrorKind::MappingValueNotAllowed => {
            let above = before(&lines, here);
            text_with_colon(&lines[here], at)
                .or_else(|| above.and_then(|line| missing_space(line).or_else(|| dash_without_space(line))))
                .or_else(|| Some(indentation(&lines[here], above.map(TextLine::column))))
        }
        ErrorKind::SimpleKeyExpected => {
            missing_space(&lines[here]).or_else(|| Some(missing_colon(&lines[here])))
        }
        ErrorKind::ExpectedBlockSequenceEntry => Some(item(&lines, here)),
        ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::InvalidColonPlacement => open_bracket(text, at),
        // The position is the opening bracket.
        ErrorKind::UnclosedFlowCollection { .. } | ErrorKind::MismatchedFlowCollectionEnd { .. } => {
            Some(unclosed_bracket(text, at))
        }
        ErrorKind::UnclosedQuotedScalar => Some(quote(&lines[here], at)),
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            Some(indentation(&lines[here], before(&lines, here).map(TextLine::column)))
        }
        ErrorKind::UnexpectedCharacter { .. }
        | ErrorKind::UnknownAnchor
        | ErrorKind::MissingAnchorOrAliasName => Some(needs_quotes(text, at)),
        _ => None,
    }
}

/// A line of the text, without its line break.
struct TextLine<'a> {
    start: usize,
    text: &'a str,
}

impl TextLine<'_> {
    /// The indentation, in bytes.
    fn depth(&self) -> usize {
        self.text.len() - self.text.trim_start().len()
    }

    /// The column of its first key, after the dash if it has one.
    fn column(&self) -> usize {
        let body = self.text.trim_start();
        self.text.len() - body.trim_start_matches(['-', ' ']).len()
    }

    /// The range of its text without indentation.
    fn body(&self) -> Range<usize> {
        let from = self.start + self.depth();
        from..from + self.text.trim().len()
    }

    fn is_empty(&self) -> bool {
        let body = self.text.trim_start();
        body.is_empty() || body.starts_with('#')
    }
}

fn lines(text: &str) -> Vec<TextLine<'_>> {
    let mut start = 0;
    let line = |whole: &'_ str| {
        let at = start;
        start += whole.len();
        (at, whole.len())
    };
    let lines: Vec<(usize, usize)> = text.split_inclusive('\n').map(line).collect();
    lines
        .into_iter()
        .map(|(start, len)| TextLine { start, text: text[start..start + len].trim_end_matches(['\n', '\r']) })
        .collect()
}

/// The last line before this one that is neither empty nor a comment.
fn before<'a, 'b>(lines: &'b [TextLine<'a>], here: usize) -> Option<&'b TextLine<'a>> {
    lines[..here].iter().rev().find(|line| !line.is_empty())
}

/// A tab in the indentation. The parser stops on that line or the line before.
fn tab(lines: &[TextLine<'_>], here: usize, kind: &ErrorKind) -> Option<YamlMistake> {
    let tab_of = |line: &TextLine<'_>| Some(line.start + line.text[..line.depth()].find('\t')?);
    let near = here..(here + 2).min(lines.len());
    let about_tabs = matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
    );
    let start = lines[near].iter().find_map(tab_of);
    let start = start.or_else(|| lines.iter().find_map(tab_of).filter(|_| about_tabs))?;
    Some(YamlMistake {
        span: start..start + 1,
        message: "indentation with a tab",
        label: "this is a tab".to_owned(),
        hint: "indent with spaces; YAML does not allow tabs".to_owned(),
    })
}

/// `name: One: two`: the second colon begins a mapping, which is not allowed here.
fn text_with_colon(line: &TextLine<'_>, at: usize) -> Option<YamlMistake> {
    let head = line.text.get(..at.checked_sub(line.start)?)?;
    let value = line.start + head.find(": ")? + 2;
    Some(YamlMistake {
        span: value..line.start + line.text.trim_end().len(),
        message: "a string with a colon needs quotes",
        label: "this contains a colon and a space".to_owned(),
        hint: "put quotes around it: \"…\"".to_owned(),
    })
}

/// `name:Trial`, which is one word and not a key.
fn missing_space(line: &TextLine<'_>) -> Option<YamlMistake> {
    let body = line.text.trim();
    let colon = body.find(':')?;
    let is_key =
        body[..colon].trim_start_matches("- ").chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    if !is_key || body[colon + 1..].is_empty() || body[colon + 1..].starts_with([' ', '\t']) {
        return None;
    }
    let start = line.start + line.depth() + colon;
    Some(YamlMistake {
        span: start..start + 1,
        message: "missing space after a colon",
        label: "add a space".to_owned(),
        hint: "write `key: value`".to_owned(),
    })
}

/// `-id: carts`, which is a key and not an item.
fn dash_without_space(line: &TextLine<'_>) -> Option<YamlMistake> {
    let start = line.body().start;
    let is_glued = |rest: &str| rest.starts_with(char::is_alphanumeric);
    line.text.trim_start().strip_prefix('-').filter(|rest| is_glued(rest)).map(|_| YamlMistake {
        span: start..start + 1,
        message: "missing space after a dash",
        label: "add a space".to_owned(),
        hint: "start each item of a list with `- `".to_owned(),
    })
}

fn missing_colon(line: &TextLine<'_>) -> YamlMistake {
    YamlMistake {
        span: line.body(),
        message: "missing colon after a key",
        label: "neither a key nor an item of a list".to_owned(),
        hint: "write `key: value`, or `- value` for an item of a list".to_owned(),
    }
}

/// A line within a list that is not an item: its dash is missing, or its indentation is wrong.
fn item(lines: &[TextLine<'_>], here: usize) -> YamlMistake {
    let line = &lines[here];
    let dash = lines[..here]
        .iter()
        .rev()
        .find(|l| l.text.trim_start().starts_with("- ") && l.depth() <= line.depth());
    match dash.map(TextLine::depth) {
        Some(depth) if depth < line.depth() => indentation(line, Some(depth + 2)),
        _ => YamlMistake {
            span: line.body(),
            message: "missing dash of a list item",
            label: "the list above continues with `- `".to_owned(),
            hint: "start each item with `- `, or indent this line less if it is not an item".to_owned(),
        },
    }
}

/// A line with wrong indentation.
fn indentation(line: &TextLine<'_>, others: Option<usize>) -> YamlMistake {
    let spaces = |depth: usize| if depth == 1 { "1 space".to_owned() } else { format!("{depth} spaces") };
    let (here, others) = (spaces(line.depth()), others.map(spaces));
    YamlMistake {
        span: line.body(),
        message: "wrong indentation",
        label: match others.filter(|others| *others != here) {
            Some(others) => {
                format!("indented by {here}, but the lines it belongs to by {others}")
            }
            None => format!("indented by {here}"),
        },
        hint: "indent all keys of a mapping equally, and all dashes of a list".to_owned(),
    }
}

/// The last bracket that is open at `at`: it is never closed, or a comma is missing.
fn open_bracket(text: &str, at: usize) -> Option<YamlMistake> {
    let mut open = Vec::new();
    for (start, character) in text.get(..at)?.char_indices() {
        match character {
            '{' | '[' => open.push(start),
            '}' | ']' => drop(open.pop()),
            _ => {}
        }
    }
    let start = open.pop()?;
    let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |len| start + len);
    match text.get(at..line_end).and_then(|rest| rest.find(closing(text, start))) {
        Some(len) => Some(YamlMistake {
            span: start..at + len + 1,
            message: "missing comma in brackets",
            label: "a comma is probably missing here".to_owned(),
            hint: "write `{ key: value, key: value }` or `[ item, item ]`".to_owned(),
        }),
        None => Some(unclosed_bracket(text, start)),
    }
}

/// The bracket that closes the one at `start`.
fn closing(text: &str, start: usize) -> char {
    if text[start..].starts_with('{') { '}' } else { ']' }
}

fn unclosed_bracket(text: &str, start: usize) -> YamlMistake {
    let closing = closing(text, start);
    YamlMistake {
        span: start..start + text[start..].chars().next().map_or(0, char::len_utf8),
        message: "unclosed bracket",
        label: format!("missing `{closing}`"),
        hint: format!("close it with `{closing}`, and separate items with commas"),
    }
}

fn quote(line: &TextLine<'_>, at: usize) -> YamlMistake {
    YamlMistake {
        span: at..(line.start + line.text.trim_end().len()).max(at),
        message: "unclosed quote",
        label: "opened here".to_owned(),
        hint: "close it at the end of the string".to_owned(),
    }
}

/// A string that starts with a character that is special in YAML.
fn needs_quotes(text: &str, at: usize) -> YamlMistake {
    let rest = &text[at..];
    let end = at + rest.find(['\n', '\r']).unwrap_or(rest.len());
    YamlMistake {
        span: at..end,
        message: "a string that starts with this character needs quotes",
        label: "its first character is special in YAML".to_owned(),
        hint: "put quotes around it: \"…\"".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_is_within_the_text_for_any_input() {
        let texts =
            ["", "\n", "a", "é: ü: ö\n\t- x", "a:b\r\n  c: d\r\n\te", "{ [ } ]\n# \n", "- a\n  b\n c:d"];
        let kinds = [
            ErrorKind::MappingValueNotAllowed,
            ErrorKind::SimpleKeyExpected,
            ErrorKind::ExpectedBlockSequenceEntry,
            ErrorKind::ExpectedFlowMappingSeparator,
            ErrorKind::UnclosedFlowCollection { open: '{' },
            ErrorKind::ExpectedBlockMappingKey,
            ErrorKind::UnexpectedCharacter { character: '@' },
            ErrorKind::UnclosedQuotedScalar,
            ErrorKind::TabInIndentation,
        ];
        for (text, kind) in texts.iter().flat_map(|text| kinds.iter().map(move |kind| (text, kind))) {
            for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                if let Some(mistake) = recognize(text, at, kind) {
                    assert!(
                        text.get(mistake.span.clone()).is_some(),
                        "{text:?} {kind:?} {at} {:?}",
                        mistake.span
                    );
                }
            }
        }
    }
}
