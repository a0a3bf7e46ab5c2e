//! The commands.

pub mod client;
pub mod cluster;
pub mod demo;
pub mod doctor;
pub mod instant;
mod job;
pub mod latency;
pub mod listen;
pub mod locks;
pub mod presence;
pub mod principal;
mod print;
pub mod read;
pub mod requests;
pub mod security;
pub mod series;
pub mod session_tree;
pub mod serve;
pub mod sessions;
pub mod spec;
pub mod storage;
mod stream;
mod table;
pub mod topics;
pub mod view;
