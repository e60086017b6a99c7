//! Converts `segments:`.

use super::watch::schedule;
use crate::config::key_lines::KeyLines;
use crate::config::segment::{BrazeObject, SegmentConfig, SizeLimits};
use crate::config::spec;
use crate::config::text::Slug;
use crate::model::{CohortId, ConnectionName, IdError, SegmentId};

pub(super) fn segment(
    shape: spec::SegmentSpec,
    declared_at: String,
    key_lines: KeyLines,
) -> Result<SegmentConfig, IdError> {
    let cohorts = |list: &[Slug]| list.iter().map(|id| CohortId::new(&id.0)).collect::<Result<_, _>>();
    Ok(SegmentConfig {
        id: SegmentId::new(&shape.id.0)?,
        connection: ConnectionName::new(&shape.connection.0)?,
        named: named(shape.segment),
        include: cohorts(&shape.include.0)?,
        all: shape.r#match == spec::CombinationSpec::All,
        exclude: cohorts(&shape.exclude)?,
        campaigns: shape.used_by.campaigns.into_iter().map(named).collect(),
        canvases: shape.used_by.canvases.into_iter().map(named).collect(),
        tag: shape.used_by.tag.map(|tag| tag.0.trim().to_owned()),
        size: size(&shape.size),
        canaries: shape.canaries.into_iter().map(|id| id.0.trim().to_owned()).collect(),
        check: shape.check.map(schedule),
        declared_at,
        key_lines,
    })
}

fn named(shape: spec::BrazeObjectSpec) -> BrazeObject {
    match shape {
        spec::BrazeObjectSpec::Id(id) => BrazeObject::Id(id.0.trim().to_owned()),
        spec::BrazeObjectSpec::Name(name) => BrazeObject::Name(name.0.trim().to_owned()),
    }
}

fn size(shape: &spec::SizeSpec) -> SizeLimits {
    SizeLimits { compare: shape.compare, min: shape.min.0, max: shape.max.0, slack: shape.slack }
}
