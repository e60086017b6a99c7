//! Warnings about a valid config: what is allowed, and hardly ever meant.

use super::types::Config;

/// Quotes that word processors put instead of `"` and `'`.
const SMART_QUOTES: [char; 8] =
    ['\u{2018}', '\u{2019}', '\u{201a}', '\u{201c}', '\u{201d}', '\u{201e}', '\u{ab}', '\u{bb}'];

impl Config {
    /// The warnings, each with its span.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.cohorts.is_empty() && self.exports.is_empty() && self.segments.is_empty() {
            let file = self.files.first().map(|file| format!("{}: ", file.display())).unwrap_or_default();
            warnings.push(format!("{file}no cohorts, segments or exports: nothing will be kept in sync"));
        }
        for cohort in &self.cohorts {
            let is_quoted = cohort.name.starts_with(SMART_QUOTES) || cohort.name.ends_with(SMART_QUOTES);
            if is_quoted {
                warnings.push(format!(
                    "{}: the typographic quotes are part of the name {}; Braze will show them",
                    cohort.line_of(&["name"]),
                    cohort.name
                ));
            }
        }
        warnings
    }
}
