//! `init --from-csv`: source and match rules for a CSV file, guessed from the names of its columns.
//!
//! Device ids address anonymous users. Whether the users of a file are anonymous is not visible in a header row, so a
//! device column never becomes a rule: a comment in the config shows how to add it.

use std::path::{Path, PathBuf};

use super::error::CommandError;
use super::exit::Exit;
use super::hints::file_hint;
use super::output::counted;
use super::suggested_command::{SuggestedCommand, quoted};
use crate::config::{FileFormat, FileSource, FinalNewline, yaml_text};
use crate::connector::file::{self, CsvHeader, FileAccess, FileError};
use crate::connector::rows::{ReadSummary, RowLocation, RowSink, SinkStopped, UnreadableRow};
use crate::file_glob::is_glob;
use crate::model::Fields;

/// The parts of the config that depend on the source.
pub(super) struct FirstCohort {
    pub(super) id: String,
    pub(super) name: String,
    /// The value of `source:`.
    pub(super) source: String,
    /// The folders outside the config's folder that the source reads.
    pub(super) roots: Vec<String>,
    /// The rules under `match:`, and comments, a line each.
    pub(super) rules: Vec<String>,
}

/// Names of columns with Braze's external id, the surest first. Case, spaces and punctuation do not count. In exports of
/// Heap, `identity` is the id that you set, and `user_id` a number of Heap's own.
const EXTERNAL_IDS: [&str; 13] = [
    "externalid",
    "brazeexternalid",
    "externaluserid",
    "userexternalid",
    "externalidentifier",
    "identity",
    "heapidentity",
    "useridentity",
    "userid",
    "customerid",
    "memberid",
    "uid",
    "id",
];
/// Names of columns with an e-mail address.
const EMAILS: [&str; 9] = [
    "email",
    "emailaddress",
    "useremail",
    "customeremail",
    "contactemail",
    "primaryemail",
    "emailid",
    "mail",
    "mailaddress",
];
/// Names of columns with Heap's own user id.
const HEAP_IDS: [&str; 2] = ["heapuserid", "heapid"];
/// Names of columns with ids of devices or of anonymous visitors.
const DEVICES: [&str; 12] = [
    "deviceid",
    "brazedeviceid",
    "device",
    "deviceidentifier",
    "deviceuuid",
    "anonymousid",
    "anonymoususerid",
    "visitorid",
    "idfv",
    "idfa",
    "gaid",
    "clientid",
];
/// Names of columns with Braze's own user id.
const BRAZE_IDS: [&str; 3] = ["brazeid", "brazeuserid", "appboyid"];

/// Comment above a rule for e-mail addresses.
const EMAIL_NOTE: [&str; 3] = [
    "# An e-mail address is no identifier in Braze. This rule reaches only users who have an alias with the label `email`",
    "# in Braze, created before; Braze ignores all others without an error. The sandbox accepts them.",
    "# Better: export Braze's external id as well, and match `external_id`.",
];

/// What a column contains, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CsvColumnKind {
    /// The rank of the name: a lower one is surer.
    ExternalId(usize),
    Email,
    HeapId,
    Device,
    BrazeId,
    Other,
}

impl CsvColumnKind {
    fn of(name: &str) -> Self {
        let plain: String =
            name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        let is_in = |names: &[&str]| names.contains(&plain.as_str());
        match EXTERNAL_IDS.iter().position(|known| *known == plain) {
            Some(rank) => Self::ExternalId(rank),
            None if is_in(&EMAILS) => Self::Email,
            None if is_in(&HEAP_IDS) => Self::HeapId,
            None if is_in(&DEVICES) => Self::Device,
            None if is_in(&BRAZE_IDS) => Self::BrazeId,
            None => Self::Other,
        }
    }

    /// The label of the alias for such a column.
    fn label(self) -> Option<&'static str> {
        match self {
            Self::Email => Some("email"),
            Self::HeapId => Some("heap_user_id"),
            _ => None,
        }
    }
}

/// Guessed rules, with the reason for each.
#[derive(Debug, Default)]
struct GuessedRules {
    /// The columns that the rules read.
    columns: Vec<Box<str>>,
    /// Lines under `match:`.
    rules: Vec<String>,
    /// Lines for the user.
    notes: Vec<String>,
}

/// A first cohort from a CSV file, and what was guessed. It writes nothing.
///
/// # Errors
/// When the file cannot be read in full, has no header row, or no column that identifies users.
pub(super) fn guess(
    path: &Path,
    column: Option<&str>,
    folder: &Path,
) -> Result<(FirstCohort, Vec<String>), CommandError> {
    let located = LocatedFile::new(path, folder)?;
    let headers = file::csv_headers(path).map_err(|error| unusable(&error))?;
    let guesses = headers.into_iter().map(|header| (guess_rules(&header.columns, column), header));
    // With the right separator, there are rules and more columns than with others; the first one wins a tie.
    let by_name = FileFormat::from_name(path);
    let best = guesses.rev().max_by_key(|(guess, header)| {
        (!guess.rules.is_empty(), header.columns.len(), Some(header.format) == by_name)
    });
    let Some((guess, header)) = best else { return Err(no_rows(path)) };
    if header.columns.is_empty() {
        return Err(no_rows(path));
    }
    match column {
        Some(column) if !header.columns.iter().any(|name| name == column) => {
            return Err(unusable(&file::no_such_column(path, column, &header)));
        }
        _ if guess.rules.is_empty() => return Err(no_identifier(path, folder, &header)),
        _ => {}
    }
    let (settings, rows, unreadable) = read_whole(&located, &header, &guess.columns)?;
    let mut notes = vec![format!("read  {}: {}", path.display(), counted(rows, "row"))];
    if unreadable > 0 {
        let rows = counted(unreadable, "row");
        notes.push(format!("! {rows} cannot be read: another number of fields than in the header row"));
    }
    notes.extend(settings.iter().map(|(setting, why)| format!("set   `{setting}`: {why}")));
    notes.extend(guess.notes);
    if !located.roots.is_empty() {
        notes.push(format!(
            "! the file is outside the folder of the config, so the config has its path on this machine: {}",
            located.pattern
        ));
    }
    let settings: String = settings.iter().map(|(setting, _)| format!(", {setting}")).collect();
    let source = format!("{{ kind: file, path: {}{settings} }}", yaml_text(&located.pattern));
    let (id, name) = names(path);
    notes.push(format!("name  cohort `{id}`, by the name of the file"));
    Ok((FirstCohort { id, name, source, roots: located.roots, rules: guess.rules }, notes))
}

/// The rules for these columns. `chosen` is the column that the user named as the external id.
fn guess_rules(columns: &[String], chosen: Option<&str>) -> GuessedRules {
    let mut guess = GuessedRules::default();
    let kinds: Vec<(&str, CsvColumnKind)> =
        columns.iter().map(|name| (name.as_str(), CsvColumnKind::of(name))).collect();
    let rank = |kind: &CsvColumnKind| match kind {
        CsvColumnKind::ExternalId(rank) => Some(*rank),
        _ => None,
    };
    let external = match chosen {
        Some(chosen) => kinds.iter().map(|(name, _)| *name).find(|name| *name == chosen),
        None => {
            let ranked = kinds.iter().filter_map(|(name, kind)| Some((rank(kind)?, *name)));
            ranked.min_by_key(|(rank, _)| *rank).map(|(_, name)| name)
        }
    };
    if let Some(name) = external {
        guess.columns.push(name.into());
        guess.rules.push(format!("- external_id: {}", yaml_text(name)));
        let why = if chosen.is_some() { "as `--column` says" } else { "by its name" };
        guess.notes.push(format!("match external id: column `{name}`, {why}"));
    }
    guess.add_aliases(&kinds, external);
    guess.skip_others(&kinds, external);
    // A comment alone is no rule.
    if guess.columns.is_empty() {
        guess.rules.clear();
    }
    guess
}

impl GuessedRules {
    /// Aliases are rules only without an external id, else comments.
    fn add_aliases(&mut self, kinds: &[(&str, CsvColumnKind)], external: Option<&str>) {
        for wanted in [CsvColumnKind::HeapId, CsvColumnKind::Email] {
            let found = kinds.iter().find(|(_, kind)| *kind == wanted);
            let Some((name, label)) = found.and_then(|(name, kind)| Some((*name, kind.label()?))) else {
                continue;
            };
            let rule = format!("- alias: {{ label: {label}, name: {} }}", yaml_text(name));
            if external.is_some_and(|used| used == name) {
                continue;
            }
            if external.is_some() {
                self.rules
                    .push(format!("# {rule}   # for rows without an external id, if Braze has such aliases"));
                continue;
            }
            self.columns.push(name.into());
            if wanted == CsvColumnKind::Email {
                self.rules.extend(EMAIL_NOTE.map(str::to_owned));
                self.notes.push(
                    "! an e-mail address is no identifier in Braze: without an alias `email`, Braze ignores these users; \
                     better export the external id as well"
                        .to_owned(),
                );
            }
            self.rules.push(rule);
            self.notes.push(format!(
                "match alias `{label}`: column `{name}`, by its name; Braze must have aliases with this label"
            ));
        }
    }

    /// Says why the other columns with known names are not used.
    fn skip_others(&mut self, kinds: &[(&str, CsvColumnKind)], external: Option<&str>) {
        for (name, kind) in kinds {
            if self.columns.iter().any(|used| **used == **name) {
                continue;
            }
            let why = match (kind, external) {
                (CsvColumnKind::Device, _) => {
                    self.rules.push(format!(
                        "# - device_id: {}   # anonymous users only, and not with `deliver: attribute`",
                        yaml_text(name)
                    ));
                    "device ids are for anonymous users, and attributes do not reach them"
                }
                (CsvColumnKind::BrazeId, _) => "Braze's own ids cannot be used, external ids can",
                (CsvColumnKind::ExternalId(_), Some(used)) => {
                    self.notes
                        .push(format!("skip  column `{name}`: `{used}` is the surer name of an external id"));
                    continue;
                }
                (CsvColumnKind::Email | CsvColumnKind::HeapId, Some(_)) => {
                    "the external id is surer; a comment in the config has the rule for the alias"
                }
                (CsvColumnKind::Email | CsvColumnKind::HeapId, None) => {
                    "another column is used for the same alias"
                }
                _ => continue,
            };
            self.notes.push(format!("skip  column `{name}`: {why}"));
        }
    }
}

/// A local file, as a config in `folder` names it.
struct LocatedFile {
    pattern: String,
    folder: PathBuf,
    roots: Vec<String>,
}

impl LocatedFile {
    fn new(path: &Path, folder: &Path) -> Result<Self, CommandError> {
        let failed = |source| unusable(&FileError::Io { path: path.to_owned(), source });
        // The name of a link is kept: it may get another target with the next export.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = parent.canonicalize().map_err(failed)?;
        let absolute = match path.file_name() {
            Some(name) => parent.join(name),
            None => return Err(failed(std::io::ErrorKind::IsADirectory.into())),
        };
        let real = absolute.canonicalize().map_err(failed)?;
        let folder = folder.canonicalize().ok();
        let is_inside = |path: &Path| folder.as_ref().is_some_and(|folder| path.starts_with(folder));
        let pattern = match folder.as_ref().and_then(|folder| absolute.strip_prefix(folder).ok()) {
            Some(relative) => relative.to_owned(),
            None => absolute.clone(),
        };
        let mut roots: Vec<String> = Vec::new();
        for outside in [&absolute, &real].into_iter().filter(|path| !is_inside(path)) {
            let root = outside.parent().unwrap_or(outside).to_string_lossy().into_owned();
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        let Some(pattern) = pattern.to_str().filter(|text| !is_glob(text) && !text.contains("://")) else {
            let failed = format!("the path {} cannot stand in a config", path.display());
            return Err(CommandError::new(Exit::Failed, failed)
                .hint("nothing was changed; `*`, `?` and `[` are wildcards there: rename the file"));
        };
        Ok(Self { pattern: pattern.to_owned(), folder: folder.unwrap_or_default(), roots })
    }
}

/// Counts rows.
#[derive(Default)]
struct RowCounter {
    unreadable: u64,
}

impl RowSink for RowCounter {
    fn row(&mut self, _: &impl Fields, _: RowLocation<'_>) -> Result<(), SinkStopped> {
        Ok(())
    }

    fn unreadable(&mut self, _: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        self.unreadable += 1;
        Ok(())
    }
}

/// Settings of a source, each with its reason.
type SourceSettings = Vec<(&'static str, &'static str)>;

/// Reads the whole file as `reconcile` would. Returns the settings that it needs, the number of rows, and the number of
/// unreadable ones.
fn read_whole(
    located: &LocatedFile,
    header: &CsvHeader,
    columns: &[Box<str>],
) -> Result<(SourceSettings, u64, u64), CommandError> {
    let mut settings: SourceSettings = Vec::new();
    if FileFormat::from_name(Path::new(&located.pattern)) != Some(header.format) {
        settings.push(match header.format {
            FileFormat::Tsv => ("format: tsv", "tabs separate its columns"),
            _ => ("format: csv", "the name of the file does not show it"),
        });
    }
    match header.delimiter {
        b';' => settings.push(("delimiter: ';'", "semicolons separate its columns")),
        b'|' => settings.push(("delimiter: '|'", "bars separate its columns")),
        _ => {}
    }
    let read = |final_newline| {
        let source = FileSource {
            format: Some(header.format),
            delimiter: header.delimiter,
            final_newline,
            ..FileSource::new(located.pattern.clone())
        };
        // You name the file, so it may be anywhere. The config lists its folder under `roots:`.
        let (roots, mut rows) = ([PathBuf::from("/")], RowCounter::default());
        let from = FileAccess { folder: &located.folder, roots: &roots, stores: &[] };
        let (summary, _): (ReadSummary, _) = file::read(&source, from, columns, &mut rows)?;
        Ok((summary.rows, rows.unreadable))
    };
    let (rows, unreadable) = match read(FinalNewline::Required) {
        Err(FileError::NoFinalNewline { .. }) => {
            settings.push(("final_newline: optional", "its last row has no line break"));
            read(FinalNewline::Optional)
        }
        result => result,
    }
    .map_err(|error| unusable(&error))?;
    Ok((settings, rows, unreadable))
}

fn unusable(error: &FileError) -> CommandError {
    let failed = CommandError::new(Exit::Failed, error.to_string());
    if matches!(error, FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound) {
        return failed.hint("nothing was changed; correct the name of the file");
    }
    let hint =
        file_hint(error).map(|hint| hint.replace("no member was added or removed", "nothing was changed"));
    match hint {
        Some(hint) if hint.contains("nothing was changed") => failed.hint(hint),
        Some(hint) => failed.hint(format!("nothing was changed; {hint}")),
        None => failed.hint("nothing was changed"),
    }
}

fn no_rows(path: &Path) -> CommandError {
    CommandError::new(Exit::Failed, format!("{} is empty: it has no header row", path.display()))
        .hint("nothing was changed; the first row must name the columns, for example `external_id`")
}

/// No column has a known name. A first row that looks like data is not shown.
fn no_identifier(path: &Path, folder: &Path, header: &CsvHeader) -> CommandError {
    let mut named = "NAME".to_owned();
    let columns = &header.columns;
    let list =
        |names: &[&String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let devices: Vec<&String> =
        columns.iter().filter(|name| CsvColumnKind::of(name) == CsvColumnKind::Device).collect();
    let why = match file::no_such_column(path, "external_id", header) {
        error @ FileError::NoHeader { .. } => error.to_string(),
        _ if !devices.is_empty() => {
            format!(
                "{} identifies users by {} only, which is for anonymous users",
                path.display(),
                list(&devices)
            )
        }
        FileError::MissingColumn { found, .. } if !found.is_empty() => {
            if let [one] = found.as_slice() {
                named = quoted(one);
            }
            let found = list(&found.iter().collect::<Vec<_>>());
            format!("{} has no column with a known name of an identifier, only {found}", path.display())
        }
        _ => format!(
            "{} has no column with a known name of an identifier; its first row is not shown, because it may be data",
            path.display()
        ),
    };
    CommandError::new(Exit::Failed, why)
        .hint(format!(
            "nothing was changed; name the column with Braze's external id: {} --column {named}",
            SuggestedCommand::init(folder, path)
        ))
        .hint(
            "known names: external_id, identity, user_id, customer_id, member_id, uid, id, email, heap_user_id",
        )
        .hint("or start from the sample and write `match:` yourself: syncline init")
}

/// A cohort's id and name from the name of a file.
fn names(path: &Path) -> (String, String) {
    const ID_LEN_MAX: usize = 60;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut stem = name.as_str();
    for suffix in [".gz", ".zst", ".csv", ".tsv", ".txt"] {
        stem = match stem.len().checked_sub(suffix.len()).and_then(|at| stem.split_at_checked(at)) {
            Some((rest, end)) if end.eq_ignore_ascii_case(suffix) => rest,
            _ => stem,
        };
    }
    let words = stem.to_ascii_lowercase();
    let words: Vec<&str> =
        words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut id = words.join("_");
    id.truncate(ID_LEN_MAX);
    let id = id.trim_end_matches('_').to_owned();
    let mut letters = words.join(" ");
    if id.is_empty() {
        return ("first_cohort".to_owned(), "First cohort".to_owned());
    }
    if let Some(first) = letters.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    (id, letters)
}
