//! What `tidewire demo` shows: this host's own telemetry as topics, and a page that draws the tree.
//!
//! `Telemetry` turns `/proc` and `/sys` into topic updates, a sample at a time. When to sample and where updates go
//! is left to the caller.

mod board;
mod cpu;
mod disk;
mod host;
mod memory;
mod network;
mod process;
pub mod telemetry;

pub use telemetry::{Sample, Telemetry, Update};
