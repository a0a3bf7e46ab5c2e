//! What was asked of topics and answered, and what servers showed of them. Times are microseconds since the process began, of one monotonic clock.

use std::fmt;
use std::sync::Arc;

/// A value's text. No two operations write the same.
pub type Value = Arc<str>;

/// A name for a value, which no other has.
pub fn name(round: u64, client: usize, number: u64) -> String {
    format!("{round}-{client}-{number}")
}

/// The round of a value that has such a name, as its last text.
pub fn round_of(value: &str) -> Option<u64> {
    let name = value.trim_end_matches(['"', '}']).rsplit('"').next()?;
    let mut numbers = name.split('-').map(|part| part.parse::<u64>().ok());
    match [numbers.next()??, numbers.next()??, numbers.next()??] {
        [round, ..] if numbers.next().is_none() => Some(round),
        _ => None,
    }
}

/// Who was asked, and when.
#[derive(Clone, Debug)]
pub struct Operation {
    pub client: usize,
    /// The session of the client, by how many it had before, and the server that this was at.
    pub session: usize,
    pub server: usize,
    pub invoked_us: u64,
    /// `u64::MAX` where no answer came.
    pub completed_us: u64,
    pub deed: Deed,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The topic has the value, whether it was there or not.
    Put(Value),
    /// The topic has the value if it is there.
    Set(Value),
    /// It has the value if it passes the test.
    Replace(Test, Value),
    /// It has the value if it was not there.
    Add(Value),
    /// It is not there any more; answered by whether it was.
    Remove,
    /// The series has one event more.
    Append(Value),
}

/// What a conditional update asks of the value that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    Is(Value),
    /// The member `n` of the JSON value.
    Counts(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made; of an append, as the event of this sequence.
    Made(Option<u64>),
    /// What it depends on was not so: nothing was made, and something is known.
    NotMet,
    /// It was certainly not made, by the error's code.
    Refused(u16),
    /// It was made, will be, or never will; by the error's code where there was an answer.
    Unknown(Option<u16>),
}

impl Outcome {
    /// What an error says of an update.
    pub fn of_error(code: u16) -> Self {
        match code {
            // No such topic, and an unsatisfied constraint.
            202 | 212 => Self::NotMet,
            // Storage that fails may have the update all the same, and so may a server that ends.
            401 | 410 | 421 => Self::Unknown(Some(code)),
            _ => Self::Refused(code),
        }
    }
}

impl Deed {
    /// What it leaves, if it does.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Put(value) | Self::Set(value) | Self::Replace(_, value) | Self::Add(value) | Self::Append(value) => Some(value),
            Self::Remove => None,
        }
    }
}

/// What one session was shown of a topic, in order.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    /// Whose they are.
    pub by: String,
    /// When, and what: `None` is that there is no topic.
    pub shown: Vec<(u64, Option<Value>)>,
}

/// What one subscriber was shown of a series: when, the event's sequence and its value.
#[derive(Clone, Debug, Default)]
pub struct EventSightings {
    pub by: String,
    pub shown: Vec<(u64, u64, Value)>,
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Consistent,
    Violated(String),
    /// The search was given up: it says neither.
    Undecided,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1000.0;
        write!(f, "{:>12.3}", ms(self.invoked_us))?;
        match self.completed_us {
            u64::MAX => write!(f, " …            ")?,
            us => write!(f, " … {:<11.3}", ms(us))?,
        }
        write!(f, " client {:<3} session {:<3} server {} {} → ", self.client, self.session, self.server, self.deed)?;
        match self.outcome {
            Outcome::Made(None) => f.write_str("made"),
            Outcome::Made(Some(number)) => write!(f, "made, {number}"),
            Outcome::NotMet => f.write_str("not met"),
            Outcome::Refused(code) => write!(f, "refused {code}"),
            Outcome::Unknown(None) => f.write_str("unknown, no answer"),
            Outcome::Unknown(Some(code)) => write!(f, "unknown {code}"),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(value) => write!(f, "put {value}"),
            Self::Set(value) => write!(f, "set {value}"),
            Self::Replace(Test::Is(old), value) => write!(f, "replace {old} by {value}"),
            Self::Replace(Test::Counts(n), value) => write!(f, "replace n={n} by {value}"),
            Self::Add(value) => write!(f, "add {value}"),
            Self::Remove => f.write_str("remove"),
            Self::Append(value) => write!(f, "append {value}"),
        }
    }
}

/// All that is known of a topic, for whoever looks for the cause.
pub fn tell(path: &str, why: &str, operations: &[Operation], shown: impl Iterator<Item = String>) -> String {
    let mut sorted: Vec<&Operation> = operations.iter().collect();
    sorted.sort_by_key(|operation| operation.invoked_us);
    let mut lines = vec![format!("{path}: {why}"), "operations, times in milliseconds:".to_owned()];
    lines.extend(sorted.iter().map(|operation| format!("  {operation}")));
    lines.push("shown:".to_owned());
    lines.extend(shown.map(|line| format!("  {line}")));
    lines.join("\n") + "\n"
}
