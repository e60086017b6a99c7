//! `doctor`: tries every connection without changing anything, and says what to do about what is wrong.

use serde_json::{Value, json};

use crate::cli::args::{FormatArgs, Global, OutputFormat};
use crate::cli::doctor::{CheckStatus, DoctorFinding, DoctorFindings, examine};
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::output::{bold, counted, counted_of, dim, green, out, red, yellow};
use crate::cli::render::json::envelope;

pub(in crate::cli) fn run(global: &Global, args: &FormatArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let runtime = super::runtime()?;
    let findings = runtime.block_on(examine(&config));
    // A driver that hangs does not keep the answer.
    runtime.shutdown_background();
    let is_wrong = findings.list.iter().any(|finding| finding.verdict == CheckStatus::Wrong);
    out(&match args.format {
        OutputFormat::Human => human(&findings),
        OutputFormat::Json => {
            let list: Vec<Value> = findings.list.iter().map(to_json).collect();
            envelope("doctor", if is_wrong { "wrong" } else { "well" }, &json!({ "findings": list }))
        }
    })?;
    Ok(if is_wrong { Exit::Unwell } else { Exit::Done })
}

fn human(findings: &DoctorFindings) -> String {
    let (mut lines, mut about) = (Vec::new(), "");
    for finding in &findings.list {
        if finding.about != about {
            about = &finding.about;
            lines.push(bold(about));
        }
        let word = match finding.verdict {
            CheckStatus::Fine => green("ok"),
            CheckStatus::Note => yellow("!"),
            CheckStatus::Wrong => red("wrong:"),
        };
        lines.push(format!("  {word} {}", finding.says));
        lines.extend(
            finding.remedies.iter().filter(|text| !text.is_empty()).map(|text| dim(&format!("      {text}"))),
        );
    }
    let of = |verdict| findings.list.iter().filter(|finding| finding.verdict == verdict).count() as u64;
    let all = findings.list.len() as u64;
    lines.push(String::new());
    lines.push(match (of(CheckStatus::Wrong), of(CheckStatus::Note)) {
        (0, 0) => format!("Well: {}.", counted(all, "check")),
        (0, notes) => format!("Well: {}, {}.", counted(all, "check"), counted(notes, "note")),
        (wrong, _) => format!("Something is wrong in {}.", counted_of(wrong, all, "check")),
    });
    lines.join("\n")
}

fn to_json(finding: &DoctorFinding) -> Value {
    json!({
        "about": finding.about,
        "check": finding.check,
        "verdict": finding.verdict.word(),
        "says": finding.says,
        "remedies": finding.remedies,
    })
}
