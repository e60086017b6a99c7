//! Printing. Colors only where they are wanted; a closed pipe is no error.
//!
//! A secret never gets here: it is not part of any text, and text of servers and drivers is without secrets from
//! where it enters the program. The last step escapes what a terminal or a CI runner would act on.

use std::io::{self, IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use super::args::Color;
use crate::foreign;

/// Stdout did not take what was to be printed.
#[derive(Debug)]
pub(super) struct OutputLost(pub(super) io::Error);

/// Prints data to stdout, with a line break at its end. Whoever reads may have closed the pipe
/// (`| head`): then there is nobody left to tell, and nothing is wrong.
pub(super) fn out(text: &str) -> Result<(), OutputLost> {
    out_exactly(&foreign::terminal(text))
}

/// Prints to stdout what is meant for a program and may not be changed: commands to a CI runner, a config, a schema.
pub(super) fn out_exactly(text: &str) -> Result<(), OutputLost> {
    match print(&mut AutoStream::auto(io::stdout().lock()), text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputLost(error)),
        _ => Ok(()),
    }
}

/// Prints anything else to stderr, with a line break at its end.
pub(super) fn err(text: &str) {
    // There is no third place to complain in.
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

/// Whether a person watches stderr.
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

/// A number as people read it: `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// A number of things: `1 row`, `2 rows`.
pub(super) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}

/// Some of a number of things: `1 of 3 cohorts`, and `3 cohorts` for all of them.
pub(super) fn counted_of(some: u64, all: u64, one: &str) -> String {
    if some == all { counted(all, one) } else { format!("{} of {}", count(some), counted(all, one)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(1000, "row"), "1,000 rows");
        assert_eq!(counted_of(1, 3, "row"), "1 of 3 rows");
        assert_eq!(counted_of(1, 1, "row"), "1 row");
    }
}
