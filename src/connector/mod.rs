//! Clients for external systems: one folder per vendor or store.
//!
//! A connector speaks one protocol. `file` reads rows from files, `heap_connect` finds Heap's exports, `avro` decodes
//! Avro files, `currents` lists Braze's event files, `braze` and `heap` send requests and classify responses. `http` is the only HTTP client.
//! The callers decide which data to read, which requests to send, and how to react to a response.

pub mod avro;
pub mod braze;
#[cfg_attr(not(feature = "warehouse"), allow(dead_code, reason = "databases and Parquet files use the rest"))]
mod cells;
#[cfg(feature = "warehouse")]
mod columns;
pub mod currents;
pub mod destination;
pub mod file;
mod headers;
pub mod heap;
pub mod heap_connect;
pub mod http;
#[cfg_attr(not(feature = "warehouse"), allow(dead_code, reason = "databases and Parquet files use the rest"))]
mod iso8601;
pub mod rate_limit;
mod request_failure;
pub mod rows;
#[cfg(test)]
pub(crate) mod simulated_network;
pub mod sql;
