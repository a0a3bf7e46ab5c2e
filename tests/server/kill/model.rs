//! What one topic must be after a crash: what some number of the operations sent made of it, and at least those acknowledged.

use std::collections::VecDeque;
use tidewire::surface::topic::specification::TopicType;

/// The events that the series keep.
pub const KEPT_EVENTS: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Adds the topic, if there is none, and sets it.
    Set(u64),
    Add,
    Append(u64),
    Edit {
        original: u64,
        number: u64,
    },
    Remove,
}

/// What a topic is. Values are numbers; how they are written is the writer's.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct State {
    pub is_there: bool,
    pub value: Option<u64>,
    pub series: Series,
}

/// Kept originals and kept edits, by sequence.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Series {
    pub next_sequence: u64,
    pub originals: VecDeque<(u64, u64)>,
    /// Sequence, original, number.
    pub edits: Vec<(u64, u64, u64)>,
}

/// One event of an answer: its sequence, the one it overrides, its number.
pub type Shown = (u64, Option<u64>, u64);

impl Series {
    fn take(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    fn append(&mut self, number: u64) {
        let sequence = self.take();
        self.originals.push_back((sequence, number));
        if self.originals.len() > KEPT_EVENTS {
            let (gone, _) = self.originals.pop_front().expect("it holds some");
            self.edits.retain(|(_, original, _)| *original != gone);
        }
    }

    fn edit(&mut self, original: u64, number: u64) {
        let sequence = self.take();
        self.edits.push((sequence, original, number));
    }

    /// The merged view, as a query for values shows it.
    pub fn values(&self) -> Vec<Shown> {
        let shown = |(sequence, number): &(u64, u64)| {
            let edit = self.edits.iter().rev().find(|(_, original, _)| original == sequence);
            edit.map_or((*sequence, None, *number), |(edit, original, number)| (*edit, Some(*original), *number))
        };
        self.originals.iter().map(shown).collect()
    }

    /// As a query for all edits shows them.
    pub fn all_edits(&self) -> Vec<Shown> {
        self.edits.iter().map(|(sequence, original, number)| (*sequence, Some(*original), *number)).collect()
    }
}

impl State {
    pub fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Remove => *self = Self::default(),
            Operation::Add => self.is_there = true,
            Operation::Set(number) => (self.is_there, self.value) = (true, Some(number)),
            Operation::Append(number) => self.series.append(number),
            Operation::Edit { original, number } => self.series.edit(original, number),
        }
    }
}

/// One topic that one writer owns.
#[derive(Clone, Debug)]
pub struct Topic {
    pub path: String,
    pub kind: TopicType,
    /// What was certain when this run of the server began.
    certain: State,
    /// What was sent since, in order.
    sent: Vec<Operation>,
    /// What all of it makes.
    pub latest: State,
    /// So many of them are acknowledged, or came before one that is.
    acknowledged: usize,
}

/// What a topic was found to be.
pub struct Found {
    pub is_there: bool,
    pub value: Option<u64>,
    pub values: Vec<Shown>,
    pub all_edits: Vec<Shown>,
}

impl Found {
    fn is(&self, state: &State) -> bool {
        self.is_there == state.is_there
            && self.value == state.value
            && self.values == state.series.values()
            && self.all_edits == state.series.all_edits()
    }

    /// Telling states apart by this first spares most comparisons.
    fn next_sequence(&self) -> u64 {
        self.values.iter().chain(&self.all_edits).map(|(sequence, ..)| sequence + 1).max().unwrap_or(0)
    }
}

impl Topic {
    pub fn new(path: String, kind: TopicType) -> Self {
        let (certain, latest) = (State::default(), State::default());
        Self { path, kind, certain, sent: Vec::new(), latest, acknowledged: 0 }
    }

    /// Notes what is sent; its place for the acknowledgement.
    pub fn send(&mut self, operation: Operation) -> usize {
        self.latest.apply(operation);
        self.sent.push(operation);
        self.sent.len()
    }

    pub fn acknowledge(&mut self, place: usize) {
        self.acknowledged = self.acknowledged.max(place);
    }

    pub fn is_settled(&self) -> bool {
        self.acknowledged == self.sent.len()
    }

    /// Takes what was found for certain, if it is one of the states that the topic may be in.
    pub fn reconcile(&mut self, found: &Found) -> Result<(), String> {
        let mut state = self.certain.clone();
        for count in 0..=self.sent.len() {
            let could_be = count >= self.acknowledged && found.next_sequence() == state.series.next_sequence;
            if could_be && found.is(&state) {
                self.latest = state.clone();
                self.certain = state;
                self.sent.clear();
                self.acknowledged = 0;
                return Ok(());
            }
            if let Some(operation) = self.sent.get(count) {
                state.apply(*operation);
            }
        }
        Err(self.complaint(found))
    }

    fn complaint(&self, found: &Found) -> String {
        let mut acknowledged = self.certain.clone();
        self.sent[..self.acknowledged].iter().for_each(|operation| acknowledged.apply(*operation));
        let brief = |shown: &[Shown]| format!("{} from {:?} to {:?}", shown.len(), shown.first(), shown.last());
        let of_state = |state: &State| {
            let (values, edits) = (state.series.values(), state.series.all_edits());
            format!("there {}, value {:?}, values {}, edits {}", state.is_there, state.value, brief(&values), brief(&edits))
        };
        format!(
            "'{}' is there {}, value {:?}, values {}, edits {};\n  acknowledged ({} operations): {};\n  sent ({} operations): {};\n  the last sent: {:?}",
            self.path,
            found.is_there,
            found.value,
            brief(&found.values),
            brief(&found.all_edits),
            self.acknowledged,
            of_state(&acknowledged),
            self.sent.len(),
            of_state(&self.latest),
            &self.sent[self.sent.len().saturating_sub(5)..]
        )
    }
}
