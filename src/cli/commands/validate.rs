//! `validate`: checks the config and all its environments, without network and secrets.

use crate::cli::error::{CommandError, of_problems};
use crate::cli::exit::Exit;
use crate::cli::global_args::{FormatArgs, Global, OutputFormat};
use crate::cli::output::{counted, dim, green, out, wrapped};
use crate::cli::render::json;
use crate::cli::render::warning_lines;
use crate::config::{self, Problems};
use crate::file_glob::skipped_text;

pub(in crate::cli) fn run(global: &Global, args: &FormatArgs) -> Result<Exit, CommandError> {
    match (check(global), args.format) {
        (Ok((config, environments)), OutputFormat::Human) => {
            let (cohorts, connections) = (config.cohorts.len() as u64, config.connections_len() as u64);
            let with = if environments.is_empty() {
                String::new()
            } else {
                format!(", also with {}", environments.join(", "))
            };
            let (cohorts, connections) = (counted(cohorts, "cohort"), counted(connections, "connection"));
            let exports = match config.exports.len() as u64 {
                0 => String::new(),
                number => format!(", {}", counted(number, "export")),
            };
            let mut lines = vec![format!(
                "{} {}: {cohorts}{exports}, {connections}{with}{}",
                green("valid"),
                global.config.display(),
                skipped_text(config.skipped_includes)
            )];
            lines.extend(warning_lines(&config));
            lines.push(dim("Sources were not read; `plan` reads them."));
            out(&wrapped(&lines.join("\n")))?;
            Ok(Exit::Done)
        }
        (Ok((config, environments)), OutputFormat::Json) => {
            let details = serde_json::json!({
                "cohorts": config.cohorts.len(),
                "exports": config.exports.len(),
                "connections": config.connections_len(),
                "environments": environments,
                "skipped_includes": config.skipped_includes,
                "config_digest": config.digest,
                "warnings": config.warnings(),
            });
            out(&json::envelope("validate", "valid", &details))?;
            Ok(Exit::Done)
        }
        (Err(problems), OutputFormat::Human) => Err(problems.into()),
        (Err(problems), OutputFormat::Json) => {
            out(&json::problems(&problems))?;
            Ok(of_problems(&problems))
        }
    }
}

fn check(global: &Global) -> Result<(config::Config, Vec<String>), Problems> {
    let trusted = global.trusted_config.as_deref();
    match &global.env {
        Some(name) => {
            config::load(&global.config, Some(name), trusted).map(|config| (config, vec![name.clone()]))
        }
        None => config::validate(&global.config, trusted),
    }
}
