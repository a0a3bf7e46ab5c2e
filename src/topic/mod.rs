//! The topic tree: paths, selectors, specifications, topics.
