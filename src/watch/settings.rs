//! What a change of the config is about: which cohorts are others now, and what cannot change while it runs.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::{Config, Export, Limits, Secret};
use crate::model::{CohortId, ConnectionName};
use crate::reconcile::Access;

use super::Reach;

/// What the admin address takes: a browser, a probe and a collector of metrics, and nobody's bodies.
pub(super) fn admin_limits() -> Limits {
    Limits {
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

/// The cohorts that another config makes something else of.
pub(super) fn changed(old: &Config, new: &Config) -> BTreeSet<CohortId> {
    let mut changed = BTreeSet::new();
    for cohort in &new.cohorts {
        let before = old.cohorts.iter().find(|before| before.id == cohort.id);
        // Where it stands in the file does not matter.
        let is_same = before.is_some_and(|before| {
            let before = crate::config::Cohort { declared_at: cohort.declared_at.clone(), ..before.clone() };
            let schedule =
                |config: &Config| cohort.schedule.clone().unwrap_or_else(|| config.watch.schedule.clone());
            before == *cohort
                && schedule(old) == schedule(new)
                && old.braze.get(&cohort.to) == new.braze.get(&cohort.to)
        });
        if !is_same {
            changed.insert(cohort.id.clone());
        }
    }
    changed.extend(new.removed.iter().filter(|id| !old.removed.contains(id)).cloned());
    changed
}

/// Whether another config makes something else of an export.
pub(super) fn is_other_export(old: &Config, new: &Config, export: &Export) -> bool {
    let before = old.exports.iter().find(|before| before.id == export.id);
    let is_same = before.is_some_and(|before| {
        let before = Export { declared_at: export.declared_at.clone(), ..before.clone() };
        before == *export && old.heap.get(&export.to) == new.heap.get(&export.to)
    });
    !is_same
}

/// The connections that are reached in another way now.
pub(super) fn relinked(old: &Config, new: &Config, had: &Reach, has: &Reach) -> BTreeSet<ConnectionName> {
    let keys = |access: &Access| {
        let import =
            access.keys.import.iter().flat_map(|keys| [keys.data_import.clone(), keys.partner_api.clone()]);
        import.chain(access.keys.rest.clone()).collect::<Vec<Secret>>()
    };
    let same = |a: &Access, b: &Access| a.base == b.base && same_secrets(&keys(a), &keys(b));
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
