//! That `docs/mqtt-conformance.md` has every statement once, in order, and names tests that exist.

use std::fs;
use std::path::{Path, PathBuf};

/// A statement's id as numbers, its section's and its own.
type Id = [u32; 4];

struct Row {
    id: Id,
    shown_by: String,
}

#[test]
fn every_statement_stands_once_and_in_order() {
    for (title, count) in [("MQTT 5.0", 251), ("MQTT 3.1.1", 141)] {
        let rows = rows(title);
        for pair in rows.windows(2) {
            assert!(pair[0].id < pair[1].id, "{title}: {:?} stands before {:?}", pair[0].id, pair[1].id);
        }
        assert_eq!(rows.len(), count, "{title}");
    }
}

#[test]
fn every_test_of_the_table_exists() {
    for title in ["MQTT 5.0", "MQTT 3.1.1"] {
        for Row { id, shown_by } in rows(title) {
            if shown_by == "client's" || shown_by.strip_prefix("gap: ").is_some_and(|why| !why.is_empty()) {
                continue;
            }
            for test in shown_by.split(", ") {
                let test =
                    test.strip_prefix('`').and_then(|test| test.strip_suffix('`')).unwrap_or_else(|| panic!("{title} {id:?}: {test}"));
                assert!(exists(test), "{title} {id:?}: no test {test}");
            }
        }
    }
}

/// The rows of the table under a heading.
fn rows(title: &str) -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/mqtt-conformance.md")).unwrap();
    let lines = text.lines().skip_while(|line| line.strip_prefix("## ") != Some(title)).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with('|')).skip(2);
    lines.map(parse_row).collect()
}

fn parse_row(line: &str) -> Row {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let ["", statement, about, shown_by, ""] = cells[..] else { panic!("three cells: {line}") };
    assert!(!about.is_empty() && !shown_by.is_empty(), "{line}");
    Row { id: parse_id(statement).unwrap_or_else(|| panic!("an id: {line}")), shown_by: shown_by.into() }
}

/// `MQTT-a.b.c-n`.
fn parse_id(text: &str) -> Option<Id> {
    let (section, number) = text.strip_prefix("MQTT-")?.split_once('-')?;
    let numbers: Option<Vec<u32>> = section.split('.').chain([number]).map(parse_number).collect();
    numbers?.try_into().ok()
}

fn parse_number(text: &str) -> Option<u32> {
    let is_plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if is_plain { text.parse().ok() } else { None }
}

/// Whether `a::b::name` is a function `name` in a file `a/b.rs`, or in one of a module around it, of `src` or `tests`.
fn exists(test: &str) -> bool {
    let mut modules: Vec<&str> = test.split("::").collect();
    let declared = format!("fn {}(", modules.pop().unwrap());
    while !modules.is_empty() {
        let path: PathBuf = modules.iter().collect();
        for file in ["src", "tests"]
            .map(|folder| root().join(folder).join(&path))
            .iter()
            .flat_map(|path| [path.with_extension("rs"), path.join("mod.rs")])
        {
            if fs::read_to_string(file).is_ok_and(|text| text.contains(&declared)) {
                return true;
            }
        }
        modules.pop();
    }
    false
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn ids_are_told_from_what_is_none() {
    assert_eq!(parse_id("MQTT-3.10.4-6"), Some([3, 10, 4, 6]));
    for wrong in ["MQTT-3.1-1", "MQTT-3.1.0", "3.1.0-1", "MQTT-3.1.0-01", "MQTT-3.1.0-1a", "MQTT-3.1.0-"] {
        assert_eq!(parse_id(wrong), None, "{wrong}");
    }
}

#[test]
fn a_test_is_found_where_it_stands() {
    assert!(exists("conformance::mqtt_table::a_test_is_found_where_it_stands"));
    assert!(!exists("conformance::mqtt_table::a_test_that_nobody_wrote"));
    assert!(!exists("conformance::frames::a_test_is_found_where_it_stands"));
}
