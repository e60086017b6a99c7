//! The source files of a config, and spans within them.

use std::ops::Range;

/// A range of bytes in a source file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceSpan {
    /// The file, as an index into [`ConfigSources`].
    pub file: u16,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl SourceSpan {
    /// The bytes as a range for slicing the file's text.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// One file of the config.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Name in messages: the path as given by the user.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Offset after each line break, in order, to find lines by binary search.
    lines: Vec<usize>,
}

impl SourceFile {
    /// Line breaks before a span's start.
    fn lines_before(&self, span: SourceSpan) -> usize {
        self.lines.partition_point(|start| *start <= span.start as usize)
    }
}

/// All files of a config, in the order of reading.
#[derive(Clone, Debug, Default)]
pub struct ConfigSources(Vec<SourceFile>);

impl ConfigSources {
    /// Adds a file and returns its index for spans.
    pub(super) fn push(&mut self, name: String, text: String) -> u16 {
        let lines = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        self.0.push(SourceFile { name, text, lines });
        u16::try_from(self.0.len() - 1).unwrap_or(u16::MAX)
    }

    /// Replaces the text of a file by a masked text of the same length.
    pub(super) fn replace(&mut self, file: u16, text: String) {
        if let Some(file) = self.0.get_mut(usize::from(file)) {
            file.text = text;
        }
    }

    /// Masks a range of a file, so that no message can show it.
    pub(super) fn mask(&mut self, span: SourceSpan) {
        let Some(file) = self.0.get_mut(usize::from(span.file)) else { return };
        if file.text.get(span.range()).is_some() {
            let hidden = "*".repeat(span.range().len());
            file.text.replace_range(span.range(), &hidden);
        }
    }

    /// The names of the files.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|file| file.name.as_str())
    }

    /// The file that a span points into.
    #[must_use]
    pub fn file(&self, span: SourceSpan) -> Option<&SourceFile> {
        self.0.get(usize::from(span.file))
    }

    /// File and line of a span's start.
    pub(super) fn place(&self, span: SourceSpan) -> String {
        let name = self.file(span).map_or("", |file| file.name.as_str());
        format!("{name}:{}", self.line(span).unwrap_or(0))
    }

    /// The line of a span's start, from 1.
    #[must_use]
    pub fn line(&self, span: SourceSpan) -> Option<usize> {
        Some(self.file(span)?.lines_before(span) + 1)
    }

    /// Line and column of a span's start, both from 1; columns count characters.
    #[must_use]
    pub fn line_column(&self, span: SourceSpan) -> Option<(usize, usize)> {
        let file = self.file(span)?;
        let before = file.lines_before(span);
        let line_start = before.checked_sub(1).and_then(|last| file.lines.get(last)).copied().unwrap_or(0);
        let column = file.text.get(line_start..span.start as usize)?.chars().count() + 1;
        Some((before + 1, column))
    }
}
