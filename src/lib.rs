//! Tidewire: an open real-time data server.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod base;
pub mod wire;
pub mod value;
pub mod topic;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod cli;
