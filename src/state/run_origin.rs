//! The origin of a run or an approval: the operator, the machine, the CI run, and the command line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest text from outside that the state keeps, in characters.
const TEXT_LEN_MAX: usize = 500;
/// The most arguments of a command line that the state keeps.
const ARGUMENTS_MAX: usize = 100;

/// The operator of a command: a user on a machine, or a CI run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// The name of the user: of the system, or of the CI service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The page of the CI run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci_url: Option<String>,
}

impl Operator {
    /// Whether nothing is known, as for a record of an earlier version of the program.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.user, &self.host) {
            (Some(user), Some(host)) => write!(f, "{user}@{host}"),
            (Some(one), None) => f.write_str(one),
            (None, Some(host)) => write!(f, "an unknown user on {host}"),
            (None, None) => f.write_str("an unknown user"),
        }
    }
}

/// What started a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOrigin {
    /// The command, such as `reconcile`.
    pub command: String,
    /// The words of the command line, after the name of the program.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Its operator.
    #[serde(default)]
    pub by: Operator,
}

impl RunOrigin {
    /// The origin of a command. A very long command line is cut.
    #[must_use]
    pub fn new(command: &str, arguments: &[String], by: Operator) -> Self {
        let mut kept: Vec<String> =
            arguments.iter().take(ARGUMENTS_MAX).map(|word| recorded_text(word)).collect();
        kept.extend((arguments.len() > ARGUMENTS_MAX).then(|| "…".to_owned()));
        Self { command: command.to_owned(), arguments: kept, by }
    }
}

/// Text from outside as the state keeps it: one line without control characters, and no longer than the limit.
#[must_use]
pub fn recorded_text(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    match clean.char_indices().nth(TEXT_LEN_MAX) {
        Some((end, _)) => format!("{}…", clean[..end].trim_end()),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_text_has_one_line_and_a_limit() {
        assert_eq!(recorded_text("  the campaign\nis over\u{1b}[2J "), "the campaign is over [2J");
        let long = recorded_text(&"ä".repeat(TEXT_LEN_MAX + 1));
        assert_eq!(long.chars().count(), TEXT_LEN_MAX + 1);
        assert!(long.ends_with("ä…"));
        assert_eq!(recorded_text(&"ä".repeat(TEXT_LEN_MAX)), "ä".repeat(TEXT_LEN_MAX));
    }

    #[test]
    fn an_operator_is_named_by_what_is_known() {
        let operator = |user: Option<&str>, host: Option<&str>| {
            let known =
                Operator { user: user.map(str::to_owned), host: host.map(str::to_owned), ci_url: None };
            known.to_string()
        };
        assert_eq!(operator(Some("anna"), Some("build-1")), "anna@build-1");
        assert_eq!(operator(Some("anna"), None), "anna");
        assert_eq!(operator(None, Some("build-1")), "an unknown user on build-1");
        assert_eq!(operator(None, None), "an unknown user");
    }

    #[test]
    fn a_long_command_line_is_cut() {
        let words = vec!["carts".to_owned(); ARGUMENTS_MAX + 5];
        let origin = RunOrigin::new("reconcile", &words, Operator::default());
        assert_eq!(origin.arguments.len(), ARGUMENTS_MAX + 1);
        assert_eq!(origin.arguments.last().map(String::as_str), Some("…"));
    }
}
