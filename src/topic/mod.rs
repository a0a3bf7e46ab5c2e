//! The topic tree: paths, selectors, what a topic is and when it goes, topics and who is interested in them.

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
