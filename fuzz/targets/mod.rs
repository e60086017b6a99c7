//! Fuzz targets: one function for each parser of bytes from outside, or from a file that may be damaged.
//!
//! A target returns for every input. It panics if the parser panics, breaks a guarantee of its documentation, or
//! disagrees with a second implementation. The fuzzer (`fuzz/src/main.rs`) and the replay (`tests/fuzz.rs`) use the same
//! list, [`TARGETS`]. The targets use only public items of `syncline`.

#![allow(
    clippy::disallowed_methods,
    reason = "inputs are written to files, and the environment names their folder"
)]

mod config;
mod events;
mod files;
mod foreign;
mod heap;
mod http;
mod plan_file;
mod state;
mod state_files;
mod webhooks;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use syncline::model::{Clock, Timestamp};

/// A target.
pub(crate) struct FuzzTarget {
    /// Its name, which is also the name of its folder in `fuzz/corpus`.
    pub(crate) name: &'static str,
    /// Reads one input.
    pub(crate) run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> FuzzTarget {
    FuzzTarget { name, run }
}

/// All targets.
pub(crate) const TARGETS: &[FuzzTarget] = &[
    target("avro", files::avro),
    target("avro_event", events::avro),
    target("avro_file", files::avro_file),
    target("bucket_listing", http::listing),
    target("compressed", files::compressed),
    target("config", config::config),
    target("csv", files::csv),
    target("csv_header", files::csv_header),
    target("currents_body", events::body),
    target("foreign_text", foreign::text),
    target("heap_delivery", heap::delivery),
    target("heap_manifest", heap::manifest),
    target("http_file", http::file_answer),
    target("http_response", http::response),
    target("ndjson", files::ndjson),
    target("parquet", files::parquet),
    target("plan_file", plan_file::plan_file),
    target("state_approval", state::approval),
    target("state_changes", state_files::changes),
    target("state_check", state::check),
    target("state_export", state::export),
    target("state_format", state::format),
    target("state_heads", state::heads),
    target("state_held", state_files::held),
    target("state_identity", state::identity),
    target("state_identity_part", state_files::identity_part),
    target("state_inbox", state_files::inbox),
    target("state_journal", state::journal),
    target("state_lease", state::lease),
    target("state_membership", state::membership),
    target("state_mirror_note", state::mirror_note),
    target("state_outbox", state::outbox),
    target("state_outcomes", state::outcomes),
    target("state_part", state_files::part),
    target("state_rejects", state::rejects),
    target("state_segments", state::segments),
    target("state_unknown_users", state::unknown_users),
    target("state_workspace", state::workspace),
    target("webhook_request", webhooks::request),
];

/// The time of every run, so that an input always takes the same path.
pub(crate) const NOW: &str = "2026-11-28T00:00:00Z";

pub(crate) fn now() -> Timestamp {
    NOW.parse().expect("a valid time")
}

/// A clock that stands still. Monotonic time is the machine's.
pub(crate) const CLOCK: Clock = Clock::new(now);

thread_local! {
    static HOME: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// The temporary folder of this thread. It is no folder of `/dev`, from which sources are not read. All runs share it, because a folder for each run would take most of the time.
pub(crate) fn home() -> PathBuf {
    HOME.with_borrow_mut(|home| {
        home.get_or_insert_with(|| tempfile::tempdir().expect("a temporary folder")).path().to_owned()
    })
}

/// A folder for states, which are written with `fsync`: in memory, if the variable names such a folder.
pub(crate) fn states() -> PathBuf {
    match std::env::var_os("SYNCLINE_FUZZ_STATES") {
        Some(folder) => folder.into(),
        None => home(),
    }
}

/// Writes the input to a file in the temporary folder, and returns its path.
pub(crate) fn file(name: &str, data: &[u8]) -> PathBuf {
    let path = home().join(name);
    write(&path, data);
    path
}

/// Writes a file with its folders.
pub(crate) fn write(path: &Path, data: &[u8]) {
    if std::fs::write(path, data).is_err() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, data).expect("a file");
    }
}
