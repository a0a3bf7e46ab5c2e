//! The tables of operations and events in `sdk/protocol/README.md`: what stands there is read, has a vector, and nothing else is.

use super::{bytes, vectors};
use std::collections::BTreeSet;
use tidewire::surface::wire::native::{self, Ask, Frame, Heard, OPERATIONS};
use tidewire::surface::wire::text;

/// One row: the number, the name in lower case, as the text form has it, and the members.
struct Row {
    op: u8,
    name: String,
    body: &'static str,
}

/// The rows of the section's table, without those that are only set aside.
fn rows(section: &str) -> Vec<Row> {
    let specification = include_str!("../../../sdk/protocol/README.md");
    let heading = format!("\n### {section}\n");
    let (_, text) = specification.split_once(&heading).expect("the specification has the section");
    let lines = text.lines().take_while(|line| !line.starts_with('#'));
    let cells = lines.filter_map(|line| line.strip_prefix("| 0x")).map(|line| line.split(" | ").collect::<Vec<_>>());
    let rows: Vec<Row> = cells
        .map(|cells| Row {
            op: u8::from_str_radix(cells[0], 16).expect("a number"),
            name: cells[1].to_lowercase(),
            body: cells[2].trim_end_matches(" |"),
        })
        .filter(|row| row.body != "set aside")
        .collect();
    assert!(rows.len() > 10, "the rows of {section} are found");
    rows
}

fn operations() -> Vec<Row> {
    rows("Client to server")
}

fn events() -> Vec<Row> {
    rows("Server to client")
}

fn is_read(op: u8) -> bool {
    !matches!(native::decode_request(Frame { op, body: &[1] }).ask, Ask::Unknown { .. })
}

fn is_read_as_text(name: &str) -> bool {
    let message = format!(r#"{{"op":"{name}","id":1}}"#);
    // A member that is missing is one of an operation that is known.
    text::decode_request(&message).map_or(true, |request| !matches!(request.ask, Ask::Unknown { .. }))
}

#[test]
fn both_forms_read_every_operation() {
    for row in operations() {
        assert!(is_read(row.op), "{}", row.name);
        // The text form has no deltas.
        assert_eq!(is_read_as_text(&row.name), !row.body.contains("delta"), "{}", row.name);
    }
}

#[test]
fn no_other_operation_is_read() {
    let table: BTreeSet<(u8, String)> = operations().into_iter().map(|row| (row.op, row.name)).collect();
    let known: BTreeSet<(u8, String)> = OPERATIONS.iter().map(|operation| (operation.op, operation.name.to_owned())).collect();
    assert_eq!(known, table);
    let numbers: BTreeSet<u8> = table.into_iter().map(|(op, _)| op).collect();
    assert_eq!((0..=u8::MAX).filter(|op| is_read(*op)).collect::<BTreeSet<_>>(), numbers);
}

#[test]
fn clients_read_every_event_and_no_other() {
    let is_known = |op: &u8| !matches!(native::decode_event(Frame { op: *op, body: &[] }), Ok(Heard::Unknown));
    let table: BTreeSet<u8> = events().into_iter().map(|row| row.op).collect();
    assert_eq!((0..=u8::MAX).filter(is_known).collect::<BTreeSet<_>>(), table);
}

#[test]
fn every_operation_and_event_has_a_vector() {
    for (direction, rows) in [("client", operations()), ("server", events())] {
        let shown: BTreeSet<u8> = vectors(direction).iter().filter_map(|vector| bytes(vector).first().copied()).collect();
        for row in rows {
            assert!(shown.contains(&row.op), "{direction} {}", row.name);
        }
    }
}
