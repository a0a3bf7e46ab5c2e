//! What `tidewire demo` shows: this host's own telemetry as topics, and a page that draws the tree.
//!
//! `Telemetry` turns `/proc` and `/sys` into topic updates, a sample at a time. `page` holds the
//! page's files. When to sample, where updates go and how the page is served is left to the caller.

mod board;
mod cpu;
mod disk;
mod host;
mod memory;
mod network;
pub mod page;
mod process;
pub mod telemetry;

pub use telemetry::Telemetry;
