//! Cohorts as code: keeps Braze in sync with Heap from a YAML file in git.
//!
//! A run reads sources, matches their rows to users, and compares the result with the recorded membership, which is what
//! Braze has accepted. The guard approves or blocks the difference. The run sends the approved changes and records
//! Braze's responses:
//!
//! ```text
//! files, databases, Heap ─► source ─────────┐
//!                                           ├─► plan ─► guard ─► apply ─► Braze
//!              state (recorded membership) ─┘                      └────► state (membership, journal)
//! ```
//!
//! # Modules
//!
//! A module imports only modules in the rows above it. `tests/architecture.rs` enforces this table and the limits on
//! the size of files and functions.
//!
//! | module | contents | may import |
//! |---|---|---|
//! | [`foreign`] | escaping of text from outside: removes secrets and identifiers of users, escapes control characters and markup | nothing of ours |
//! | [`model`] | ids, identifiers, times, percentages: plain values, validated at construction; pure | nothing of ours |
//! | [`file_glob`] | path globs and the walk over local folders | foreign |
//! | [`wait_log`] | log lines of waits for the next attempt or a rate limit | model |
//! | [`random`] | random numbers, for unique names and waits | nothing of ours |
//! | [`retry`] | counts failed attempts and computes the wait before the next one | wait_log, random |
//! | [`object_store`] | bucket client with a blocking API | foreign, model, wait_log, retry |
//! | [`contained`] | turns a panic in the work on one cohort into an error of that cohort | nothing of ours |
//! | [`blocking`] | blocking work of asynchronous tasks | nothing of ours |
//! | [`event_mapping`] | Currents event → Heap event: names, properties, identity; pure | model |
//! | [`config`] | bytes → [`config::Config`], or all problems with their positions | foreign, model, file_glob, retry, event_mapping |
//! | [`plan`] | diff, guard, cost, digest; pure: no I/O, no clock, no async | model |
//! | [`state`] | the state, in a folder or a bucket: membership, journal, rejects, identity map, progress of exports, lease | foreign, model, random, blocking, retry, object_store |
//! | [`heap_segments`] | webhook deliveries of Heap → membership table of each segment | foreign, model, state |
//! | [`connector`] | the HTTP client, and one folder for each vendor or store | foreign, model, file_glob, wait_log, retry, object_store, config |
//! | [`webhooks`] | HTTP endpoints → inbox | model, event_mapping, config, state |
//! | [`identity`] | identity sources (files, Heap Connect dumps) → identity map | model, config, state, connector |
//! | [`source`] | reads a source, matches its rows and sorts the members on disk; one file per kind | model, contained, config, state, connector |
//! | [`lookup`] | `who`: one user in every cohort, in the state and on request in the sources | model, config, state, connector, source |
//! | [`segment_check`] | compares segments, campaigns and Canvases in Braze with the config | model, blocking, config, state, connector |
//! | [`apply`] | sends an approved plan and records the outcome | model, wait_log, retry, contained, blocking, config, plan, state, connector |
//! | [`export`] | one run of an export: read, map, send, checkpoint | foreign, model, wait_log, retry, contained, blocking, event_mapping, config, state, connector, apply |
//! | [`erasure`] | `forget`: removes one user from all files of the state | model, event_mapping, state, export |
//! | [`reconcile`] | one run over the config; the only module that knows all stages | model, retry, contained, blocking, config, plan, state, connector, heap_segments, source, apply, export |
//! | [`dashboard`] | the web page of `watch`: view model → HTML; pure | model, state |
//! | [`watch`] | event loop, schedules, leader and standby, notifications, metrics | foreign, model, file_glob, retry, contained, blocking, config, state, connector, heap_segments, identity, source, segment_check, apply, export, webhooks, reconcile, dashboard |
//! | [`cli`] | the only module that prints, reads the environment or chooses an exit code | all |
//!
//! The sandbox, a simulation of Braze and Heap, is its own crate (`crates/sandbox`). It imports nothing from this crate.
//!
//! # Rules that types enforce
//!
//! - **The plan decides, the apply executes.** There is no dry-run flag: `plan` cannot write, because
//!   [`state::StateReader`] and [`state::StateWriter`] are different types.
//! - **Only [`plan::ApprovedPlan`] can be applied**, and only the guard creates one. A [`plan::MembershipPlan`] can be shown.
//! - **A plan names its base version.** Versions are written by put-if-absent, so a plan with an older base fails before
//!   it sends anything.
//! - **The state records observations, not pending work.** After a crash, the next run plans again; changes without a
//!   response are in doubt.
//! - **An unreadable source is not an empty source.** An incomplete read results in no plan, and never in removals.
//!
//! # The recorded membership
//!
//! A version of a cohort lists *parts*: sorted Parquet files of members, and for each part the rows that Braze has
//! accepted. Before its first request, an apply writes its changes as parts of a new version, with no accepted rows.
//! Checkpoints mark rows as accepted. The same part is therefore first the list of changes in doubt and later a part of
//! the membership. No second list and no repair after a crash is needed. See [`state`].
//!
//! # Exports
//!
//! An export reads Braze's events from files or from an HTTP endpoint, maps each one, and sends it to Heap:
//!
//! ```text
//! bucket, folder ─────► connector ┐
//!                                 ├─► event_mapping ─► export ─► Heap
//! endpoint ─► webhooks ─► inbox ──┘                      └─────► state (progress, held events, rejects, identities)
//! ```
//!
//! Heap deduplicates events by Braze's event id, so an event without a response is sent again. A version of an export
//! counts an event as read once Heap has accepted it or the state holds it durably. See [`export`].
//!
//! # Delivery methods
//!
//! A membership records its delivery method: cohort import, or an attribute of user profiles. A delivery change takes two
//! plans. The first removes all members by the old method; the next one adds them by the new method. If it is interrupted,
//! the membership still says how to remove the remaining members.
//!
//! Triggers (`on_enter`, `on_exit`) are not set operations. They are chosen with the plan, recorded before members are
//! sent, and marked before their request. A trigger without a response is never repeated.
//!
//! # Concurrent processes
//!
//! One process holds the state. A folder uses a file lock, which ends with its process. A bucket uses a lease that the
//! holder renews by conditional put. A holder that cannot renew in time stops by its own clock, before each request and
//! each commit. Its successor finds all changes that it may have sent in the state. The version number is the final
//! fence: each number can be written only once.

pub mod apply;
pub mod blocking;
pub mod cli;
pub mod config;
pub mod connector;
pub mod contained;
pub mod dashboard;
pub mod erasure;
pub mod event_mapping;
pub mod export;
pub mod file_glob;
pub mod foreign;
pub mod heap_segments;
pub mod identity;
pub mod lookup;
pub mod model;
pub mod object_store;
pub mod plan;
pub mod random;
pub mod reconcile;
pub mod retry;
pub mod segment_check;
pub mod source;
pub mod state;
pub mod wait_log;
pub mod watch;
pub mod webhooks;

#[cfg(test)]
#[path = "../tests/simulation/mod.rs"]
mod simulation;
