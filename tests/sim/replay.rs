//! The same seed gives the same bytes.

use crate::workload::{check_at_rest, run};

#[test]
fn the_same_seed_gives_the_same_trace() {
    crate::for_each_seed(|seed| {
        let trace = || {
            let mut world = run(seed, |_| {});
            check_at_rest(&mut world);
            world.trace()
        };
        assert_eq!(trace(), trace());
    });
}
