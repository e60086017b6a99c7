//! All integration tests, as one binary: the real program against the sandbox over real HTTP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::single_range_in_vec_init,
    clippy::needless_pass_by_value,
    reason = "a test that fails panics, and its numbers are small"
)]

mod support;

mod actions;
mod adbc;
mod answers;
mod apply_engine;
mod architecture;
mod at_once;
mod attributes;
mod braze_rest;
mod columns;
mod commands;
mod config;
mod connect;
mod crash;
mod currents;
mod currents_http;
mod currents_sandbox;
mod damaged_state;
mod dashboard;
mod deploy;
mod discover;
mod docs;
mod doctor;
mod doors;
mod dumps;
mod endpoints;
mod exports;
mod foreign_text;
mod forget;
mod guards;
mod harm;
mod heap_ingest;
mod heap_segments;
mod identity;
mod late_requests;
mod lives;
mod objects;
mod plans;
mod pooler;
mod pushdown;
mod readme;
mod reconcile;
mod retention;
mod sandbox;
mod saved_plans;
mod secrets;
mod segments;
mod source_content;
mod source_files;
mod sources;
mod sql;
mod standby;
mod store;
mod trust;
mod unknown;
mod values;
mod watch;
mod watch_loop;
mod webhook;
mod words;
mod workspace;
