//! WIP
pub mod config;
pub mod connector;
pub mod desired;
pub mod matching;
pub mod model;
pub mod plan;
pub mod state;
