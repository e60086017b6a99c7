//! Parser from YAML text to a tree in which every key and value has its span.
//!
//! It reports all duplicate keys, and rejects files and alias expansions beyond the limits before it builds them.

use std::collections::{HashMap, hash_map};
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_yaml::{MessageFormatter as _, Spanned, UserMessageFormatter};

use super::mask;
use super::problem::{Problem, ProblemCode};
use super::source_text::SourceSpan;
use super::tree::{TreeEntry, TreeNode, TreeValue};
use super::yaml_mistakes::{self, YamlMistake};

/// Largest file of a config in bytes. A cohort takes some 300 bytes.
pub(super) const FILE_LEN_MAX: usize = 4 << 20;
const NODES_MAX: usize = 200_000;
const DEPTH_MAX: usize = 32;

impl TreeNode {
    fn settle(&mut self, file: u16, text_len: u32, problems: &mut Vec<Problem>) {
        locate(&mut self.span, file, text_len);
        match &mut self.value {
            TreeValue::List(items) => items.iter_mut().for_each(|item| item.settle(file, text_len, problems)),
            TreeValue::Map(entries) => {
                for entry in entries.iter_mut() {
                    locate(&mut entry.key_span, file, text_len);
                    entry.node.settle(file, text_len, problems);
                }
                report_duplicates(entries, problems);
            }
            _ => {}
        }
    }
}

fn locate(span: &mut SourceSpan, file: u16, text_len: u32) {
    span.file = file;
    span.end = span.end.min(text_len);
    span.start = span.start.min(span.end);
}

/// Reports duplicate keys, and keeps the first of each.
fn report_duplicates(entries: &mut Vec<TreeEntry>, problems: &mut Vec<Problem>) {
    let (mut again, mut suspects) = (Vec::new(), Vec::new());
    let mut first: HashMap<String, SourceSpan> = HashMap::with_capacity(entries.len());
    entries.retain(|entry| match first.entry(entry.key.clone()) {
        hash_map::Entry::Vacant(vacant) => {
            vacant.insert(entry.key_span);
            true
        }
        hash_map::Entry::Occupied(earlier) => {
            again.push((entry.key.clone(), entry.key_span, *earlier.get()));
            suspects.extend(mask::suspects(entry));
            false
        }
    });
    problems.extend(set_again(&again).map(|problem| problem.suspect(suspects)));
}

/// One problem for all duplicate keys of a mapping: several of them usually mean that an item lacks its dash.
fn set_again(again: &[(String, SourceSpan, SourceSpan)]) -> Option<Problem> {
    let (key, span, earlier) = again.first()?;
    let (message, hint) = match again.len() {
        1 => (format!("`{key}` is set twice"), "delete one of them".to_owned()),
        keys => (
            format!("`{key}` and {} more of these keys are set twice", keys - 1),
            format!("if a new item of the list begins here, add its dash: `- {key}: …`"),
        ),
    };
    let problem = Problem::new(ProblemCode::DuplicateKey, message).at(*span, "second setting");
    Some(problem.see(*earlier, "first setting").hint(hint))
}

/// Parses one file and appends its problems. Returns `None` if the text is not YAML.
pub(super) fn parse(text: &str, file: u16, problems: &mut Vec<Problem>) -> Option<TreeNode> {
    match serde_yaml::from_str_with_options::<TreeNode>(text, options()) {
        Ok(mut node) => {
            node.settle(file, u32::try_from(text.len()).unwrap_or(u32::MAX), problems);
            Some(node)
        }
        Err(error) => {
            problems.push(yaml_problem(text, file, &error));
            None
        }
    }
}

fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_nodes: NODES_MAX,
            max_depth: DEPTH_MAX,
        },
        duplicate_keys: serde_yaml::options::DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
        reject_unsupported_tags: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    }
}

fn yaml_problem(text: &str, file: u16, error: &serde_yaml::Error) -> Problem {
    let start = error.location().map_or(0, |at| byte_at(text, at.line(), at.column()));
    let rest = &text[start..];
    let len = rest.find(['\n', '\r']).unwrap_or(rest.len()).max(usize::from(!rest.is_empty()));
    let as_u32 = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    let span = SourceSpan { file, start: as_u32(start), end: as_u32(start + len.min(rest.len())) };
    // The cause is the error within the alias.
    let mut cause = error;
    while let serde_yaml::Error::AliasError { error, .. } = cause {
        cause = error;
    }
    match cause {
        serde_yaml::Error::Budget { .. }
        | serde_yaml::Error::AliasReplayLimitExceeded { .. }
        | serde_yaml::Error::AliasExpansionLimitExceeded { .. }
        | serde_yaml::Error::AliasReplayStackDepthExceeded { .. } => too_large(span),
        serde_yaml::Error::MultipleDocuments { .. } => {
            Problem::new(ProblemCode::YamlSyntax, "a config must be one YAML document")
                .at(span, "a second one starts here")
        }
        _ => {
            let kind = yaml_mistakes::kind_of(cause);
            match kind.and_then(|kind| yaml_mistakes::recognize(text, start, &kind)) {
                Some(found) => mistake(found, file),
                None => {
                    let reason = UserMessageFormatter.format_message(cause).into_owned();
                    Problem::new(ProblemCode::YamlSyntax, "this is not valid YAML").at(span, reason)
                }
            }
        }
    }
}

fn mistake(found: YamlMistake, file: u16) -> Problem {
    let as_u32 = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    let span = SourceSpan { file, start: as_u32(found.span.start), end: as_u32(found.span.end) };
    Problem::new(ProblemCode::YamlSyntax, found.message).at(span, found.label).hint(found.hint)
}

fn too_large(span: SourceSpan) -> Problem {
    Problem::new(ProblemCode::TooLarge, "the file is too large after alias expansion")
        .at(span, "exceeds the limit")
        .hint("split it with `include:`, or replace aliases")
}

fn byte_at(text: &str, line: u64, column: u64) -> usize {
    let at = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(at(line)).map(str::len).sum();
    let rest = &text[start.min(text.len())..];
    let within = rest.char_indices().nth(at(column)).map_or(rest.len(), |(at, _)| at);
    (start + within).min(text.len())
}

impl<'de> Deserialize<'de> for TreeNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<TreeValue>::deserialize(deserializer)?;
        Ok(Self { span: span_of(&spanned), value: spanned.value })
    }
}

/// The span in bytes; the file's number is filled in once the whole file is read.
fn span_of<T>(spanned: &Spanned<T>) -> SourceSpan {
    let span = spanned.referenced.span();
    let start = span.byte_offset().unwrap_or(0);
    let as_u32 = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
    SourceSpan { file: 0, start: as_u32(start), end: as_u32(start + span.byte_len().unwrap_or(0)) }
}

impl<'de> Deserialize<'de> for TreeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = TreeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<TreeValue, E> {
        Ok(TreeValue::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<TreeValue, E> {
        Ok(TreeValue::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<TreeValue, E> {
        Ok(TreeValue::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<TreeValue, E> {
        Ok(TreeValue::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<TreeValue, E> {
        Number::from_f64(value).map(TreeValue::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<TreeValue, E> {
        Ok(TreeValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<TreeValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(TreeValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TreeValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key_span = span_of(&key);
            entries.push(TreeEntry { key: key.value, key_span, node: map.next_value()? });
        }
        Ok(TreeValue::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of the parser itself: a kind that it no longer reports fails here.
    #[test]
    fn each_kind_of_error_is_recognized() {
        let check = |text: &str, message: &str| {
            let mut problems = Vec::new();
            assert!(parse(text, 0, &mut problems).is_none(), "{text:?}");
            assert_eq!(problems[0].message, message, "{text:?}");
        };
        check("a: b: c\n", "a string with a colon needs quotes");
        check("a:\n  b: 1\n  cd\n", "missing colon after a key");
        check("a:\n- b\nc\n", "missing colon after a key");
        check("a: { b: 1\nc: 2\n", "unclosed bracket");
        check("a: [1\n---\n", "unclosed bracket");
        check("a: { b: [1 }\n", "unclosed bracket");
        check("a: { b: 1 c: 2 }\n", "missing comma in brackets");
        check("a: \"b\n", "unclosed quote");
        check("a:\n  b: 1\n c: 2\n", "wrong indentation");
        check("a: *.csv\n", "a string that starts with this character needs quotes");
        check("a: * b\n", "a string that starts with this character needs quotes");
        check("a: @b\n", "a string that starts with this character needs quotes");
        check("a:\n\tb: 1\n", "indentation with a tab");
    }
}
