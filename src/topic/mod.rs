//! The topic tree: paths, selectors, what a topic is and when it goes, topics and who is interested in them.
//!
//! Every loop of a parser or printer here is over one text, whose length its limits bound, and over levels, members and clauses, which they count. A selector or
//! condition is held against a path or value once for each of its members.

pub mod path;
pub mod mqtt;
pub(crate) mod regex_cost;
pub mod selector;
pub(crate) mod syntax;
pub(crate) mod expression;
pub mod session_filter;
pub mod range_expression;
pub mod removal;
pub mod specification;
pub mod constraint;
pub mod publication;
pub mod tree;
pub mod interest;
pub mod mqtt_rule;
