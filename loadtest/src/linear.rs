//! Whether what clients were told of topics can have happened one thing after another.
//!
//! `history` is what was asked and answered, and what servers showed; `search` looks for one order of a topic's operations that explains it; `register` judges topics that
//! hold one value, `series` those that hold events; `choice` says what is asked for. All of that is pure: `link` and `client` alone speak to servers.

pub mod history;
pub mod search;
pub mod register;
pub mod series;
pub mod choice;
pub mod link;
pub mod client;
