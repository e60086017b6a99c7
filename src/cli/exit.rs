//! The exit codes and their meanings.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::process::ExitCode;

use super::output;
use crate::apply::StopCause;
use crate::contained::{is_contained, note_panic};
use crate::foreign;

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 0: done, or in sync.
    Done = 0,
    /// 1: failed, in whole or in part.
    Failed = 1,
    /// 2: changes pending (`plan --detailed-exitcode` only).
    Pending = 2,
    /// 3: the config is invalid.
    Config = 3,
    /// 4: credentials missing or rejected.
    Credentials = 4,
    /// 5: the vendor is not available, and the retries are spent.
    Unavailable = 5,
    /// 6: blocked by the guard, in whole or in part.
    Blocked = 6,
    /// 7: applied in part: sending stopped after Braze had accepted changes, or left members in doubt.
    Part = 7,
    /// 8: the state is held by another process.
    Held = 8,
    /// 9: the plan is stale, or `--expect` differs.
    Stale = 9,
    /// 10: a segment has drifted (`check` only).
    Drifted = 10,
    /// 11: a check of `doctor` failed.
    Unhealthy = 11,
    /// 64: the command line is invalid.
    Usage = 64,
    /// 70: a bug in syncline.
    Bug = 70,
    /// 130: stopped by Ctrl-C or SIGTERM before anything was sent.
    Stopped = 130,
}

/// The meaning of each code, in order. The documentation has the same table.
pub(super) const MEANINGS: [(Exit, &str); 15] = [
    (Exit::Done, "done or in sync"),
    (Exit::Failed, "failed, in whole or in part"),
    (Exit::Pending, "changes pending (plan --detailed-exitcode)"),
    (Exit::Config, "config invalid"),
    (Exit::Credentials, "credentials missing or rejected"),
    (Exit::Unavailable, "vendor unavailable"),
    (Exit::Blocked, "blocked by the guard, in whole or in part"),
    (Exit::Part, "applied in part, then stopped or left in doubt"),
    (Exit::Held, "state held by another process"),
    (Exit::Stale, "plan stale or --expect differs"),
    (Exit::Drifted, "a segment has drifted (check)"),
    (Exit::Unhealthy, "a check of doctor failed"),
    (Exit::Usage, "usage"),
    (Exit::Bug, "a bug"),
    (Exit::Stopped, "stopped by Ctrl-C or SIGTERM, nothing sent"),
];

/// All codes in one sentence.
pub(super) fn in_short() -> String {
    let codes: Vec<String> =
        MEANINGS.iter().map(|(exit, meaning)| format!("{} {meaning}", *exit as u8)).collect();
    format!("Exit codes: {}.", codes.join(", "))
}

impl Exit {
    /// The exit code for a stop in this process or its state.
    pub(super) fn of_cause(cause: &StopCause) -> Self {
        match cause {
            StopCause::Interrupted => Self::Stopped,
            StopCause::LeaseLost => Self::Held,
            StopCause::State(_) => Self::Failed,
            StopCause::Internal(_) => Self::Bug,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The message of a panic without what it quotes: it may be data.
fn panic_message(text: &str) -> String {
    const KNOWN: &str = "Result::unwrap() Result::expect() Option::unwrap() Option::expect() Err Ok None";
    foreign::cleaned(&foreign::without_quoted(text, KNOWN))
}

/// Ends the program from a thread other than the main thread.
#[allow(clippy::disallowed_methods, reason = "the main thread is busy, and a signal must not wait for it")]
pub(super) fn stop_at_once(exit: Exit) -> ! {
    super::terminal::end();
    std::process::exit(i32::from(exit as u8))
}

/// Installs the panic hook. A panic ends the program with code 70, so that inconsistent memory is not used; files stay
/// consistent. A panic in contained work only fails its cohort.
pub(super) fn on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        if crate::model::is_parser_panic() {
            return;
        }
        let suffix =
            panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let message = panic_message(panic.payload_as_str().unwrap_or("no message"));
        let backtrace = Backtrace::capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => backtrace.to_string(),
            _ => "  Set RUST_BACKTRACE=1 for a backtrace.".to_owned(),
        };
        let consequence = match is_contained() {
            true => "Only the work on one cohort, segment or export stops; the next run settles it.",
            false => "The state is intact; the next run settles the rest.",
        };
        output::err(&format!(
            "this is a bug in syncline {}: {message}{suffix}\n  \
             {consequence}\n  \
             Please report it with this text.\n{backtrace}\n",
            env!("CARGO_PKG_VERSION")
        ));
        if is_contained() {
            return note_panic(&suffix);
        }
        #[allow(clippy::disallowed_methods, reason = "a panic on any thread ends the program")]
        std::process::exit(i32::from(Exit::Bug as u8));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_panics_quote_no_data() {
        for (text, expected) in [
            (
                "end byte index 5 is not a char boundary; it is inside 'é' (bytes 4..6) of `anné@example.com`",
                "end byte index 5 is not a char boundary; it is inside '…`",
            ),
            (
                "called `Result::unwrap()` on an `Err` value: Bad { id: \"anna\" }",
                "called `Result::unwrap()` on an `Err` value: Bad { id: \"…\" }",
            ),
            (
                "index out of bounds: the len is 3 but the index is 7",
                "index out of bounds: the len is 3 but the index is 7",
            ),
        ] {
            assert_eq!(panic_message(text), expected);
        }
    }
}
