//! The desired members of a cohort: the source is read, its rows are matched and the members are sorted.

use super::case_variants::CaseVariants;
use super::match_rows::{MatchedRows, match_source};
use super::matching::Matcher;
use super::reader::{ReadAccess, SourceCheck, SourceFingerprint, SourceInputs, SourceReader, SourceRows};
use super::{DesiredError, SortedSet};
use crate::config::CohortConfig;
use crate::connector::rows::ReadSummary;
use crate::model::Progress;

/// The desired members of a cohort, with the counts of the read.
#[derive(Debug)]
pub struct DesiredMembers {
    /// The members, not yet sorted.
    pub set: SortedSet,
    /// Counts members with identifiers that differ only by upper and lower case.
    pub case_variants: CaseVariants,
    /// Files and rows.
    pub summary: ReadSummary,
    /// The fingerprint of the content that was read.
    pub fingerprint: Option<SourceFingerprint>,
    /// The matched rows.
    pub matched: MatchedRows,
}

/// Reads a cohort's source.
///
/// # Errors
/// [`DesiredError`] when it cannot be read in full.
pub fn read(
    cohort: &CohortConfig,
    inputs: SourceInputs<'_>,
    progress: &dyn Progress,
) -> Result<DesiredMembers, DesiredError> {
    let _entered = tracing::debug_span!("source", source = cohort.source.kind()).entered();
    let read = read_from(&cohort.source, cohort, inputs, progress)?;
    tracing::debug!(rows = read.summary.rows, "source read");
    Ok(read)
}

/// Reads a cohort's members from any reader.
fn read_from(
    source: &impl SourceReader,
    cohort: &CohortConfig,
    inputs: SourceInputs<'_>,
    progress: &dyn Progress,
) -> Result<DesiredMembers, DesiredError> {
    let memory_max = inputs.access.config.memory_max;
    let (members, matched, rows) = match_source(cohort, inputs.state, memory_max, progress, |rows| {
        source.read(inputs, rows.matcher.columns(), rows)
    })?;
    let SourceRows { summary, fingerprint } = rows?;
    let case_variants = CaseVariants::new(members.cased);
    Ok(DesiredMembers { set: members.all, case_variants, summary, fingerprint, matched })
}

/// Checks that a cohort's source can be read and has the columns of its rules, for `doctor`. None if there is nothing
/// to check.
///
/// # Errors
/// [`DesiredError`] when a read would fail.
pub fn check(cohort: &CohortConfig, access: ReadAccess<'_>) -> Result<Option<SourceCheck>, DesiredError> {
    let matcher = Matcher::new(&cohort.rules, cohort.source.null_values(), &cohort.delivery);
    cohort.source.check(access, matcher.columns())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, SourceAccess};
    use crate::connector::rows::{RowLocation, RowSink, UnreadableRow};
    use crate::model::{Field, Identifier, NoProgress, Timestamp};
    use crate::state::{Holder, Location, StateWriter};

    /// A source in memory with the columns `id` and `device`.
    struct MemoryReader(Vec<Option<[&'static str; 2]>>);

    impl SourceReader for MemoryReader {
        fn fingerprint(&self, _: SourceInputs<'_>) -> Result<Option<SourceFingerprint>, DesiredError> {
            Ok(Some(SourceFingerprint::Version("1".to_owned())))
        }

        fn read(
            &self,
            inputs: SourceInputs<'_>,
            columns: &[Box<str>],
            sink: &mut impl RowSink,
        ) -> Result<SourceRows, DesiredError> {
            assert_eq!(columns.iter().map(|column| &**column).collect::<Vec<_>>(), ["id", "device"]);
            for (line, row) in (1..).zip(&self.0) {
                let location = RowLocation { file: "memory", line };
                match row {
                    Some(row) => sink.row(&row.map(|text| Field::Text(text.as_bytes())), location)?,
                    None => {
                        let detail = "it is broken";
                        sink.unreadable(UnreadableRow { reason: "bad_json", detail, location })?;
                    }
                }
            }
            let summary = ReadSummary { rows: self.0.len() as u64, ..ReadSummary::default() };
            Ok(SourceRows { summary, fingerprint: self.fingerprint(inputs)? })
        }
    }

    fn config(folder: &Path) -> Config {
        let path = folder.join("sync.yaml");
        let text = "
version: 1
connections:
  braze: { kind: braze, instance: sandbox }
cohorts:
  - id: c
    name: C
    to: braze
    source: { kind: file, path: unused.csv }
    match: [ { external_id: id }, { device_id: device } ]
";
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
        crate::config::load(&path, None, None).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn rows_of_any_reader_are_matched_sorted_and_counted() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path());
        let now = Timestamp::UNIX_EPOCH;
        let holder = Holder { host: String::new(), process: 1, since: now, renewal: None };
        let location = Location::Folder(home.path().join("state"));
        let clock = crate::model::Clock::new(|| Timestamp::UNIX_EPOCH);
        let state = StateWriter::open(&location, &holder, clock, 7).unwrap();
        let secrets = SourceAccess::default();
        let access = ReadAccess { config: &config, secrets: &secrets };
        let inputs = SourceInputs { access, state: state.reader(), now };
        let source = MemoryReader(vec![
            Some(["u1", "d1"]),
            Some(["", "d2"]),
            Some(["U1", ""]),
            Some(["u1", ""]),
            Some(["null", "d3"]),
            Some(["", ""]),
            None,
        ]);
        let mut desired = read_from(&source, &config.cohorts[0], inputs, &NoProgress).unwrap();
        assert_eq!(desired.fingerprint, Some(SourceFingerprint::Version("1".to_owned())));
        let (mut members, mut found, mut last) = (desired.set.into_members(), Vec::new(), None);
        while let Some(key) = members.advance().unwrap() {
            assert!(last < Some(key), "strictly ascending");
            last = Some(key);
            desired.case_variants.visit(&[key]);
            found.push(Identifier::unpack(members.packed()).unwrap().0.in_full());
        }
        found.sort_unstable();
        assert_eq!(found, ["device_id d2", "external_id U1", "external_id u1"]);
        assert_eq!(desired.case_variants.finish().unwrap().0, 2);
        let tally = desired.matched.tally(&desired.summary, members.duplicates());
        assert_eq!((tally.rows, tally.duplicates, tally.unreadable), (7, 1, 1));
        let rejects: Vec<(&str, u64)> = tally.rejects.iter().map(|(reason, n)| (&**reason, *n)).collect();
        assert_eq!(rejects, [("bad_json", 1), ("no_identifier", 1), ("placeholder", 1)]);
    }
}
