//! The topic tree: paths, selectors, topics and who is interested in them.

pub mod path;
pub mod selector;
pub mod constraint;
pub mod publication;
pub mod tree;
pub mod interest;
