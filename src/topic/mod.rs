//! The topic tree: paths, selectors, specifications, topics.

pub mod path;
pub mod selector;
