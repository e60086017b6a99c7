//! Cohorts as code: keeps Braze in sync with Heap from a YAML file in git.
//!
//! A run reads sources, matches their rows to people, compares them with the record of what Braze has
//! accepted, holds the difference to a guard, sends what the guard leaves of it, and records Braze's
//! answers:
//!
//! ```text
//! files ─► connector ─► matching ─► desired ┐
//!                                           ├─► plan ─► guard ─► apply ─► Braze
//!                           state (record) ─┘                      └────► state (record, journal)
//! ```
//!
//! # Modules
//!
//! Data moves one way. A module imports only rows above it; `tests/architecture.rs` holds this table,
//! and the sizes of files and functions with it.
//!
//! | module | what it is | may import |
//! |---|---|---|
//! | [`foreign`] | text that the program did not write, made safe to show: secrets removed, control characters and markup escaped | nothing of ours |
//! | [`model`] | the nouns; plain values, checked at construction; pure | nothing of ours |
//! | [`file_glob`] | path globs and the walk over local folders; runs nothing over that a pattern may name | nothing of ours |
//! | [`object_store`] | a bucket's client, for whoever blocks | foreign, model |
//! | [`contained`] | a panic in the work on one cohort → an error of that cohort | nothing of ours |
//! | [`event_mapping`] | Currents event → Heap event, its names, its person; pure | model |
//! | [`config`] | bytes → [`config::Config`], or every problem with its place | foreign, model, file_glob, event_mapping |
//! | [`plan`] | diff, guard, cost, digest; pure: no I/O, no clock, no async | model |
//! | [`state`] | the store, in a folder or a bucket: record, in doubt, checks, journal, rejects, identity map, progress of exports, lease | model, object_store |
//! | [`heap_segments`] | what a Heap's webhook has told: inbox → the membership table of each segment | model, state |
//! | [`connector`] | the one HTTP client, and a folder per vendor or store | foreign, model, file_glob, object_store, config |
//! | [`webhooks`] | HTTP doors → inbox; cannot reach a run | model, event_mapping, config, state |
//! | [`identity`] | files and Heap Connect's dumps that say who is who → the identity map | model, config, state, connector |
//! | [`source`] | source → desired members: read, match, external sort; one file per kind | model, contained, config, state, connector |
//! | [`segment_check`] | segments, campaigns, Canvases: evidence and verdict | model, config, state, connector |
//! | [`apply`] | sends an approved plan and records outcomes; decides nothing | model, contained, config, plan, state, connector |
//! | [`export`] | one run of an export: read, map, send, checkpoint | model, contained, event_mapping, config, state, connector, apply |
//! | [`erasure`] | one user out of every file of the state | model, event_mapping, state, export |
//! | [`reconcile`] | one run over everything; the only one that knows every stage | model, contained, config, plan, state, connector, heap_segments, source, apply, export |
//! | [`dashboard`] | the read-only web page of `watch`, as a pure function; everything escaped | model, state |
//! | [`watch`] | one closed enum of things that wake it, one loop, one queue | foreign, model, file_glob, contained, config, state, connector, heap_segments, identity, source, segment_check, apply, export, webhooks, reconcile, dashboard |
//! | [`cli`] | the only module that prints, reads the environment or chooses an exit code | all |
//!
//! The sandbox, Braze and Heap in miniature, is a crate of its own (`crates/sandbox`). It imports nothing from here.
//!
//! # Laws
//!
//! Held by types rather than by care:
//!
//! - **All choices in the plan, none in the apply.** There is no dry-run flag: `plan` has nothing to
//!   write with, since [`state::StateReader`] and [`state::StateWriter`] are different types.
//! - **[`plan::Plan`] can be shown; only [`plan::Approved`] can be applied**, and only the guard makes one.
//! - **A plan names its base.** A version is committed by put-if-absent, so a plan whose base is no longer
//!   the newest loses, and nothing is sent.
//! - **Keep observations, not work.** After a crash the next run plans again from the record, in which
//!   whatever has no answer is in doubt.
//! - **Could not read is not empty.** An incomplete read gives no plan at all, never removals.
//!
//! # How the record works
//!
//! A version of a cohort names *runs*, sorted Parquet files of members, and of each run the rows that
//! Braze has acknowledged. What an apply will send is written as runs of a new version, with no row
//! acknowledged, before the first request; checkpoints acknowledge more rows. A run is therefore first
//! the list of what is in doubt and then, without being written again, a part of the record: there is no
//! separate folder for members in doubt, and nothing to repair after a crash. See [`state`].
//!
//! # How exports work
//!
//! An export reads Braze's events, from files or from what came through a door, maps each one and sends it to
//! Heap:
//!
//! ```text
//! bucket, folder ─► connector ┐
//!                             ├─► events ─► export ─► Heap
//! door ─► receiver ─► inbox ──┘               └─────► state (how far, what waits, rejects, who is who)
//! ```
//!
//! Heap knows each event by Braze's id of it, so sending twice is harmless, and nothing is in doubt for long: what
//! has no answer is sent again. A version of an export says what has been read only once each event of it is in Heap
//! or lies durably elsewhere in the state. See [`export`].
//!
//! # Ways of delivery
//!
//! A record says by which way its members were sent: cohort import, or an attribute of profiles. Another way is a
//! move: one plan takes everybody out by the old way, and once the record is empty the next one fills it by the new
//! way, so that whatever stops a move leaves a record that knows whom to take out of where.
//!
//! What is triggered for people who enter or leave is no set operation. It is chosen with the plan, written down
//! before members are sent, and taken out before its request: without an answer it is never repeated.
//!
//! # Two writers
//!
//! One process holds the state. In a folder that is a lock, which dies with its holder. In a bucket it is a
//! lease that is renewed by conditional put: a holder that could not renew it in time stops by its own clock,
//! before each request and each commit, and whoever takes over finds in the record everything that the old
//! one may have sent. The number of a version is the last fence: it can be put only once.

pub mod apply;
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
pub mod model;
pub mod object_store;
pub mod plan;
pub mod reconcile;
pub mod segment_check;
pub mod source;
pub mod state;
pub mod watch;
pub mod webhooks;
