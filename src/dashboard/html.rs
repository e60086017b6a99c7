//! Writes HTML in which every text is escaped. What is written unescaped are names of tags and attributes and
//! the style, and those can only be literals of the program: there is no way to run it a text by accident.

/// Attributes of an element: literal names, escaped values.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

/// A growing piece of HTML.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// The beginning of a page.
    pub(super) fn page() -> Self {
        let mut html = Self(String::with_capacity(64 << 10));
        html.0.push_str("<!doctype html>\n");
        html
    }

    /// An element and what is in it.
    pub(super) fn node(
        &mut self,
        tag: &'static str,
        attributes: Attributes<'_>,
        inside: impl FnOnce(&mut Self),
    ) {
        self.void(tag, attributes);
        inside(self);
        self.0.push_str("</");
        self.0.push_str(tag);
        self.0.push('>');
    }

    /// An element with nothing but text in it.
    pub(super) fn leaf(&mut self, tag: &'static str, attributes: Attributes<'_>, text: &str) {
        self.node(tag, attributes, |html| html.text(text));
    }

    /// An element that has no end.
    pub(super) fn void(&mut self, tag: &'static str, attributes: Attributes<'_>) {
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

    /// Text, escaped so that it is the same in an element and in an attribute.
    pub(super) fn text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(character),
                // Marks that turn the text after them around: no name needs them, and some hide behind them.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.push(char::REPLACEMENT_CHARACTER),
                c if c.is_control() => self.0.push(char::REPLACEMENT_CHARACTER),
                c => self.0.push(c),
            }
        }
    }

    /// A sentence of the program's: what stands between backticks is code.
    pub(super) fn prose(&mut self, text: &str) {
        let parts: Vec<&str> = text.split('`').collect();
        if parts.len().is_multiple_of(2) {
            return self.text(text);
        }
        for (place, part) in parts.into_iter().enumerate() {
            if place.is_multiple_of(2) { self.text(part) } else { self.leaf("code", &[], part) }
        }
    }

    /// A name that somebody gave, kept from turning the text around it: it may be written right to left.
    pub(super) fn name(&mut self, name: &str) {
        self.leaf("bdi", &[], name);
    }

    /// The style of the page, which must not be escaped: a literal of the program.
    pub(super) fn style(&mut self, style: &'static str) {
        self.0.push_str("<style>");
        self.0.push_str(style);
        self.0.push_str("</style>");
    }

    /// A line break in the source, for whoever reads that.
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
    fn text_cannot_leave_its_place() {
        let hostile = "</p><script>alert('1')</script>&amp;\" onload=\"x";
        assert_eq!(
            written(|html| html.leaf("p", &[("title", hostile)], hostile)),
            "<p title=\"&lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;&quot; \
             onload=&quot;x\">&lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;&quot; \
             onload=&quot;x</p>"
        );
    }

    #[test]
    fn what_no_page_may_hold_is_replaced() {
        assert_eq!(
            written(|html| html.text("a\0b\x1b[31mc\u{9b}\r\n\td")),
            "a\u{fffd}b\u{fffd}[31mc\u{fffd}\u{fffd}\n\td"
        );
    }

    #[test]
    fn nothing_turns_the_text_around() {
        assert_eq!(written(|html| html.text("a\u{202e}b\u{2066}c\u{200f}د")), "a\u{fffd}b\u{fffd}c\u{200f}د");
    }

    #[test]
    fn code_in_a_sentence_looks_like_code() {
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
