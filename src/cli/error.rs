//! Errors of commands: message, hints and exit code.

use std::io::ErrorKind;

use serde_json::Value;

use super::envelope::{envelope, problem_list};
use super::exit::Exit;
use super::hints::{damaged_hints, folder_hint, older_hints, sql_hint};
use super::output::{OutputLost, bold, red, wrapped};
use super::suggested_command::SuggestedCommand;
use crate::config::{Problems, SecretError, UnsafeFileAccess};
use crate::connector::http::HttpError;
use crate::connector::sql::{SqlError, SqlErrorKind};
use crate::foreign::escaped;
use crate::reconcile::PlanFileError;
use crate::state::StateError;
use syncline_sandbox::SandboxError;
use syncline_sandbox::currents::CurrentsError;

/// A failure that ends a command.
#[derive(Debug)]
pub(super) struct CommandError {
    pub(super) exit: Exit,
    message: String,
    hints: Vec<String>,
    /// The problems of a config, which replace the message in text output.
    problems: Option<Problems>,
    /// The operator asked for the end of the command.
    is_requested: bool,
}

impl CommandError {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        // Messages repeat names of files, columns and databases, and are one line each.
        let message = escaped(&message.into()).into_owned();
        Self { exit, message, hints: Vec::new(), problems: None, is_requested: false }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(escaped(&hint.into()).into_owned());
        self
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The problems of a config, a line for each.
    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.as_ref().map(super::problems::lines).unwrap_or_default()
    }

    /// The message for a record: with the code and the place of the first problem of a config, without values of it.
    pub(super) fn recorded(&self) -> String {
        match self.problems.as_ref().and_then(super::problems::first_code) {
            Some(first) => format!("{}: {first}", self.message),
            None => self.message.clone(),
        }
    }

    /// Message and hints, for a log.
    pub(super) fn in_one_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.hints).cloned().collect::<Vec<_>>().join("; ")
    }

    pub(super) fn render(&self) -> String {
        let mut text = match &self.problems {
            Some(problems) => super::problems::draw(problems),
            None => format!("{}: {}", red(&bold("error")), self.message),
        };
        for hint in &self.hints {
            text.push_str("\n  ");
            text.push_str(hint);
        }
        // A problem of the config shows a line of the file, which must stay as it is.
        if self.problems.is_none() { wrapped(&text) } else { text }
    }

    /// A second signal has ended the work.
    pub(super) fn stopped_at_once() -> Self {
        Self { is_requested: true, ..Self::new(Exit::Part, "stopped at once") }
    }

    /// Whether the operator asked for the end of the command, so that it is no failure.
    pub(super) fn is_requested(&self) -> bool {
        self.is_requested
    }

    /// An invalid command line, from the text that describes it.
    pub(super) fn usage(text: &str) -> Self {
        let mut paragraphs =
            text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
        let first = paragraphs.next().unwrap_or_default();
        let error = Self::new(Exit::Usage, first.trim_start_matches("error: "));
        paragraphs.filter(|part| !part.is_empty()).fold(error, Self::hint)
    }

    pub(super) fn to_json(&self, command: &str) -> String {
        envelope(command, "error", &self.details())
    }

    /// The error as the details of an envelope.
    pub(super) fn details(&self) -> Value {
        let error =
            serde_json::json!({ "exit_code": self.exit as u8, "message": self.message, "hints": self.hints });
        let mut details = serde_json::json!({ "error": error });
        if let Some(problems) = &self.problems {
            details["problems"] = problem_list(problems).into();
        }
        details
    }
}

impl From<OutputLost> for CommandError {
    fn from(OutputLost(error): OutputLost) -> Self {
        Self::new(Exit::Failed, format!("cannot write to stdout: {error}"))
    }
}

impl From<Problems> for CommandError {
    fn from(problems: Problems) -> Self {
        let message =
            format!("the config has {}", super::output::counted(problems.list.len() as u64, "problem"));
        let exit = of_problems(&problems);
        Self { problems: Some(problems), ..Self::new(exit, message) }
    }
}

/// The exit code for problems of the config.
pub(super) fn of_problems(problems: &Problems) -> Exit {
    if problems.is_untrusted() { Exit::Blocked } else { Exit::Config }
}

impl From<StateError> for CommandError {
    fn from(error: StateError) -> Self {
        let exit = match &error {
            StateError::Held(_) | StateError::LeaseLost => Exit::Held,
            StateError::Conflict { .. } => Exit::Stale,
            _ => Exit::Failed,
        };
        let failed = Self::new(exit, error.to_string());
        match error {
            StateError::Held(_) => failed.hint("wait until it ends, or stop it"),
            StateError::LeaseLost => failed.hint("unfinished changes are in doubt; the next run settles them"),
            StateError::NoConditionalPut { .. } => failed.hint(
                "nothing was written; use a store that honours `If-None-Match` and `If-Match` on PUT, or a folder",
            ),
            StateError::Newer { .. } => failed
                .hint("use a newer syncline, or another `state:`")
                .hint("if no newer syncline has written the file, it is damaged: restore it from a backup"),
            StateError::Damaged { path, .. } => damaged_hints(&path).into_iter().fold(failed, Self::hint),
            StateError::Older { entry, .. } => older_hints(&entry).into_iter().fold(failed, Self::hint),
            StateError::Store(error) if error.is_remote() => failed.hint(
                "is the bucket the right one, and are there credentials? They come from AWS_…, GOOGLE_… or AZURE_… \
                 variables, or from the machine's identity",
            ),
            StateError::Store(error) => match folder_hint(error.kind()) {
                Some(hint) => failed.hint(hint),
                None => failed,
            },
            _ => failed,
        }
    }
}

/// A saved plan that cannot be used, or not be written. `again` is the command that met it.
pub(super) fn unusable_plan(error: PlanFileError, again: &SuggestedCommand) -> CommandError {
    let message = error.to_string();
    match error {
        PlanFileError::Stale(_) => CommandError::new(Exit::Stale, message)
            .hint(format!("create it again: {}", again.command("plan"))),
        PlanFileError::State(error) => error.into(),
        PlanFileError::Signature { .. } | PlanFileError::Damaged { .. } => {
            CommandError::new(Exit::Failed, message)
                .hint(format!("nothing was sent; create it again: {}", again.command("plan")))
        }
        PlanFileError::Io { .. } | PlanFileError::NoPlan { .. } => CommandError::new(Exit::Failed, message),
    }
}

impl From<HttpError> for CommandError {
    fn from(error: HttpError) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

impl From<SandboxError> for CommandError {
    fn from(error: SandboxError) -> Self {
        let failed = Self::new(Exit::Failed, error.to_string());
        match error {
            SandboxError::Listen { .. } => failed.hint("choose another port with --port; 0 takes a free one"),
            SandboxError::MemoryInUse(_) => {
                failed.hint("stop it first, or use another folder for `--memory`")
            }
            SandboxError::Memory { .. } => failed,
        }
    }
}

impl From<CurrentsError> for CommandError {
    fn from(error: CurrentsError) -> Self {
        match error {
            CurrentsError::UnknownType(_) => Self::new(Exit::Usage, error.to_string()),
            CurrentsError::Write { .. } => Self::new(Exit::Failed, error.to_string()),
        }
    }
}

/// An error for a missing secret of a connection.
pub(super) fn no_secret(connection: &str, key: &str, error: &SecretError) -> CommandError {
    let failed =
        CommandError::new(Exit::Credentials, format!("connection `{connection}` has no {key}: {error}"));
    match error {
        SecretError::Unset(name) => {
            failed.hint(format!("set {name}, or change its location under `connections:`"))
        }
        SecretError::TooOpen { path, by, .. } => {
            let path = path.display();
            let failed = failed.hint(match by {
                UnsafeFileAccess::OtherGroup(_, own) => format!("chmod 600 {path}, or give it to the process's own group: chgrp {own} {path}"),
                UnsafeFileAccess::GroupWrites | UnsafeFileAccess::Others => format!("chmod 600 {path}, or 440 for root and the process's own group"),
            });
            failed.hint(
                "in Kubernetes: `fsGroup:` of the pod is the container's group, and the secret's volume has `defaultMode: 0440`; \
                 in Docker Swarm: `mode: 0440` and `gid:` of the secret",
            )
        }
        SecretError::Empty(path) => {
            failed.hint(format!("write only the key into {}", path.display()))
        }
        SecretError::Unreadable { path, source } => failed.hint(match source.kind() {
            ErrorKind::NotFound => format!(
                "write the key into {} and chmod 600 it, or correct `file:` under `connections:`",
                path.display()
            ),
            ErrorKind::PermissionDenied => {
                "the process must own it (mode 0600), or be in its group (mode 0440); in Kubernetes set `fsGroup:` of the pod".to_owned()
            }
            ErrorKind::InvalidData => "it is not text: write only the key into it".to_owned(),
            _ => "`file:` under `connections:` must name a file with the key and nothing else".to_owned(),
        }),
    }
}

/// An error of a database.
pub(super) fn of_sql(error: &SqlError) -> CommandError {
    let exit = match error.kind {
        SqlErrorKind::Credentials | SqlErrorKind::Permission | SqlErrorKind::RowSecurity => Exit::Credentials,
        SqlErrorKind::Unreachable | SqlErrorKind::Busy | SqlErrorKind::Broken | SqlErrorKind::Timeout => {
            Exit::Unavailable
        }
        _ => Exit::Failed,
    };
    let failed = CommandError::new(exit, error.to_string());
    match sql_hint(error) {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}
