//! The search for one order of operations on one topic, in which all certain ones have their place (Wing and Gong's, with Lowe's memory of where it has been).
//!
//! An operation takes its place at one moment between its call and its return. Uncertain ones have none to return by, and may have no place at all.

use std::collections::HashSet;

/// What a topic holds: 0 is no topic, every other number a value.
pub type State = u32;

/// One operation, as the search sees it.
#[derive(Clone, Debug)]
pub struct Step {
    pub called_us: u64,
    /// Not before this has it to have its place; `u64::MAX` where it may have none.
    pub returned_us: u64,
    pub kind: StepKind,
    /// Steps that are not behind this one: if they are certain, they are before it.
    pub behind: Vec<usize>,
}

#[derive(Clone, Debug)]
pub enum StepKind {
    /// From a state that it accepts to another.
    Write { from: From, to: State },
    /// It was found that the state is accepted, or not.
    Read { from: From, is_accepted: bool },
}

/// Which states a step accepts.
#[derive(Clone, Debug)]
pub enum From {
    Any,
    /// Any but that there is no topic.
    Present,
    /// One of these. Sorted.
    OneOf(Vec<State>),
}

impl From {
    fn accepts(&self, state: State) -> bool {
        match self {
            Self::Any => true,
            Self::Present => state != 0,
            Self::OneOf(states) => states.binary_search(&state).is_ok(),
        }
    }
}

impl Step {
    fn is_certain(&self) -> bool {
        self.returned_us != u64::MAX
    }

    /// The state behind it, where it can be made.
    fn apply(&self, state: State) -> Option<State> {
        match &self.kind {
            StepKind::Write { from, to } => from.accepts(state).then_some(*to),
            StepKind::Read { from, is_accepted } => (from.accepts(state) == *is_accepted).then_some(state),
        }
    }
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The steps in an order that explains all.
    Order(Vec<usize>),
    /// There is none. The longest that was found, and the step that has no place behind it.
    None { longest: Vec<usize>, stuck: usize },
    /// More than so many places were looked at.
    GaveUp,
}

/// One that is called, or one that returns.
#[derive(Clone, Copy)]
struct Event {
    step: usize,
    is_return: bool,
}

struct Search<'a> {
    steps: &'a [Step],
    events: Vec<Event>,
    /// Of each event and of the end, the one before and behind it among those left.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where each step's call and return are.
    places: Vec<(usize, Option<usize>)>,
    placed: Vec<u64>,
    certain_left: usize,
    /// Per step those that it is not before.
    before: Vec<Vec<usize>>,
}

/// Looks for an order from this state on.
pub fn search(steps: &[Step], initial: State, looks_max: usize) -> Found {
    let mut search = Search::new(steps);
    let (mut state, mut stack) = (initial, Vec::<(usize, State)>::new());
    let mut seen = HashSet::new();
    let (mut longest, mut stuck) = (Vec::new(), 0);
    let head = search.events.len();
    let mut at = search.next[head];
    while search.certain_left > 0 {
        let event = search.events[at];
        if event.is_return {
            if stack.len() >= longest.len() {
                (longest, stuck) = (stack.iter().map(|(step, _)| *step).collect(), event.step);
            }
            let Some((step, earlier)) = stack.pop() else { return Found::None { longest, stuck } };
            search.unplace(step);
            (state, at) = (earlier, search.next[search.places[step].0]);
            continue;
        }
        let after = search.may_be_next(event.step).then(|| steps[event.step].apply(state)).flatten();
        if let Some(after) = after {
            search.place(event.step);
            if seen.insert((search.placed.clone().into_boxed_slice(), after)) {
                if seen.len() > looks_max {
                    return Found::GaveUp;
                }
                stack.push((event.step, state));
                (state, at) = (after, search.next[head]);
                continue;
            }
            search.unplace(event.step);
        }
        at = search.next[at];
        if at == head {
            // Only what may have no place is left before the end, and certain ones have their return before it.
            unreachable!("a certain step's return stops the search first");
        }
    }
    Found::Order(stack.into_iter().map(|(step, _)| step).collect())
}

impl<'a> Search<'a> {
    fn new(steps: &'a [Step]) -> Self {
        let mut timed: Vec<(u64, Event)> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            timed.push((step.called_us, Event { step: number, is_return: false }));
            if step.is_certain() {
                timed.push((step.returned_us, Event { step: number, is_return: true }));
            }
        }
        // What happens in one moment may be at once.
        timed.sort_by_key(|(us, event)| (*us, event.is_return));
        let events: Vec<Event> = timed.into_iter().map(|(_, event)| event).collect();
        let count = events.len() + 1;
        let mut places = vec![(0, None); steps.len()];
        for (at, event) in events.iter().enumerate() {
            match event.is_return {
                false => places[event.step].0 = at,
                true => places[event.step].1 = Some(at),
            }
        }
        let mut before = vec![Vec::new(); steps.len()];
        for (number, step) in steps.iter().enumerate() {
            step.behind.iter().for_each(|earlier| before[*earlier].push(number));
        }
        Self {
            steps,
            events,
            next: (0..count).map(|at| (at + 1) % count).collect(),
            previous: (0..count).map(|at| (at + count - 1) % count).collect(),
            places,
            placed: vec![0; steps.len().div_ceil(64)],
            certain_left: steps.iter().filter(|step| step.is_certain()).count(),
            before,
        }
    }

    fn is_placed(&self, step: usize) -> bool {
        self.placed[step / 64] & 1 << (step % 64) != 0
    }

    fn may_be_next(&self, step: usize) -> bool {
        let is_behind_all = self.steps[step].behind.iter().all(|earlier| !self.steps[*earlier].is_certain() || self.is_placed(*earlier));
        is_behind_all && !self.before[step].iter().any(|later| self.is_placed(*later))
    }

    fn place(&mut self, step: usize) {
        self.placed[step / 64] |= 1 << (step % 64);
        self.certain_left -= usize::from(self.steps[step].is_certain());
        let (call, end) = self.places[step];
        for at in [Some(call), end].into_iter().flatten() {
            let (previous, next) = (self.previous[at], self.next[at]);
            (self.next[previous], self.previous[next]) = (next, previous);
        }
    }

    fn unplace(&mut self, step: usize) {
        self.placed[step / 64] &= !(1 << (step % 64));
        self.certain_left += usize::from(self.steps[step].is_certain());
        let (call, end) = self.places[step];
        for at in [end, Some(call)].into_iter().flatten() {
            let (previous, next) = (self.previous[at], self.next[at]);
            (self.next[previous], self.previous[next]) = (at, at);
        }
    }
}
