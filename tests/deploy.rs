//! Deployment examples: valid configs, existing commands, and consistent names across files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::watch::Watch;
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
    for (config, secrets) in
        [("systemd/sync.yaml", "systemd/secrets.env.example"), ("github/sync.yaml", "github/reconcile.yml")]
    {
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

/// The pod and the config of each Kubernetes variant.
const PODS: [(&str, &str); 2] = [("watch", "deployment.yaml"), ("cron", "cronjob.yaml")];

/// The spec of the pods of a workload.
fn pod(workload: &Value) -> &Value {
    let paths = ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec"];
    paths.iter().find_map(|path| workload.pointer(path)).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn by_name<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|item| item["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

/// The key files of a config, by their names, and their folder.
fn key_files(config: &str) -> (Vec<String>, String) {
    let files = config.split("{ file: ").skip(1).map(|rest| rest.split(' ').next().unwrap());
    let (mut names, mut folders): (Vec<String>, Vec<String>) = files
        .map(|file| file.rsplit_once('/').unwrap())
        .map(|(folder, name)| (name.to_owned(), folder.to_owned()))
        .unzip();
    names.sort();
    folders.dedup();
    assert_eq!(folders.len(), 1);
    (names, folders.remove(0))
}

#[test]
fn mounted_keys_are_those_of_the_config() {
    for (folder, workload) in PODS {
        let text = fs::read_to_string(deploy().join(format!("kubernetes/{folder}/sync.yaml"))).unwrap();
        let (names, mount) = key_files(&text);
        let (workload, secret) = (
            at(&format!("kubernetes/{folder}/{workload}")),
            at(&format!("kubernetes/{folder}/secret.example.yaml")),
        );
        let in_secret: Vec<&String> = secret["stringData"].as_object().unwrap().keys().collect();
        assert_eq!(in_secret, names.iter().collect::<Vec<_>>());
        let pod = pod(&workload);
        let volume = &by_name(&pod["volumes"], "keys")["secret"];
        assert_eq!(volume["secretName"], secret["metadata"]["name"]);
        // YAML 1.1, which Kubernetes reads, has octal numbers of this form; YAML 1.2 reads 440.
        assert_eq!(volume["defaultMode"].as_f64(), Some(440.0));
        let mounts = &container(&workload)["volumeMounts"];
        assert_eq!(by_name(mounts, "keys")["mountPath"], mount.as_str());
        assert_eq!(pod["securityContext"]["fsGroup"], pod["securityContext"]["runAsGroup"]);
    }
}

/// Files of root, mode 0440, with the pod's `fsGroup` as their group: this is how Kubernetes mounts a secret.
#[test]
fn mounted_keys_are_accepted() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let workload = at("kubernetes/cron/cronjob.yaml");
    let context = &pod(&workload)["securityContext"];
    let id = |key: &str| u32::try_from(context[key].as_u64().unwrap()).unwrap();
    let text = fs::read_to_string(deploy().join("kubernetes/cron/sync.yaml")).unwrap();
    let (names, mount) = key_files(&text);
    let text = text
        .replace(&mount, w.path("keys").to_str().unwrap())
        .replace("instance: US-01", &format!("endpoint: {}", sandbox.url))
        .replace(
            "state: s3://acme-syncline/production\nbucket: { region: us-east-1 }\n",
            "state: .syncline\n",
        );
    w.write("sync.yaml", text);
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(&w.path(""), 0o755);
    for (name, key) in names.iter().zip([IMPORT_KEY, PARTNER_KEY]) {
        let file = format!("keys/{name}");
        w.write(&file, key);
        chown(w.path(&file), Some(0), Some(id("fsGroup"))).unwrap();
        open(&w.path(&file), 0o440);
    }
    open(&w.path("keys"), 0o755);
    // The user of the pod may not be able to reach the folder of the build.
    fs::copy(SYNCLINE, w.path("syncline")).unwrap();
    let mut command = std::process::Command::new(w.path("syncline"));
    command.arg("doctor").current_dir(w.path("")).uid(id("runAsUser")).gid(id("runAsGroup"));
    run(command).says(&["ok both keys are available", "ok Braze accepts the keys"]);
}

#[test]
fn yaml_files_are_valid_and_resource_lists_complete() {
    let is_yaml = |path: &&PathBuf| path.extension().is_some_and(|e| e == "yaml" || e == "yml");
    assert!(files().iter().filter(is_yaml).map(|path| yaml(path)).all(|value| value.is_object()));
    for path in named("kustomization.yaml") {
        let folder = path.parent().unwrap();
        let text = yaml(&path);
        let resources = list(&text["resources"]).iter().map(|resource| resource.as_str().unwrap());
        let patches = text["patches"].as_array().into_iter().flatten();
        let patches = patches.map(|patch| patch["path"].as_str().unwrap());
        let listed: Vec<String> = resources.chain(patches).map(str::to_owned).collect();
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
    // Two replicas are an overlay: the standby is never ready.
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
    let standby = at("kubernetes/standby/replicas.yaml");
    assert_eq!(standby["spec"]["replicas"], 2);
    assert_eq!(standby["metadata"]["name"], deployment["metadata"]["name"]);
    let grace = config["watch"]["grace"].as_str().unwrap().trim_end_matches('s').parse::<u64>().unwrap();
    assert!(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64() > Some(grace));
    let unit = fs::read_to_string(deploy().join("systemd/syncline.service")).unwrap();
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    assert!(stop.parse::<u64>().unwrap() > grace && unit.contains("\nType=notify\n"));
}

#[test]
fn services_and_monitors_select_the_pods() {
    let deployment = at("kubernetes/watch/deployment.yaml");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let ports = &container(&deployment)["ports"];
    for service in ["service.yaml", "service-admin.yaml"] {
        let service = at(&format!("kubernetes/watch/{service}"));
        assert_eq!(&service["spec"]["selector"], labels);
        by_name(ports, service["spec"]["ports"][0]["targetPort"].as_str().unwrap());
    }
    assert_eq!(&at("kubernetes/watch/networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"], labels);
    let monitor = at("kubernetes/monitoring/podmonitor.yaml");
    assert_eq!(&monitor["spec"]["selector"]["matchLabels"], labels);
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!((endpoint["port"].as_str(), endpoint["path"].as_str()), (Some("admin"), Some("/metrics")));
    // The names of the admin service are accepted as hosts.
    let (config, admin) = (at("kubernetes/watch/sync.yaml"), at("kubernetes/watch/service-admin.yaml"));
    let namespace = at("kubernetes/base/namespace.yaml")["metadata"]["name"].as_str().unwrap().to_owned();
    let name = admin["metadata"]["name"].as_str().unwrap();
    let hosts = serde_json::json!([name, format!("{name}.{namespace}.svc.cluster.local")]);
    assert_eq!(config["watch"]["admin_hosts"], hosts);
}

#[test]
fn alert_rules_are_those_of_the_docs() {
    let page = fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap();
    let (_, rules) = page.split_once("<!-- alerts -->\n```yml\n").unwrap();
    let rules: Value = serde_yaml::from_str(rules.split_once("```").unwrap().0).unwrap();
    assert_eq!(at("kubernetes/monitoring/prometheusrule.yaml")["spec"], rules);
}

/// The probes, the metrics and the endpoint behind the ingress, at the real program with the config of the example.
#[test]
fn manifests_match_the_program() {
    let w = Workspace::new();
    let text = fs::read_to_string(deploy().join("kubernetes/watch/sync.yaml")).unwrap();
    let (names, mount) = key_files(&text);
    names.iter().for_each(|name| {
        w.write(&format!("keys/{name}"), "key");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(w.path(&format!("keys/{name}")), private).unwrap();
    });
    let text = text
        .replace(&mount, w.path("keys").to_str().unwrap())
        .replace("instance: US-01", "instance: sandbox")
        .replace(
            "state: s3://acme-syncline/production\nbucket: { region: us-east-1, lease: 30s }\n",
            "state: .syncline\n",
        )
        .replace("0.0.0.0:8080", "127.0.0.1:0")
        .replace("0.0.0.0:9090", "127.0.0.1:0");
    w.write("sync.yaml", text);
    let watch = Watch::start(&w);
    let deployment = at("kubernetes/watch/deployment.yaml");
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let path = container(&deployment)[probe]["httpGet"]["path"].as_str().unwrap();
        assert_eq!(watch.get(path).status, 200, "{probe}");
    }
    let monitor = at("kubernetes/monitoring/podmonitor.yaml");
    let metrics = watch.get(monitor["spec"]["podMetricsEndpoints"][0]["path"].as_str().unwrap());
    assert!(metrics.body.contains("\nsyncline_leader 1\n"), "{}", metrics.body);
    // The URL that `watch` shows is behind the ingress: its host, and one of its paths.
    let ingress = at("kubernetes/watch/ingress.yaml");
    let rule = &ingress["spec"]["rules"][0];
    let base = format!("https://{}", rule["host"].as_str().unwrap());
    let log = watch.log();
    let (_, url) = log.split_once("Heap's webhook for connection `heap` is received at ").unwrap();
    let path = url.lines().next().unwrap().strip_prefix(&base).unwrap();
    let forwarded = list(&rule["http"]["paths"]).iter().map(|path| path["path"].as_str().unwrap());
    assert!(forwarded.into_iter().any(|prefix| path.starts_with(&format!("{prefix}/"))), "{path}");
    assert_eq!(ingress["spec"]["tls"][0]["hosts"][0], rule["host"]);
    let unsigned = http(&watch.endpoints(), "POST", path, &[], "{}");
    assert_eq!(unsigned.status, 400, "the endpoint misses the signature");
    assert_eq!(watch.stop(), 0);
}

/// The manifests fit Kubernetes' own schemas. Resources of the Prometheus Operator have none there.
#[test]
fn manifests_fit_the_schemas_of_kubernetes() {
    let is_installed = std::process::Command::new("kubernetes-validate").arg("--version").output().is_ok();
    if !is_installed {
        return skip_test::<()>("pip install kubernetes-validate").unwrap_or(());
    }
    let is_resource = |path: &PathBuf| {
        let is_yaml =
            path.extension().is_some_and(|e| e == "yaml") && path.starts_with(deploy().join("kubernetes"));
        is_yaml
            && !["kustomization.yaml", "sync.yaml", "replicas.yaml"].iter().any(|name| path.ends_with(name))
            && !path.starts_with(deploy().join("kubernetes/monitoring"))
    };
    let resources: Vec<PathBuf> = files().into_iter().filter(is_resource).collect();
    assert_eq!(resources.len(), 10);
    let mut command = std::process::Command::new("kubernetes-validate");
    command.args(["--strict", "--quiet"]).args(&resources);
    let found = run(command);
    assert_eq!(found.code, 0, "{}{}", found.stdout, found.stderr);
}

/// `systemd-analyze` finds no mistake in the unit.
#[test]
fn the_unit_is_valid() {
    let w = Workspace::new();
    let unit = fs::read_to_string(deploy().join("systemd/syncline.service")).unwrap();
    let unit =
        unit.replace("/usr/local/bin/syncline", SYNCLINE).replace("Documentation=man:syncline(1)\n", "");
    w.write("syncline.service", unit);
    let mut command = std::process::Command::new("systemd-analyze");
    command.arg("verify").arg(w.path("syncline.service"));
    let Ok(found) = command.output() else { return };
    let said = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success() && !said.contains("syncline.service"), "{said}");
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
