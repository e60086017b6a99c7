//! Target of configs: YAML, its schema, its checks and its problems.

use syncline::cli::drawn;
use syncline::config::{Problems, load, validate, yaml_text};

use super::{file, home};

/// A config, as `validate`, `reconcile` and `--env` read it.
pub(crate) fn config(data: &[u8]) {
    let path = file("sync.yaml", data);
    let validated = validate(&path, None);
    let loaded = load(&path, None, None);
    if let Ok((config, environments)) = &validated {
        assert_eq!(loaded.as_ref().ok().map(|loaded| &loaded.digest), Some(&config.digest));
        for name in environments.iter().take(2) {
            assert!(load(&path, Some(name), None).is_ok(), "a valid config is valid with each environment");
        }
        // A config is the one that it trusts.
        assert!(validate(&path, Some(&home().join("sync.yaml"))).is_ok());
    }
    for problems in [validated.err(), loaded.err()].into_iter().flatten() {
        check(&problems);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = yaml_text(&text.chars().take(100).collect::<String>());
    }
}

/// Each problem has a message, and a position in its file.
fn check(problems: &Problems) {
    assert!(!problems.list.is_empty());
    assert!(!drawn(problems, false).is_empty());
    for problem in &problems.list {
        assert!(!problem.message.is_empty());
        for span in problem.span.iter().chain(problem.related.iter().map(|(span, _)| span)) {
            let source = problems.sources.file(*span).expect("a file of the config");
            assert!(source.text.get(span.range()).is_some(), "a part of the file");
            assert!(problems.sources.line_column(*span).is_some());
        }
    }
}
