//! The commands.

pub mod client;
pub mod doctor;
pub mod latency;
pub mod serve;
pub mod topics;
