//! `check`: are the cohorts used as the config says? Asks Braze, and changes nothing there. What it found is
//! remembered, so that the next check knows since when something is so.

use crate::cli::access::Sandboxes;
use crate::cli::args::{CheckArgs, CheckFormat};
use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::Global;
use crate::cli::logging::notify;
use crate::cli::output::{out, out_exactly, wrapped};
use crate::cli::render::segments::SegmentReport;
use crate::cli::segments::{self, SegmentLookup};
use crate::cli::suggested_command::SuggestedCommand;
use crate::config::{Config, SegmentConfig};
use crate::model::SegmentId;
use crate::state::{StateError, StateReader, StateWriter};

pub(in crate::cli) fn run(global: &Global, args: &CheckArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let wanted = wanted(&args.segments, &config)?;
    let (reader, writer) = opened(&config)?;
    let longest = config.braze.values().map(|braze| braze.retry.longest_wait).max().unwrap_or_default();
    let sandboxes = Sandboxes::default();
    let reach = (&sandboxes, longest);
    let (in_sandbox, checked): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|segment| config.is_in_sandbox(&segment.connection));
    let looking = segments::look(checked.into_iter(), &config, &reader, writer.as_ref(), reach);
    let mut looked = super::runtime()?.block_on(looking)?;
    looked.extend(in_sandbox.into_iter().map(SegmentLookup::in_sandbox));
    let shown = SegmentReport { looked: &looked, config: &config, again: &SuggestedCommand::new(global) };
    match args.format {
        CheckFormat::Human => out(&wrapped(&shown.human())),
        CheckFormat::Json => out(&shown.json()),
        CheckFormat::Markdown => out(&format!("## syncline check\n{}", shown.markdown())),
        CheckFormat::Github => out_exactly(&shown.github()),
    }?;
    Ok(exit(&looked))
}

/// The segments that are named; all of them if none is.
fn wanted<'a>(only: &[SegmentId], config: &'a Config) -> Result<Vec<&'a SegmentConfig>, CommandError> {
    for id in only {
        if !config.segments.iter().any(|segment| segment.id == *id) {
            let known = config.segments.iter().map(|segment| segment.id.as_str());
            return Err(super::unknown("the config", "segment", id.as_str(), known));
        }
    }
    Ok(config.segments.iter().filter(|segment| only.is_empty() || only.contains(&segment.id)).collect())
}

/// Opens the state for reading, and for writing if no other process holds the lease.
fn opened(config: &Config) -> Result<(StateReader, Option<StateWriter>), CommandError> {
    super::must_exist(config)?;
    let opened = StateWriter::open(
        &super::location(config),
        &environment::holder(),
        environment::clock(),
        environment::random(),
    );
    match opened {
        Ok(writer) => Ok((writer.reader().clone(), Some(writer))),
        Err(StateError::Held(holder)) => {
            notify(&format!("the state is held by {holder}, so this check is not recorded"));
            Ok((super::reader(config)?, None))
        }
        Err(error) => Err(error.into()),
    }
}

/// Drift first, then why something cannot be known.
fn exit(looked: &[SegmentLookup<'_>]) -> Exit {
    const ORDER: [Exit; 4] = [Exit::Drifted, Exit::Credentials, Exit::Unavailable, Exit::Failed];
    let exits: Vec<Exit> = looked.iter().map(SegmentLookup::exit).collect();
    let worst = ORDER.into_iter().find(|exit| exits.contains(exit));
    worst.or_else(|| exits.into_iter().find(|exit| *exit != Exit::Done)).unwrap_or(Exit::Done)
}
