//! A delta applies to what the client has, also where conflation left versions out.

use crate::workload::{check_at_rest, run};

#[test]
fn deltas_apply_behind_conflation() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| {
            conditions.removals = 1;
            conditions.selections = 10;
            conditions.bytes_high = 100;
            conditions.socket_bytes = 300;
            conditions.steps = 4000;
        });
        check_at_rest(&mut world);
    });
}
