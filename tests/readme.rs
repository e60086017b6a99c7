//! The README keeps its word: its transcripts are run, its config is checked, its tables are the program's.

use std::fs;
use std::process::Command;

use crate::support::*;

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The contents of fenced blocks in this language, in order.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// Run names and times differ from run to run, and so does the number of a version: one more is written
/// when a source that was too fresh to be known by its times has aged.
fn normal(text: &str) -> String {
    let (mut out, mut after_version) = (String::new(), false);
    for word in text.split_inclusive([' ', '/', '\n']) {
        let bare = word.trim_end_matches([' ', '/', '\n']);
        let is_run = bare.len() == 26 && bare.as_bytes()[8] == b't' && bare.as_bytes()[19] == b'-';
        let is_time = bare.len() == 24 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T';
        let is_version = after_version && bare.parse::<u64>().is_ok();
        after_version = bare == "version";
        out.push_str(if is_version || is_run || is_time { "<when>" } else { bare });
        out.push_str(&word[bare.len()..]);
    }
    out
}

/// A copy of what the repository has for a new user.
fn clone_of_the_example(w: &Workspace) {
    let copied = Command::new("cp")
        .arg("-r")
        .args(["sync.yaml", "examples", "schemas"].map(|p| root().join(p)))
        .arg(w.path(""))
        .status();
    assert!(copied.unwrap().success());
}

#[test]
fn the_transcripts_are_real() {
    let (w, text) = (Workspace::new(), readme());
    clone_of_the_example(&w);
    let bin = std::path::Path::new(SYNCLINE).parent().unwrap();
    let mut last = 0;
    for block in blocks(&text, "console") {
        let mut expected = block.lines().peekable();
        while let Some(command) = expected.next() {
            let command = command.strip_prefix("$ ").unwrap_or_else(|| panic!("no command: {command}"));
            let mut shell = w.command(&[]);
            shell = {
                let mut sh = Command::new("sh");
                sh.arg("-c")
                    .arg(command.replace("$?", &last.to_string()))
                    .current_dir(shell.get_current_dir().unwrap());
                sh.env("PATH", format!("{}:{}", bin.display(), "/usr/bin:/bin")).env("NO_COLOR", "1");
                sh
            };
            let found = run(shell);
            last = found.code;
            let mut lines = Vec::new();
            while expected.peek().is_some_and(|line| !line.starts_with("$ ")) {
                lines.push(expected.next().unwrap());
            }
            assert_eq!(
                normal(found.stdout.trim_end()),
                normal(&lines.join("\n")),
                "$ {command}\n{}",
                found.stderr
            );
        }
    }
    assert!(w.path(".syncline/format.json").exists(), "nothing was run");
}

#[test]
fn the_config_by_example_is_valid_and_shows_every_setting_of_weight() {
    let (w, text) = (Workspace::new(), readme());
    let config = blocks(&text, "yaml")[0];
    w.write("sync.yaml", config).write("cohorts/none.yaml", "# nothing yet\n");
    w.run(&["validate"]).expect(0).says(&["4 cohorts, 2 exports, 3 connections, also with staging"]);
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let text = readme();
    let help =
        Workspace::new().run(&["--help"]).expect(0).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for code in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 64, 70] {
        assert!(text.contains(&format!("| {code} | ")), "the README has no row for {code}");
        assert!(help.contains(&format!(" {code} ")), "the help does not mention {code}");
    }
}

#[test]
fn every_command_of_the_program_is_in_the_readme() {
    let (text, help) = (readme(), Workspace::new().run(&["--help"]).expect(0).stdout);
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 9);
    for command in commands.into_iter().filter(|c| *c != "help" && c.chars().all(|c| c.is_ascii_lowercase()))
    {
        assert!(text.contains(&format!("`{command}`")), "{command}");
    }
}

#[test]
fn the_two_commands_are_what_ci_calls() {
    let (text, ci) = (readme(), fs::read_to_string(root().join(".ci/run")).unwrap());
    let commands: Vec<&str> = blocks(&text, "sh")[0].lines().collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let start: Vec<&str> = command.split(' ').take(2).collect();
        assert!(ci.contains(&format!("readme_command '{}", start.join(" "))), "{command}");
    }
}

#[test]
fn every_use_case_works() {
    for (name, says) in [
        ("re-engage-funnel", "163 added"),
        ("personalize-trial", "155 added"),
        ("lift-promotion", "160 added"),
    ] {
        let w = Workspace::new();
        clone_of_the_example(&w);
        let in_folder = |args: &[&str]| {
            let mut command = w.command(args);
            command.current_dir(w.path(&format!("examples/{name}")));
            run(command)
        };
        in_folder(&["validate"]).expect(0);
        in_folder(&["plan"]).expect(0);
        in_folder(&["reconcile"]).expect(0).says(&[says]);
        in_folder(&["reconcile"]).expect(0).says(&["In step"]);
        let text = w.read(&format!("examples/{name}/README.md"));
        for command in blocks(&text, "console").iter().flat_map(|block| block.lines()) {
            let args: Vec<&str> = command.strip_prefix("$ syncline ").unwrap().split(' ').collect();
            in_folder(&args).expect(0);
        }
    }
}

/// Files and links that the README names are there.
#[test]
fn its_links_lead_somewhere() {
    let text = readme();
    for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(target.starts_with("https://") || root().join(target).exists(), "{target}");
    }
}
