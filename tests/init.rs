//! `init`: the path from an empty folder to production, files that are kept, and configs from CSV files.

use crate::support::*;

/// The commands under "Next:".
fn next_commands(printed: &str) -> Vec<String> {
    let lines = printed.lines().filter_map(|line| line.strip_prefix("  syncline "));
    lines.map(|line| format!("syncline {}", line.split(" #").next().unwrap().trim_end())).collect()
}

/// The environment `production` of the config, sent to this server instead of Braze.
fn use_server(w: &Workspace, config: &str, sandbox: &Sandbox) {
    let text = w.read(config);
    assert!(text.contains("instance: US-01 "));
    w.replace(config, &text.replace("instance: US-01 ", &format!("endpoint: {} ", sandbox.url)));
}

#[test]
fn the_path_from_init_to_production_works() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--profiles", "created"]));
    let users = ["ada", "grace", "alan"]
        .map(|name| serde_json::json!({ "external_id": format!("{name}@example.com") }));
    sandbox.admin_post("/_sandbox/users", &serde_json::json!(users).to_string());
    let printed = w.run(&["init"]).expect(0).stdout;
    let commands = next_commands(&printed);
    assert_eq!(commands, ["syncline plan", "syncline reconcile", "syncline plan --env production"]);
    run_pasted(&w, &commands[0]).expect(0).says(&["add 3"]);
    run_pasted(&w, &commands[1]).expect(0).says(&["added 3; 3 members"]);
    run_pasted(&w, &commands[1]).expect(0).says(&["In sync"]);
    run_pasted(&w, &commands[2]).expect(0).says(&["add 3"]);
    w.run(&["validate"]).expect(0).says(&["also with production"]);
    // Without the key, the error names it.
    w.run(&["reconcile", "--env", "production"]).expect(4).says(&["BRAZE_REST_API_KEY"]);

    use_server(&w, "sync.yaml", &sandbox);
    let with_key = |args: &[&str]| {
        let mut command = w.command(args);
        command.env("BRAZE_REST_API_KEY", REST_KEY);
        run(command)
    };
    with_key(&["plan", "--env", "production"]).expect(0).says(&["add 3"]);
    with_key(&["reconcile", "--env", "production"]).expect(0).says(&["added 3; 3 members"]);
    let (status, users) = sandbox.get("/_sandbox/attributes/syncline_cohorts/first_cohort");
    assert_eq!((status, users.lines().count()), (200, 3), "{users}");
    with_key(&["reconcile", "--env", "production"]).expect(0).says(&["In sync"]);
    // The sandbox is as it was: the states are separate.
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
}

#[test]
fn the_next_commands_name_the_folder() {
    let w = Workspace::new();
    let commands = next_commands(&w.run(&["init", "new one"]).expect(0).stdout);
    assert_eq!(commands[0], "syncline plan -c 'new one/sync.yaml'");
    assert_eq!(commands.len(), 3);
    for command in commands {
        run_pasted(&w, &command).expect(0).says(&["3"]);
    }
}

#[test]
fn init_overwrites_nothing() {
    let w = Workspace::new();
    w.run(&["init"]).expect(0).says(&["wrote ./sync.yaml", "wrote ./people.csv", "wrote ./.gitignore"]);
    let before = w.snapshot(".");
    w.run(&["init"]).expect(1).says(&["sync.yaml already exists", "nothing was changed"]);
    w.run(&["init", "--from-csv", "people.csv"]).expect(1).says(&["sync.yaml already exists"]);
    assert_eq!(w.snapshot("."), before);
    // The sample of an earlier `init` is used again.
    std::fs::remove_file(w.path("sync.yaml")).unwrap();
    w.run(&["init"]).expect(0).says(&[
        "wrote ./sync.yaml",
        "kept  ./people.csv",
        "kept  ./schemas/sync.schema.json",
    ]);
    assert_eq!(w.snapshot("."), before);
    // Another file of its name would not fit the config. The suggested command fits.
    w.write("other/people.csv", "user_id\nu1\n");
    let found = w.run(&["init", "other"]).expect(1);
    assert_eq!(w.snapshot("other").len(), 1);
    let suggested = found.stderr.split("for this file: ").nth(1).unwrap().trim().to_owned();
    assert_eq!(suggested, "syncline init other --from-csv other/people.csv");
    run_pasted(&w, &suggested).expect(0);
    w.run(&["reconcile", "-c", "other/sync.yaml"]).expect(0).says(&["added 1"]);
    // A dangling link is a file of the user too.
    std::fs::create_dir(w.path("link")).unwrap();
    std::os::unix::fs::symlink("nowhere.yaml", w.path("link/sync.yaml")).unwrap();
    w.run(&["init", "link"]).expect(1).says(&["sync.yaml already exists"]);
}

#[test]
fn init_adds_the_state_to_gitignore_once() {
    let cases = [
        ("target/\n", "target/\n.syncline/\n"),
        ("target/", "target/\n.syncline/\n"),
        ("target/\r\n", "target/\r\n.syncline/\r\n"),
        ("", ".syncline/\n"),
        (".syncline-old/\n# .syncline/\n", ".syncline-old/\n# .syncline/\n.syncline/\n"),
        (".syncline/\nx\n", ".syncline/\nx\n"),
        ("/.syncline", "/.syncline"),
        ("**/.syncline/\r\n", "**/.syncline/\r\n"),
        (".syncline/*\n!.syncline/keep\n", ".syncline/*\n!.syncline/keep\n"),
    ];
    for (before, after) in cases {
        let w = Workspace::new();
        w.write(".gitignore", before);
        let added = if before == after { "kept  ./.gitignore" } else { "added `.syncline/` to ./.gitignore" };
        w.run(&["init"]).expect(0).says(&[added]);
        assert_eq!(w.read(".gitignore"), after, "{before:?}");
        std::fs::remove_file(w.path("sync.yaml")).unwrap();
        w.run(&["init"]).expect(0).says(&["kept  ./.gitignore"]);
        assert_eq!(w.read(".gitignore"), after, "{before:?}, twice");
    }
}

/// Makes a config from a CSV file, and applies it in the sandbox.
fn from_csv(name: &str, text: impl AsRef<[u8]>) -> (Workspace, String, String) {
    let w = Workspace::new();
    w.write(name, text);
    let printed = w.run(&["init", "--from-csv", name]).expect(0).stdout;
    w.run(&["validate"]).expect(0);
    for command in next_commands(&printed) {
        run_pasted(&w, &command).expect(0);
    }
    let config = w.read("sync.yaml");
    (w, printed, config)
}

#[test]
fn a_config_from_csv_has_rules_for_the_columns() {
    for (header, row, rule) in [
        ("external_id,plan", "u1,free", "- external_id: external_id\n"),
        ("plan,User ID", "free,u1", "- external_id: User ID\n"),
        (
            "userId,Email",
            "u1,a@b.c",
            "- external_id: userId\n      # - alias: { label: email, name: Email }   # for rows without an external id, if Braze has such aliases\n",
        ),
        ("user_id,identity", "77,u1", "- external_id: identity\n"),
        ("id,user_id", "1,u1", "- external_id: user_id\n"),
        ("ID,name", "u1,x", "- external_id: ID\n"),
        ("Customer: ID,x", "u1,x", "- external_id: \"Customer: ID\"\n"),
        ("\"customer_id\",\"a \"\"b\"\" c\"", "u1,x", "- external_id: customer_id\n"),
    ] {
        let (w, printed, config) = from_csv("users.csv", format!("{header}\n{row}\n"));
        assert!(config.contains(&format!("decides\n      {rule}    guard:")), "{header}\n{config}");
        assert!(printed.contains("read  users.csv: 1 row") && printed.contains("by its name"), "{printed}");
        w.run(&["status"]).expect(0).says(&["users   Users        1  "]);
    }
}

/// An e-mail address is no identifier: Braze ignores such users without an error.
#[test]
fn a_rule_for_e_mail_addresses_comes_with_a_warning() {
    for (header, row, rule) in [
        ("E-Mail Address", "a@b.c", "- alias: { label: email, name: E-Mail Address }\n"),
        ("heap_user_id,email", "7,a@b.c", "- alias: { label: email, name: email }\n"),
    ] {
        let (w, printed, config) = from_csv("users.csv", format!("{header}\n{row}\n"));
        assert!(printed.contains("! an e-mail address is no identifier in Braze: "), "{printed}");
        let (before, _) = config.split_once(rule).unwrap_or_else(|| panic!("{config}"));
        let note = before.rsplit_once("# An e-mail address is no identifier in Braze.").unwrap().1;
        assert!(note.contains("match `external_id`"), "{config}");
        w.run(&["status"]).expect(0).says(&["users   Users        1  "]);
    }
    let (_, printed, config) = from_csv("users.csv", "user_id,email\nu1,a@b.c\n");
    assert!(!printed.contains("no identifier") && !config.contains("no identifier"), "{printed}{config}");
}

/// A single column with an unusual name is shown if the rows below differ from it, as data does.
#[test]
fn an_unusual_name_of_a_column_is_listed_with_the_option_that_names_it() {
    for (text, listed) in [
        ("Kundennummer\n4711\n4712\n", Some("--column Kundennummer")),
        ("kunden nr\nk-1\nk-2\n", Some("--column 'kunden nr'")),
        ("kunde,stadt\nk-1,Rom\nk-2,Bonn\n", Some("--column NAME")),
        // They may be names of people.
        ("anna\nberta\n", None),
        ("anna\nk-2\n", None),
    ] {
        let w = Workspace::new();
        w.write("kunden.csv", text);
        let found = w.run(&["init", "--from-csv", "kunden.csv"]).expect(1);
        let columns = text.lines().next().unwrap().split(',');
        for column in columns {
            assert_eq!(found.stderr.contains(&format!("`{column}`")), listed.is_some(), "{}", found.stderr);
        }
        let option = listed.unwrap_or("--column NAME");
        assert!(found.stderr.contains(option), "{option}: {}", found.stderr);
        assert_eq!(found.stderr.contains("its first row is not shown"), listed.is_none(), "{}", found.stderr);
    }
}

#[test]
fn a_config_from_csv_has_the_layout_of_the_file() {
    let bom = "\u{feff}";
    for (name, text, source) in [
        (
            "people.csv",
            format!("{bom}user_id;email\nu1;a@b.c\n"),
            "{ kind: file, path: people.csv, delimiter: ';' }",
        ),
        (
            "people.csv",
            "user_id|email\nu1|a@b.c\n".to_owned(),
            "{ kind: file, path: people.csv, delimiter: '|' }",
        ),
        (
            "people.csv",
            "user_id\temail\r\nu1\ta@b.c\r\n".to_owned(),
            "{ kind: file, path: people.csv, format: tsv }",
        ),
        ("people.tsv", "user_id\temail\nu1\ta@b.c\n".to_owned(), "{ kind: file, path: people.tsv }"),
        ("people.tsv", "user_id\nu1\n".to_owned(), "{ kind: file, path: people.tsv }"),
        ("people.tsv", "user_id,x\nu1,x\n".to_owned(), "{ kind: file, path: people.tsv, format: csv }"),
        ("people", "user_id,x\nu1,x\n".to_owned(), "{ kind: file, path: people, format: csv }"),
        (
            "people.csv",
            "user_id,x\nu1,x".to_owned(),
            "{ kind: file, path: people.csv, final_newline: optional }",
        ),
        (
            "people.csv",
            format!("{bom}\"user_id\",\"a;b;c;d\"\n\"u1\",\"x\"\n"),
            "{ kind: file, path: people.csv }",
        ),
        (
            "a b/the people (1).csv",
            "user_id\nu1\n".to_owned(),
            "{ kind: file, path: \"a b/the people (1).csv\" }",
        ),
    ] {
        let (w, _, config) = from_csv(name, text);
        assert!(config.contains(&format!("source: {source}\n")), "{name}\n{config}");
        w.run(&["status"]).expect(0).says(&["      1  "]);
    }
    let (w, _, config) = from_csv("carts-2026.csv.gz", gzip(b"user_id;x\nu1;x\n"));
    assert!(config.contains("id: carts_2026 ") && config.contains("name: Carts 2026\n"), "{config}");
    w.run(&["status"]).expect(0).says(&["      1  "]);
}

/// A device id addresses an anonymous user. A header does not show that users are anonymous.
#[test]
fn a_config_from_csv_never_guesses_a_device() {
    for header in ["user_id,device_id", "device_id,user_id", "Device ID,email", "anonymous_id,identity,idfv"]
    {
        let columns = header.split(',').count();
        let row = |n: usize| (0..columns).map(|at| format!("v{n}-{at}")).collect::<Vec<_>>().join(",");
        let (_, printed, config) = from_csv("users.csv", format!("{header}\n{}\n{}\n", row(1), row(2)));
        let rules = config.lines().map(str::trim).filter(|line| line.starts_with("- device_id"));
        assert_eq!(rules.count(), 0, "{config}");
        assert!(config.contains("# - device_id: "), "{config}");
        assert!(printed.contains("device ids are for anonymous users"), "{printed}");
    }
    let w = Workspace::new();
    w.write("devices.csv", "device_id,name\nd1,x\n");
    let found = w.run(&["init", "--from-csv", "devices.csv"]).expect(1);
    found.says(&[
        "devices.csv identifies users by `device_id` only, which is for anonymous users",
        "nothing was changed",
    ]);
    assert_eq!(w.snapshot(".").len(), 1);
}

#[test]
fn a_file_that_gives_no_rules_is_explained_and_nothing_is_written() {
    const USER: &str = "anna.private@example.com";
    let utf16: Vec<u8> = "\u{feff}user_id\nu1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("data.csv", format!("{USER},Berlin\nb@example.com,Rome\n").into(), "its first row looks like data"),
        ("data.csv", b"4711\n4712\n".to_vec(), "its first row looks like data"),
        ("empty.csv", Vec::new(), "is empty: it has no header row"),
        ("empty.csv", b"\n\n".to_vec(), "is empty: it has no header row"),
        (
            "words.csv",
            b"city,name\nRome,x\n".to_vec(),
            "no column with a known name of an identifier, only `city`, `name`",
        ),
        ("braze.csv", b"braze_id\n1\n".to_vec(), "no column with a known name of an identifier"),
        ("twice.csv", b"user_id,user_id\n1,2\n".to_vec(), "has two columns `user_id`"),
        ("utf16.csv", utf16, "UTF-16 and not UTF-8"),
        ("zip.csv", b"PK\x03\x04\x14\0\0\0".to_vec(), "zip.csv"),
        ("quote.csv", b"user_id,x\n\"u1,x\nu2,x\n".to_vec(), "quote.csv"),
        ("list.ndjson", b"{\"user_id\": \"u1\"}\n".to_vec(), "list.ndjson"),
        ("a[1].csv", b"user_id\nu1\n".to_vec(), "are wildcards there: rename the file"),
    ];
    for (name, text, why) in cases {
        let w = Workspace::new();
        w.write(name, &text);
        let found = w.run(&["init", "--from-csv", name]).expect(1);
        assert!(
            found.stderr.contains(why) && found.stderr.contains("nothing was changed"),
            "{name}: {}",
            found.stderr
        );
        assert!(!format!("{found:?}").contains(USER) && !found.stderr.contains("4711"), "{found:?}");
        assert_eq!(w.snapshot(".").len(), 1, "{name}");
    }
    let w = Workspace::new();
    w.run(&["init", "--from-csv", "nowhere/a.csv"]).expect(1).says(&[
        "cannot read nowhere/a.csv",
        "No such file",
        "nothing was changed; correct the name of the file",
    ]);
    w.run(&["init", "--from-csv", "."]).expect(1);
    assert_eq!(w.snapshot(".").len(), 0);
}

#[test]
fn a_csv_file_outside_the_folder_is_under_roots() {
    let w = Workspace::new();
    w.write("exports/2026/carts.csv", "user_id\nu1\nu2\n");
    std::os::unix::fs::symlink("2026/carts.csv", w.path("exports/newest.csv")).unwrap();
    let printed = w
        .run(&["init", "sync", "--from-csv", "exports/newest.csv"])
        .expect(0)
        .says(&["! the file is outside the folder of the config"]);
    let commands = next_commands(&printed.stdout);
    let config = w.read("sync/sync.yaml");
    // The link keeps its name, so that the next run reads its next target.
    assert!(config.contains("/exports/newest.csv") && config.contains("\nroots: ["), "{config}");
    for command in commands {
        run_pasted(&w, &command).expect(0);
    }
    w.run(&["status", "-c", "sync/sync.yaml"]).expect(0).says(&["newest  Newest        2  "]);
    // A file inside is named by its relative path, wherever the command runs.
    w.write("here/data/carts.csv", "user_id\nu1\n");
    w.run(&["init", "here", "--from-csv", "here/data/carts.csv"]).expect(0);
    let config = w.read("here/sync.yaml");
    assert!(config.contains("path: data/carts.csv }") && !config.contains("roots:"), "{config}");
    w.run(&["reconcile", "-c", "here/sync.yaml"]).expect(0).says(&["added 1"]);
}

#[test]
fn a_column_of_any_name_can_be_chosen() {
    let w = Workspace::new();
    w.write("kunden.csv", "Kunde,Stadt,email\nu1,Rom,a@b.c\n");
    let unknown = w.run(&["init", "--from-csv", "kunden.csv", "--column", "kunde"]).expect(1);
    unknown.says(&["kunden.csv has no column `kunde`", "nothing was changed. Did you mean `Kunde`?"]);
    assert_eq!(w.snapshot(".").len(), 1);
    w.run(&["init", "--from-csv", "kunden.csv", "--column", "Kunde"])
        .expect(0)
        .says(&["match external id: column `Kunde`, as `--column` says"]);
    w.run(&["reconcile"]).expect(0).says(&["added 1"]);
    assert!(
        w.read("sync.yaml").contains("- external_id: Kunde\n      # - alias: { label: email, name: email }")
    );
    w.run(&["init", "--column", "Kunde"]).expect(64);
}

#[test]
fn rows_that_cannot_be_read_are_counted() {
    let w = Workspace::new();
    w.write("a.csv", "user_id,x\nu1,x\nu2\nu3,x,y\n");
    w.run(&["init", "--from-csv", "a.csv"]).expect(0).says(&[
        "read  a.csv: 3 rows",
        "! 2 rows cannot be read: another number of fields than in the header row",
    ]);
}
