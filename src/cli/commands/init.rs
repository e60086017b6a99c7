//! `init`: creates a first config that works unchanged. It overwrites nothing.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use crate::cli::args::InitArgs;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::output::out;
use crate::cli::suggested_command::quoted;
use crate::config::schema_text;

const CONFIG: &str = include_str!("init.yaml");
const PEOPLE: &str =
    "identity,device_id\nada@example.com,\ngrace@example.com,\n,4f9c1a77-0d1e-4f6b-9b57-6a0f6f3f2c11\n";

pub(in crate::cli) fn run(args: &InitArgs) -> Result<Exit, CommandError> {
    let schema = schema_text();
    let files = [
        ("sync.yaml", CONFIG),
        ("people.csv", PEOPLE),
        ("schemas/sync.schema.json", schema.as_str()),
        (".gitignore", ".syncline/\n"),
    ];
    if args.folder.join("sync.yaml").exists() {
        let taken = args.folder.join("sync.yaml");
        let failed = CommandError::new(Exit::Failed, format!("{} already exists", taken.display()));
        return Err(failed.hint("nothing was changed; choose another folder, or edit the existing file"));
    }
    for (name, text) in files {
        let path = args.folder.join(name);
        let made = write_new(&path, text);
        let made = made
            .map_err(|e| CommandError::new(Exit::Failed, format!("cannot write {}: {e}", path.display())))?;
        out(&format!("{} {}", if made { "wrote" } else { "kept " }, path.display()))?;
    }
    out(&format!("\nNext: {}", next(&args.folder)))?;
    Ok(Exit::Done)
}

/// The first command to run, relative to the current folder.
fn next(folder: &Path) -> String {
    if folder == Path::new(".") {
        return "syncline plan".to_owned();
    }
    format!("syncline plan -c {}", quoted(&folder.join("sync.yaml").to_string_lossy()))
}

/// Writes a file. Returns `false` if it exists.
fn write_new(path: &Path, text: &str) -> io::Result<bool> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}
