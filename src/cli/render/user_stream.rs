//! The answers of `who` in pieces: text, or one JSON document, so that memory does not grow with the number of users.

use serde_json::json;

use super::user_json;
use super::user_report::{may_be_in_source, paragraphs, source_hint};
use crate::cli::envelope::{envelope_begin, envelope_end, envelope_item};
use crate::cli::error::CommandError;
use crate::cli::global_args::OutputFormat;
use crate::cli::output::wrapped;
use crate::cli::suggested_command::SuggestedCommand;
use crate::lookup::{UserInCohort, UserReport};

/// Renders reports piece by piece. Each piece is a number of whole lines.
pub(in crate::cli) struct UserStream<'a> {
    format: OutputFormat,
    in_full: bool,
    again: &'a SuggestedCommand,
    has_begun: bool,
    is_complete: bool,
    /// A source may explain an answer, and none was read.
    is_hint_due: bool,
    has_source: bool,
}

impl<'a> UserStream<'a> {
    pub(in crate::cli) fn new(format: OutputFormat, in_full: bool, again: &'a SuggestedCommand) -> Self {
        let (has_begun, is_complete, is_hint_due, has_source) = (false, true, false, false);
        Self { format, in_full, again, has_begun, is_complete, is_hint_due, has_source }
    }

    /// Whether a piece was rendered.
    pub(in crate::cli) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether every cohort and source could be read.
    pub(in crate::cli) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The next reports, at least one.
    pub(in crate::cli) fn piece(&mut self, reports: &[UserReport]) -> String {
        let cohorts = || reports.iter().flat_map(|report| &report.cohorts);
        self.is_complete &= cohorts().all(UserInCohort::is_complete);
        let facts = || cohorts().filter_map(|cohort| cohort.facts.as_ref().ok());
        self.is_hint_due |= facts().any(may_be_in_source);
        self.has_source |= facts().any(|facts| facts.source.is_some());
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        match self.format {
            OutputFormat::Human => {
                let text = wrapped(&paragraphs(reports, self.in_full));
                if is_first { text } else { format!("\n{text}") }
            }
            OutputFormat::Json => {
                let begin = if is_first { envelope_begin("who", "users") } else { "    ,".to_owned() };
                let users = reports.iter().map(|report| user_json::user(report, self.in_full));
                format!("{begin}\n{}", users.map(|user| envelope_item(&user)).collect::<Vec<_>>().join(",\n"))
            }
        }
    }

    /// The end. `error`: what ended the look-up early.
    pub(in crate::cli) fn end(&self, error: Option<&CommandError>) -> Option<String> {
        match (self.format, error) {
            (OutputFormat::Json, None) => {
                Some(envelope_end(if self.is_complete { "answered" } else { "in_part" }, &json!({})))
            }
            (OutputFormat::Json, Some(error)) => Some(envelope_end("error", &error.details())),
            (OutputFormat::Human, None) if self.is_hint_due && !self.has_source => {
                Some(wrapped(&format!("\n{}", source_hint(self.again))))
            }
            (OutputFormat::Human, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::cli::exit::Exit;

    fn reports(names: &[&str]) -> Vec<UserReport> {
        let report = |name: &&str| UserReport {
            identifier: (*name).to_owned(),
            invalid: None,
            owners: Vec::new(),
            handles: 0,
            cohorts: Vec::new(),
        };
        names.iter().map(report).collect()
    }

    #[test]
    fn pieces_are_one_json_document_even_after_an_error() {
        let again = SuggestedCommand::default();
        let failed = CommandError::new(Exit::Failed, "a part is damaged");
        for (error, result) in [(None, "answered"), (Some(&failed), "error")] {
            let mut stream = UserStream::new(OutputFormat::Json, false, &again);
            let pieces =
                [&["a", "\u{202e}\"b"][..], &["c"], &["d"]].map(|names| stream.piece(&reports(names)));
            let text = [&pieces[..], &[stream.end(error).unwrap()]].concat().join("\n");
            let json: Value = serde_json::from_str(&text).unwrap();
            let names =
                json["users"].as_array().unwrap().iter().map(|user| user["identifier"].as_str().unwrap());
            assert_eq!(names.collect::<Vec<_>>(), ["a", "\u{202e}\"b", "c", "d"]);
            assert_eq!((&json["result"], &json["format_version"]), (&json!(result), &json!(1)));
            assert_eq!(json["error"]["message"].as_str(), error.map(CommandError::message));
        }
    }
}
