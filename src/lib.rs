//! WIP
pub mod apply;
pub mod cli;
pub mod config;
pub mod connector;
pub mod desired;
pub mod matching;
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod sandbox;
pub mod state;
