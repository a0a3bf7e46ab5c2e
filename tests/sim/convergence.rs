//! When faults end and everything has arrived, every copy equals the tree, and nothing acknowledged is lost.

use crate::ask::Asked;
use crate::client::Form;
use crate::topics::{PATHS, PATTERNS};
use crate::workload::{check_at_rest, check_copies, fetch_all, run, update};

#[test]
fn copies_equal_the_tree_at_rest() {
    crate::for_each_seed(|seed| check_at_rest(&mut run(seed, |_| {})));
}

#[test]
fn selections_that_cross_in_flight_converge() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| {
            conditions.shards = 3;
            conditions.selections = 70;
            conditions.walk_slice = 1;
            conditions.faults = 3;
        });
        check_at_rest(&mut world);
    });
}

/// One request at a time leaves nothing open: every page size gives the whole tree, and removals take just what they name.
#[test]
fn the_tree_follows_requests_one_by_one() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| conditions.steps = 600);
        check_at_rest(&mut world);
        let at = world.connect(Form::Binary { capabilities: 7 });
        let mut before = fetch_all(&mut world, 0);
        for _ in 0..12 {
            if world.random.percent(60) {
                update(&mut world, at);
                world.settle();
            } else {
                let pattern = world.random.pick(&PATTERNS);
                world.ask(at, Asked::Remove { pattern });
                world.settle();
                before.retain(|path, _| !(pattern.matches)(path));
                let first = world.random.below(4) as u64;
                assert_eq!(fetch_all(&mut world, first), before, "behind the removal of '{}'", pattern.text);
            }
            let first = world.random.below(6) as u64;
            before = fetch_all(&mut world, first);
            for path in PATHS {
                world.model.check_at_rest(path, before.get(path));
            }
            check_copies(&world, &before);
        }
    });
}

/// Where a page is cut by its bytes, what lies behind the cut waits for the next, however small.
#[test]
fn pages_cut_by_bytes_leave_nothing_out() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| {
            conditions.shards = 2;
            conditions.steps = 500;
            conditions.removals = 0;
            conditions.selections = 0;
            conditions.fetch_page_max = 20;
            conditions.bytes_max = 40_000;
        });
        check_at_rest(&mut world);
        let pages = fetch_all(&mut world, 1);
        assert_eq!(fetch_all(&mut world, 0), pages);
    });
}
