//! Each topic's events come in order, values were published on that path and never go backwards.
//!
//! The clients check it with all they hear; here many topics come and go while selections change.

use crate::workload::{check_at_rest, run};

#[test]
fn events_of_topics_that_come_and_go_keep_their_order() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| {
            conditions.removals = 15;
            conditions.selections = 40;
        });
        check_at_rest(&mut world);
    });
}
