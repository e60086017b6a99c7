//! `who`: is this user in the cohorts, and why not? Reads the state and, on request, the sources; changes nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};

use xxhash_rust::xxh3::xxh3_128;

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

/// Most identifiers with sources. Each [`SOURCE_CHUNK_LEN`] of them read every source once more.
const WITH_SOURCE_MAX: usize = 10_000;
/// How many identifiers are looked up at once. It limits memory: each has findings for every cohort.
const CHUNK_LEN: usize = 500;
/// The same with sources. Each look-up reads them, and a query may cost money.
const SOURCE_CHUNK_LEN: usize = 2_500;
/// Most bytes of a line: more than an identifier of any system.
const LINE_LEN_MAX: u64 = 64 << 10;

pub(in crate::cli) fn run(global: &Global, args: &WhoArgs) -> Result<Exit, CommandError> {
    let mut asked = AskedIdentifiers::open(args)?;
    // An error of the first lines ends the command before anything is printed.
    let mut chunk = asked.read(if args.source { WITH_SOURCE_MAX + 1 } else { CHUNK_LEN })?;
    asked.check(&chunk, args.source)?;
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
    while !chunk.is_empty() {
        for part in chunk.chunks(chunk_len) {
            match look_up(part, inputs) {
                Ok(reports) => out(&stream.piece(&reports))?,
                Err(error) if stream.has_begun() => return end_early(&stream, &error.into()),
                Err(error) => return Err(error.into()),
            }
        }
        chunk = match asked.read(CHUNK_LEN) {
            Ok(chunk) => chunk,
            Err(error) => return end_early(&stream, &error),
        };
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

enum AskedInput {
    Arguments(std::vec::IntoIter<String>),
    Lines(Box<dyn BufRead>),
}

/// The identifiers of the command line or the file, each once. Messages do not repeat them. A file is read piece by
/// piece, so that memory does not grow with it, apart from 16 bytes for each identifier.
struct AskedIdentifiers {
    /// The place, for messages.
    name: String,
    input: AskedInput,
    /// The number of lines that were read.
    line: u64,
    /// Hashes of what was read.
    seen: HashSet<u128>,
}

impl AskedIdentifiers {
    fn open(args: &WhoArgs) -> Result<Self, CommandError> {
        let name = args.file.as_deref().map_or_else(|| "the command line".to_owned(), shown_path);
        let input = match &args.file {
            None => AskedInput::Arguments(args.identifiers.clone().into_iter()),
            Some(file) if file.as_os_str() == "-" => AskedInput::Lines(Box::new(BufReader::new(io::stdin()))),
            Some(file) => {
                let opened = File::open(file).map_err(|error| unreadable(&name, &error))?;
                AskedInput::Lines(Box::new(BufReader::new(opened)))
            }
        };
        Ok(Self { name, input, line: 0, seen: HashSet::new() })
    }

    /// The next identifiers, at most this many. Empty at the end.
    fn read(&mut self, most: usize) -> Result<Vec<String>, CommandError> {
        let mut found = Vec::new();
        while found.len() < most {
            let Some(text) = self.next()? else { break };
            let text = text.trim();
            if !text.is_empty() && self.seen.insert(xxh3_128(text.as_bytes())) {
                found.push(text.to_owned());
            }
        }
        Ok(found)
    }

    /// The next argument or line.
    fn next(&mut self) -> Result<Option<String>, CommandError> {
        let lines = match &mut self.input {
            AskedInput::Arguments(arguments) => return Ok(arguments.next()),
            AskedInput::Lines(lines) => lines,
        };
        let mut bytes = Vec::new();
        let read = lines.take(LINE_LEN_MAX).read_until(b'\n', &mut bytes);
        let len = read.map_err(|error| unreadable(&self.name, &error))?;
        self.line += u64::from(len > 0);
        let wrong = |what| CommandError::new(Exit::Usage, format!("{}:{}: {what}", self.name, self.line));
        match len as u64 {
            0 => return Ok(None),
            LINE_LEN_MAX => return Err(wrong("the line is longer than any identifier")),
            _ => {}
        }
        if self.line == 1 && bytes.starts_with("\u{feff}".as_bytes()) {
            bytes.drain(.."\u{feff}".len());
        }
        String::from_utf8(bytes).map(Some).map_err(|_| wrong("the line is not UTF-8"))
    }

    /// Checks the first identifiers.
    fn check(&self, first: &[String], has_source: bool) -> Result<(), CommandError> {
        let what = match first.len() {
            0 => "no identifier".to_owned(),
            len if has_source && len > WITH_SOURCE_MAX => {
                let max = count(WITH_SOURCE_MAX as u64);
                format!(
                    "more than {max} identifiers, and each 2,500 read every source again; leave out `--source`"
                )
            }
            _ => return Ok(()),
        };
        Err(CommandError::new(Exit::Usage, format!("{} has {what}", self.name)))
    }
}

fn unreadable(name: &str, error: &io::Error) -> CommandError {
    CommandError::new(Exit::Failed, format!("cannot read {name}: {error}"))
}
