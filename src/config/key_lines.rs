//! File and line of the keys of an entry, so that a message about a value names its line, and not the line of the whole
//! entry.

use std::collections::BTreeMap;

use super::source_text::ConfigSources;
use super::tree::{TreeNode, TreeValue};

/// File and line of each key of an entry, by its path: `name`, `source.path`, `guard.max_removed`. A column of `match:` is
/// under `match.` and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyLines(BTreeMap<String, String>);

impl KeyLines {
    /// The lines of an entry: a cohort or a segment.
    pub(super) fn of(entry: &TreeNode, sources: &ConfigSources) -> Self {
        let mut lines = Self::default();
        lines.add("", entry, sources);
        lines
    }

    fn add(&mut self, path: &str, node: &TreeNode, sources: &ConfigSources) {
        for entry in node.entries() {
            let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            self.set(path.clone(), sources.place(entry.key_span));
            match (&entry.node.value, path.as_str()) {
                (TreeValue::List(rules), "match") => {
                    rules.iter().for_each(|rule| self.add_columns(rule, sources));
                }
                _ => self.add(&path, &entry.node, sources),
            }
        }
    }

    /// The columns that a rule names.
    fn add_columns(&mut self, node: &TreeNode, sources: &ConfigSources) {
        if let Some(column) = node.as_text() {
            self.set(format!("match.{column}"), sources.place(node.span));
        }
        node.entries().iter().for_each(|entry| self.add_columns(&entry.node, sources));
    }

    /// The first one counts.
    fn set(&mut self, path: String, line: String) {
        self.0.entry(path).or_insert(line);
    }

    /// File and line of a key; `None` if the entry does not have it.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}
