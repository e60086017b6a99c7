//! `who`: is this user in the cohorts, and why not? Reads the state and, on request, the sources; changes nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::Global;
use crate::cli::output::{count, out};
use crate::cli::render::user_stream::UserStream;
use crate::cli::suggested_command::SuggestedCommand;
use crate::cli::who_args::WhoArgs;
use crate::cli::{access, environment, logging};
use crate::foreign::shown_path;
use crate::lookup::{LookupInputs, look_up};

/// Most identifiers in a file.
const IDENTIFIERS_MAX: usize = 10_000;
/// How many identifiers are looked up at once. It limits memory: each has findings for every cohort.
const CHUNK_LEN: usize = 500;
/// The same with sources. Each look-up reads them, and a query may cost money.
const SOURCE_CHUNK_LEN: usize = 2_500;
/// Most bytes of a file: identifiers of the greatest length that any system accepts.
const BYTES_MAX: u64 = 16 << 20;

pub(in crate::cli) fn run(global: &Global, args: &WhoArgs) -> Result<Exit, CommandError> {
    let identifiers = identifiers(args)?;
    let config = super::config(global)?;
    let state = super::reader(&config)?;
    if let Some(unknown) = super::first_unknown(&args.cohorts, &config, &state)? {
        return Err(super::unknown_cohort(unknown, &config));
    }
    let sources = args.source.then(|| access::sources(&config)).transpose()?;
    let inputs = LookupInputs {
        state: &state,
        config: &config,
        kind: args.kind.map(Into::into),
        only: &args.cohorts,
        sources: sources.as_ref(),
        now: environment::clock().now(),
    };
    let again = SuggestedCommand::new(global);
    let mut stream = UserStream::new(args.format, args.show_identifiers, &again);
    let chunk_len = if args.source { SOURCE_CHUNK_LEN } else { CHUNK_LEN };
    for chunk in identifiers.chunks(chunk_len) {
        match look_up(chunk, inputs) {
            Ok(reports) => out(&stream.piece(&reports))?,
            Err(error) if stream.has_begun() => return end_early(&stream, &error.into()),
            Err(error) => return Err(error.into()),
        }
    }
    stream.end(None).map_or(Ok(()), |end| out(&end))?;
    Ok(if stream.is_complete() { Exit::Done } else { Exit::Failed })
}

/// Reports an error after a part of the output, and completes a JSON document.
fn end_early(stream: &UserStream<'_>, error: &CommandError) -> Result<Exit, CommandError> {
    logging::failed(error);
    stream.end(Some(error)).map_or(Ok(()), |end| out(&end))?;
    Ok(error.exit)
}

/// The identifiers of the command line or the file, each once. Messages do not repeat them.
fn identifiers(args: &WhoArgs) -> Result<Vec<String>, CommandError> {
    let usage = |what: String| CommandError::new(Exit::Usage, what);
    let (all, place) = match &args.file {
        Some(file) => (lines(file)?, format!("{} has", shown_path(file))),
        None => (args.identifiers.clone(), "the command line has".to_owned()),
    };
    let mut seen = BTreeSet::new();
    let texts = all.into_iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let unique: Vec<String> = texts.filter(|text| seen.insert(text.clone())).collect();
    match unique.len() {
        0 => Err(usage(format!("{place} no identifier"))),
        len if len > IDENTIFIERS_MAX => {
            let (len, max) = (count(len as u64), count(IDENTIFIERS_MAX as u64));
            Err(usage(format!("{place} {len} identifiers; at most {max} can be looked up at once")))
        }
        _ => Ok(unique),
    }
}

fn lines(file: &Path) -> Result<Vec<String>, CommandError> {
    let name = shown_path(file);
    let failed = |error: io::Error| CommandError::new(Exit::Failed, format!("cannot read {name}: {error}"));
    let mut bytes = Vec::new();
    let reader: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(file).map_err(failed)?),
    };
    reader.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(CommandError::new(Exit::Usage, format!("{name} is larger than 16 MiB")));
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        CommandError::new(Exit::Usage, format!("{name}:{line}: the line is not UTF-8"))
    })?;
    Ok(text.lines().map(str::to_owned).collect())
}
