//! Text that is no YAML: the common slips, recognized, with their place and the way out.
//!
//! A parser says where it gave up, in the words of its grammar; a person wants to know where the slip
//! is, which may be a line above. Nothing of the text is repeated here: it may hold a key.

use std::ops::Range;

/// A slip.
pub(super) struct YamlMistake {
    /// Where it is, in bytes.
    pub(super) place: Range<usize>,
    /// What is wrong, in one line.
    pub(super) message: &'static str,
    /// What to write at the place.
    pub(super) label: String,
    /// The way out.
    pub(super) hint: String,
}

/// The slip that made the parser give up at byte `at` for `reason`, if it is a common one.
pub(super) fn recognize(text: &str, at: usize, reason: &str) -> Option<YamlMistake> {
    let lines = lines(text);
    let here = lines.iter().rposition(|line| line.start <= at)?;
    if let Some(slip) = tab(&lines, here, reason) {
        return Some(slip);
    }
    match reason {
        _ if reason.contains("mapping values are not allowed") => {
            let above = before(&lines, here);
            text_with_colon(&lines[here], at)
                .or_else(|| above.and_then(|line| missing_space(line).or_else(|| dash_without_space(line))))
                .or_else(|| Some(indentation(&lines[here], above.map(TextLine::column))))
        }
        _ if reason.contains("simple key expected") => {
            missing_space(&lines[here]).or_else(|| Some(missing_colon(&lines[here])))
        }
        _ if reason.contains("expected '-' indicator") => Some(item(&lines, here)),
        _ if reason.contains("expected ',' or") || reason.contains("placement of ':'") => unclosed(text, at),
        _ if reason.contains("unclosed quote") => Some(quote(&lines[here], at)),
        _ if reason.contains("did not find expected key") || reason.contains("block end") => {
            Some(indentation(&lines[here], before(&lines, here).map(TextLine::column)))
        }
        _ if reason.contains("unexpected character") || reason.contains("unknown anchor") => {
            Some(needs_quotes(text, at))
        }
        _ => None,
    }
}

/// A line of the text, without its line break.
struct TextLine<'a> {
    start: usize,
    text: &'a str,
}

impl TextLine<'_> {
    /// Blanks before the first character that is none.
    fn depth(&self) -> usize {
        self.text.len() - self.text.trim_start().len()
    }

    /// Where its first key begins: behind the dash, if there is one.
    fn column(&self) -> usize {
        let body = self.text.trim_start();
        self.text.len() - body.trim_start_matches(['-', ' ']).len()
    }

    /// What stands on it.
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
    let places: Vec<(usize, usize)> = text.split_inclusive('\n').map(line).collect();
    places
        .into_iter()
        .map(|(start, len)| TextLine { start, text: text[start..start + len].trim_end_matches(['\n', '\r']) })
        .collect()
}

/// The last line before this one that says something.
fn before<'a, 'b>(lines: &'b [TextLine<'a>], here: usize) -> Option<&'b TextLine<'a>> {
    lines[..here].iter().rev().find(|line| !line.is_empty())
}

/// A tab among the blanks that a line begins with. The parser notices on that line or one before it.
fn tab(lines: &[TextLine<'_>], here: usize, reason: &str) -> Option<YamlMistake> {
    let tab_of = |line: &TextLine<'_>| Some(line.start + line.text[..line.depth()].find('\t')?);
    let near = here..(here + 2).min(lines.len());
    let about_tabs = reason.contains("tab");
    let place = lines[near].iter().find_map(tab_of);
    let place = place.or_else(|| lines.iter().find_map(tab_of).filter(|_| about_tabs))?;
    Some(YamlMistake {
        place: place..place + 1,
        message: "a line is indented with a tab",
        label: "this is a tab".to_owned(),
        hint: "indent with spaces: YAML takes no tabs there".to_owned(),
    })
}

/// `name: One: two`, where the second colon begins a mapping that cannot be there.
fn text_with_colon(line: &TextLine<'_>, at: usize) -> Option<YamlMistake> {
    let head = line.text.get(..at.checked_sub(line.start)?)?;
    let value = line.start + head.find(": ")? + 2;
    Some(YamlMistake {
        place: value..line.start + line.text.trim_end().len(),
        message: "a text with a colon in it needs quotes",
        label: "this text holds a colon and a blank".to_owned(),
        hint: "put quotes around it: \"…\"".to_owned(),
    })
}

/// `name:Trial`, which is one word and no key.
fn missing_space(line: &TextLine<'_>) -> Option<YamlMistake> {
    let body = line.text.trim();
    let colon = body.find(':')?;
    let is_key =
        body[..colon].trim_start_matches("- ").chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    if !is_key || body[colon + 1..].is_empty() || body[colon + 1..].starts_with([' ', '\t']) {
        return None;
    }
    let place = line.start + line.depth() + colon;
    Some(YamlMistake {
        place: place..place + 1,
        message: "there is no space after a colon",
        label: "a space must follow".to_owned(),
        hint: "write `key: value`".to_owned(),
    })
}

/// `-id: carts`, which is a key and no item.
fn dash_without_space(line: &TextLine<'_>) -> Option<YamlMistake> {
    let place = line.body().start;
    let is_glued = |rest: &str| rest.starts_with(char::is_alphanumeric);
    line.text.trim_start().strip_prefix('-').filter(|rest| is_glued(rest)).map(|_| YamlMistake {
        place: place..place + 1,
        message: "there is no space after a dash",
        label: "a space must follow".to_owned(),
        hint: "begin each item of a list with `- `".to_owned(),
    })
}

fn missing_colon(line: &TextLine<'_>) -> YamlMistake {
    YamlMistake {
        place: line.body(),
        message: "a key has no colon",
        label: "neither a key with its value nor an item of a list".to_owned(),
        hint: "write `key: value`, or `- value` for an item of a list".to_owned(),
    }
}

/// A line in a list that is no item of it: its dash is missing, or its indentation is wrong.
fn item(lines: &[TextLine<'_>], here: usize) -> YamlMistake {
    let line = &lines[here];
    let dash = lines[..here]
        .iter()
        .rev()
        .find(|l| l.text.trim_start().starts_with("- ") && l.depth() <= line.depth());
    match dash.map(TextLine::depth) {
        Some(depth) if depth < line.depth() => indentation(line, Some(depth + 2)),
        _ => YamlMistake {
            place: line.body(),
            message: "an item of a list has no dash",
            label: "the list above goes on with `- `".to_owned(),
            hint: "begin each item with `- `; what is no item of the list begins further to the left"
                .to_owned(),
        },
    }
}

/// A line that begins in a column where nothing can.
fn indentation(line: &TextLine<'_>, others: Option<usize>) -> YamlMistake {
    let spaces = |depth: usize| if depth == 1 { "1 space".to_owned() } else { format!("{depth} spaces") };
    let (here, others) = (spaces(line.depth()), others.map(spaces));
    YamlMistake {
        place: line.body(),
        message: "a line is indented wrongly",
        label: match others.filter(|others| *others != here) {
            Some(others) => {
                format!("this begins after {here}, and the lines that it belongs to after {others}")
            }
            None => format!("this begins after {here}"),
        },
        hint: "keys of one mapping begin in the same column, and so do the dashes of one list".to_owned(),
    }
}

/// The last bracket before `at` that nothing closes there: it is never closed, or a comma is missing.
fn unclosed(text: &str, at: usize) -> Option<YamlMistake> {
    let mut open = Vec::new();
    for (place, character) in text.get(..at)?.char_indices() {
        match character {
            '{' | '[' => open.push(place),
            '}' | ']' => drop(open.pop()),
            _ => {}
        }
    }
    let place = open.pop()?;
    let closing = if text[place..].starts_with('{') { '}' } else { ']' };
    let line_end = text[place..].find(['\n', '\r']).map_or(text.len(), |len| place + len);
    if let Some(len) = text.get(at..line_end).and_then(|rest| rest.find(closing)) {
        return Some(YamlMistake {
            place: place..at + len + 1,
            message: "what stands in brackets cannot be told apart",
            label: "is a comma missing in here?".to_owned(),
            hint: "write `{ key: value, key: value }` or `[ item, item ]`".to_owned(),
        });
    }
    Some(YamlMistake {
        place: place..place + 1,
        message: "a bracket is never closed",
        label: format!("its `{closing}` is missing"),
        hint: format!("close it with `{closing}`; between its items stand commas"),
    })
}

fn quote(line: &TextLine<'_>, at: usize) -> YamlMistake {
    YamlMistake {
        place: at..(line.start + line.text.trim_end().len()).max(at),
        message: "a quote is never closed",
        label: "the quote that opens here".to_owned(),
        hint: "close it at the end of the text".to_owned(),
    }
}

/// A text that begins with a character that means something to YAML.
fn needs_quotes(text: &str, at: usize) -> YamlMistake {
    let rest = &text[at..];
    let end = at + rest.find(['\n', '\r']).unwrap_or(rest.len());
    YamlMistake {
        place: at..end,
        message: "a text that begins with this character needs quotes",
        label: "YAML gives its first character a meaning of its own".to_owned(),
        hint: "put quotes around it: \"…\"".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the text and the place: an answer and no panic, and a place within the text.
    #[test]
    fn any_text_at_any_place() {
        let texts =
            ["", "\n", "a", "é: ü: ö\n\t- x", "a:b\r\n  c: d\r\n\te", "{ [ } ]\n# \n", "- a\n  b\n c:d"];
        let reasons = [
            "mapping values are not allowed",
            "simple key expected ':'",
            "did not find expected '-' indicator",
            "did not find expected ',' or '}'",
            "did not find expected key",
            "unexpected character",
            "unclosed quote",
            "found a tab",
        ];
        for (text, reason) in texts.iter().flat_map(|text| reasons.map(|reason| (text, reason))) {
            for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                if let Some(slip) = recognize(text, at, reason) {
                    assert!(
                        text.get(slip.place.clone()).is_some(),
                        "{text:?} {reason} {at} {:?}",
                        slip.place
                    );
                }
            }
        }
    }
}
