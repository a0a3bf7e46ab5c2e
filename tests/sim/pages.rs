//! A fetch of any range, from either end, in any pages and from any number of shards gives what a naive look at all topics gives.

use crate::ask::{Asked, Wanted};
use crate::client::Form;
use crate::heard::Row;
use crate::topics::{PATHS, PATTERNS, Topics, in_path_order};
use crate::workload::{check_at_rest, fetch_all, form, run};
use crate::world::World;

fn is_behind(a: &str, b: &str) -> bool {
    in_path_order(b, a)
}

fn path(world: &mut World) -> String {
    world.random.pick(&["a", "a-", "a-b", "a/b", "a/b/c", "b", "b/a/c", "c/\u{e9}", "zz", "0"]).to_owned()
}

fn wanted(world: &mut World) -> Wanted {
    let mut wanted = Wanted::new(world.random.pick(&PATTERNS));
    match world.random.below(3) {
        0 => wanted.from = path(world),
        1 => wanted.after = path(world),
        _ => {}
    }
    match world.random.below(3) {
        0 => wanted.to = path(world),
        1 => wanted.before = path(world),
        _ => {}
    }
    match world.random.below(3) {
        0 => wanted.first = world.random.within(1, 6) as u64,
        1 => wanted.last = world.random.within(1, 6) as u64,
        _ => {}
    }
    if world.random.percent(30) {
        wanted.types = world.random.below(64) as u64 * 2;
    }
    if world.random.percent(40) {
        (wanted.depth, wanted.depth_limit) = (world.random.within(1, 3) as u64, world.random.within(1, 3) as u64);
    }
    wanted.with_values = world.random.percent(70);
    wanted
}

/// The topics in a fetch's range, in path order.
fn in_range<'a>(wanted: &Wanted, all: &'a [Row]) -> Vec<&'a Row> {
    let is_in = |path: &str| {
        (wanted.pattern.matches)(path)
            && (wanted.from.is_empty() || !is_behind(&wanted.from, path))
            && (wanted.after.is_empty() || is_behind(path, &wanted.after))
            && (wanted.to.is_empty() || !is_behind(path, &wanted.to))
            && (wanted.before.is_empty() || is_behind(&wanted.before, path))
    };
    let is_of_type = |row: &Row| wanted.types == 0 || wanted.types & (1 << row.number) != 0;
    all.iter().filter(|row| is_in(&row.path) && is_of_type(row)).collect()
}

/// What the fetch gives, and whether there is more.
fn expected<'a>(wanted: &Wanted, all: &'a [Row], page_max: usize) -> (Vec<&'a Row>, bool) {
    let mut range = in_range(wanted, all);
    let total = range.len();
    let is_backward = wanted.last != 0;
    if is_backward {
        range.reverse();
    }
    if wanted.depth != 0 {
        let mut given = std::collections::BTreeMap::new();
        range.retain(|row| {
            let segments: Vec<&str> = row.path.split('/').collect();
            if segments.len() < wanted.depth as usize {
                return true;
            }
            let count = given.entry(segments[..wanted.depth as usize].join("/")).or_insert(0);
            *count += 1;
            *count <= wanted.depth_limit
        });
    }
    let count = if is_backward { wanted.last } else { wanted.first };
    range.truncate(if count == 0 { page_max } else { page_max.min(count as usize) });
    if is_backward {
        range.reverse();
    }
    let has_more = range.len() < total;
    (range, has_more)
}

fn ask(world: &mut World, at: usize, wanted: &Wanted) -> (Vec<Row>, bool) {
    world.ask(at, Asked::Fetch(wanted.clone()));
    world.settle();
    let page = world.links[at].client.last_page.take().expect("a page is answered at rest");
    (page.rows, page.has_more)
}

/// Topics of every kind, some of them removed again.
fn tree(seed: u64) -> (World, Vec<Row>) {
    let mut world = run(seed, |conditions| {
        conditions.topics = Topics::Mixed;
        conditions.steps = 700;
        conditions.selections = 5;
        conditions.removals = 1;
        conditions.faults = 0;
        conditions.bytes_max = 60_000;
        conditions.keep_alive_ms = 30_000;
    });
    check_at_rest(&mut world);
    let mut all: Vec<Row> = fetch_all(&mut world, 0).into_values().collect();
    all.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
    (world, all)
}

#[test]
fn a_page_is_what_a_naive_look_gives() {
    crate::for_each_seed(|seed| {
        let (mut world, all) = tree(seed);
        let page_max = world.conditions.fetch_page_max;
        let form = form(&mut world.random);
        let at = world.connect(form);
        for _ in 0..60 {
            let wanted = wanted(&mut world);
            let (rows, has_more) = ask(&mut world, at, &wanted);
            let (expected, more_expected) = expected(&wanted, &all, page_max);
            // A page is cut where the answer would be too long, and never more than it must.
            let paths: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
            let expected: Vec<&str> = expected.iter().map(|row| row.path.as_str()).collect();
            if paths == expected {
                assert_eq!(has_more, more_expected, "{wanted:?}");
            } else {
                let kept = if wanted.last == 0 { &expected[..paths.len()] } else { &expected[expected.len() - paths.len()..] };
                assert!(!paths.is_empty() && paths == kept && has_more, "{wanted:?} gives {paths:?}, not {expected:?}");
            }
            for row in rows {
                let same = all.iter().find(|held| held.path == row.path).expect("it is one of all");
                assert_eq!((row.number, &row.properties, row.size), (same.number, &same.properties, same.size));
                assert!(!wanted.with_values || row.value == same.value);
            }
        }
    });
}

#[test]
fn pages_from_either_end_leave_nothing_out() {
    crate::for_each_seed(|seed| {
        let (mut world, all) = tree(seed);
        let at = world.connect(Form::Binary { capabilities: 0 });
        for _ in 0..10 {
            let mut wanted = Wanted { depth: 0, depth_limit: 0, first: 0, last: 0, ..wanted(&mut world) };
            wanted.bytes_max = world.random.pick(&[0, 1, 150, 400]);
            let range: Vec<String> = in_range(&wanted, &all).into_iter().map(|row| row.path.clone()).collect();
            let count = world.random.within(1, 4) as u64;
            let is_backward = world.random.percent(50);
            let mut found: Vec<String> = Vec::new();
            for _ in 0..=PATHS.len() {
                (wanted.first, wanted.last) = if is_backward { (0, count) } else { (count, 0) };
                let (rows, has_more) = ask(&mut world, at, &wanted);
                let paths: Vec<String> = rows.into_iter().map(|row| row.path).collect();
                assert!(!paths.is_empty() || !has_more, "a page that is not the last holds something");
                if is_backward {
                    (wanted.to, wanted.before) = (String::new(), paths.first().cloned().unwrap_or_default());
                    found.splice(0..0, paths);
                } else {
                    (wanted.from, wanted.after) = (String::new(), paths.last().cloned().unwrap_or_default());
                    found.extend(paths);
                }
                if !has_more {
                    break;
                }
            }
            assert_eq!(found, range, "{wanted:?}");
        }
    });
}

/// Beyond one topic, which every page may hold.
#[test]
fn the_bytes_of_a_page_are_bounded() {
    crate::for_each_seed(|seed| {
        let (mut world, _) = tree(seed);
        let at = world.connect(Form::Binary { capabilities: 0 });
        for _ in 0..20 {
            let mut wanted = wanted(&mut world);
            wanted.bytes_max = world.random.within(1, 500) as u64;
            let (rows, _) = ask(&mut world, at, &wanted);
            let bytes: usize = rows.iter().map(bytes).sum();
            assert!(
                rows.len() <= 1 || bytes as u64 <= wanted.bytes_max,
                "{} rows have {bytes} bytes, more than {}",
                rows.len(),
                wanted.bytes_max
            );
        }
    });
}

fn bytes(row: &Row) -> usize {
    let properties: usize = row.properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    row.path.len() + row.value.as_ref().map_or(0, Vec::len) + properties
}
