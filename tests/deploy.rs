//! Deployment examples: valid configs, existing commands, and consistent names across files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::*;

fn deploy() -> PathBuf {
    root().join("examples/deploy")
}

fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&deploy(), &mut found);
    found.sort();
    found
}

fn named(name: &str) -> Vec<PathBuf> {
    files().into_iter().filter(|path| path.file_name().is_some_and(|file| file == name)).collect()
}

fn yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn at(relative: &str) -> Value {
    yaml(&deploy().join(relative))
}

/// The container of a workload.
fn container(workload: &Value) -> &Value {
    let paths = ["/spec/template/spec/containers/0", "/spec/jobTemplate/spec/template/spec/containers/0"];
    paths.iter().find_map(|path| workload.pointer(path)).unwrap()
}

#[test]
fn every_config_is_valid() {
    let configs = named("sync.yaml");
    assert_eq!(configs.len(), 4);
    for path in configs {
        let mut command = Workspace::new().command(&["validate"]);
        command.current_dir(path.parent().unwrap());
        run(command).expect(0).says(&["valid sync.yaml"]);
        let schema = "# yaml-language-server: $schema=";
        let text = fs::read_to_string(&path).unwrap();
        let target = text.lines().next().unwrap().strip_prefix(schema).unwrap();
        assert!(path.parent().unwrap().join(target).exists(), "{target}");
    }
}

#[test]
fn every_secret_of_a_config_is_in_its_example() {
    for (config, secrets) in [
        ("systemd/sync.yaml", "systemd/secrets.env.example"),
        ("kubernetes/watch/sync.yaml", "kubernetes/watch/secret.example.yaml"),
        ("kubernetes/cron/sync.yaml", "kubernetes/cron/secret.example.yaml"),
        ("github/sync.yaml", "github/reconcile.yml"),
    ] {
        let [config, secrets] =
            [config, secrets].map(|path| fs::read_to_string(deploy().join(path)).unwrap());
        let names: Vec<&str> =
            config.split("{ env: ").skip(1).map(|rest| rest.split(' ').next().unwrap()).collect();
        assert!(names.len() > 1);
        for name in names {
            assert!(secrets.contains(name), "{name}");
        }
    }
}

#[test]
fn yaml_files_are_valid_and_resource_lists_complete() {
    let is_yaml = |path: &&PathBuf| path.extension().is_some_and(|e| e == "yaml" || e == "yml");
    assert!(files().iter().filter(is_yaml).map(|path| yaml(path)).all(|value| value.is_object()));
    for path in named("kustomization.yaml") {
        let folder = path.parent().unwrap();
        let listed: Vec<String> = yaml(&path)["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|resource| resource.as_str().unwrap().to_owned())
            .collect();
        for resource in &listed {
            assert!(folder.join(resource).exists(), "{resource}");
        }
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let apart = ["kustomization.yaml", "sync.yaml", "secret.example.yaml"].contains(&&*name);
            assert!(apart || listed.contains(&name), "{}: {name} is not listed", folder.display());
        }
    }
}

#[test]
fn manifests_match_the_config() {
    let (config, deployment) = (at("kubernetes/watch/sync.yaml"), at("kubernetes/watch/deployment.yaml"));
    let port_of = |key: &str| -> u64 {
        config["watch"][key].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    };
    let container = container(&deployment);
    let ports: Vec<(&str, u64)> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap()))
        .collect();
    assert_eq!(ports, [("webhooks", port_of("listen")), ("admin", port_of("admin"))]);
    for (probe, path) in
        [("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")]
    {
        assert_eq!(container[probe]["httpGet"], serde_json::json!({ "path": path, "port": "admin" }));
    }
    let grace = config["watch"]["grace"].as_str().unwrap().trim_end_matches('s').parse::<u64>().unwrap();
    assert!(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64() > Some(grace));
    let unit = fs::read_to_string(deploy().join("systemd/syncline.service")).unwrap();
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    assert!(stop.parse::<u64>().unwrap() > grace && unit.contains("\nType=notify\n"));
}

/// Commands of the manifests, the unit and the image, without the program's name.
fn commands() -> Vec<Vec<String>> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let arguments = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut all: Vec<Vec<String>> = ["kubernetes/watch/deployment.yaml", "kubernetes/cron/cronjob.yaml"]
        .iter()
        .map(|path| arguments(&container(&at(path))["args"]))
        .collect();
    let unit = fs::read_to_string(deploy().join("systemd/syncline.service")).unwrap();
    all.push(words(unit.lines().find_map(|l| l.strip_prefix("ExecStart=/usr/local/bin/syncline ")).unwrap()));
    let image = fs::read_to_string(deploy().join("docker/Dockerfile")).unwrap();
    let commands = image.lines().filter_map(|line| line.strip_prefix("CMD "));
    all.extend(commands.map(|command| arguments(&serde_json::from_str(command).unwrap())));
    all
}

#[test]
fn every_command_exists() {
    let (w, commands) = (Workspace::new(), commands());
    assert_eq!(commands.len(), 5);
    let known = w.run(&["--help"]).expect(0).stdout;
    for command in commands {
        // With `--help`, the program rejects unknown options and does nothing.
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        if known.contains(&format!("\n  {} ", arguments[0])) {
            w.run(&arguments).expect(0);
        } else {
            assert_eq!(arguments[0], "watch", "{arguments:?}");
        }
    }
}

/// Steps of the workflows that use our action have inputs that it has, and values that it accepts.
#[test]
fn workflows_use_inputs_of_the_action() {
    let action = yaml(&root().join("action.yml"));
    let mut commands = Vec::new();
    for workflow in ["github/plan.yml", "github/reconcile.yml", "github/check.yml"] {
        let workflow = at(workflow);
        let steps =
            workflow["jobs"].as_object().unwrap().values().flat_map(|job| job["steps"].as_array().unwrap());
        let ours = |step: &&Value| step["uses"].as_str().is_some_and(|uses| uses.contains("/syncline@"));
        for using in steps.filter(ours) {
            let inputs = using["with"].as_object().unwrap();
            assert!(inputs.keys().all(|name| action["inputs"][name].is_object()), "{inputs:?}");
            commands.push(inputs["command"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(commands, ["plan", "reconcile", "check"]);
}

/// Both images run without rights, and the release's programs come from its archives.
#[test]
fn images_have_no_shell_and_no_rights() {
    let image = fs::read_to_string(deploy().join("docker/Dockerfile")).unwrap();
    let bases: Vec<&str> = image
        .lines()
        .filter_map(|line| line.strip_prefix("FROM gcr.io/distroless/"))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(bases, ["static-debian12:nonroot", "cc-debian12:nonroot"]);
    let release = fs::read_to_string(root().join(".github/workflows/release.yml")).unwrap();
    for name in ["PROGRAM=archive", "STATIC_PROGRAM=archive-static"] {
        let (argument, stage) = name.split_once('=').unwrap();
        assert!(release.contains(&format!("build-args: {name}\n")), "{name}");
        assert!(
            image.contains(&format!("\nARG {argument}="))
                && image.contains(&format!("\nFROM scratch AS {stage}\n"))
        );
    }
}
