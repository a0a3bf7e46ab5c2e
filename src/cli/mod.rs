//! The commands.

pub mod client;
pub mod demo;
pub mod doctor;
pub mod instant;
pub mod latency;
pub mod listen;
pub mod locks;
mod print;
pub mod read;
pub mod series;
pub mod session_tree;
pub mod serve;
pub mod spec;
pub mod storage;
pub mod topics;
pub mod view;
