//! The README: set-up commands equal those of CI, and the linked use cases work.

use std::fs;

use crate::support::markdown::{blocks_in, copy_example};
use crate::support::*;

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

#[test]
fn the_readme_is_short() {
    assert!(readme().lines().count() <= 200);
}

#[test]
fn the_commands_equal_those_of_ci() {
    let (text, ci) = (readme(), fs::read_to_string(root().join(".ci/run")).unwrap());
    let commands: Vec<&str> = blocks_in(&text, "sh")[0].lines().collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let start: Vec<&str> = command.split(' ').take(2).collect();
        assert!(ci.contains(&format!("readme_command '{}", start.join(" "))), "{command}");
    }
}

#[test]
fn every_use_case_works() {
    for (name, says) in [
        ("csv-and-rest-key", "150 added"),
        ("re-engage-funnel", "163 added"),
        ("personalize-trial", "155 added"),
        ("lift-promotion", "160 added"),
    ] {
        let w = Workspace::new();
        copy_example(&w);
        let in_folder = |args: &[&str]| {
            let mut command = w.command(args);
            command.current_dir(w.path(&format!("examples/{name}")));
            run(command)
        };
        in_folder(&["validate"]).expect(0);
        in_folder(&["plan"]).expect(0);
        in_folder(&["reconcile"]).expect(0).says(&[says]);
        in_folder(&["reconcile"]).expect(0).says(&["In sync"]);
        let text = w.read(&format!("examples/{name}/README.md"));
        for command in blocks_in(&text, "console").iter().flat_map(|block| block.lines()) {
            let args: Vec<&str> = command.strip_prefix("$ syncline ").unwrap().split(' ').collect();
            in_folder(&args).expect(0);
        }
    }
}

#[test]
fn the_chart_shows_the_figures_of_the_table() {
    let mut draw = std::process::Command::new("python3");
    draw.arg("benches/chart.py").current_dir(root());
    let drawn = run(draw).expect(0).stdout;
    assert!(drawn.contains("syncline plan") && drawn.matches("<rect class=").count() == 4, "{drawn}");
    let shown = fs::read_to_string(root().join("docs/performance.svg")).unwrap();
    assert_eq!(shown.trim(), drawn.trim(), "to write it: python3 benches/chart.py > docs/performance.svg");
}
