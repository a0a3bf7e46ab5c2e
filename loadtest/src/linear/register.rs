//! Judges what happened to a topic that holds one value.
//!
//! Values are unique, so what is shown of a topic tells which operations were made, by when, and in which order.

use super::history::{Deed, Operation, Outcome, Sightings, Test, Value, Verdict, round_of, tell};
use super::search::{Found, From, State, Step, StepKind, search};
use std::collections::{HashMap, HashSet};

/// What is known of one topic.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub path: String,
    /// The number of the round: what earlier ones have written is no stranger.
    pub round: u64,
    pub initial: Option<Value>,
    /// Those of one session in the order in which they were sent.
    pub operations: Vec<Operation>,
    pub sightings: Vec<Sightings>,
    /// What each server shows at the end, by its number.
    pub ends: Vec<(usize, Option<Value>)>,
}

/// So many places are looked at before the search is given up.
const LOOKS_MAX: usize = 2_000_000;

/// Whether there is one order of the operations, in which those that were made have a place between call and answer, those that were refused have none, what was shown was there in
/// that order, and the end is what all servers show.
pub fn check(history: &History) -> Verdict {
    let told = |why: String| Verdict::Violated(history.tell(&why));
    let mut topic = match Topic::new(history) {
        Ok(topic) => topic,
        Err(why) => return told(why),
    };
    if let Err(why) = topic.take_sightings(history).and_then(|()| topic.take_end(history)) {
        return told(why);
    }
    topic.take_sessions(history);
    // What nobody has seen is left out first: that makes a place for none but explains less.
    let certain = topic.without_unseen();
    if let Found::Order(_) = search(&certain, topic.initial, LOOKS_MAX) {
        return Verdict::Consistent;
    }
    match search(&topic.steps, topic.initial, LOOKS_MAX) {
        Found::Order(_) => Verdict::Consistent,
        Found::GaveUp => Verdict::Undecided,
        Found::None { longest, stuck } => {
            let name = |step: usize| match topic.operations.get(step) {
                Some(number) => format!("  {}", history.operations[*number]),
                None => "  what the servers show at the end".to_owned(),
            };
            let order: Vec<String> = longest.iter().map(|step| name(*step)).collect();
            told(format!("there is no order; the longest is\n{}\nbehind which there is no place for\n{}", order.join("\n"), name(stuck)))
        }
    }
}

/// The steps of a topic, as the search takes them.
struct Topic {
    initial: State,
    states: HashMap<Value, State>,
    /// By state, the operation's step that leaves it.
    makers: HashMap<State, usize>,
    steps: Vec<Step>,
    /// By step, the number of its operation.
    operations: Vec<usize>,
}

impl Topic {
    fn new(history: &History) -> Result<Self, String> {
        let mut states = HashMap::new();
        let values = history.operations.iter().filter_map(|operation| operation.deed.value());
        for value in history.initial.iter().chain(values) {
            let state = states.len() as State + 1;
            if states.insert(value.clone(), state).is_some() {
                return Err(format!("{value} was written twice: the history is no good"));
            }
        }
        let initial = history.initial.as_ref().map_or(0, |value| states[value]);
        let mut topic = Self { initial, states, makers: HashMap::new(), steps: Vec::new(), operations: Vec::new() };
        for (number, operation) in history.operations.iter().enumerate() {
            topic.add(number, operation);
        }
        Ok(topic)
    }

    fn add(&mut self, number: usize, operation: &Operation) {
        let from = match &operation.deed {
            Deed::Put(_) => From::Any,
            Deed::Set(_) | Deed::Remove => From::Present,
            Deed::Replace(Test::Is(old), _) => From::OneOf(self.states.get(old).copied().into_iter().collect()),
            Deed::Replace(Test::Counts(n), _) => {
                let mut states: Vec<State> =
                    self.states.iter().filter(|(value, _)| count_of(value) == Some(*n)).map(|(_, state)| *state).collect();
                states.sort_unstable();
                From::OneOf(states)
            }
            Deed::Add(_) => From::OneOf(vec![0]),
            Deed::Append(_) => unreachable!("a topic that holds one value has no events"),
        };
        let kind = match operation.outcome {
            Outcome::Refused(_) => return,
            Outcome::NotMet => StepKind::Read { from, is_accepted: false },
            Outcome::Made(_) | Outcome::Unknown(_) => {
                let to = operation.deed.value().map_or(0, |value| self.states[value]);
                if to != 0 {
                    self.makers.insert(to, self.steps.len());
                }
                StepKind::Write { from, to }
            }
        };
        let returned_us = if matches!(operation.outcome, Outcome::Unknown(_)) { u64::MAX } else { operation.completed_us };
        self.operations.push(number);
        self.steps.push(Step { called_us: operation.invoked_us, returned_us, kind, behind: Vec::new() });
    }

    /// The step that has made a value; `None` of that which was there at the beginning.
    fn maker(&self, value: &Value, history: &History) -> Result<Option<usize>, String> {
        let Some(state) = self.states.get(value).copied() else { return Err("which nobody has written".to_owned()) };
        if state == self.initial && history.initial.is_some() {
            return Ok(None);
        }
        let maker = self.makers.get(&state).copied();
        maker.map(Some).ok_or_else(|| "which was refused".to_owned())
    }

    /// What was shown was made by then, and in this order.
    fn take_sightings(&mut self, history: &History) -> Result<(), String> {
        let is_removed = history.operations.iter().any(|operation| operation.deed == Deed::Remove);
        for Sightings { by, shown } in &history.sightings {
            let (mut last, mut passed) = (None::<&Value>, HashSet::new());
            for (at_us, value) in shown {
                let Some(value) = value else {
                    match last {
                        Some(value) if !is_removed && !self.is_earlier(history, value) => {
                            return Err(format!("{by} was shown no topic behind {value}, and nobody has removed it"));
                        }
                        _ => continue,
                    }
                };
                if last == Some(value) {
                    continue;
                }
                if !passed.insert(value.clone()) {
                    return Err(format!("{by} was shown {value} again, behind {}", last.map_or("nothing", |value| value)));
                }
                self.take_sighting(history, *at_us, last, value).map_err(|why| format!("{by} was shown {value}, {why}"))?;
                last = Some(value);
            }
        }
        Ok(())
    }

    /// One value, behind another of the same session.
    fn take_sighting(&mut self, history: &History, at_us: u64, last: Option<&Value>, value: &Value) -> Result<(), String> {
        if self.is_earlier(history, value) {
            return self.take_earlier(history, last, value);
        }
        let last = last.filter(|last| !self.is_earlier(history, last));
        let before = last.map(|last| self.maker(last, history)).transpose()?;
        match (self.maker(value, history)?, before) {
            (None, Some(_)) => Err("the first of all, behind another".to_owned()),
            (None, None) => Ok(()),
            (Some(step), before) => {
                self.steps[step].behind.extend(before.flatten());
                self.seen_by(step, at_us)
            }
        }
    }

    /// Whether a round before this one has written it.
    fn is_earlier(&self, history: &History, value: &Value) -> bool {
        !self.states.contains_key(value) && round_of(value).is_some_and(|round| round < history.round)
    }

    /// A server that has come back, or is new, shows what was there before until it has taken up the rest: values, and that they were removed.
    fn take_earlier(&self, history: &History, last: Option<&Value>, value: &Value) -> Result<(), String> {
        match last {
            None => Ok(()),
            Some(last) if !self.is_earlier(history, last) => Err(format!("which an earlier round has written, behind {last}")),
            Some(last) if round_of(last) > round_of(value) || count(last) > count(value) => Err(format!("behind {last}, which is later")),
            Some(_) => Ok(()),
        }
    }

    fn seen_by(&mut self, step: usize, at_us: u64) -> Result<(), String> {
        let step = &mut self.steps[step];
        if at_us < step.called_us {
            return Err("before it was asked for".to_owned());
        }
        step.returned_us = step.returned_us.min(at_us);
        Ok(())
    }

    /// All servers show the same at the end, and that is the last of all.
    fn take_end(&mut self, history: &History) -> Result<(), String> {
        let Some((_, end)) = history.ends.first() else { return Ok(()) };
        if history.ends.iter().any(|(_, other)| other != end) {
            return Err("the servers do not show the same at the end".to_owned());
        }
        let state = match end {
            None => 0,
            Some(value) => {
                if let Some(step) = self.maker(value, history).map_err(|why| format!("the end is {value}, {why}"))? {
                    self.seen_by(step, u64::MAX - 2)?;
                }
                self.states[value]
            }
        };
        let kind = StepKind::Read { from: From::OneOf(vec![state]), is_accepted: true };
        self.steps.push(Step { called_us: u64::MAX - 1, returned_us: u64::MAX - 1, kind, behind: Vec::new() });
        Ok(())
    }

    /// What one session has sent is made in that order.
    fn take_sessions(&mut self, history: &History) {
        let mut last = HashMap::new();
        for (step, number) in self.operations.iter().enumerate() {
            let operation = &history.operations[*number];
            if let Some(before) = last.insert((operation.client, operation.session), step) {
                self.steps[step].behind.push(before);
            }
        }
    }

    /// The steps without those that may have no place. Numbers stay.
    fn without_unseen(&self) -> Vec<Step> {
        let mut steps = self.steps.clone();
        for step in &mut steps {
            if step.returned_us == u64::MAX {
                step.kind = StepKind::Read { from: From::OneOf(Vec::new()), is_accepted: true };
            }
        }
        steps
    }
}

/// The member `n` of a counter's value, as [`counter`] writes it.
fn count_of(value: &str) -> Option<u64> {
    value.strip_prefix("{\"n\":")?.split(',').next()?.parse().ok()
}

/// A counter's value, which says who has counted.
pub fn counter(n: u64, by: &str) -> Value {
    format!("{{\"n\":{n},\"by\":\"{by}\"}}").into()
}

/// What a counter's value counts; 0 where it is none.
pub fn count(value: &str) -> u64 {
    count_of(value).unwrap_or_default()
}

impl History {
    fn tell(&self, why: &str) -> String {
        let initial = self.initial.iter().map(|value| format!("at the beginning: {value}"));
        let sightings = self.sightings.iter().map(|sightings| {
            let shown =
                sightings.shown.iter().map(|(us, value)| format!("{:.3}: {}", *us as f64 / 1000.0, value.as_deref().unwrap_or("no topic")));
            format!("{}: {}", sightings.by, shown.collect::<Vec<_>>().join(", "))
        });
        let ends =
            self.ends.iter().map(|(server, value)| format!("server {server} at the end: {}", value.as_deref().unwrap_or("no topic")));
        tell(&self.path, why, &self.operations, initial.chain(sightings).chain(ends))
    }
}

#[cfg(test)]
mod tests;
