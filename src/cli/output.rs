//! Output to stdout and stderr, with colors. A closed pipe is not an error.
//!
//! Text contains no secrets at this point: they are never part of messages, and text from servers and drivers is cleaned
//! when it enters the program. The last step escapes control sequences of terminals and CI runners.

use std::io::{self, IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use super::global_args::Color;
use crate::foreign;

/// Writing to stdout failed.
#[derive(Debug)]
pub(super) struct OutputLost(pub(super) io::Error);

/// Prints data to stdout with a final line break. A closed pipe (`| head`) is not an error.
pub(super) fn out(text: &str) -> Result<(), OutputLost> {
    out_exactly(&foreign::terminal(text))
}

/// Prints text for programs to stdout without escaping: CI commands, a config, a schema.
pub(super) fn out_exactly(text: &str) -> Result<(), OutputLost> {
    match print(&mut AutoStream::auto(io::stdout().lock()), text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputLost(error)),
        _ => Ok(()),
    }
}

/// Prints a message to stderr with a final line break.
pub(super) fn err(text: &str) {
    // A failure to write to stderr cannot be reported.
    let _ = print(&mut AutoStream::auto(io::stderr().lock()), &foreign::terminal(text));
}

fn print(stream: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(stream, "{}", text.trim_end_matches('\n')).and_then(|()| stream.flush())
}

/// Follows `--color`; without it, the terminal and `NO_COLOR` decide.
pub(super) fn set_color(color: Color) {
    match color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    }
    .write_global();
}

/// Whether stderr is a terminal.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Whether stderr shows colours.
pub(super) fn err_has_color() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

fn painted(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

pub(super) fn bold(text: &str) -> String {
    painted(text, Style::new().bold())
}

pub(super) fn dim(text: &str) -> String {
    painted(text, Style::new().dimmed())
}

pub(super) fn green(text: &str) -> String {
    painted(text, AnsiColor::Green.on_default())
}

pub(super) fn yellow(text: &str) -> String {
    painted(text, AnsiColor::Yellow.on_default())
}

pub(super) fn red(text: &str) -> String {
    painted(text, AnsiColor::Red.on_default())
}

/// A number with thousands separators: `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// A number with a noun: `1 row`, `2 rows`.
pub(super) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}

/// A part of a total: `1 of 3 cohorts`, and `3 cohorts` for all of them.
pub(super) fn counted_of(some: u64, all: u64, one: &str) -> String {
    if some == all { counted(all, one) } else { format!("{} of {}", count(some), counted(all, one)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_plurals() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(1000, "row"), "1,000 rows");
        assert_eq!(counted_of(1, 3, "row"), "1 of 3 rows");
        assert_eq!(counted_of(1, 1, "row"), "1 row");
    }
}
