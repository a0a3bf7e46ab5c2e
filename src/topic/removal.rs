//! Removal policies: when a topic goes by itself, as in `when subscriptions < 1 for 5m after 1h`.
//!
//! | condition | holds when |
//! |---|---|
//! | `time after <ms>`, `time after '<date>'` | the wall clock shows that time or a later one; a date is that of RFC 1123 |
//! | `[local] subscriptions < <n> for <period> [after <period>]` | fewer than n sessions have been subscribed |
//! | `no updates for <period> [after <period>]` | nothing has updated the topic |
//! | `no [local] session has '<filter>' [for <period>] [after <period>]` | no session has matched the filter |
//! | `this session closes` | the session that made the topic is closed |
//!
//! `for`: the condition has held without a break for so long. `after`: and the topic was made, or restored, so long ago. A
//! period is a number and `s`, `m`, `h` or `d`. Conditions are joined by `and`, which binds tighter, `or` and parentheses;
//! keywords have no case, white space is free, and texts stand in `'` or `"`. With `remove '<selector>'` behind the
//! conditions the selected topics go, the topic that carries the policy only if it is among them.
//!
//! [`RemovalPolicy`] is the parsed text, shared by all topics that have it; [`RemovalState`] is what one topic remembers.
//! Counting subscriptions and sessions, looking from time to time and removing are left to the owner of the topic.

mod date;
mod parser;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use super::expression::Expression;
use super::selector::SelectorLimits;
use super::session_filter::{SessionFilter, SessionFilterLimits};
use super::syntax::{SyntaxError, print_single_quoted};
pub use state::{RemovalClock, RemovalState};

/// Every bound a policy obeys. Together they bound what a policy costs to parse, and each of its topics to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalLimits {
    /// The longest text.
    pub text_bytes_max: usize,
    /// The most conditions: a topic remembers a time for each.
    pub conditions_max: usize,
    /// The most parentheses within each other.
    pub depth_max: usize,
    /// The longest period.
    pub period_days_max: u64,
    pub filter: SessionFilterLimits,
    pub selector: SelectorLimits,
}

impl Default for RemovalLimits {
    fn default() -> Self {
        Self {
            text_bytes_max: 4096,
            conditions_max: 16,
            depth_max: 16,
            period_days_max: 36_525,
            filter: SessionFilterLimits::default(),
            selector: SelectorLimits::default(),
        }
    }
}

/// A parsed policy; cheap to clone. Two are equal when their canonical texts are.
#[derive(Clone)]
pub struct RemovalPolicy(Arc<Inner>);

struct Inner {
    text: Box<str>,
    conditions: Box<[Condition]>,
    /// Joins `conditions`, by their index.
    expression: Expression<usize>,
    filters: Box<[SessionFilter]>,
    remove: Option<Box<str>>,
}

enum Condition {
    TimeAfter { wall_ms: u64 },
    Subscriptions { scope: Scope, below: u64, hold: Hold },
    NoUpdates { hold: Hold },
    NoSession { scope: Scope, filter_index: usize, hold: Hold },
    CreatorCloses,
}

/// Whose sessions count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    /// Not those of other servers.
    Local,
}

impl Scope {
    fn choose(self, all: u64, local: u64) -> u64 {
        match self {
            Self::All => all,
            Self::Local => local,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Local => "local ",
        }
    }
}

/// How long a condition must have held, and how old the topic must be.
#[derive(Clone, Copy)]
struct Hold {
    for_ms: u64,
    after_ms: u64,
}

impl RemovalPolicy {
    pub fn parse(text: &str, limits: RemovalLimits) -> Result<Self, SyntaxError> {
        parser::parse(text, limits).map(|inner| Self(Arc::new(inner)))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether `RemovalState::note_subscriptions` can change anything.
    pub fn needs_subscriptions(&self) -> bool {
        self.0.conditions.iter().any(|condition| matches!(condition, Condition::Subscriptions { .. }))
    }

    /// The filters to count sessions by, for `RemovalState::note_sessions`.
    pub fn filters(&self) -> &[SessionFilter] {
        &self.0.filters
    }

    /// Whether `RemovalState::note_creator_closed` can change anything.
    pub fn needs_creator(&self) -> bool {
        self.0.conditions.iter().any(|condition| matches!(condition, Condition::CreatorCloses))
    }

    /// The selector of what goes; without one, the topic that carries the policy goes.
    pub fn remove_selector(&self) -> Option<&str> {
        self.0.remove.as_deref()
    }
}

impl Inner {
    fn print(&self) -> String {
        let mut out = String::from("when ");
        self.expression.print(&mut out, &|index, out| self.conditions[*index].print(&self.filters, out));
        if let Some(selector) = &self.remove {
            out.push_str(" remove ");
            print_single_quoted(selector, &mut out);
        }
        out
    }
}

impl Condition {
    fn print(&self, filters: &[SessionFilter], out: &mut String) {
        match self {
            Self::TimeAfter { wall_ms } => out.push_str(&format!("time after {wall_ms}")),
            Self::Subscriptions { scope, below, hold } => {
                out.push_str(&format!("{}subscriptions < {below} for {}", scope.prefix(), Period(hold.for_ms)));
                hold.print_after(out);
            }
            Self::NoUpdates { hold } => {
                out.push_str(&format!("no updates for {}", Period(hold.for_ms)));
                hold.print_after(out);
            }
            Self::NoSession { scope, filter_index, hold } => {
                out.push_str(&format!("no {}session has ", scope.prefix()));
                print_single_quoted(filters[*filter_index].as_str(), out);
                if hold.for_ms > 0 {
                    out.push_str(&format!(" for {}", Period(hold.for_ms)));
                }
                hold.print_after(out);
            }
            Self::CreatorCloses => out.push_str("this session closes"),
        }
    }
}

impl Hold {
    fn print_after(self, out: &mut String) {
        if self.after_ms > 0 {
            out.push_str(&format!(" after {}", Period(self.after_ms)));
        }
    }
}

const PERIOD_UNITS: [(&str, u64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

/// Milliseconds, printed in the largest unit that says them exactly. They are whole seconds.
struct Period(u64);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit_ms): &(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*unit_ms);
        let (unit, unit_ms) = PERIOD_UNITS.into_iter().find(fits).unwrap_or(("s", 1000));
        write!(f, "{}{unit}", self.0 / unit_ms)
    }
}

impl PartialEq for RemovalPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RemovalPolicy {}

impl fmt::Debug for RemovalPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for RemovalPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
