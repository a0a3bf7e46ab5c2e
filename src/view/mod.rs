//! Topic views: a line of text that derives new topics from those that a selector matches.
//!
//! - `definition` — a view as parsed.
//! - `parse` — the language: text to definition, or an error that says where.
//! - `evaluate` — what a definition makes of one topic's value; `specification` — what its reference topics are.
//! - `catalogue` — which views there are, and in which order.
//!
//! When a view is evaluated, where its reference topics live and which view wins a path is left to `shard`.
//!
//! Every loop of the parser is over one text, whose length and parts its limits bound; every loop of an evaluation takes steps off `views.work_max`, or adds one
//! of at most `views.references_max` results.

pub mod catalogue;
pub mod definition;
pub mod evaluate;
pub mod parse;
pub mod specification;

pub use definition::Definition;
pub use parse::ViewLimits;
