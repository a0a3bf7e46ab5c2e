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
        let first = trace();
        // Two commits whose traces are equal did the same: `--nocapture` shows them.
        println!("trace {seed} {first:016x}");
        assert_eq!(first, trace());
    });
}

#[test]
fn the_same_seed_gives_the_same_trace_with_storage_and_listeners() {
    crate::for_each_seed(|seed| {
        let stored = || crate::storage::run(seed).trace();
        let first = stored();
        println!("stored trace {seed} {first:016x}");
        assert_eq!(first, stored());
        let listened = || crate::listeners::run(seed, |_| {}).0.trace();
        let first = listened();
        println!("trace with listeners {seed} {first:016x}");
        assert_eq!(first, listened());
    });
}

#[test]
fn the_same_seed_gives_the_same_trace_with_mqtt_and_views() {
    crate::for_each_seed(|seed| {
        let messages = || crate::mqtt_delivery::run(seed).trace();
        let first = messages();
        println!("trace with MQTT {seed} {first:016x}");
        assert_eq!(first, messages());
        let derived = || crate::views::run(seed, |_| {}).trace();
        let first = derived();
        println!("trace with views {seed} {first:016x}");
        assert_eq!(first, derived());
    });
}
