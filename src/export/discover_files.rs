//! Discovery of new Currents files, and settlement of past days.
//!
//! # Expected flow
//! Most runs list the open days only. Once a day everything is listed, so that a very late file is found as well. Of
//! a settled day the state keeps the number of files and the sum of their fingerprints. A file that arrived later is
//! new. If the other files have changed, the whole day is read again, which is harmless: Heap deduplicates events by
//! their id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::connector::currents::{EventFile, Storage, StorageError, day_in};
use crate::model::{Day, Timestamp};
use crate::state::{DayProgress, ExportProgress};

/// How long after its start a day is listed by every run.
const DAY_OPEN: Duration = Duration::from_secs(48 * 60 * 60);
/// The interval between two complete listings.
const WHOLE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest expected difference between the store's clock and ours.
const CLOCKS: Duration = Duration::from_secs(10 * 60);
/// Files that one listing returns; the oldest come first.
const FILES_MAX: usize = 20_000;

/// The files that a listing looks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DiscoveryScope<'a> {
    /// Files of earlier days are skipped.
    pub(super) since: Option<Day>,
    /// Files of later days are skipped.
    pub(super) until: Option<Day>,
    /// Files that were read already are included.
    pub(super) again: bool,
    /// Settled days are listed too.
    pub(super) whole: bool,
    /// The first day of the export by its config.
    pub(super) own: Option<Day>,
    /// Files up to this one, by day and path, are skipped.
    pub(super) after: Option<&'a (Day, Box<str>)>,
}

impl DiscoveryScope<'_> {
    /// Restricts the scope to an export that begins on `own`.
    pub(super) fn of_export(self, own: Option<Day>) -> Self {
        Self { since: self.since.max(own), own, ..self }
    }

    fn holds(&self, object: &EventFile) -> bool {
        let is_after = |after: &(Day, Box<str>)| (object.day, &object.path) > (after.0, &after.1);
        self.since.is_none_or(|since| object.day >= since)
            && self.until.is_none_or(|until| object.day <= until)
            && self.after.is_none_or(is_after)
    }
}

/// The result of a listing: files to read, and changes to the export's progress.
#[derive(Debug, Default)]
pub(super) struct FilesToRead {
    /// In the order of their days.
    pub(super) objects: Vec<EventFile>,
    /// Whether there are more files than these.
    pub(super) more: bool,
    /// The number of files without the suffix of Avro files.
    pub(super) others: u64,
    /// Whether the listing covered the whole export.
    pub(super) is_whole: bool,
    /// The first and the last day of the listing.
    listed: (Option<Day>, Option<Day>),
    /// Days with files to read.
    unread: BTreeSet<Day>,
    /// Settled days with changed files.
    pub(super) reopened: Vec<Day>,
    /// Incomplete files that were deleted before their rest arrived.
    pub(super) gone: Vec<String>,
}

/// Lists the files to read.
pub(super) fn find(
    storage: &Storage,
    record: &ExportProgress,
    scope: DiscoveryScope<'_>,
    incomplete_after: Duration,
    now: Timestamp,
) -> Result<FilesToRead, StorageError> {
    let is_due = is_listing_due(record, now);
    let is_whole = scope.again || scope.whole || is_due || record.days.is_empty() || storage.is_near();
    let from = if is_whole { scope.since } else { scope.since.max(Some(oldest_open(record, now))) };
    // The rest of an incomplete file arrives without a change of its folder.
    storage.look_at(record.parts.keys().cloned());
    let mut listing = FileListing { record, scope, incomplete_after, now, ..FileListing::new(record) };
    let others = storage.list(from, now, &mut |object| listing.add(object))?;
    let mut found = listing.finish();
    (found.others, found.listed) = (others, (from, scope.until));
    found.is_whole = is_whole && scope.since == scope.own && scope.until.is_none() && scope.after.is_none();
    if !found.is_whole {
        found.gone.clear();
    }
    // Files of earlier days were not listed, so they are not known to be gone.
    found.gone.retain(|path| day_in(path).is_none_or(|day| from.is_none_or(|from| day >= from)));
    Ok(found)
}

/// Whether a complete listing is due.
pub(super) fn is_listing_due(record: &ExportProgress, now: Timestamp) -> bool {
    record.fully_listed_at.is_none_or(|at| age(at, now) >= WHOLE_EVERY)
}

/// The oldest day that is open or has an incomplete file.
fn oldest_open(record: &ExportProgress, now: Timestamp) -> Day {
    let open =
        record.days.iter().filter(|(_, day)| matches!(day, DayProgress::Open { .. })).map(|(day, _)| *day);
    let parts = record.parts.keys().filter_map(|path| day_in(path));
    open.chain(parts).fold(Day::of(before(now, DAY_OPEN)), Day::min)
}

impl FilesToRead {
    /// Whether all listed files of a day have been read.
    fn has_read(&self, day: Day) -> bool {
        let (from, until) = self.listed;
        let is_listed = from.is_none_or(|from| day >= from) && until.is_none_or(|until| day <= until);
        // A truncated listing may lack files of its last day.
        let is_known = !self.more || self.unread.last().is_some_and(|last| day < *last);
        is_listed && is_known && !self.unread.contains(&day)
    }
}

struct FileListing<'a> {
    record: &'a ExportProgress,
    scope: DiscoveryScope<'a>,
    incomplete_after: Duration,
    now: Timestamp,
    /// Sorted by day and path, so that the oldest are kept.
    new: BTreeMap<(Day, Box<str>), EventFile>,
    more: bool,
    /// Settled days: the number of files found, and the sum of their fingerprints.
    old: BTreeMap<Day, (u64, u64)>,
    parts: BTreeSet<&'a str>,
}

impl<'a> FileListing<'a> {
    fn new(record: &'a ExportProgress) -> Self {
        Self {
            record,
            scope: DiscoveryScope::default(),
            incomplete_after: Duration::ZERO,
            now: Timestamp::UNIX_EPOCH,
            new: BTreeMap::new(),
            more: false,
            old: BTreeMap::new(),
            parts: record.parts.keys().map(String::as_str).collect(),
        }
    }

    fn add(&mut self, object: EventFile) {
        self.parts.remove(&*object.path);
        // An incomplete file does not count among the files of a settled day.
        if !self.scope.holds(&object) || self.is_waited_for(&object) {
            return;
        }
        if !self.scope.again && !self.is_new(&object) {
            return;
        }
        self.new.insert((object.day, object.path.clone()), object);
        if self.new.len() > FILES_MAX {
            self.new.pop_last();
            self.more = true;
        }
    }

    fn is_new(&mut self, object: &EventFile) -> bool {
        if self.record.parts.contains_key(&*object.path) {
            return true;
        }
        match self.record.days.get(&object.day) {
            None => true,
            Some(DayProgress::Open { prints, .. }) => !prints.contains(&object.print),
            Some(DayProgress::Settled { seen_until, .. }) if object.arrived > *seen_until => true,
            Some(DayProgress::Settled { .. }) => {
                let (files, sum) = self.old.entry(object.day).or_default();
                (*files, *sum) = (*files + 1, sum.wrapping_add(object.print));
                false
            }
        }
    }

    /// Whether the file is incomplete and has not changed.
    fn is_waited_for(&self, object: &EventFile) -> bool {
        let part = self.record.parts.get(&*object.path).filter(|part| part.print == object.print);
        let since = part.and_then(|part| part.truncated_since);
        since.is_some_and(|since| age(since, self.now) < self.incomplete_after)
    }

    fn finish(self) -> FilesToRead {
        let is_other = |day: &Day, files: u64, sum: u64| match self.record.days.get(day) {
            // Fewer files than recorded: the store has deleted old ones.
            Some(DayProgress::Settled { files: known, sum: known_sum, .. }) => {
                files > *known || (files == *known && sum != *known_sum)
            }
            _ => false,
        };
        let reopened = self.old.iter().filter(|(day, (files, sum))| is_other(day, *files, *sum));
        FilesToRead {
            unread: self.new.keys().map(|(day, _)| *day).collect(),
            reopened: reopened.map(|(day, _)| *day).collect(),
            objects: self.new.into_values().collect(),
            more: self.more,
            gone: self.parts.into_iter().map(str::to_owned).collect(),
            ..FilesToRead::default()
        }
    }
}

/// Settles past days that have been read and had no new file lately, so that their progress stops growing. `listed`
/// is the start of the listing behind `found`. Returns whether a day was settled.
pub(super) fn settle_days(record: &mut ExportProgress, found: &FilesToRead, listed: Timestamp) -> bool {
    let last_open = Day::of(before(listed, DAY_OPEN));
    let seen_until = before(listed, CLOCKS);
    let mut is_changed = false;
    for (_, day) in record.days.iter_mut().filter(|(day, _)| **day < last_open && found.has_read(**day)) {
        if let DayProgress::Open { prints, latest } = day
            && *latest < seen_until
        {
            let sum = prints.iter().fold(0u64, |sum, print| sum.wrapping_add(*print));
            *day = DayProgress::Settled { files: prints.len() as u64, sum, seen_until };
            is_changed = true;
        }
    }
    is_changed
}

pub(super) fn age(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO)
}

pub(super) fn before(now: Timestamp, length: Duration) -> Timestamp {
    now.checked_sub(length).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::PartialFile;

    const HOUR: Duration = Duration::from_secs(3600);

    fn write(home: &tempfile::TempDir, path: &str, text: &str) {
        use std::io::Write as _;
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn paths(found: &FilesToRead) -> Vec<&str> {
        found.objects.iter().map(|object| object.path.rsplit('/').next().unwrap()).collect()
    }

    fn read(record: &mut ExportProgress, found: &FilesToRead) {
        for object in &found.objects {
            let open = || DayProgress::Open { prints: BTreeSet::new(), latest: object.arrived };
            match record.days.entry(object.day).or_insert_with(open) {
                DayProgress::Open { prints, .. } => drop(prints.insert(object.print)),
                DayProgress::Settled { files, sum, seen_until } => {
                    (*files, *sum) = (*files + 1, sum.wrapping_add(object.print));
                    *seen_until = (*seen_until).max(object.arrived);
                }
            }
        }
    }

    #[test]
    fn late_files_are_found_and_read_files_are_not_repeated() {
        let home = tempfile::tempdir().unwrap();
        let storage = Storage::folder(home.path().to_owned());
        let now: Timestamp =
            Timestamp::try_from(std::fs::metadata(home.path()).unwrap().modified().unwrap()).unwrap();
        let find = |record: &ExportProgress, now| {
            find(&storage, record, DiscoveryScope::default(), HOUR, now).unwrap()
        };
        let old = "event_type=a.B/date=2020-01-01-00/7/z";
        write(&home, &format!("{old}/1.avro"), "one");
        write(&home, "event_type=a.B/2.avro", "two");
        write(&home, "event_type=a.B/.hidden.avro", "no");
        write(&home, "event_type=a.B/readme.txt", "no");
        let mut record = ExportProgress::default();
        let found = find(&record, now);
        assert_eq!((paths(&found), found.others, found.is_whole), (vec!["1.avro", "2.avro"], 2, true));
        read(&mut record, &found);
        let again = find(&record, now);
        assert!(!settle_days(&mut record, &again, now), "they have only just come");
        let soon = now.checked_add(2 * HOUR).unwrap();
        record.fully_listed_at = Some(soon);
        assert!(!settle_days(&mut record, &found, soon), "they were not read yet");
        assert!(settle_days(&mut record, &again, soon));
        assert!(matches!(record.days[&Day(20_200_101)], DayProgress::Settled { files: 1, .. }));
        assert!(find(&record, soon).objects.is_empty());
        write(&home, &format!("{old}/3.avro"), "three");
        let DayProgress::Settled { files, sum, .. } = record.days[&Day(20_200_101)].clone() else { panic!() };
        // By the clocks it arrived before the listing, but the sum differs.
        let found = find(&record, soon);
        assert_eq!((paths(&found), &found.reopened), (vec![], &vec![Day(20_200_101)]));
        // It arrived after it.
        let settled = DayProgress::Settled { files, sum, seen_until: before(now, CLOCKS) };
        record.days.insert(Day(20_200_101), settled);
        assert_eq!(paths(&find(&record, soon)), ["1.avro", "3.avro"]);
        let part = PartialFile { print: 1, offset: 0, truncated_since: Some(now) };
        record.parts.insert("event_type=a.B/date=2019-05-01-00/x.avro".to_owned(), part);
        assert_eq!(oldest_open(&record, soon), Day(20_190_501), "its rest may come");
    }

    #[test]
    fn an_incomplete_file_waits_until_it_changes_or_is_overdue() {
        let home = tempfile::tempdir().unwrap();
        let storage = Storage::folder(home.path().to_owned());
        write(&home, "cut.avro", "half");
        let now = Timestamp::from_second(2_000_000_000).unwrap();
        let find = |record: &ExportProgress, now| {
            find(&storage, record, DiscoveryScope::default(), HOUR, now).unwrap()
        };
        let mut record = ExportProgress::default();
        let print = find(&record, now).objects[0].print;
        let part = PartialFile { print, offset: 2, truncated_since: Some(now) };
        record.parts = BTreeMap::from([
            ("cut.avro".to_owned(), part),
            ("gone.avro".to_owned(), PartialFile { print: 1, offset: 0, truncated_since: Some(now) }),
        ]);
        let found = find(&record, now);
        assert!(found.objects.is_empty());
        assert_eq!(found.gone, ["gone.avro"]);
        assert_eq!(find(&record, now.checked_add(HOUR).unwrap()).objects.len(), 1, "for long enough");
        write(&home, "cut.avro", "half and half");
        assert_eq!(find(&record, now).objects.len(), 1, "it has changed");
    }

    #[test]
    fn an_incomplete_file_does_not_reopen_a_settled_day() {
        let home = tempfile::tempdir().unwrap();
        let storage = Storage::folder(home.path().to_owned());
        let day = "event_type=a.B/date=2020-01-01-00/7/z";
        write(&home, &format!("{day}/1.avro"), "one");
        write(&home, &format!("{day}/2.avro"), "half");
        let now = Timestamp::from_second(4_000_000_000).unwrap();
        let scope = DiscoveryScope::default();
        let find = |record: &ExportProgress, now| find(&storage, record, scope, 3 * HOUR, now).unwrap();
        let mut record = ExportProgress::default();
        let mut found = find(&record, now);
        let cut = found.objects.pop().unwrap();
        read(&mut record, &found);
        let part = PartialFile { print: cut.print, offset: 2, truncated_since: Some(now) };
        record.parts.insert(cut.path.to_string(), part);
        let found = find(&record, now);
        assert!(settle_days(&mut record, &found, now));
        let found = find(&record, now);
        assert!(found.objects.is_empty() && found.reopened.is_empty());
        write(&home, &format!("{day}/2.avro"), "half and half");
        let found = find(&record, now);
        assert_eq!((paths(&found), found.reopened.len()), (vec!["2.avro"], 0));
    }

    #[test]
    fn an_export_with_since_is_listed_from_that_day_on() {
        let home = tempfile::tempdir().unwrap();
        let storage = Storage::folder(home.path().to_owned());
        for day in ["2020-01-01", "2020-01-02", "2020-01-03"] {
            write(&home, &format!("event_type=a.B/date={day}-00/7/z/{day}.avro"), "one");
        }
        let (record, own) = (ExportProgress::default(), Some(Day(20_200_102)));
        let find = |scope| find(&storage, &record, scope, HOUR, Timestamp::UNIX_EPOCH).unwrap();
        let found = find(DiscoveryScope::default().of_export(own));
        assert_eq!((paths(&found), found.is_whole), (vec!["2020-01-02.avro", "2020-01-03.avro"], true));
        let later = DiscoveryScope { since: Some(Day(20_200_103)), ..DiscoveryScope::default() };
        let found = find(later.of_export(own));
        assert_eq!((paths(&found), found.is_whole), (vec!["2020-01-03.avro"], false));
    }

    #[test]
    fn a_day_with_more_files_than_one_listing_is_read_completely() {
        let home = tempfile::tempdir().unwrap();
        let storage = Storage::folder(home.path().to_owned());
        let (record, len) = (ExportProgress::default(), FILES_MAX + 2);
        std::fs::create_dir(home.path().join("date=2020-01-01")).unwrap();
        for n in 0..len {
            std::fs::File::create(home.path().join(format!("date=2020-01-01/{n:06}.avro"))).unwrap();
        }
        let find = |after: Option<&(Day, Box<str>)>| {
            let scope = DiscoveryScope { again: true, after, ..DiscoveryScope::default() };
            find(&storage, &record, scope, HOUR, Timestamp::UNIX_EPOCH).unwrap()
        };
        let first = find(None);
        assert!(first.more && first.objects.len() == FILES_MAX && !first.has_read(Day(20_200_101)));
        let last = first.objects.last().map(|object| (object.day, object.path.clone()));
        let rest = find(last.as_ref());
        assert_eq!((paths(&rest), rest.more), (vec!["020000.avro", "020001.avro"], false));
    }
}
