//! `schema`, `completions` and `man`: texts made from the types and the grammar.

use clap::CommandFactory as _;

use crate::cli::args::{Cli, CompletionsArgs};
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::output::out;
use crate::config::schema_text;

pub(in crate::cli) fn schema() -> Exit {
    out(&schema_text());
    Exit::Done
}

pub(in crate::cli) fn completions(args: &CompletionsArgs) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "syncline", &mut text);
    out(&String::from_utf8_lossy(&text));
    Exit::Done
}

pub(in crate::cli) fn man() -> Result<Exit, CommandError> {
    let mut page = Vec::new();
    let failed = |e: std::io::Error| CommandError::new(Exit::Failed, format!("no manual page: {e}"));
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
    out(&String::from_utf8_lossy(&page));
    Ok(Exit::Done)
}
