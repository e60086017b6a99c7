//! All integration tests, as one binary: the real program against the sandbox over real HTTP.

mod support;

mod answers;
mod architecture;
mod commands;
mod config;
mod crash;
mod guards;
mod plans;
mod readme;
mod reconcile;
mod sandbox;
mod secrets;
mod sources;
