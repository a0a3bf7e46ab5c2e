//! Judges what happened to a topic that holds events: each that was acknowledged is there once, none that was refused, in an order that agrees with when they were asked for.

use super::history::{EventSightings, Operation, Outcome, Value, Verdict, tell};
use std::collections::HashMap;

/// What is known of one series, which was empty at the beginning.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub path: String,
    /// Appends; those of one session in the order in which they were sent.
    pub operations: Vec<Operation>,
    pub sightings: Vec<EventSightings>,
    /// All events that each server has at the end, with their sequences.
    pub ends: Vec<(usize, Vec<(u64, Value)>)>,
}

pub fn check(history: &History) -> Verdict {
    match judge(history) {
        Ok(()) => Verdict::Consistent,
        Err(why) => Verdict::Violated(history.tell(&why)),
    }
}

fn judge(history: &History) -> Result<(), String> {
    let Some((_, end)) = history.ends.first() else { return Ok(()) };
    if history.ends.iter().any(|(_, other)| other != end) {
        return Err("the servers do not have the same events at the end".to_owned());
    }
    if let Some((place, (sequence, _))) = end.iter().enumerate().find(|(place, (sequence, _))| *place as u64 != *sequence) {
        return Err(format!("the event at place {place} has the sequence {sequence}"));
    }
    let mut places = HashMap::new();
    for (place, (_, value)) in end.iter().enumerate() {
        if let Some(before) = places.insert(value.clone(), place) {
            return Err(format!("{value} is there twice: at {before} and at {place}"));
        }
    }
    let seen = check_sightings(history, end)?;
    check_operations(history, &places)?;
    check_order(history, &places, &seen)
}

/// Events are shown as they are at the end, without holes; when each was seen first.
fn check_sightings(history: &History, end: &[(u64, Value)]) -> Result<HashMap<Value, u64>, String> {
    let mut seen = HashMap::new();
    for EventSightings { by, shown } in &history.sightings {
        let mut last = None;
        for (at_us, sequence, value) in shown {
            if end.get(*sequence as usize).is_none_or(|(_, there)| there != value) {
                return Err(format!("{by} was shown {value} as the event {sequence}, which it is not at the end"));
            }
            if let Some(last) = last
                && *sequence != last + 1
            {
                return Err(format!("{by} was shown the event {sequence} behind {last}"));
            }
            last = Some(*sequence);
            let first = seen.entry(value.clone()).or_insert(*at_us);
            *first = (*first).min(*at_us);
        }
    }
    Ok(seen)
}

/// What was acknowledged is where its answer says, what was refused is nowhere, and nothing else is there.
fn check_operations(history: &History, places: &HashMap<Value, usize>) -> Result<(), String> {
    let mut left = places.clone();
    for operation in &history.operations {
        let value = operation.deed.value().ok_or("a series is only appended to")?;
        let place = left.remove(value);
        match (operation.outcome, place) {
            (Outcome::Made(_), None) => return Err(format!("{value} was acknowledged and is not there")),
            (Outcome::Made(Some(number)), Some(place)) if number != place as u64 => {
                return Err(format!("{value} was acknowledged as the event {number} and is {place}"));
            }
            (Outcome::Refused(_) | Outcome::NotMet, Some(place)) => return Err(format!("{value} was refused and is there, at {place}")),
            _ => {}
        }
    }
    match left.into_iter().next() {
        Some((value, place)) => Err(format!("{value} is there, at {place}, and nobody has appended it")),
        None => Ok(()),
    }
}

/// What was answered, or seen, before something else was asked for stands before that; and one session's events stand in its order.
fn check_order(history: &History, places: &HashMap<Value, usize>, seen: &HashMap<Value, u64>) -> Result<(), String> {
    let mut there: Vec<(usize, &Operation, u64)> = Vec::new();
    let mut sessions = HashMap::new();
    for operation in &history.operations {
        let Some(value) = operation.deed.value() else { continue };
        let Some(place) = places.get(value).copied() else { continue };
        let until_us = seen.get(value).copied().unwrap_or(u64::MAX).min(operation.completed_us);
        if until_us < operation.invoked_us {
            return Err(format!("{value} was shown before it was asked for"));
        }
        there.push((place, operation, until_us));
        if let Some((before, other)) = sessions.insert((operation.client, operation.session), (place, value))
            && before > place
        {
            return Err(format!("{other} was sent before {value} by one session and stands behind it"));
        }
    }
    there.sort_by_key(|(place, ..)| *place);
    let mut first = None::<(u64, &Operation)>;
    for (_, operation, until_us) in there.iter().rev() {
        if let Some((until_us, later)) = first
            && until_us < operation.invoked_us
        {
            return Err(format!("this stands behind another that was asked for later:\n  {later}\n  {operation}"));
        }
        if first.is_none_or(|(earliest, _)| *until_us < earliest) {
            first = Some((*until_us, operation));
        }
    }
    Ok(())
}

impl History {
    fn tell(&self, why: &str) -> String {
        let sightings = self.sightings.iter().map(|EventSightings { by, shown }| {
            let shown = shown.iter().map(|(us, sequence, value)| format!("{:.3}: {sequence} {value}", *us as f64 / 1000.0));
            format!("{by}: {}", shown.collect::<Vec<_>>().join(", "))
        });
        let ends = self.ends.iter().map(|(server, events)| {
            let events = events.iter().map(|(sequence, value)| format!("{sequence} {value}"));
            format!("server {server} at the end: {}", events.collect::<Vec<_>>().join(", "))
        });
        tell(&self.path, why, &self.operations, sightings.chain(ends))
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Deed;
    use super::*;

    /// An append by a client, from one moment to another.
    fn append(value: &str, client: usize, (invoked_us, completed_us): (u64, u64), outcome: Outcome) -> Operation {
        Operation { client, session: 0, server: 0, invoked_us, completed_us, deed: Deed::Append(value.into()), outcome }
    }

    fn history(operations: Vec<Operation>, end: &[&str]) -> History {
        let end: Vec<(u64, Value)> = end.iter().enumerate().map(|(place, value)| (place as u64, (*value).into())).collect();
        History { path: "s/1".to_owned(), operations, sightings: Vec::new(), ends: vec![(0, end.clone()), (1, end)] }
    }

    fn check_is(history: &History, expected: Option<&str>) {
        match (check(history), expected) {
            (Verdict::Consistent, None) => {}
            (Verdict::Violated(why), Some(expected)) => assert!(why.contains(expected), "{why}"),
            (verdict, _) => panic!("{verdict:?}, and {expected:?} was expected"),
        }
    }

    const MADE: Outcome = Outcome::Made(None);
    const UNKNOWN: Outcome = Outcome::Unknown(None);

    #[test]
    fn what_was_acknowledged_is_there_once() {
        let two = |outcome| vec![append("a", 1, (1, 2), MADE), append("b", 2, (3, 4), outcome)];
        check_is(&history(two(MADE), &["a", "b"]), None);
        check_is(&history(two(MADE), &["a"]), Some("acknowledged and is not there"));
        check_is(&history(two(MADE), &["a", "b", "b"]), Some("twice"));
        check_is(&history(two(Outcome::Made(Some(0))), &["a", "b"]), Some("acknowledged as the event 0"));
        check_is(&history(two(MADE), &["a", "b", "x"]), Some("nobody has appended"));
    }

    #[test]
    fn what_is_unknown_is_there_once_or_not_at_all() {
        let two = || vec![append("a", 1, (1, 2), MADE), append("b", 2, (3, u64::MAX), UNKNOWN)];
        check_is(&history(two(), &["a", "b"]), None);
        check_is(&history(two(), &["a"]), None);
        check_is(&history(two(), &["a", "b", "b"]), Some("twice"));
    }

    #[test]
    fn what_was_refused_is_not_there() {
        let two = || vec![append("a", 1, (1, 2), MADE), append("b", 2, (3, 4), Outcome::Refused(420))];
        check_is(&history(two(), &["a"]), None);
        check_is(&history(two(), &["a", "b"]), Some("refused and is there"));
    }

    #[test]
    fn events_stand_in_the_order_in_which_they_were_asked_for() {
        let apart = || vec![append("a", 1, (1, 2), MADE), append("b", 2, (3, 4), MADE)];
        check_is(&history(apart(), &["b", "a"]), Some("asked for later"));
        let at_once = || vec![append("a", 1, (1, 5), MADE), append("b", 2, (3, 4), MADE)];
        check_is(&history(at_once(), &["b", "a"]), None);
        let of_one = || vec![append("a", 1, (1, 5), MADE), append("b", 1, (1, 5), MADE)];
        check_is(&history(of_one(), &["a", "b"]), None);
        check_is(&history(of_one(), &["b", "a"]), Some("by one session"));
    }

    #[test]
    fn events_are_shown_in_order_and_without_holes() {
        let three = || vec![append("a", 1, (1, 2), MADE), append("b", 2, (3, 4), MADE), append("c", 3, (5, 6), MADE)];
        let shown = |events: &[(u64, &str)]| {
            let shown = events.iter().map(|(sequence, value)| (9, *sequence, (*value).into())).collect();
            let sightings = vec![EventSightings { by: "a subscriber".to_owned(), shown }];
            History { sightings, ..history(three(), &["a", "b", "c"]) }
        };
        check_is(&shown(&[(1, "b"), (2, "c")]), None);
        check_is(&shown(&[(0, "a"), (2, "c")]), Some("behind 0"));
        check_is(&shown(&[(1, "b"), (1, "b")]), Some("behind 1"));
        check_is(&shown(&[(0, "b")]), Some("not at the end"));
    }

    #[test]
    fn all_servers_have_the_same_events() {
        let mut history = history(vec![append("a", 1, (1, u64::MAX), UNKNOWN)], &["a"]);
        history.ends[1].1.clear();
        check_is(&history, Some("not have the same"));
    }
}
