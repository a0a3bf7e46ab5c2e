//! What a session still has to be brought in line with: topics of its shard that its selectors match, or match no longer.
//!
//! Looked at in the order of paths, a part at a time, by the audience. What a topic comes to is decided when it is looked at, so it does not matter
//! what else the session asks meanwhile.

use super::Caller;
use crate::topic::path::TopicPath;
use crate::topic::selector::Selector;
use crate::topic::tree::Span;
use crate::wire::mqtt::{ReasonCode, SubscriptionOptions};

/// See the module.
pub struct Sweep {
    /// Of which topics; by default of all.
    pub selector: Option<Selector>,
    pub rest: Span,
    /// Whether those that are known were all looked at, and `rest` is of those that are to appear again.
    pub is_in_limbo: bool,
    pub kind: SweepKind,
    /// Selectors that the session gives up when it is done.
    pub released: Vec<Selector>,
    /// Who hears then that it is done.
    pub endings: Vec<Ending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepKind {
    /// Subscriptions begin and end.
    Adjust,
    /// They can only end: no selector was added.
    Withdraw,
    /// The same at once, and not as far as the session reads: it may not have them any more.
    Revoke,
    /// A filter of MQTT is added, or its options change.
    Filter { options: SubscriptionOptions, id: Option<u32>, is_replaced: bool, sends_first: bool },
}

pub enum Ending {
    /// A request is answered.
    Done(Caller),
    /// A SUBSCRIBE is answered, whose selector the owners of topics know.
    Subscribed(Caller),
    /// One of the filters of a SUBSCRIBE of MQTT, by the session's connection of that number: another may use the identifier again.
    Filter {
        id: u16,
        epoch: u32,
    },
    Unsuback {
        id: u16,
        epoch: u32,
        codes: Vec<ReasonCode>,
    },
}

impl SweepKind {
    pub fn only_ends(self) -> bool {
        matches!(self, Self::Withdraw | Self::Revoke)
    }
}

impl Sweep {
    /// Of all topics in a branch.
    pub fn of_branch(branch: &str, kind: SweepKind) -> Self {
        Self { selector: None, rest: Span::of_branch(branch), is_in_limbo: false, kind, released: Vec::new(), endings: Vec::new() }
    }

    /// Whether it looks at the same, for nobody who waits, and has not begun.
    pub fn is_same(&self, other: &Self) -> bool {
        let looks_alike = self.kind == other.kind && self.rest == other.rest && !self.is_in_limbo;
        looks_alike && self.selector.is_none() && self.released.is_empty() && self.endings.is_empty()
    }

    pub fn of(selector: &Selector, kind: SweepKind) -> Self {
        let (selector, rest) = (Some(selector.clone()), Span::of_selector(selector));
        Self { selector, rest, is_in_limbo: false, kind, released: Vec::new(), endings: Vec::new() }
    }

    /// Whether it will look at the known topic at `path`.
    pub fn will_reach(&self, path: &TopicPath) -> bool {
        let matches = |selector: &Selector| selector.matches(path.as_str());
        !self.kind.only_ends() && !self.is_in_limbo && self.rest.contains(path) && self.selector.as_ref().is_none_or(matches)
    }
}
