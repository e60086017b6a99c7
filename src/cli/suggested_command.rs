//! Suggested commands in messages, ready to paste: the command of the user with changed options.
//!
//! A command without the `-c` or `-e` of the original would use another config. All commands in messages are therefore
//! complete and built here.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::args::RunArgs;
use super::global_args::Global;
use crate::config::DEFAULT_FILE;
use crate::model::{ChangeOp, CohortId};
use crate::plan::PlanDigest;

/// The options of this process that choose the config, for messages that are made far from the command line.
static CONFIG_OPTIONS: OnceLock<Vec<String>> = OnceLock::new();

/// Keeps the options that choose the config. The command line is parsed once, so there is one value.
pub(super) fn keep_config_options(global: &Global) {
    let _ = CONFIG_OPTIONS.set(config_options(global));
}

/// A command of this program with the options that choose the config.
pub(super) fn suggested(command: &str) -> String {
    let options = CONFIG_OPTIONS.get().into_iter().flatten();
    ["syncline", command].into_iter().chain(options.map(String::as_str)).collect::<Vec<_>>().join(" ")
}

fn config_options(global: &Global) -> Vec<String> {
    let mut options = Vec::new();
    if global.config != Path::new(DEFAULT_FILE) {
        options.extend(["-c".to_owned(), quoted(&global.config.to_string_lossy())]);
    }
    if let Some(env) = &global.env {
        options.extend(["-e".to_owned(), quoted(env)]);
    }
    if let Some(trusted) = &global.trusted_config {
        options.extend(["--trusted-config".to_owned(), quoted(&trusted.to_string_lossy())]);
    }
    options
}

/// The options of the current command.
#[derive(Clone, Debug, Default)]
pub(super) struct SuggestedCommand {
    /// The options that choose the config: `-c FILE -e NAME --trusted-config FILE`.
    config_options: Vec<String>,
    cohorts: Vec<String>,
    retry_rejected: bool,
    ceilings: Vec<(ChangeOp, CohortId, u64)>,
    /// The file of a saved plan.
    saved: Option<String>,
    /// The command that applies the plan, if it is not `reconcile`.
    by: Option<&'static str>,
}

impl SuggestedCommand {
    pub(super) fn new(global: &Global) -> Self {
        Self { config_options: config_options(global), ..Self::default() }
    }

    /// The options for a config that was just written.
    pub(super) fn with_config(config: &Path, env: Option<&str>) -> Self {
        let config = config.strip_prefix(".").unwrap_or(config);
        let mut config_options = Vec::new();
        if config != Path::new(DEFAULT_FILE) {
            config_options.extend(["-c".to_owned(), quoted(&config.to_string_lossy())]);
        }
        config_options.extend(env.into_iter().flat_map(|env| ["--env".to_owned(), quoted(env)]));
        Self { config_options, ..Self::default() }
    }

    /// The command that makes a config in `folder` from a CSV file.
    pub(super) fn init(folder: &Path, csv: &Path) -> String {
        let mut words = vec!["syncline".to_owned(), "init".to_owned()];
        words.extend((folder != Path::new(".")).then(|| quoted(&folder.to_string_lossy())));
        words.extend(["--from-csv".to_owned(), quoted(&csv.to_string_lossy())]);
        words.join(" ")
    }

    /// Adds the options of `plan` or `reconcile`.
    pub(super) fn run(mut self, args: &RunArgs, saved: Option<&PathBuf>) -> Self {
        let ceilings = |op, list: &[(CohortId, u64)]| {
            list.iter().map(|(id, number)| (op, id.clone(), *number)).collect::<Vec<_>>()
        };
        self.ceilings = ceilings(ChangeOp::Remove, &args.max_removes);
        self.ceilings.extend(ceilings(ChangeOp::Add, &args.max_adds));
        self.cohorts = args.cohorts.iter().map(ToString::to_string).collect();
        self.retry_rejected = args.retry_rejected;
        self.saved = saved.map(|file| quoted(&file.to_string_lossy()));
        self
    }

    /// Uses `resync` of a cohort instead of `reconcile`.
    pub(super) fn resync(mut self, cohort: &CohortId) -> Self {
        (self.by, self.cohorts) = (Some("resync"), vec![cohort.to_string()]);
        self
    }

    /// Whether `resync` applies the plan.
    pub(super) fn is_resync(&self) -> bool {
        self.by.is_some()
    }

    /// The command that sends rejected identifiers again. It makes a saved plan anew.
    pub(super) fn retrying_rejected(&self) -> String {
        let again = Self { retry_rejected: true, ..self.clone() };
        again.command(if self.is_saved() { "plan" } else { "reconcile" })
    }

    /// The command that allows this number of changes of a cohort for one run.
    pub(super) fn allowing(&self, op: ChangeOp, id: &CohortId, number: u64) -> String {
        let mut again = self.clone();
        again.ceilings.retain(|(had, cohort, _)| (*had, cohort) != (op, id));
        again.ceilings.push((op, id.clone(), number));
        again.command("reconcile")
    }

    /// The command that approves a blocked plan of a cohort.
    pub(super) fn approve(&self, id: &CohortId, plan: PlanDigest) -> String {
        let mut words = vec!["syncline".to_owned(), "approve".to_owned()];
        words.extend(self.config_options.iter().cloned());
        words.extend([id.to_string(), "--plan".to_owned(), plan.to_string()]);
        words.join(" ")
    }

    /// Whether the run uses a saved plan.
    pub(super) fn is_saved(&self) -> bool {
        self.saved.is_some()
    }

    /// The command that accepts the keys of a connection as those of the state's workspace.
    pub(super) fn adopt(&self, connection: &str) -> String {
        let words = ["syncline", "state", "adopt"].map(str::to_owned).into_iter();
        words
            .chain(self.config_options.iter().cloned())
            .chain([connection.to_owned()])
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The complete command for a shell.
    pub(super) fn command(&self, name: &str) -> String {
        let by = self.by.filter(|_| name == "reconcile").unwrap_or(name);
        let mut words = vec!["syncline".to_owned(), by.to_owned()];
        words.extend(self.config_options.iter().cloned());
        // A saved plan contains its cohorts.
        if !self.is_saved() || name == "plan" {
            words.extend(self.cohorts.iter().cloned());
            words.extend(self.retry_rejected.then(|| "--retry-rejected".to_owned()));
        }
        words.extend((by == "resync").then(|| "--yes".to_owned()));
        for (op, id, number) in &self.ceilings {
            let option = match op {
                ChangeOp::Remove => "--max-removes",
                ChangeOp::Add => "--max-adds",
            };
            words.extend([option.to_owned(), format!("{id}={number}")]);
        }
        if let Some(file) = &self.saved {
            words.extend([if name == "plan" { "--out" } else { "--plan" }.to_owned(), file.clone()]);
        }
        words.join(" ")
    }
}

/// Quotes a word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_./:=@%+,-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, in_shell) in
            [("a/b.yaml", "a/b.yaml"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("$X", "'$X'")]
        {
            assert_eq!(quoted(word), in_shell);
        }
    }
}
