//! Histories that one order explains, and some that none does.

use super::*;

const MADE: Outcome = Outcome::Made(None);
const UNKNOWN: Outcome = Outcome::Unknown(None);
const REFUSED: Outcome = Outcome::Refused(420);

/// What a client asks for, from one moment to another.
fn op(client: usize, (invoked_us, completed_us): (u64, u64), deed: Deed, outcome: Outcome) -> Operation {
    let completed_us = if matches!(outcome, Outcome::Unknown(_)) { u64::MAX } else { completed_us };
    Operation { client, session: 0, server: 0, invoked_us, completed_us, deed, outcome }
}

fn put(value: &str) -> Deed {
    Deed::Put(value.into())
}

fn replace(old: &str, value: &str) -> Deed {
    Deed::Replace(Test::Is(old.into()), value.into())
}

fn history(operations: Vec<Operation>, end: Option<&str>) -> History {
    let end = end.map(Value::from);
    let ends = vec![(0, end.clone()), (1, end)];
    History { path: "r/1".to_owned(), round: 3, initial: Some("0".into()), operations, sightings: Vec::new(), ends }
}

/// What sessions were shown, each in order; all of it at that moment.
fn shown(at_us: u64, all: &[&[&str]]) -> Vec<Sightings> {
    let sightings = |(number, values): (usize, &&[&str])| {
        let shown = values.iter().map(|value| (at_us, Some(Value::from(*value)).filter(|value| &**value != "no topic"))).collect();
        Sightings { by: format!("subscriber {number}"), shown }
    };
    all.iter().enumerate().map(sightings).collect()
}

/// The history is consistent, or violated for this reason.
fn check_is(history: &History, expected: Option<&str>) {
    match (check(history), expected) {
        (Verdict::Consistent, None) => {}
        (Verdict::Violated(why), Some(expected)) => assert!(why.contains(expected), "{why}"),
        (verdict, _) => panic!("{verdict:?}, and {expected:?} was expected"),
    }
}

#[test]
fn an_update_that_was_acknowledged_is_not_lost() {
    let operations = || vec![op(1, (1, 2), put("a"), MADE), op(2, (3, 4), put("b"), MADE)];
    check_is(&history(operations(), Some("b")), None);
    check_is(&history(operations(), Some("a")), Some("there is no order"));
    check_is(&history(operations(), None), Some("there is no order"));
}

#[test]
fn updates_at_once_have_either_order() {
    let operations = || vec![op(1, (1, 5), put("a"), MADE), op(2, (2, 4), put("b"), MADE)];
    check_is(&history(operations(), Some("a")), None);
    check_is(&history(operations(), Some("b")), None);
    check_is(&History { sightings: shown(9, &[&["a", "b"]]), ..history(operations(), Some("a")) }, Some("there is no order"));
}

#[test]
fn one_session_updates_in_its_order() {
    let operations = |client| vec![op(1, (1, 5), put("a"), MADE), op(client, (1, 5), put("b"), MADE)];
    check_is(&history(operations(2), Some("a")), None);
    check_is(&history(operations(1), Some("a")), Some("there is no order"));
    // Also where what comes first is not known to be made.
    let mut unknown = operations(1);
    unknown[0] = op(1, (1, 5), put("a"), UNKNOWN);
    check_is(&history(unknown.clone(), Some("b")), None);
    check_is(&history(unknown, Some("a")), Some("there is no order"));
}

#[test]
fn what_is_unknown_is_made_once_at_any_time_or_never() {
    let operations = |outcome| vec![op(1, (1, 2), put("a"), outcome), op(2, (3, 4), put("b"), MADE), op(3, (5, 6), put("c"), MADE)];
    for end in ["a", "c"] {
        check_is(&history(operations(UNKNOWN), Some(end)), None);
    }
    check_is(&History { sightings: shown(9, &[&["b", "a", "c"]]), ..history(operations(UNKNOWN), Some("c")) }, None);
    check_is(&History { sightings: shown(9, &[&["b", "a", "c", "a"]]), ..history(operations(UNKNOWN), Some("a")) }, Some("again"));
}

#[test]
fn what_is_unknown_and_was_seen_was_made_by_then() {
    let operations = || vec![op(1, (1, 2), put("a"), UNKNOWN), op(2, (10, 11), put("b"), MADE)];
    check_is(&history(operations(), Some("a")), None);
    check_is(&History { sightings: shown(5, &[&["a"]]), ..history(operations(), Some("a")) }, Some("there is no order"));
    check_is(&History { sightings: shown(0, &[&["a"]]), ..history(operations(), Some("b")) }, Some("before it was asked for"));
}

#[test]
fn what_was_refused_is_seen_nowhere() {
    let operations = || vec![op(1, (1, 2), put("a"), REFUSED), op(2, (3, 4), put("b"), MADE)];
    check_is(&history(operations(), Some("b")), None);
    check_is(&history(operations(), Some("a")), Some("which was refused"));
    check_is(&History { sightings: shown(9, &[&["a", "b"]]), ..history(operations(), Some("b")) }, Some("which was refused"));
    check_is(&History { sightings: shown(9, &[&["x", "b"]]), ..history(operations(), Some("b")) }, Some("nobody has written"));
}

#[test]
fn a_condition_held_when_it_was_looked_at() {
    let operations = |outcome| vec![op(1, (1, 2), put("a"), MADE), op(2, (3, 4), replace("0", "b"), outcome)];
    check_is(&history(operations(MADE), Some("b")), Some("there is no order"));
    check_is(&history(operations(Outcome::NotMet), Some("a")), None);
    let of_this = |outcome| vec![op(1, (1, 2), put("a"), MADE), op(2, (3, 4), replace("a", "b"), outcome)];
    check_is(&history(of_this(MADE), Some("b")), None);
    check_is(&history(of_this(Outcome::NotMet), Some("a")), Some("there is no order"));
}

#[test]
fn what_nobody_saw_may_be_why_a_condition_did_not_hold() {
    let operations = |outcome| vec![op(1, (1, 2), put("a"), outcome), op(2, (3, 4), replace("0", "b"), Outcome::NotMet)];
    check_is(&history(operations(UNKNOWN), Some("a")), None);
    let mut and_over = operations(UNKNOWN);
    and_over.push(op(3, (5, 6), put("c"), MADE));
    check_is(&history(and_over, Some("c")), None);
    check_is(&history(operations(REFUSED), Some("0")), Some("there is no order"));
}

#[test]
fn a_counter_is_counted_once_for_each_answer() {
    let count = |client, times, n, outcome| op(client, times, Deed::Replace(Test::Counts(n), counter(n + 1, &client.to_string())), outcome);
    let end = |operations, value: Value| History { initial: Some(counter(0, "")), ..history(operations, Some(&value)) };
    let twice = vec![count(1, (1, 2), 0, MADE), count(2, (3, 4), 1, MADE)];
    check_is(&end(twice, counter(2, "2")), None);
    let both = vec![count(1, (1, 4), 0, MADE), count(2, (2, 3), 0, MADE)];
    check_is(&end(both, counter(1, "2")), Some("there is no order"));
    let one = vec![count(1, (1, 4), 0, MADE), count(2, (2, 3), 0, Outcome::NotMet)];
    check_is(&end(one, counter(1, "1")), None);
}

#[test]
fn a_topic_is_removed_and_added_once_for_each_answer() {
    let add = |value: &str| Deed::Add(value.into());
    let good = vec![
        op(1, (1, 2), Deed::Remove, MADE),
        op(2, (3, 4), Deed::Remove, Outcome::NotMet),
        op(3, (5, 6), Deed::Set("a".into()), Outcome::NotMet),
        op(4, (7, 8), add("b"), MADE),
        op(5, (9, 10), add("c"), Outcome::NotMet),
    ];
    check_is(&History { sightings: shown(20, &[&["0", "no topic", "b"]]), ..history(good.clone(), Some("b")) }, None);
    let twice = vec![op(1, (1, 2), Deed::Remove, MADE), op(2, (3, 4), Deed::Remove, MADE)];
    check_is(&history(twice, None), Some("there is no order"));
    let both = vec![op(1, (1, 2), Deed::Remove, MADE), op(2, (3, 6), add("a"), MADE), op(3, (4, 5), add("b"), MADE)];
    check_is(&history(both, Some("a")), Some("there is no order"));
}

#[test]
fn nobody_sees_a_topic_go_back() {
    let operations = || vec![op(1, (1, 2), put("a"), MADE), op(2, (3, 4), put("b"), MADE), op(3, (5, 6), put("c"), MADE)];
    let seen = |all: &[&[&str]]| History { sightings: shown(9, all), ..history(operations(), Some("c")) };
    check_is(&seen(&[&["0", "a", "c"], &["b", "b", "c"], &["0"]]), None);
    check_is(&seen(&[&["a", "b", "a", "c"]]), Some("again"));
    check_is(&seen(&[&["b", "a"]]), Some("there is no order"));
    check_is(&seen(&[&["a", "0"]]), Some("the first of all"));
    check_is(&seen(&[&["a", "no topic"]]), Some("nobody has removed it"));
}

#[test]
fn a_server_that_comes_back_shows_what_was_before_and_then_the_rest() {
    let value = |text: &str| format!("{{\"n\":{},\"by\":\"{text}\"}}", &text[2..3]);
    let (one, two, late, strange) = (value("1-5-7"), value("2-6-7"), value("1-7-7"), value("4-8-8"));
    let seen = |all: &[&str]| History { sightings: shown(9, &[all]), ..history(vec![op(1, (1, 2), put("a"), MADE)], Some("a")) };
    check_is(&seen(&[&one, &two, "0", "a"]), None);
    check_is(&seen(&[&one, "no topic", &two, "no topic", "a"]), None);
    check_is(&seen(&[&one, "a", "no topic"]), Some("nobody has removed it"));
    check_is(&seen(&[&two, &one]), Some("which is later"));
    check_is(&seen(&[&late, &one]), Some("which is later"));
    check_is(&seen(&["a", &two]), Some("an earlier round has written"));
    check_is(&seen(&[&one, &two, &one]), Some("again"));
    check_is(&seen(&[&strange]), Some("nobody has written"));
}

#[test]
fn all_servers_show_the_same_at_the_end() {
    let mut history = history(vec![op(1, (1, 2), put("a"), UNKNOWN)], Some("a"));
    history.ends[1].1 = Some("0".into());
    check_is(&history, Some("not show the same"));
}

#[test]
fn many_at_once_are_found_an_order_for() {
    // Each is at once with some before and behind it.
    let operations: Vec<Operation> = (0..2000)
        .map(|number: u64| {
            let times = (number * 10, number * 10 + 85);
            let client = number as usize % 20;
            match number % 7 {
                0 => op(client, times, put(&format!("v{number}")), UNKNOWN),
                3 => op(client, times, replace("nothing", &format!("v{number}")), Outcome::NotMet),
                _ => op(client, times, put(&format!("v{number}")), MADE),
            }
        })
        .map(|operation| Operation { client: operation.invoked_us as usize, ..operation })
        .collect();
    check_is(&history(operations, Some("v1999")), None);
}
