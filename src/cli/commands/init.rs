//! `init`: creates a first config that works unchanged in the sandbox, with an environment for production. It overwrites
//! nothing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use crate::cli::args::InitArgs;
use crate::cli::csv_config::{self, FirstCohort};
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::output::out;
use crate::cli::suggested_command::SuggestedCommand;
use crate::config::{schema_text, yaml_text};

const TEMPLATE: &str = include_str!("init.yaml");
const SAMPLE_NAME: &str = "people.csv";
const SAMPLE: &str = "identity\nada@example.com\ngrace@example.com\nalan@example.com\n";
/// The folder of the states in the template. It contains identifiers of users.
const STATE: &str = ".syncline";

pub(in crate::cli) fn run(args: &InitArgs) -> Result<Exit, CommandError> {
    let config = args.folder.join("sync.yaml");
    if config.symlink_metadata().is_ok() {
        let failed = CommandError::new(Exit::Failed, format!("{} already exists", config.display()));
        return Err(failed.hint("nothing was changed; choose another folder, or edit the existing file"));
    }
    let (cohort, notes) = match &args.from_csv {
        Some(file) => csv_config::guess(file, args.column.as_deref(), &args.folder)?,
        None => (sample_cohort(&args.folder)?, Vec::new()),
    };
    for note in notes {
        out(&note)?;
    }
    let (text, schema) = (config_text(&cohort), schema_text());
    let sample = args.from_csv.is_none().then_some((SAMPLE_NAME, SAMPLE));
    let files = [("sync.yaml", text.as_str()), ("schemas/sync.schema.json", schema.as_str())];
    for (name, text) in files.into_iter().chain(sample) {
        let path = args.folder.join(name);
        let is_new = write_new(&path, text).map_err(|e| cannot_write(&path, &e))?;
        out(&format!("{} {}", if is_new { "wrote" } else { "kept " }, path.display()))?;
    }
    let ignore = args.folder.join(".gitignore");
    let done = ignore_state(&ignore).map_err(|e| cannot_write(&ignore, &e))?;
    out(&format!("{done} {}", ignore.display()))?;
    out(&next_commands(&config))?;
    Ok(Exit::Done)
}

fn cannot_write(path: &Path, error: &io::Error) -> CommandError {
    CommandError::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
}

/// The cohort of the sample file. A file of the user with that name would not fit its rules.
fn sample_cohort(folder: &Path) -> Result<FirstCohort, CommandError> {
    let path = folder.join(SAMPLE_NAME);
    if fs::read(&path).map_or_else(|e| e.kind() != io::ErrorKind::NotFound, |text| text != SAMPLE.as_bytes())
    {
        let failed = CommandError::new(Exit::Failed, format!("{} already exists", path.display()));
        let again = SuggestedCommand::init(folder, &path);
        return Err(failed.hint(format!("nothing was changed; to make a config for this file: {again}")));
    }
    Ok(FirstCohort {
        id: "first_cohort".to_owned(),
        name: "First cohort".to_owned(),
        source: format!("{{ kind: file, path: {SAMPLE_NAME} }}"),
        roots: Vec::new(),
        rules: vec!["- external_id: identity".to_owned()],
    })
}

fn config_text(cohort: &FirstCohort) -> String {
    let rules: Vec<String> = cohort.rules.iter().map(|rule| format!("      {rule}")).collect();
    let roots: Vec<String> = cohort.roots.iter().map(|root| yaml_text(root)).collect();
    let roots = match roots.as_slice() {
        [] => String::new(),
        roots => format!("roots: [{}]\n", roots.join(", ")),
    };
    let id = format!("{:<28}# stable, never reused; the value in the attribute", cohort.id);
    TEMPLATE
        .replace("<roots>\n", &format!("{roots}\n"))
        .replace("<id>", &id)
        .replace("<name>", &yaml_text(&cohort.name))
        .replace("<source>", &cohort.source)
        .replace("<match>", &rules.join("\n"))
}

/// The commands that come next. Each works as it is printed.
fn next_commands(config: &Path) -> String {
    let sandbox = SuggestedCommand::with_config(config, None);
    let production = SuggestedCommand::with_config(config, Some("production"));
    let commands = [
        (sandbox.command("plan"), "preview the changes in the sandbox"),
        (sandbox.command("reconcile"), "apply them in the sandbox"),
        (production.command("plan"), "preview the changes in production"),
    ];
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let lines = commands.map(|(command, what)| format!("  {command:<width$}   # {what}"));
    format!(
        "\nNext:\n{}\n\nBefore you apply them in production, set `instance:` in {} and BRAZE_REST_API_KEY.",
        lines.join("\n"),
        config.display()
    )
}

/// Writes a file. Returns `false` if it exists.
fn write_new(path: &Path, text: &str) -> io::Result<bool> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Adds the folder of the states to `.gitignore`, unless a line names it. Returns what was done. Without git the file has
/// no effect, and protects the state as soon as the folder becomes a repository.
fn ignore_state(path: &Path) -> io::Result<&'static str> {
    let line = format!("{STATE}/");
    if write_new(path, &format!("{line}\n"))? {
        return Ok("wrote");
    }
    let present = fs::read(path)?;
    let text = String::from_utf8_lossy(&present);
    if text.lines().any(names_state) {
        return Ok("kept ");
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let start = if text.is_empty() || text.ends_with('\n') { "" } else { end };
    OpenOptions::new().append(true).open(path)?.write_all(format!("{start}{line}{end}").as_bytes())?;
    Ok("added `.syncline/` to")
}

/// Whether a line of `.gitignore` names the folder of the states, also to include it.
fn names_state(line: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}').trim_end();
    let line = line.strip_prefix('!').unwrap_or(line);
    let line = line.strip_prefix("**/").or_else(|| line.strip_prefix('/')).unwrap_or(line);
    let line = line.strip_suffix("/**").or_else(|| line.strip_suffix("/*")).unwrap_or(line);
    line.strip_suffix('/').unwrap_or(line) == STATE
}
