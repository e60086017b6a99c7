//! `doctor`: tries every connection without changing anything, and lists a remedy for each failed check.

use serde_json::{Value, json};

use crate::cli::doctor::{CheckStatus, DoctorFinding, DoctorFindings, examine};
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{FormatArgs, Global, OutputFormat};
use crate::cli::output::{bold, counted, counted_of, dim, green, out, red, wrapped, yellow};
use crate::cli::render::json::envelope;
use crate::cli::suggested_command::SuggestedCommand;

pub(in crate::cli) fn run(global: &Global, args: &FormatArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let runtime = super::runtime()?;
    let findings = runtime.block_on(examine(&config, &SuggestedCommand::new(global)));
    // A driver that hangs must not delay the report.
    runtime.shutdown_background();
    let has_failed = findings.list.iter().any(|finding| finding.status == CheckStatus::Failed);
    out(&match args.format {
        OutputFormat::Human => wrapped(&human(&findings)),
        OutputFormat::Json => {
            let list: Vec<Value> = findings.list.iter().map(to_json).collect();
            envelope("doctor", if has_failed { "failed" } else { "passed" }, &json!({ "findings": list }))
        }
    })?;
    Ok(if has_failed { Exit::Unhealthy } else { Exit::Done })
}

fn human(findings: &DoctorFindings) -> String {
    let (mut lines, mut about) = (Vec::new(), "");
    for finding in &findings.list {
        if finding.about != about {
            about = &finding.about;
            lines.push(bold(about));
        }
        let word = match finding.status {
            CheckStatus::Passed => green("ok"),
            CheckStatus::Note => yellow("!"),
            CheckStatus::Failed => red("failed:"),
        };
        lines.push(format!("  {word} {}", finding.message));
        lines.extend(
            finding.remedies.iter().filter(|text| !text.is_empty()).map(|text| dim(&format!("      {text}"))),
        );
    }
    let of = |status| findings.list.iter().filter(|finding| finding.status == status).count() as u64;
    let all = findings.list.len() as u64;
    lines.push(String::new());
    lines.push(match (of(CheckStatus::Failed), of(CheckStatus::Note)) {
        (0, 0) => format!("{} passed.", all_checks(all)),
        (0, notes) => format!("{} passed, with {}.", all_checks(all), counted(notes, "note")),
        (failed, _) => format!("{} failed.", counted_of(failed, all, "check")),
    });
    lines.join("\n")
}

fn all_checks(all: u64) -> String {
    if all == 1 { "The only check".to_owned() } else { format!("All {}", counted(all, "check")) }
}

fn to_json(finding: &DoctorFinding) -> Value {
    json!({
        "about": finding.about,
        "check": finding.check,
        "status": finding.status.word(),
        "message": finding.message,
        "remedies": finding.remedies,
    })
}
