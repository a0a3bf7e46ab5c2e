//! Mappings against one that looks at every table anew for every path.

use super::*;
use crate::topic::selector::{Selector, SelectorLimits};
use proptest::prelude::*;

/// The tables of one session whose rows are looked up: a branch, and what its row says, if one holds.
type Found = Vec<(&'static str, Option<&'static str>)>;

const BRANCHES: [&str; 8] = ["a", "a/b", "a/b/c", "b", "b/a", "c", "c.", "x/a"];
const SELECTORS: [&str; 16] = [
    ">a",
    ">a/b",
    ">a/b/c/a",
    "?a//",
    "?a/",
    "?a/b//",
    "?a/.*",
    "?a/b/[ab]/",
    "?.*//",
    "?.*/b//",
    "*a/.*",
    "*.*c",
    "*a/b/c//",
    "?c\\.//",
    "#>a/b////?b//",
    "?x/a/b//",
];

/// Paths of up to four segments.
fn paths() -> Vec<String> {
    let mut paths: Vec<String> = ["a", "b", "c", "c.", "x"].map(str::to_owned).into();
    let mut longer = paths.clone();
    for _ in 0..3 {
        longer = longer.iter().flat_map(|path| ["a", "b", "c"].map(|segment| format!("{path}/{segment}"))).collect();
        paths.extend(longer.clone());
    }
    paths
}

fn mapping(found: &Found) -> Mapping {
    let mut sorted: Vec<(TopicPath, Option<&str>)> = found.iter().map(|(branch, topics)| (TopicPath::of_branch(branch), *topics)).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    Mapping::new(sorted.iter().map(|(branch, topics)| (branch, *topics)))
}

fn naive(found: &Found, path: &str) -> String {
    let longest = found.iter().filter(|(branch, _)| is_within(path, branch)).max_by_key(|(branch, _)| branch.len());
    match longest {
        Some((branch, Some(topics))) => format!("{topics}{}", &path[branch.len()..]),
        _ => path.to_owned(),
    }
}

fn parsed(text: &str) -> Selector {
    Selector::parse(text, SelectorLimits::default()).unwrap()
}

fn arbitrary() -> impl Strategy<Value = Found> {
    let row = (0..BRANCHES.len(), proptest::option::of(0..BRANCHES.len()));
    proptest::collection::btree_map(0..BRANCHES.len(), row, 0..6)
        .prop_map(|rows| rows.into_iter().map(|(branch, (_, topics))| (BRANCHES[branch], topics.map(|topics| BRANCHES[topics]))).collect())
}

proptest! {
    #[test]
    fn paths_mean_what_the_longest_branch_says(found in arbitrary()) {
        let mapping = mapping(&found);
        for path in paths() {
            prop_assert_eq!(mapping.resolve(&path), naive(&found, &path), "{} by {:?}", path, found);
        }
    }

    #[test]
    fn a_topic_is_found_at_every_path_that_means_it_and_no_other(found in arbitrary()) {
        let mapping = mapping(&found);
        let mut meant: BTreeMap<String, Vec<TopicPath>> = BTreeMap::new();
        for path in paths() {
            meant.entry(naive(&found, &path)).or_default().push(TopicPath::of_branch(&path));
        }
        for topic in paths() {
            let mut expected = meant.remove(&topic).unwrap_or_default();
            expected.sort_unstable();
            let mut found_at = mapping.paths_of(&topic);
            // A longer path than those that were looked at may mean it too.
            found_at.retain(|path| path.segments().count() <= 4);
            prop_assert_eq!(found_at, expected, "{} by {:?}", topic, found);
        }
    }

    #[test]
    fn derived_selectors_leave_no_topic_out(found in arbitrary(), at in 0..SELECTORS.len()) {
        let (mapping, selector) = (mapping(&found), parsed(SELECTORS[at]));
        let derived: Vec<Selector> = mapping.derived(&selector).iter().map(|text| parsed(text)).collect();
        for path in paths().iter().filter(|path| selector.matches(path)) {
            let topic = naive(&found, path);
            let is_met = topic == *path || derived.iter().any(|selector| selector.matches(&topic));
            prop_assert!(is_met, "{} means {} by {:?}, but {} gives {:?}", path, topic, found, selector, derived);
        }
    }

    #[test]
    fn regions_hold_every_path_that_is_selected_once(found in arbitrary(), at in 0..SELECTORS.len()) {
        let (mapping, selector) = (mapping(&found), parsed(SELECTORS[at]));
        let regions = mapping.regions(&selector);
        for path in paths().iter().filter(|path| selector.matches(path)) {
            let topic = naive(&found, path);
            let holding = regions.iter().filter(|region| region.session_path(&topic).as_ref() == Some(path)).count();
            prop_assert_eq!(holding, 1, "{} means {} by {:?}: {:?}", path, topic, found, &regions);
        }
    }

    #[test]
    fn what_means_something_else_than_before_lies_in_what_has_changed(old in arbitrary(), new in arbitrary()) {
        let changes = mapping(&old).changes(&mapping(&new));
        let is_changed = |topic: &str| changes.iter().any(|branch| is_within(topic, branch.as_str()));
        for path in paths() {
            let (before, after) = (naive(&old, &path), naive(&new, &path));
            prop_assert!(before == after || is_changed(&before) && is_changed(&after), "{}: {} and {} in {:?}", path, before, after, changes);
        }
        prop_assert_eq!(changes.is_empty(), mapping(&old) == mapping(&new));
    }
}

fn table(rows: &[(&str, &str)]) -> Table {
    Table::parse(rows.iter().copied(), 100).unwrap()
}

#[test]
fn the_first_row_that_means_a_session_holds() {
    let mut tables = Tables::default();
    tables.put(
        "market/prices",
        table(&[
            ("USER_TIER is '1' or $Country is 'DE'", "backend/discounted"),
            ("USER_TIER is '2'", "backend/standard"),
            ("$Principal is ''", "backend/delayed"),
        ]),
    );
    for (tier, country, expected) in [
        ("1", "FR", "backend/discounted/X"),
        ("2", "DE", "backend/discounted/X"),
        ("2", "FR", "backend/standard/X"),
        ("3", "FR", "backend/delayed/X"),
    ] {
        let lookup = |key: &str| match key {
            "USER_TIER" => Some(tier),
            "$Country" => Some(country),
            "$Principal" => Some(""),
            _ => None,
        };
        let mapping = tables.mapping_of(|filter| filter.matches(lookup));
        assert_eq!(mapping.resolve("market/prices/X"), expected);
        assert_eq!(mapping.resolve("market/other"), "market/other");
    }
    assert!(tables.mapping_of(|_| false).is_empty(), "no row means it, so every path means itself");
}

#[test]
fn a_row_that_is_wrong_is_named_with_the_place_in_it() {
    let check = |rows: &[(&str, &str)], row: usize, position: usize, text: &str| {
        let error = Table::parse(rows.iter().copied(), 6).unwrap_err();
        assert_eq!((error.row, error.position), (row, position), "{error:?}");
        assert!(error.message.contains(text), "{error:?}");
    };
    check(&[("all", "a"), ("Tier si 'x'", "a")], 2, 5, "the filter of row 2: ");
    check(&[("all", "a//b")], 1, 2, "the topic branch of row 1: ");
    check(&[("all", "")], 1, 0, "the topic branch of row 1: ");
    check(&[("all", "a/b/c/d")], 1, 6, "longer than a path may be");
}

#[test]
fn tables_are_bounded_together_and_one_without_rows_takes_one_away() {
    let limits = SessionTreeLimits { tables_max: 2, rows_max: 2, text_bytes_max: 20 };
    let mut tables = Tables::default();
    let row = ("all", "12");
    let mut put = |branch: &str, rows: &[(&str, &str)]| {
        let table = table(rows);
        let result = tables.check(branch, &table, &limits);
        if result.is_ok() {
            tables.put(branch, table);
        }
        (result.is_ok(), tables.len(), tables.bytes())
    };
    assert_eq!(put("a", &[row, row]), (true, 1, 10));
    assert_eq!(put("b", &[row, row, row]), (false, 1, 10), "a row too many");
    assert_eq!(put("b", &[row, ("all", "12345678")]), (false, 1, 10), "a byte too many");
    assert_eq!(put("b", &[row, ("all", "12")]), (true, 2, 20));
    assert_eq!(put("c", &[("all", "")].map(|_| ("all", "1"))), (false, 2, 20), "a table too many");
    assert_eq!(put("b", &[row]), (true, 2, 15), "one in the place of another");
    assert_eq!(put("b", &[]), (true, 1, 10));
    assert_eq!(put("b", &[]), (true, 1, 10), "there is none to take away");
    assert_eq!(tables.branches_after("").collect::<Vec<_>>(), ["a"]);
}
