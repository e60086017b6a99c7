//! `schema`, `completions` and `man`: text generated from the config types and the command line.

use std::io::Write;

use clap_complete::env::Shells;
use clap_mangen::Man;

use crate::cli::args::{CompletionsArgs, SchemaArgs};
use crate::cli::completion;
use crate::cli::error::CommandError;
use crate::cli::exit::{Exit, MEANINGS};
use crate::cli::help;
use crate::cli::output::out_exactly;
use crate::config::{include_schema_text, schema_text};

pub(in crate::cli) fn schema(args: &SchemaArgs) -> Result<Exit, CommandError> {
    out_exactly(&if args.include { include_schema_text() } else { schema_text() })?;
    Ok(Exit::Done)
}

pub(in crate::cli) fn completions(args: &CompletionsArgs) -> Result<Exit, CommandError> {
    let shell = args.shell.to_string();
    let text = part(|script| match Shells::builtins().completer(&shell) {
        Some(shell) => {
            shell.write_registration(completion::VARIABLE, "syncline", "syncline", "syncline", &mut *script)
        }
        None => Err(std::io::Error::other(format!("unknown shell {shell}"))),
    })?;
    out_exactly(&text)?;
    Ok(Exit::Done)
}

/// One page for all commands, with a section for each.
pub(in crate::cli) fn man() -> Result<Exit, CommandError> {
    let mut cli = help::command();
    cli.build();
    let man = Man::new(cli.clone());
    let mut page = part(|page| man.render_title(page))?;
    page += &part(|page| man.render_name_section(page))?;
    page += &part(|page| man.render_synopsis_section(page))?;
    page += &part(|page| man.render_options_section(page))?;
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        page += &section(command)?;
    }
    page += ".SH \"EXIT STATUS\"\n";
    for (exit, meaning) in MEANINGS {
        page += &format!(".TP\n{}\n{}\n", exit as u8, meaning.replace('-', "\\-"));
    }
    page += &part(|page| man.render_version_section(page))?;
    out_exactly(&page)?;
    Ok(Exit::Done)
}

/// The section of one command, with its own options.
fn section(command: &clap::Command) -> Result<String, CommandError> {
    let own = command.clone().mut_args(|arg| {
        let everywhere = arg.is_global_set() || arg.get_id() == "help" || arg.get_id() == "version";
        if everywhere { arg.hide(true) } else { arg }
    });
    let has_options = own.get_arguments().any(|arg| !arg.is_hide_set());
    let more = own.get_after_long_help().is_some();
    let man = Man::new(own);
    let mut text = format!(".SH \"SYNCLINE {}\"\n", command.get_name().to_uppercase());
    text += &below(&part(|page| man.render_description_section(page))?, "");
    text += &below(&part(|page| man.render_synopsis_section(page))?, ".PP\n");
    if has_options {
        text += &below(&part(|page| man.render_options_section(page))?, "");
    }
    if more {
        text += &below(&part(|page| man.render_extra_section(page))?, ".PP\n.nf\n");
        text += ".fi\n";
    }
    Ok(text)
}

/// A part without its heading, for use under the heading of a command.
fn below(part: &str, instead: &str) -> String {
    let rest = part.split_once(".SH ").and_then(|(_, rest)| rest.split_once('\n'));
    format!("{instead}{}", rest.map_or(part, |(_, rest)| rest))
}

fn part(render: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<String, CommandError> {
    let mut page = Vec::new();
    render(&mut page)
        .map_err(|e| CommandError::new(Exit::Failed, format!("the text could not be written: {e}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
