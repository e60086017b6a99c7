//! The command line with examples in the help text of each command.

use clap::{Command, CommandFactory as _};

use super::args::Cli;

/// The examples of each command.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("", &["syncline init", "syncline plan", "syncline reconcile"]),
    ("validate", &["syncline validate", "syncline validate -c config/sync.yaml --format json"]),
    (
        "plan",
        &[
            "syncline plan",
            "syncline plan trials --show-identifiers",
            "syncline plan -e production --out saved.plan",
        ],
    ),
    (
        "reconcile",
        &[
            "syncline reconcile",
            "syncline reconcile --dry-run",
            "syncline reconcile trials --max-removes trials=1200",
            "syncline reconcile -e production --plan saved.plan",
        ],
    ),
    (
        "who",
        &[
            "syncline who anna",
            "syncline who crm:4711 --cohort vip --source",
            "syncline who --file users.txt --format json",
        ],
    ),
    ("watch", &["syncline watch -e production", "syncline watch --log-format json -v"]),
    ("check", &["syncline check", "syncline check win_back --format github"]),
    ("discover", &["syncline discover", "syncline discover warehouse"]),
    ("import", &["syncline import", "syncline import --out found.yaml"]),
    ("doctor", &["syncline doctor -e production"]),
    ("status", &["syncline status", "syncline status --format json"]),
    ("history", &["syncline history", "syncline history -n 5", "syncline history --cohort trials"]),
    ("export", &["syncline export --dry-run", "syncline export engagement --since 2026-11-01"]),
    ("replay", &["syncline replay --reason no_user", "syncline replay --files --since 2026-11-01 --yes"]),
    ("identity show", &["syncline identity show 3f9c2a"]),
    (
        "identity import",
        &[
            "syncline identity import ids.csv --device-id device",
            "syncline identity import s3://dumps --layout heap-connect",
        ],
    ),
    ("identity stats", &["syncline identity stats"]),
    ("identity drop", &["syncline identity drop s3://dumps"]),
    ("forget", &["syncline forget u-1029", "syncline forget u-1029 --heap heap --yes"]),
    ("resync", &["syncline resync trials", "syncline resync trials --yes"]),
    (
        "approve",
        &[
            "syncline approve trials --plan sha256:4a1f...",
            "syncline approve trials --plan sha256:4a1f... --reason planned",
        ],
    ),
    ("state ls", &["syncline state ls"]),
    ("state show", &["syncline state show trials"]),
    ("state adopt", &["syncline state adopt braze"]),
    ("state create", &["syncline state create -e production"]),
    ("state accept", &["syncline state accept cohorts/trials"]),
    ("state verify", &["syncline state verify"]),
    ("state gc", &["syncline state gc --dry-run"]),
    ("sandbox", &["syncline sandbox", "syncline sandbox --port 4020 --memory sandbox"]),
    ("sandbox currents", &["syncline sandbox currents --out events --events 5000"]),
    ("schema", &["syncline schema > sync.schema.json"]),
    ("init", &["syncline init", "syncline init --from-csv people.csv"]),
    ("completions", &["source <(syncline completions bash)"]),
    ("man", &["syncline man | man -l -"]),
];

/// The command line of the program.
pub(super) fn command() -> Command {
    with_examples(Cli::command(), "")
}

fn with_examples(mut command: Command, path: &str) -> Command {
    let examples = EXAMPLES.iter().find(|(of, _)| *of == path).map_or(&[][..], |(_, examples)| examples);
    if !examples.is_empty() {
        let text = examples.iter().fold("Examples:".to_owned(), |text, example| text + "\n  " + example);
        let below = |more: Option<&clap::builder::StyledStr>| match more {
            Some(more) => format!("{text}\n\n{more}"),
            None => text.clone(),
        };
        let (short, long) =
            (below(command.get_after_help()), command.get_after_long_help().map(|long| below(Some(long))));
        command = command.after_help(short);
        if let Some(long) = long {
            command = command.after_long_help(long);
        }
    }
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.iter().fold(command, |command, name| {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command.mut_subcommand(name, |sub| with_examples(sub, &path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        for sub in command.get_subcommands() {
            let path = if path.is_empty() {
                sub.get_name().to_owned()
            } else {
                format!("{path} {}", sub.get_name())
            };
            if sub.has_subcommands() { leaves(sub, &path, found) } else { found.push(path) }
        }
    }

    #[test]
    fn every_command_has_examples() {
        let mut found = Vec::new();
        leaves(&command(), "", &mut found);
        assert!(found.len() > 30);
        for path in found {
            assert!(EXAMPLES.iter().any(|(of, _)| *of == path), "`{path}` has no example");
        }
    }

    #[test]
    fn examples_are_valid_command_lines() {
        for (of, examples) in EXAMPLES {
            for example in *examples {
                let line = example.split(['|', '>', ')']).next().unwrap_or(example).replace("source <(", "");
                let line = line.replace("4a1f...", &"0".repeat(64));
                let words: Vec<&str> = line.split_whitespace().collect();
                assert!(line.contains(of), "{example} is not about `{of}`");
                let parsed = command().try_get_matches_from(words);
                let is_help = |e: &clap::Error| e.kind() == clap::error::ErrorKind::DisplayHelp;
                assert!(
                    parsed.as_ref().is_ok() || parsed.as_ref().is_err_and(is_help),
                    "{example}: {parsed:?}"
                );
            }
        }
    }
}
