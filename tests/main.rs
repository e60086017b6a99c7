//! All integration tests in one binary: the real program against the sandbox over real HTTP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::single_range_in_vec_init,
    clippy::needless_pass_by_value,
    reason = "a test that fails panics, and its numbers are small"
)]

mod logs;
mod personal_data;
mod personal_data_inputs;
mod support;

mod action;
mod adbc;
mod apply_engine;
mod architecture;
mod at_once;
mod attributes;
mod audience_safety;
mod braze_responses;
mod braze_rest;
mod cli_output;
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
mod default_build;
mod deploy;
mod discover;
mod docs;
mod doctor;
mod dumps;
mod endpoints;
mod exports;
mod foreign_text;
mod forget;
mod fuzz;
mod guards;
mod heap_ingest;
mod heap_segments;
mod history;
mod identity;
mod init;
mod late_requests;
mod objects;
mod person_histories;
mod plans;
mod pooler;
mod preflight;
mod progress;
mod pushdown;
mod readme;
mod reconcile;
mod release;
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
mod status;
mod store;
mod triggers;
mod trust;
mod values;
mod watch;
mod watch_dashboard;
mod watch_loop;
mod webhook;
mod webhook_endpoints;
mod webhook_urls;
mod who;
mod workspace;
