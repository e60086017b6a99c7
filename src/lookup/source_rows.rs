//! Search for users in the source of a cohort: each row that names a user, and what matching makes of it.

use std::collections::{BTreeMap, BTreeSet};

use super::identifiers::{LookupInputs, RowName, Subjects, SubjectsByKey};
use crate::config::{CohortConfig, SourceAccess};
use crate::connector::rows::{RowLocation, RowSink, SinkStopped, UnreadableRow};
use crate::model::{Field, Fields, Identifier, MatchRule, MemberKey, visible_form};
use crate::source::{DesiredError, Matcher, ReadAccess, SourceInputs, SourceReader as _, may_rekey};
use crate::state::{OwnerAnswers, StateError};

/// How many rows of a user are reported.
const SAMPLES_MAX: usize = 3;

/// A user in a source.
#[derive(Clone, Debug, Default)]
pub struct SourceFinding {
    /// The number of rows that name the user.
    pub rows: u64,
    /// The first of them; rows that match come first.
    pub samples: Vec<SourceRow>,
    /// The first row with an identifier that differs only by upper and lower case or by invisible characters. To Braze
    /// it is another user.
    pub variant: Option<SourceRow>,
    /// Rows that cannot be read, so that they may be the user's.
    pub unreadable: u64,
}

/// A row that names the user.
#[derive(Clone, Debug)]
pub struct SourceRow {
    /// The file or query.
    pub file: String,
    /// The line.
    pub line: u64,
    /// What matching makes of it.
    pub outcome: SourceRowOutcome,
}

/// What matching makes of a row.
#[derive(Clone, Debug)]
pub enum SourceRowOutcome {
    /// The user, under this identifier, packed. It is the owner's if the identity map knows one.
    Matched(Vec<u8>),
    /// Another user: an earlier rule decided. The identifier, packed.
    OtherUser(Vec<u8>),
    /// It is rejected.
    Rejected {
        /// The reason, as a stable code.
        reason: &'static str,
        /// The column that decided.
        column: String,
    },
}

impl SourceFinding {
    /// The first row that matches the user.
    #[must_use]
    pub fn matched(&self) -> Option<&SourceRow> {
        self.samples.iter().find(|row| matches!(row.outcome, SourceRowOutcome::Matched(_)))
    }

    fn push(&mut self, row: SourceRow) {
        self.rows += 1;
        let is_match = |row: &SourceRow| matches!(row.outcome, SourceRowOutcome::Matched(_));
        let at = if is_match(&row) {
            self.samples.iter().take_while(|row| is_match(row)).count()
        } else {
            self.samples.len()
        };
        self.samples.insert(at, row);
        self.samples.truncate(SAMPLES_MAX);
    }
}

/// Searches the source of a cohort for all subjects.
pub(super) fn find(
    cohort: &CohortConfig,
    access: &SourceAccess,
    subjects: &Subjects,
    by_key: &SubjectsByKey,
    inputs: LookupInputs<'_>,
) -> Result<Vec<SourceFinding>, DesiredError> {
    let matcher = Matcher::new(&cohort.rules, cohort.source.null_values(), &cohort.delivery);
    let mut names: BTreeMap<String, Vec<(usize, &RowName)>> = BTreeMap::new();
    for (at, subject) in subjects.all.iter().enumerate() {
        for name in &subject.names {
            names.entry(visible_form(&name.value)).or_default().push((at, name));
        }
    }
    let answers = subjects.owners.as_ref().filter(|_| may_rekey(cohort)).map(|owners| owners.answers());
    let mut search = SourceSearch {
        matcher: &matcher,
        rules: &cohort.rules,
        subjects,
        by_key,
        names,
        answers,
        inputs,
        packed: Vec::new(),
        found: vec![SourceFinding::default(); subjects.all.len()],
        unreadable: 0,
        failed: None,
    };
    let access = ReadAccess { config: inputs.config, secrets: access };
    let read = cohort.source.read(
        SourceInputs { access, state: inputs.state, now: inputs.now },
        matcher.columns(),
        &mut search,
    );
    let SourceSearch { mut found, unreadable, failed, .. } = search;
    if let Some(error) = failed {
        return Err(error.into());
    }
    read?;
    found.iter_mut().for_each(|finding| finding.unreadable = unreadable);
    Ok(found)
}

struct SourceSearch<'a> {
    matcher: &'a Matcher,
    rules: &'a [MatchRule],
    subjects: &'a Subjects,
    by_key: &'a SubjectsByKey,
    /// By the caseless form of a value: the subjects that it may name, with the identifier that it must be.
    names: BTreeMap<String, Vec<(usize, &'a RowName)>>,
    /// Finds the owners of devices and aliases; none if the cohort has none.
    answers: Option<OwnerAnswers<'a>>,
    inputs: LookupInputs<'a>,
    packed: Vec<u8>,
    found: Vec<SourceFinding>,
    unreadable: u64,
    failed: Option<StateError>,
}

impl SourceSearch<'_> {
    /// The subjects that a row names by the value of any column, and whether the value is exactly theirs. A value names
    /// users as what the rules of its column make of it: a number may be an alias of one user and a device of another.
    fn named(&self, fields: &impl Fields) -> BTreeMap<usize, bool> {
        let mut named = BTreeMap::new();
        for (column, title) in self.matcher.columns().iter().enumerate() {
            let bytes = match fields.field(column) {
                Field::Whole { id, .. } => id,
                field => field.text().unwrap_or_default(),
            };
            let Ok(text) = std::str::from_utf8(bytes).map(str::trim) else { continue };
            for (subject, name) in self.names.get(&visible_form(text)).into_iter().flatten() {
                if self.rules.iter().any(|rule| rule.column == *title && name.is_of(rule)) {
                    *named.entry(*subject).or_insert(false) |= name.value == text;
                }
            }
        }
        named
    }

    /// The subjects that a matched identifier belongs to.
    fn matched(&self, identifier: &Identifier<'_>) -> Result<BTreeSet<usize>, StateError> {
        let key = MemberKey::of(self.inputs.state.seed(), &self.packed);
        let known = self.by_key.get(&key).into_iter().flatten().copied();
        Ok(known.chain(self.subjects.owner_of(identifier)?.iter().copied()).collect())
    }

    fn note(&mut self, fields: &impl Fields, location: RowLocation<'_>) -> Result<(), StateError> {
        let mut named = self.named(fields);
        self.packed.clear();
        let packed = &mut self.packed;
        let row = |outcome| SourceRow { file: location.file.to_owned(), line: location.line, outcome };
        if let Err(unmatched) = self.matcher.pack(fields, packed) {
            let (reason, column) = (unmatched.reason.as_str(), unmatched.column.to_owned());
            for (subject, _) in named.into_iter().filter(|(_, is_exact)| *is_exact) {
                let outcome = SourceRowOutcome::Rejected { reason, column: column.clone() };
                self.found[subject].push(row(outcome));
            }
            return Ok(());
        }
        let Ok((identifier, _)) = Identifier::unpack(&self.packed) else { return Ok(()) };
        let theirs = self.matched(&identifier)?;
        if theirs.is_empty() && named.is_empty() {
            return Ok(());
        }
        let query = self.subjects.owners.as_ref().and_then(|owners| owners.query(&identifier));
        let owner = match (&mut self.answers, query) {
            (Some(answers), Some(query)) => answers.owner(query, &identifier)?,
            _ => None,
        };
        let effective = owner.map_or(identifier, |(owner, _)| owner);
        let mut packed = Vec::new();
        effective.pack_into(&mut packed);
        let unreachable = self.matcher.unreachable(&effective).map(|unmatched| unmatched.column.to_owned());
        named.extend(theirs.iter().map(|subject| (*subject, true)));
        for (subject, is_exact) in named {
            let outcome = match &unreachable {
                _ if !theirs.contains(&subject) => SourceRowOutcome::OtherUser(packed.clone()),
                Some(column) => {
                    SourceRowOutcome::Rejected { reason: "device_id_by_attribute", column: column.clone() }
                }
                None => SourceRowOutcome::Matched(packed.clone()),
            };
            let found = &mut self.found[subject];
            if is_exact {
                found.push(row(outcome));
            } else if found.variant.is_none() {
                found.variant = Some(row(outcome));
            }
        }
        Ok(())
    }
}

impl RowSink for SourceSearch<'_> {
    fn row(&mut self, fields: &impl Fields, location: RowLocation<'_>) -> Result<(), SinkStopped> {
        self.note(fields, location).map_err(|error| {
            self.failed = Some(error);
            SinkStopped
        })
    }

    fn unreadable(&mut self, _: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        self.unreadable += 1;
        Ok(())
    }
}
