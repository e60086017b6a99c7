//! The command line: the only module that prints, reads the environment or chooses an exit code.
//!
//! It turns errors of the other modules into messages, hints and exit codes. Data goes to stdout, and everything else to
//! stderr. All output goes through `output`.

mod access;
mod args;
mod commands;
mod completion;
mod csv_config;
mod discovered;
mod doctor;
mod envelope;
mod environment;
mod error;
mod exit;
mod find_args;
mod global_args;
mod help;
mod hints;
mod identity_args;
mod identity_errors;
mod log_limit;
mod log_lines;
mod logging;
mod operator;
mod output;
mod problems;
mod progress;
mod resources;
mod revision;
mod sandbox_args;
mod segments;
mod spans;
mod state_args;
mod suggested_command;
mod terminal;
mod who_args;

mod render;
mod workspace;

use std::process::ExitCode;

use clap::FromArgMatches as _;
use clap::error::ErrorKind;
use clap_complete::CompleteEnv;

pub use exit::Exit;
pub use problems::drawn;

use args::{Cli, Command, PlanArgs};
use error::CommandError;
use global_args::{LogFormat, OutputFormat};

/// Runs the program and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    exit::on_panic();
    CompleteEnv::with_factory(help::command).var(completion::VARIABLE).complete();
    environment::inject_failure();
    let mut command = help::command();
    let parsed = command.try_get_matches_from_mut(environment::arguments());
    match parsed.and_then(|matches| Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command))) {
        Ok(cli) => run(&cli).into(),
        Err(error) => usage(&error).into(),
    }
}

/// Prints help or version, or reports a usage error.
fn usage(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let shown = output::out(&error.render().ansi().to_string()).map_err(CommandError::from);
            shown.map_or_else(|error| failed(None, &error), |()| Exit::Done)
        }
        _ => {
            output::err(&error.render().ansi().to_string());
            let words = environment::words();
            let is_json = words.iter().any(|word| word == "--format=json")
                || words.windows(2).any(|two| two[0] == "--format" && two[1] == "json");
            if is_json {
                let _ = output::out(&CommandError::usage(&error.render().to_string()).to_json("syncline"));
            }
            Exit::Usage
        }
    }
}

fn run(cli: &Cli) -> Exit {
    suggested_command::keep_config_options(&cli.global);
    output::set_color(cli.global.color);
    let is_server = matches!(cli.command, Command::Watch | Command::Sandbox(_));
    if !is_server && cli.global.log_format == LogFormat::Text {
        terminal::start(cli.command.name());
    }
    logging::start(&cli.global, matches!(cli.command, Command::Watch));
    let exit = run_command(cli);
    terminal::end();
    spans::flush();
    exit
}

fn run_command(cli: &Cli) -> Exit {
    if let Err(error) = doctor::enough_open_files(&cli.command) {
        return failed(Some(&cli.command), &error);
    }
    let done = match &cli.command {
        Command::Validate(args) => commands::validate::run(&cli.global, args),
        Command::Plan(args) => commands::plan::run(&cli.global, args),
        Command::Reconcile(args) if args.dry_run => {
            commands::plan::run(&cli.global, &PlanArgs::of_dry_run(args))
        }
        Command::Reconcile(args) => commands::reconcile::run(&cli.global, args),
        Command::Watch => commands::watch::run(&cli.global),
        Command::Check(args) => commands::check::run(&cli.global, args),
        Command::Discover(args) => commands::discover::run(&cli.global, args),
        Command::Import(args) => commands::import::run(&cli.global, args),
        Command::Doctor(args) => commands::doctor::run(&cli.global, args),
        Command::Status(args) => commands::status::run(&cli.global, args),
        Command::History(args) => commands::history::run(&cli.global, args),
        Command::Who(args) => commands::who::run(&cli.global, args),
        Command::Export(args) => commands::export::run(&cli.global, args),
        Command::Replay(args) => commands::replay::run(&cli.global, args),
        Command::Identity(args) => commands::identity::run(&cli.global, args),
        Command::Forget(args) => commands::forget::run(&cli.global, args),
        Command::Resync(args) => commands::resync::run(&cli.global, args),
        Command::Approve(args) => commands::approve::run(&cli.global, args),
        Command::State(args) => commands::state::run(&cli.global, args),
        Command::Sandbox(args) => commands::sandbox::run(args),
        Command::Schema(args) => commands::generate::schema(args),
        Command::Init(args) => commands::init::run(args),
        Command::Completions(args) => commands::generate::completions(args),
        Command::Man => commands::generate::man(),
    };
    done.unwrap_or_else(|error| failed(Some(&cli.command), &error))
}

/// Reports the error of a command on stderr, and with `--format json` also as JSON on stdout.
fn failed(command: Option<&Command>, error: &CommandError) -> Exit {
    logging::failed(error);
    if let Some(command) = command.filter(|command| command.format() == OutputFormat::Json) {
        // Writing to stdout may be the error itself; stderr has reported it.
        let _ = output::out(&error.to_json(command.name()));
    }
    error.exit
}
