//! Simulated histories of Heap Connect: dumps with manifests and files as in a bucket, and the final owners by
//! an independent replay.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::avro_writer::{Writer, long, text};

/// Random numbers that repeat with their seed.
pub(crate) struct SeededRng(u64);

impl SeededRng {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            rng.below(2);
        }
        rng
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at as u64 + 1) as usize);
        }
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Long(i64),
    Real(f64),
    Bool(bool),
    Text(String),
}

impl Cell {
    pub(crate) fn text(text: Option<&str>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.to_owned()))
    }
}

/// Writes an Avro file. Columns have a name and a type (`long`, `int`, `string`, `double` or `boolean`) and are
/// nullable, with null first or last alternating.
pub(crate) fn avro(columns: &[(&str, &str)], codec: &'static str, rows: &[Vec<Cell>]) -> Vec<u8> {
    let is_first = |at: usize| at.is_multiple_of(2);
    let union =
        |at: usize, kind: &str| if is_first(at) { json!(["null", kind]) } else { json!([kind, "null"]) };
    let fields =
        columns.iter().enumerate().map(|(at, (name, kind))| json!({ "name": name, "type": union(at, kind) }));
    let schema = json!({ "type": "record", "name": "topLevelRecord", "fields": fields.collect::<Vec<_>>() });
    let mut writer = Writer::new(&schema.to_string(), codec);
    for rows in rows.chunks(7) {
        let mut data = Vec::new();
        for row in rows {
            for (at, (cell, (_, kind))) in row.iter().zip(columns).enumerate() {
                long(&mut data, i64::from(is_first(at) != (*cell == Cell::Null)));
                match (cell, *kind) {
                    (Cell::Null, _) => {}
                    (Cell::Long(number), "long" | "int") => long(&mut data, *number),
                    (Cell::Long(number), "double") => data.extend((*number as f64).to_le_bytes()),
                    (Cell::Real(number), _) => data.extend(number.to_le_bytes()),
                    (Cell::Bool(value), _) => data.push(u8::from(*value)),
                    (Cell::Long(number), _) => text(&mut data, &number.to_string()),
                    (Cell::Text(value), _) => text(&mut data, value),
                }
            }
        }
        writer.block(rows.len() as i64, &data);
    }
    writer.bytes
}

/// A dump: its files by path in the bucket, the manifest last.
pub(crate) struct Dump {
    pub(crate) id: u64,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    tables: Vec<Value>,
}

/// The bucket name in manifests, which does not exist.
const BUCKET: &str = "s3://heap-rs3-acme";

impl Dump {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, files: Vec::new(), tables: Vec::new() }
    }

    /// Adds a table with files numbered in this order. The manifest lists them in another order.
    pub(crate) fn table(&mut self, name: &str, is_incremental: bool, columns: &[&str], files: Vec<Vec<u8>>) {
        let path =
            |part: usize| format!("sync_{}/{name}/part-{part:05}-{:x}-c000.avro", self.id, part * 7919 % 97);
        let mut paths: Vec<String> = (0..files.len()).map(|part| path(part + 2)).collect();
        self.files.extend(paths.iter().cloned().zip(files));
        paths.reverse();
        let paths: Vec<String> = paths.iter().map(|path| format!("{BUCKET}/{path}")).collect();
        self.tables
            .push(json!({ "name": name, "files": paths, "columns": columns, "incremental": is_incremental }));
    }

    /// The same with rows in one file.
    pub(crate) fn rows(
        &mut self,
        name: &str,
        is_incremental: bool,
        columns: &[(&str, &str)],
        rows: &[Vec<Cell>],
    ) {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        self.table(name, is_incremental, &names, vec![avro(columns, "snappy", rows)]);
    }

    /// All files, with the manifest last.
    pub(crate) fn finished(mut self) -> Vec<(String, Vec<u8>)> {
        let manifest = json!({
            "dump_id": self.id, "tables": self.tables,
            "property_definitions": format!("{BUCKET}/sync_{}/property_definitions.json", self.id),
        });
        self.files.push((format!("manifests/sync_{}.json", self.id), manifest.to_string().into_bytes()));
        self.files
    }
}

/// A row of `users`.
#[derive(Clone, Debug, Default, PartialEq)]
struct User {
    identity: Option<String>,
    joined: i64,
    modified: i64,
}

/// A history and its final state.
pub(crate) struct History {
    pub(crate) dumps: Vec<Vec<(String, Vec<u8>)>>,
    /// The ids of the dumps.
    pub(crate) ids: Vec<u64>,
    /// One full dump of the final state.
    pub(crate) end: Vec<(String, Vec<u8>)>,
    /// The owner of each user id.
    pub(crate) owners: BTreeMap<u64, String>,
    /// Every user id of the history.
    pub(crate) user_ids: BTreeSet<u64>,
}

/// State of Heap, and the part of it that the dumps so far contain.
struct HeapSimulation {
    rng: SeededRng,
    now: i64,
    users: BTreeMap<u64, User>,
    migrations: BTreeMap<u64, u64>,
    /// Rows that changed since the last dump with `users`.
    changed: BTreeSet<u64>,
    user_ids: BTreeSet<u64>,
    dumped: BTreeMap<u64, User>,
    dumped_migrations: BTreeMap<u64, u64>,
    /// Whether a dump may lack the column `identity`.
    loses_columns: bool,
}

const MIGRATIONS: [(&str, &str); 3] = [("from_user_id", "long"), ("to_user_id", "long"), ("time", "long")];

impl HeapSimulation {
    fn add(&mut self, identity: Option<String>) -> u64 {
        let id = 100 + self.user_ids.len() as u64 * 3;
        let id = if self.rng.one_in(5) { id | 1 << 40 } else { id };
        self.now += 1 + self.rng.below(90_000) as i64;
        self.users.insert(id, User { identity, joined: self.now, modified: self.now });
        self.user_ids.insert(id);
        self.changed.insert(id);
        id
    }

    fn change(&mut self, id: u64, identity: Option<String>) {
        self.now += 1 + self.rng.below(90_000) as i64;
        let now = self.now;
        let user = self.users.get_mut(&id).unwrap();
        (user.identity, user.modified) = (identity, now);
        self.changed.insert(id);
    }

    /// A random user, if there is one.
    fn random_user(&mut self) -> Option<u64> {
        let all: Vec<u64> = self.users.keys().copied().collect();
        (!all.is_empty()).then(|| *self.rng.pick(&all))
    }

    fn change_some(&mut self) {
        for _ in 0..6 + self.rng.below(12) {
            let n = self.user_ids.len();
            let Some(user) = self.random_user() else {
                self.add(None);
                continue;
            };
            match self.rng.below(10) {
                0..=2 => drop(self.add(None)),
                3 => drop(self.add(Some(format!("person-{n}")))),
                4 => self.change(user, Some(format!("changed-{}-{n}", self.now))),
                5 => self.change(user, None),
                6 if self.rng.one_in(2) => drop(self.users.remove(&user)),
                7 if self.rng.one_in(2) => drop(self.migrations.remove(&user)),
                // An anonymous user is identified. This creates a chain, unless Heap resolves it.
                _ => {
                    let into = self.add(Some(format!("person-{n}")));
                    if self.rng.one_in(2) {
                        self.migrations
                            .values_mut()
                            .filter(|known| **known == user)
                            .for_each(|known| *known = into);
                    }
                    self.migrations.insert(user, into);
                }
            }
        }
    }

    /// Rows of `users` in files: the last row of each user is current, and older rows may precede it.
    fn files(&mut self, rows: Vec<(u64, User)>, columns: &[&str]) -> Vec<Vec<u8>> {
        let parts = 1 + self.rng.below(12) as usize;
        let mut files: Vec<Vec<(u64, User)>> = vec![Vec::new(); parts];
        for (id, user) in rows {
            let part = self.rng.below(parts as u64) as usize;
            if self.rng.one_in(4) {
                let earlier = self.rng.below(part as u64 + 1) as usize;
                files[earlier].push((id, User { identity: Some("stale".to_owned()), ..user.clone() }));
            }
            files[part].push((id, user));
        }
        files.into_iter().map(|rows| self.file(&rows, columns)).collect()
    }

    fn file(&mut self, rows: &[(u64, User)], columns: &[&str]) -> Vec<u8> {
        let is_small = rows.iter().all(|(id, _)| *id < 1 << 31);
        let kinds: &[&str] =
            if is_small { &["int", "long", "string", "double"] } else { &["long", "string", "double"] };
        let kind = *self.rng.pick(kinds);
        let type_of = |name: &str| match name {
            "user_id" => kind,
            "joindate" | "last_modified" => "long",
            _ => "string",
        };
        let columns: Vec<(&str, &str)> = columns.iter().map(|name| (*name, type_of(name))).collect();
        let cell = |id: u64, user: &User, name: &str| match name {
            "user_id" => Cell::Long(id as i64),
            "identity" => Cell::text(user.identity.as_deref()),
            "joindate" => Cell::Long(user.joined * 1_000),
            "last_modified" => Cell::Long(user.modified * 1_000),
            name => Cell::Text(format!("{name} of {id}")),
        };
        let rows: Vec<Vec<Cell>> = rows
            .iter()
            .map(|(id, user)| columns.iter().map(|(name, _)| cell(*id, user, name)).collect())
            .collect();
        let codec = *self.rng.pick(&["snappy", "snappy", "deflate", "null"]);
        avro(&columns, codec, &rows)
    }

    fn columns(&mut self, has_identity: bool) -> Vec<&'static str> {
        let mut columns = vec!["user_id", "joindate", "last_modified"];
        columns.extend(has_identity.then_some("identity"));
        for more in ["email", "handle", "Plan", "Company Size"] {
            columns.extend(self.rng.one_in(2).then_some(more));
        }
        self.rng.shuffle(&mut columns);
        columns
    }

    /// The next dump, full or with the changes since the last one.
    fn dump(&mut self, id: u64, is_full: bool) -> Vec<(String, Vec<u8>)> {
        let mut dump = Dump::new(id);
        let has_identity = self.dumped.is_empty() || !self.loses_columns || !self.rng.one_in(8);
        if is_full || !self.rng.one_in(9) {
            let mut rows: Vec<(u64, User)> =
                self.users.iter().map(|(id, user)| (*id, user.clone())).collect();
            if !is_full {
                let changed = std::mem::take(&mut self.changed);
                // Some rows are repeated without a change.
                rows.retain(|(id, _)| changed.contains(id) || self.rng.one_in(10));
            }
            self.replay(&rows, is_full, has_identity);
            // A change in a column that the dump lacks is not repeated, unless the row changes again.
            self.changed.clear();
            let columns = self.columns(has_identity);
            let files = self.files(rows, &columns);
            dump.table("users", !is_full, &columns, files);
        }
        if !self.dumped_migrations.is_empty() && self.rng.one_in(9) {
            return dump.finished();
        }
        let row = |(from, into): (&u64, &u64)| {
            vec![Cell::Long(*from as i64), Cell::Long(*into as i64), Cell::Long(self.now)]
        };
        let rows: Vec<Vec<Cell>> = self.migrations.iter().map(row).collect();
        self.dumped_migrations = self.migrations.clone();
        dump.rows("user_migrations", false, &MIGRATIONS, &rows);
        dump.rows("checkout", true, &[("event_id", "long")], &[vec![Cell::Long(1)]]);
        dump.finished()
    }

    /// Replays the rows of a dump.
    fn replay(&mut self, rows: &[(u64, User)], is_full: bool, has_identity: bool) {
        if is_full {
            let listed: BTreeSet<u64> = rows.iter().map(|(id, _)| *id).collect();
            self.dumped.retain(|id, _| !has_identity && listed.contains(id));
        }
        for (id, user) in rows.iter().filter(|_| has_identity) {
            self.dumped.insert(*id, user.clone());
        }
    }

    fn owner(&self, id: u64) -> Option<&str> {
        let mut at = id;
        for _ in 0..8 {
            let Some(into) = self.dumped_migrations.get(&at) else {
                return self.dumped.get(&at)?.identity.as_deref();
            };
            at = *into;
        }
        None
    }
}

/// A history with this number of dumps, which repeats with its seed.
pub(crate) fn history(seed: u64, dumps: usize) -> History {
    history_with_columns(seed, dumps, true)
}

/// The same; without `loses_columns`, each dump has the column `identity`.
pub(crate) fn history_with_columns(seed: u64, dumps: usize, loses_columns: bool) -> History {
    let mut heap = HeapSimulation {
        rng: SeededRng::new(seed),
        now: 1_700_000_000,
        users: BTreeMap::new(),
        migrations: BTreeMap::new(),
        changed: BTreeSet::new(),
        user_ids: BTreeSet::new(),
        dumped: BTreeMap::new(),
        dumped_migrations: BTreeMap::new(),
        loses_columns,
    };
    let (mut id, mut history, mut ids) = (7, Vec::new(), Vec::new());
    for n in 0..dumps {
        heap.change_some();
        let is_full = n == 0 || heap.rng.one_in(11);
        history.push(heap.dump(id, is_full));
        ids.push(id);
        id += 1 + heap.rng.below(6);
    }
    let mut end = Dump::new(1);
    let dumped = std::mem::take(&mut heap.dumped);
    let columns = ["user_id", "identity", "last_modified"];
    let file = heap.file(&dumped.iter().map(|(id, user)| (*id, user.clone())).collect::<Vec<_>>(), &columns);
    end.table("users", false, &columns, vec![file]);
    heap.dumped = dumped;
    let row =
        |(from, into): (&u64, &u64)| vec![Cell::Long(*from as i64), Cell::Long(*into as i64), Cell::Null];
    let rows: Vec<Vec<Cell>> = heap.dumped_migrations.iter().map(row).collect();
    end.rows("user_migrations", false, &MIGRATIONS, &rows);
    let owner = |id: &u64| Some((*id, heap.owner(*id)?.to_owned()));
    let owners = heap.user_ids.iter().filter_map(owner).collect();
    History { dumps: history, ids, end: end.finished(), owners, user_ids: heap.user_ids }
}
