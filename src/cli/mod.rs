//! The client commands.

pub mod doctor;
