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
    /// A filter of MQTT is added, or its options change.
    Filter { options: SubscriptionOptions, id: Option<u32>, is_replaced: bool, sends_first: bool },
}

pub enum Ending {
    /// A request is answered.
    Done(Caller),
    /// A SUBSCRIBE is answered, whose selector the owners of topics know.
    Subscribed(Caller),
    /// One of the filters of a SUBSCRIBE of MQTT.
    Filter {
        id: u16,
    },
    Unsuback {
        id: u16,
        codes: Vec<ReasonCode>,
    },
}

impl Sweep {
    pub fn of(selector: &Selector, kind: SweepKind) -> Self {
        let rest = selector.exact_path().map_or_else(|| Span::of_branch(selector.prefix()), Span::of_path);
        Self { selector: Some(selector.clone()), rest, kind, released: Vec::new(), endings: Vec::new() }
    }

    /// Whether it will look at the topic at `path`.
    pub fn will_reach(&self, path: &TopicPath) -> bool {
        let matches = |selector: &Selector| selector.matches(path.as_str());
        self.kind != SweepKind::Withdraw && self.rest.contains(path) && self.selector.as_ref().is_none_or(matches)
    }
}
