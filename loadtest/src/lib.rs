//! The load generator's parts, in the order of their dependence.
//!
//! `plan` is what was asked, `dialect` and `websocket` turn it to bytes, `engine` runs it on one
//! thread, `record` counts what arrives, `report` tells it; `linear` judges what a cluster's clients were told. The binaries are thin around these.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod clock;
pub mod host;
pub mod failure;
pub mod payload;
pub mod secure;
pub mod websocket;
pub mod link;
pub mod login;
pub mod dialect;
pub mod flags;
pub mod plan;
pub mod record;
pub mod in_flight;
pub mod connection;
pub mod engine;
pub mod run;
pub mod report;
pub mod linear;
