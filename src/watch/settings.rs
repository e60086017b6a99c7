//! What a change of the config is about: which cohorts are others now, and what cannot change while it runs.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::{Config, EndpointLimits, ExportConfig, Secret, SourceConfig};
use crate::model::{CohortId, ConnectionName};
use crate::reconcile::BrazeAccess;

use super::ClientAccess;

/// What the admin address takes: a browser, a probe and a collector of metrics, and nobody's bodies.
pub(super) fn admin_limits() -> EndpointLimits {
    EndpointLimits {
        body_len_max: 0,
        headers_len_max: 16 << 10,
        header_time: Duration::from_secs(5),
        request_time: Duration::from_secs(5),
        idle_time: Duration::from_secs(60),
        connections_max: 64,
        streams_max: 8,
        json_depth_max: 0,
        memory_max: 0,
        inbox_len_max: 0,
    }
}

/// Every cohort that the config is about, in its order.
pub(super) fn cohorts(config: &Config) -> impl Iterator<Item = &CohortId> {
    config.cohorts.iter().map(|cohort| &cohort.id).chain(&config.removed)
}

/// The cohorts that another config, or another secret of a database, makes something else of.
pub(super) fn changed(
    old: &Config,
    new: &Config,
    had: &ClientAccess,
    has: &ClientAccess,
) -> BTreeSet<CohortId> {
    let mut changed = BTreeSet::new();
    for cohort in &new.cohorts {
        let before = old.cohorts.iter().find(|before| before.id == cohort.id);
        // Where it stands in the file does not matter.
        let is_same = before.is_some_and(|before| {
            let before =
                crate::config::CohortConfig { declared_at: cohort.declared_at.clone(), ..before.clone() };
            let schedule =
                |config: &Config| cohort.schedule.clone().unwrap_or_else(|| config.watch.schedule.clone());
            before == *cohort
                && schedule(old) == schedule(new)
                && old.braze.get(&cohort.to) == new.braze.get(&cohort.to)
                && is_read_alike(&cohort.source, (old, had), (new, has))
        });
        if !is_same {
            changed.insert(cohort.id.clone());
        }
    }
    changed.extend(new.removed.iter().filter(|id| !old.removed.contains(id)).cloned());
    changed
}

/// Whether the connection behind a source, its secrets and the folders that may be read are what they were.
fn is_read_alike(
    source: &SourceConfig,
    (old, had): (&Config, &ClientAccess),
    (new, has): (&Config, &ClientAccess),
) -> bool {
    let is_same_database =
        |name: &ConnectionName| old.sql.get(name) == new.sql.get(name) && is_same_database(name, had, has);
    let are_same_folders = || old.folder == new.folder && old.roots == new.roots;
    source.path().is_none_or(|_| are_same_folders())
        && source.database().is_none_or(is_same_database)
        && source.heap().is_none_or(|heap| old.heap.get(heap) == new.heap.get(heap))
}

/// Whether the secrets of a database are what they were.
fn is_same_database(name: &ConnectionName, had: &ClientAccess, has: &ClientAccess) -> bool {
    let (before, after) = (had.secrets.databases.get(name), has.secrets.databases.get(name));
    let (Some(before), Some(after)) = (before, after) else { return before.is_none() && after.is_none() };
    let is_same = |((key, secret), (key_now, now)): ((&String, &Secret), (&String, &Secret))| {
        key == key_now && secret.expose() == now.expose()
    };
    before.len() == after.len() && before.iter().zip(after).all(is_same)
}

/// Whether another config makes something else of an export.
pub(super) fn is_other_export(
    (old, had): (&Config, &ClientAccess),
    (new, has): (&Config, &ClientAccess),
    export: &ExportConfig,
) -> bool {
    let before = old.exports.iter().find(|before| before.id == export.id);
    let is_same = before.is_some_and(|before| {
        let before = ExportConfig { declared_at: export.declared_at.clone(), ..before.clone() };
        let tokens = |reach: &ClientAccess| reach.tokens.get(&export.id).cloned().unwrap_or_default();
        before == *export
            && old.heap.get(&export.to) == new.heap.get(&export.to)
            && had.heaps.get(&export.to) == has.heaps.get(&export.to)
            && had.store_options.get(&export.id) == has.store_options.get(&export.id)
            && same_secrets(&tokens(had), &tokens(has))
    });
    !is_same
}

/// The connections that are reached in another way now.
pub(super) fn relinked(
    old: &Config,
    new: &Config,
    had: &ClientAccess,
    has: &ClientAccess,
) -> BTreeSet<ConnectionName> {
    let keys = |access: &BrazeAccess| {
        let import =
            access.keys.import.iter().flat_map(|keys| [keys.data_import.clone(), keys.partner_api.clone()]);
        import.chain(access.keys.rest.clone()).collect::<Vec<Secret>>()
    };
    let same = |a: &BrazeAccess, b: &BrazeAccess| a.base == b.base && same_secrets(&keys(a), &keys(b));
    let is_other = |name: &&ConnectionName| {
        let reached = match (had.access.get(*name), has.access.get(*name)) {
            (Some(a), Some(b)) => same(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        !reached || old.braze.get(*name) != new.braze.get(*name)
    };
    new.braze.keys().filter(is_other).cloned().collect()
}

/// Whether two lists of secrets are the same.
pub(super) fn same_secrets(a: &[Secret], b: &[Secret]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.expose() == b.expose())
}

/// What a process that started with one config cannot change, if another one wants it to.
pub(super) fn needs_restart(first: &Config, new: &Config) -> Vec<&'static str> {
    let (had, has) = (&first.watch, &new.watch);
    let parts = [
        ("state", first.state != new.state),
        ("watch.listen", had.listen != has.listen || first.has_doors() != new.has_doors()),
        ("watch.admin", had.admin != has.admin),
        ("watch.tls", had.tls != has.tls),
        ("watch.limits", had.limits != has.limits),
    ];
    parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cohorts that a change of this text wakes.
    fn woken(from: &str, to: &str) -> Vec<String> {
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
        let reach = ClientAccess::default();
        changed(&old, &new, &reach, &reach).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_change_of_a_connection_wakes_what_depends_on_it_and_nothing_else() {
        assert_eq!(woken("db: { kind: postgres, host: one", "db: { kind: postgres, host: two"), ["query"]);
        assert_eq!(woken("incomplete_after: 1h", "incomplete_after: 2h"), ["segment"]);
        assert_eq!(woken("roots: [/data]", "roots: [/data, /more]"), ["asked", "dump", "file"]);
        assert_eq!(woken("path: dumps, table: users", "path: newer, table: users"), ["dump"]);
        assert_eq!(woken("path: dumps, connection: duck", "path: newer, connection: duck"), ["asked"]);
        assert_eq!(woken("options: { path: one }", "options: { path: two }"), ["asked"]);
        assert_eq!(woken("path: a.csv", "path: b.csv"), ["file"]);
        assert!(woken("version: 1", "# A comment.\nversion: 1").is_empty());
    }

    #[test]
    fn a_new_password_of_a_database_wakes_its_cohorts() {
        let name = ConnectionName::new("db").unwrap();
        let with = |password: &str| {
            let secret = ("password".to_owned(), Secret::new(password.to_owned()));
            let mut reach = ClientAccess::default();
            reach.secrets.databases.insert(name.clone(), [secret].into());
            reach
        };
        assert!(is_same_database(&name, &with("a"), &with("a")));
        assert!(!is_same_database(&name, &with("a"), &with("b")));
        assert!(!is_same_database(&name, &with("a"), &ClientAccess::default()));
    }
}
