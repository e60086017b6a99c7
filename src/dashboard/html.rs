//! HTML writer that escapes every text. Only names of tags, names of attributes and the style are unescaped, and their
//! types accept nothing but literals of the program.
//!
//! The crate `maud` escapes less: it keeps `'`, control characters and bidirectional marks, so each text would need a
//! wrapper that is easy to forget.

/// Attributes: literal names, escaped values.
pub(super) type HtmlAttributes<'a> = &'a [(&'static str, &'a str)];

/// HTML under construction.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// A page, with its document type.
    pub(super) fn page() -> Self {
        let mut html = Self(String::with_capacity(64 << 10));
        html.0.push_str("<!doctype html>\n");
        html
    }

    /// An element with content.
    pub(super) fn node(
        &mut self,
        tag: &'static str,
        attributes: HtmlAttributes<'_>,
        inside: impl FnOnce(&mut Self),
    ) {
        self.void(tag, attributes);
        inside(self);
        self.0.push_str("</");
        self.0.push_str(tag);
        self.0.push('>');
    }

    /// An element with text.
    pub(super) fn leaf(&mut self, tag: &'static str, attributes: HtmlAttributes<'_>, text: &str) {
        self.node(tag, attributes, |html| html.text(text));
    }

    /// An element without an end tag.
    pub(super) fn void(&mut self, tag: &'static str, attributes: HtmlAttributes<'_>) {
        self.0.push('<');
        self.0.push_str(tag);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.text(value);
            self.0.push('"');
        }
        self.0.push('>');
    }

    /// Text, escaped for elements and attributes.
    pub(super) fn text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(character),
                // Bidirectional marks reorder the text after them. Names do not need them, and attacks use them.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.push(char::REPLACEMENT_CHARACTER),
                c if c.is_control() => self.0.push(char::REPLACEMENT_CHARACTER),
                c => self.0.push(c),
            }
        }
    }

    /// A sentence in which text between backticks is code.
    pub(super) fn prose(&mut self, text: &str) {
        let parts: Vec<&str> = text.split('`').collect();
        if parts.len().is_multiple_of(2) {
            return self.text(text);
        }
        for (index, part) in parts.into_iter().enumerate() {
            if index.is_multiple_of(2) { self.text(part) } else { self.leaf("code", &[], part) }
        }
    }

    /// A foreign name, isolated because it may be written from right to left.
    pub(super) fn name(&mut self, name: &str) {
        self.leaf("bdi", &[], name);
    }

    /// The style of the page, unescaped.
    pub(super) fn style(&mut self, style: &'static str) {
        self.0.push_str("<style>");
        self.0.push_str(style);
        self.0.push_str("</style>");
    }

    /// A line break in the source.
    pub(super) fn newline(&mut self) {
        self.0.push('\n');
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Html)) -> String {
        let mut html = Html::default();
        write(&mut html);
        html.into_string()
    }

    #[test]
    fn text_cannot_become_markup() {
        let hostile = "</p><script>alert('1')</script>&amp;\" onload=\"x";
        assert_eq!(
            written(|html| html.leaf("p", &[("title", hostile)], hostile)),
            "<p title=\"&lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;&quot; \
             onload=&quot;x\">&lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;&quot; \
             onload=&quot;x</p>"
        );
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(
            written(|html| html.text("a\0b\x1b[31mc\u{9b}\r\n\td")),
            "a\u{fffd}b\u{fffd}[31mc\u{fffd}\u{fffd}\n\td"
        );
    }

    #[test]
    fn bidirectional_marks_are_replaced() {
        assert_eq!(written(|html| html.text("a\u{202e}b\u{2066}c\u{200f}د")), "a\u{fffd}b\u{fffd}c\u{200f}د");
    }

    #[test]
    fn backticks_become_code() {
        assert_eq!(
            written(|html| html.prose("raise `a<b` or `c`")),
            "raise <code>a&lt;b</code> or <code>c</code>"
        );
        assert_eq!(written(|html| html.prose("a ` alone")), "a ` alone");
    }

    #[test]
    fn elements_nest_and_end() {
        let html = written(|html| {
            html.node("a", &[("href", "#x"), ("class", "y")], |html| {
                html.name("ש");
                html.void("br", &[]);
            });
        });
        assert_eq!(html, "<a href=\"#x\" class=\"y\"><bdi>ש</bdi><br></a>");
    }
}
