//! The tree of a config, in which every key and value has its span.

use std::collections::HashMap;

use serde_json::Number;

use super::source_text::SourceSpan;

/// A value with its span.
#[derive(Clone, Debug)]
pub(super) struct TreeNode {
    pub(super) span: SourceSpan,
    pub(super) value: TreeValue,
}

/// The value of a node by YAML's core schema.
#[derive(Clone, Debug)]
pub(super) enum TreeValue {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<TreeNode>),
    Map(Vec<TreeEntry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug)]
pub(super) struct TreeEntry {
    pub(super) key: String,
    pub(super) key_span: SourceSpan,
    pub(super) node: TreeNode,
}

/// One step from a node to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStep {
    Key(String),
    Index(usize),
}

impl TreeNode {
    /// The entry with this key, if the node is a mapping that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&TreeEntry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value under this key, if the node is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&TreeNode> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The number of nodes in the tree, with this one.
    pub(super) fn nodes_len(&self) -> usize {
        let below: usize = match &self.value {
            TreeValue::List(items) => items.iter().map(Self::nodes_len).sum(),
            TreeValue::Map(entries) => entries.iter().map(|entry| 1 + entry.node.nodes_len()).sum(),
            _ => 0,
        };
        1 + below
    }

    /// The text under this key, if there is one.
    pub(super) fn text(&self, key: &str) -> Option<(&str, SourceSpan)> {
        self.get(key).and_then(|node| node.as_text().map(|text| (text, node.span)))
    }

    /// The node's text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        if let TreeValue::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The entries of a mapping; none for anything else.
    pub(super) fn entries(&self) -> &[TreeEntry] {
        if let TreeValue::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items under this key, if it holds a list; none otherwise.
    pub(super) fn items(&self, key: &str) -> &[TreeNode] {
        self.get(key).map(Self::list).unwrap_or_default()
    }

    /// The items of a list; none for anything else.
    pub(super) fn list(&self) -> &[TreeNode] {
        if let TreeValue::List(items) = &self.value { items } else { &[] }
    }

    /// Removes the entries of a mapping with these keys.
    pub(super) fn remove_entries(&mut self, keys: &[&str]) {
        if let TreeValue::Map(entries) = &mut self.value {
            entries.retain(|entry| !keys.contains(&entry.key.as_str()));
        }
    }

    /// The items of a list, to change them; none for anything else.
    pub(super) fn items_mut(&mut self) -> Option<&mut Vec<TreeNode>> {
        if let TreeValue::List(items) = &mut self.value { Some(items) } else { None }
    }

    /// The part of the node that a path leads to, or the nearest part on the way.
    pub(super) fn nearest(&self, path: &[PathStep]) -> &TreeNode {
        let next = path.first().and_then(|step| match (step, &self.value) {
            (PathStep::Key(key), _) => self.get(key),
            (PathStep::Index(at), TreeValue::List(items)) => items.get(*at),
            _ => None,
        });
        next.map_or(self, |node| node.nearest(&path[1..]))
    }

    /// Where to point when the node as a whole is meant: a mapping's first key, a list's first
    /// item, so that a message underlines a word and not twenty lines.
    pub(super) fn head(&self) -> SourceSpan {
        match &self.value {
            TreeValue::Map(entries) => entries.first().map_or(self.span, |entry| entry.key_span),
            TreeValue::List(items) => items.first().map_or(self.span, TreeNode::head),
            _ => self.span,
        }
    }

    /// The same tree without spans, for the schema and the typed run.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            TreeValue::Null => Json::Null,
            TreeValue::Bool(b) => Json::Bool(*b),
            TreeValue::Number(n) => Json::Number(n.clone()),
            TreeValue::Text(text) => Json::String(text.clone()),
            TreeValue::List(items) => items.iter().map(TreeNode::to_json).collect(),
            TreeValue::Map(entries) => entries.iter().map(|e| (e.key.clone(), e.node.to_json())).collect(),
        }
    }
}

/// Every entry of a tree by its mapping and its key, for many lookups in large mappings.
pub(super) struct TreeIndex<'a> {
    root: &'a TreeNode,
    entries: HashMap<*const TreeNode, HashMap<&'a str, &'a TreeEntry>>,
}

impl<'a> TreeIndex<'a> {
    pub(super) fn of(root: &'a TreeNode) -> Self {
        let mut index = Self { root, entries: HashMap::new() };
        index.add(root);
        index
    }

    fn add(&mut self, node: &'a TreeNode) {
        if let TreeValue::Map(entries) = &node.value {
            let by_key = entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
            self.entries.insert(std::ptr::from_ref(node), by_key);
        }
        node.entries().iter().for_each(|entry| self.add(&entry.node));
        node.list().iter().for_each(|item| self.add(item));
    }

    /// The entry of a mapping of the tree.
    pub(super) fn entry(&self, mapping: &TreeNode, key: &str) -> Option<&'a TreeEntry> {
        self.entries.get(&std::ptr::from_ref(mapping))?.get(key).copied()
    }

    /// The part of the tree that a path leads to, or the nearest part on the way.
    pub(super) fn nearest(&self, path: &[PathStep]) -> &'a TreeNode {
        let mut node = self.root;
        for step in path {
            let next = match step {
                PathStep::Key(key) => self.entry(node, key).map(|entry| &entry.node),
                PathStep::Index(at) => node.list().get(*at),
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }
}
