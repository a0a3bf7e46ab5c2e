//! The commands.

pub mod client;
pub mod demo;
pub mod doctor;
pub mod latency;
pub mod serve;
pub mod storage;
pub mod topics;
