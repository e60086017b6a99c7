//! WIP
pub mod config;
pub mod model;
pub mod plan;
pub mod state;
