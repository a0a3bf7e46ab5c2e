//! Every request is answered once, SUBSCRIBE behind the events of what stood when it was taken.

use crate::workload::{check_at_rest, run};

#[test]
fn answers_come_behind_what_they_promise() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| {
            conditions.removals = 3;
            conditions.selections = 30;
            conditions.bytes_high = 100_000;
            conditions.bytes_max = 100_000;
            conditions.faults = 0;
            conditions.keep_alive_ms = 30_000;
            conditions.selections_max = 30;
        });
        check_at_rest(&mut world);
        assert!(world.links.iter().all(|link| link.client.closed.is_none() || link.client.is_leaving), "nobody was closed");
    });
}
