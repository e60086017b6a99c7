//! Differences between two configs: which cohorts, exports and connections changed, and which changes need a restart.

use std::collections::BTreeSet;

use super::environment::ClientAccess;
use crate::config::{CohortConfig, Config, ExportConfig, ScheduleConfig, Secret, SourceConfig};
use crate::model::{CohortId, ConnectionName};
use crate::reconcile::BrazeAccess;

/// The cohorts that are new, or for which the config or a secret of their source has changed.
pub(super) fn changed_cohorts(
    old: &Config,
    new: &Config,
    old_access: &ClientAccess,
    new_access: &ClientAccess,
) -> BTreeSet<CohortId> {
    let mut changed = BTreeSet::new();
    for cohort in &new.cohorts {
        let before = old.cohorts.iter().find(|before| before.id == cohort.id);
        // Its line in the file does not count.
        let is_same = before.is_some_and(|before| {
            let before = CohortConfig {
                declared_at: cohort.declared_at.clone(),
                key_lines: cohort.key_lines.clone(),
                ..before.clone()
            };
            let schedule = |config: &Config| -> ScheduleConfig {
                cohort.schedule.clone().unwrap_or_else(|| config.watch.schedule.clone())
            };
            before == *cohort
                && schedule(old) == schedule(new)
                && old.braze.get(&cohort.to) == new.braze.get(&cohort.to)
                && is_source_same(&cohort.source, (old, old_access), (new, new_access))
        });
        if !is_same {
            changed.insert(cohort.id.clone());
        }
    }
    changed.extend(new.removed.iter().filter(|id| !old.removed.contains(id)).cloned());
    changed
}

/// Whether a source reads the same data: same connection, secrets and allowed folders.
fn is_source_same(
    source: &SourceConfig,
    (old, old_access): (&Config, &ClientAccess),
    (new, new_access): (&Config, &ClientAccess),
) -> bool {
    let is_same_database = |name: &ConnectionName| {
        old.sql.get(name) == new.sql.get(name) && are_database_secrets_same(name, old_access, new_access)
    };
    let are_same_folders = || old.folder == new.folder && old.roots == new.roots;
    source.path().is_none_or(|_| are_same_folders())
        && source.database().is_none_or(is_same_database)
        && source.heap().is_none_or(|heap| old.heap.get(heap) == new.heap.get(heap))
}

/// Whether the secrets of a database are the same.
fn are_database_secrets_same(
    name: &ConnectionName,
    old_access: &ClientAccess,
    new_access: &ClientAccess,
) -> bool {
    let (before, after) = (old_access.sources.databases.get(name), new_access.sources.databases.get(name));
    let (Some(before), Some(after)) = (before, after) else { return before.is_none() && after.is_none() };
    let is_same = |((key, secret), (key_now, now)): ((&String, &Secret), (&String, &Secret))| {
        key == key_now && secret.expose() == now.expose()
    };
    before.len() == after.len() && before.iter().zip(after).all(is_same)
}

/// Whether an export is new, or its config, connection, tokens or client settings have changed.
pub(super) fn is_export_changed(
    (old, old_access): (&Config, &ClientAccess),
    (new, new_access): (&Config, &ClientAccess),
    export: &ExportConfig,
) -> bool {
    let before = old.exports.iter().find(|before| before.id == export.id);
    let is_same = before.is_some_and(|before| {
        let before = ExportConfig { declared_at: export.declared_at.clone(), ..before.clone() };
        let tokens =
            |access: &ClientAccess| access.export_tokens.get(&export.id).cloned().unwrap_or_default();
        before == *export
            && old.heap.get(&export.to) == new.heap.get(&export.to)
            && old_access.heaps.get(&export.to) == new_access.heaps.get(&export.to)
            && old_access.store_options.get(&export.id) == new_access.store_options.get(&export.id)
            && are_same_secrets(&tokens(old_access), &tokens(new_access))
    });
    !is_same
}

/// The Braze connections with changed settings, address or keys.
pub(super) fn changed_connections(
    old: &Config,
    new: &Config,
    old_access: &ClientAccess,
    new_access: &ClientAccess,
) -> BTreeSet<ConnectionName> {
    let keys = |access: &BrazeAccess| {
        let import =
            access.keys.import.iter().flat_map(|keys| [keys.data_import.clone(), keys.partner_api.clone()]);
        import.chain(access.keys.rest.clone()).collect::<Vec<Secret>>()
    };
    let same = |a: &BrazeAccess, b: &BrazeAccess| a.base == b.base && are_same_secrets(&keys(a), &keys(b));
    let is_changed = |name: &&ConnectionName| {
        let is_same_access = match (old_access.braze.get(*name), new_access.braze.get(*name)) {
            (Some(a), Some(b)) => same(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        !is_same_access || old.braze.get(*name) != new.braze.get(*name)
    };
    new.braze.keys().filter(is_changed).cloned().collect()
}

/// Whether two lists of secrets are equal.
pub(super) fn are_same_secrets(a: &[Secret], b: &[Secret]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.expose() == b.expose())
}

/// The config keys that need a restart and have changed since the start of the process.
pub(super) fn needs_restart(first: &Config, new: &Config) -> Vec<&'static str> {
    let (old_access, new_access) = (&first.watch, &new.watch);
    let parts = [
        ("state", first.state != new.state),
        (
            "watch.listen",
            old_access.listen != new_access.listen || first.has_endpoints() != new.has_endpoints(),
        ),
        ("watch.admin", old_access.admin != new_access.admin),
        ("watch.tls", old_access.tls != new_access.tls),
        ("watch.limits", old_access.limits != new_access.limits),
    ];
    parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cohorts that this change of the text affects.
    fn affected(from: &str, to: &str) -> Vec<String> {
        const TEXT: &str = "version: 1
connections:
  braze: { kind: braze, instance: sandbox }
  db: { kind: postgres, host: one, database: d, user: u }
  other: { kind: postgres, host: one, database: d, user: u }
  duck: { kind: adbc, driver: duckdb, options: { path: one } }
  heap: { kind: heap, region: sandbox, webhook: { path: /heap, incomplete_after: 1h } }
cohorts:
  - { id: file, name: A, to: braze, source: { kind: file, path: a.csv }, match: [ { external_id: a } ] }
  - { id: query, name: B, to: braze, source: { kind: sql, connection: db, table: t }, match: [ { external_id: a } ] }
  - { id: beside, name: C, to: braze, source: { kind: sql, connection: other, table: t }, match: [ { external_id: a } ] }
  - { id: dump, name: E, to: braze, source: { kind: heap_connect, path: dumps, table: users }, match: [ { external_id: id } ] }
  - { id: asked, name: F, to: braze, source: { kind: heap_connect, path: dumps, connection: duck, tables: [users], query: select 1 as id }, match: [ { external_id: id } ] }
  - { id: segment, name: D, to: braze, source: { kind: heap_segment, connection: heap, segment_id: 7 }, match: [ { external_id: id } ] }
roots: [/data]
";
        let home = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            let path = home.path().join("sync.yaml");
            std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
            crate::config::load(&path, None, None).unwrap_or_else(|problems| panic!("{problems:?}"))
        };
        assert!(TEXT.contains(from));
        let (old, new) = (load(TEXT), load(&TEXT.replacen(from, to, 1)));
        let access = ClientAccess::default();
        changed_cohorts(&old, &new, &access, &access).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_changed_connection_affects_only_its_cohorts() {
        assert_eq!(affected("db: { kind: postgres, host: one", "db: { kind: postgres, host: two"), ["query"]);
        assert_eq!(affected("incomplete_after: 1h", "incomplete_after: 2h"), ["segment"]);
        assert_eq!(affected("roots: [/data]", "roots: [/data, /more]"), ["asked", "dump", "file"]);
        assert_eq!(affected("path: dumps, table: users", "path: newer, table: users"), ["dump"]);
        assert_eq!(affected("path: dumps, connection: duck", "path: newer, connection: duck"), ["asked"]);
        assert_eq!(affected("options: { path: one }", "options: { path: two }"), ["asked"]);
        assert_eq!(affected("path: a.csv", "path: b.csv"), ["file"]);
        assert!(affected("version: 1", "# A comment.\nversion: 1").is_empty());
    }

    #[test]
    fn a_new_database_password_is_a_change() {
        let name = ConnectionName::new("db").unwrap();
        let with = |password: &str| {
            let secret = ("password".to_owned(), Secret::new(password.to_owned()));
            let mut access = ClientAccess::default();
            access.sources.databases.insert(name.clone(), [secret].into());
            access
        };
        assert!(are_database_secrets_same(&name, &with("a"), &with("a")));
        assert!(!are_database_secrets_same(&name, &with("a"), &with("b")));
        assert!(!are_database_secrets_same(&name, &with("a"), &ClientAccess::default()));
    }
}
