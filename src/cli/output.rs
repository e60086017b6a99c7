//! Output to stdout and stderr, with colors. A closed pipe is not an error.
//!
//! Text contains no secrets at this point: they are never part of messages, and text from servers and drivers is cleaned
//! when it enters the program. The last step escapes control sequences of terminals and CI runners.

use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use textwrap::core::display_width;
use textwrap::{Options, WordSplitter, WrapAlgorithm};

use super::environment;
use super::global_args::Color;
use super::terminal::suspended;
use crate::foreign;
pub(super) use crate::model::{count, counted, counted_as};

/// Narrower output is not wrapped.
const WIDTH_MIN: usize = 20;

/// Writing to stdout failed.
#[derive(Debug)]
pub(super) struct OutputLost(pub(super) io::Error);

/// Prints data to stdout with a final line break. A closed pipe (`| head`) is not an error.
pub(super) fn out(text: &str) -> Result<(), OutputLost> {
    out_exactly(&foreign::terminal(text))
}

/// Prints text for programs to stdout without escaping: CI commands, a config, a schema.
pub(super) fn out_exactly(text: &str) -> Result<(), OutputLost> {
    match suspended(|| print(&mut AutoStream::auto(io::stdout().lock()), text)) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputLost(error)),
        _ => Ok(()),
    }
}

/// Prints a message to stderr with a final line break.
pub(super) fn err(text: &str) {
    // A failure to write to stderr cannot be reported.
    let _ = suspended(|| print(&mut AutoStream::auto(io::stderr().lock()), &foreign::terminal(text)));
}

fn print(stream: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(stream, "{}", text.trim_end_matches('\n')).and_then(|()| stream.flush())
}

/// The width of stdout: that of the terminal, or `COLUMNS`. `None`: the output is for a file or a program.
pub(super) fn width() -> Option<usize> {
    width_of(|| terminal_size::terminal_size_of(io::stdout()))
}

fn width_of(
    terminal: impl FnOnce() -> Option<(terminal_size::Width, terminal_size::Height)>,
) -> Option<usize> {
    let columns = environment::variable("COLUMNS").and_then(|columns| columns.parse().ok());
    let width = columns.or_else(|| terminal().map(|(width, _)| usize::from(width.0)));
    width.filter(|width| *width >= WIDTH_MIN)
}

/// Wraps text for people at words, with a hanging indent, if the output has a width: that of the terminal, or `COLUMNS`.
/// A suggested command is never broken: it gets a line of its own.
pub(super) fn wrapped(text: &str) -> String {
    let stderr = || terminal_size::terminal_size_of(io::stderr());
    wrapped_to(text, width_of(|| terminal_size::terminal_size_of(io::stdout()).or_else(stderr)))
}

/// Wraps text as [`wrapped`] does, to this width.
pub(super) fn wrapped_to(text: &str, width: Option<usize>) -> String {
    match width {
        Some(width) => text.lines().map(|line| wrapped_line(line, width)).collect::<Vec<_>>().join("\n"),
        None => text.to_owned(),
    }
}

/// Splits a line into its spaces and colours, and the text from the first visible character on.
fn split_indent(line: &str) -> (&str, &str) {
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(' ');
        match rest.strip_prefix("\u{1b}[").and_then(|code| code.split_once('m')) {
            Some((_, after)) => rest = after,
            None => return line.split_at(line.len() - rest.len()),
        }
    }
}

/// Where a suggested command begins: at the start, or after a colon.
fn command_at(text: &str) -> Option<usize> {
    let mut found = text.match_indices("syncline ").map(|(at, _)| at);
    found.find(|at| text[..*at].is_empty() || text[..*at].trim_end_matches(' ').ends_with(':'))
}

fn wrapped_line(line: &str, width: usize) -> String {
    if display_width(line) <= width {
        return line.to_owned();
    }
    let (first, text) = split_indent(line);
    let indent = display_width(first);
    let hanging = " ".repeat((indent + 4).min(width / 2));
    let (text, command) = match command_at(text) {
        Some(0) => return line.to_owned(),
        Some(at) => (text[..at].trim_end(), Some(&text[at..])),
        None => (text, None),
    };
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(&hanging)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit)
        .break_words(false);
    let mut lines: Vec<String> = textwrap::wrap(text, options).into_iter().map(String::from).collect();
    lines.extend(command.map(|command| format!("{hanging}{command}")));
    lines.join("\n")
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

/// A part of a total: `1 of 3 cohorts`, and `3 cohorts` for all of them.
pub(super) fn counted_of(some: u64, all: u64, one: &str) -> String {
    if some == all { counted(all, one) } else { format!("{} of {}", count(some), counted(all, one)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_wrap_at_words_and_commands_stay_whole() {
        let line = "  ! removals blocked: 3,228 of 5,200 members";
        assert_eq!(wrapped_line(line, 30), "  ! removals blocked: 3,228 of\n      5,200 members");
        assert_eq!(wrapped_line(line, 80), line);
        let remedy = "      for this run only: syncline reconcile --max-removes carts=40";
        assert_eq!(
            wrapped_line(remedy, 40),
            "      for this run only:\n          syncline reconcile --max-removes carts=40"
        );
        assert_eq!(wrapped_line("  syncline approve carts --plan sha256:0123456789", 20).lines().count(), 1);
        let red = format!("{} {}", red("red"), "word ".repeat(5).trim_end());
        assert_eq!(wrapped_line(&red, 28), red, "colors have no width");
    }

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

    #[test]
    fn a_wrapped_line_keeps_its_indent_and_its_command() {
        let plain = |text: &str, width| anstream::adapter::strip_str(&wrapped_line(text, width)).to_string();
        assert_eq!(
            plain(&dim("      a row without an identifier"), 20),
            "      a row without\n          an\n          identifier"
        );
        assert_eq!(plain(&dim("    folder/a-long-name"), 20), "    folder/a-long-name", "no empty line");
        let digest = "sha256:0123456789";
        for (text, wrapped) in [
            (
                format!("Only if unchanged:  syncline plan {digest}"),
                format!("Only if unchanged:\n    syncline plan {digest}"),
            ),
            (
                format!("  to approve: syncline plan {digest}"),
                format!("  to approve:\n      syncline plan {digest}"),
            ),
            (format!("  syncline plan {digest}"), format!("  syncline plan {digest}")),
        ] {
            assert_eq!(plain(&text, 22), wrapped);
        }
    }
}
