//! What of a queue gives way to what is newer, in one walk from its back.
//!
//! Messages that a client acknowledges give way only where their topic's CONFLATION was set on purpose.

use super::lane::Lane;
use super::{Entry, Newest};
use crate::protocol::Reason;
use crate::session::LocalTopic;
use crate::session::mqtt::Message;
use crate::topic::specification::Conflation;
use crate::wire::mqtt::QoS;
use hashbrown::HashMap;
use std::rc::Rc;

/// Subscriptions are numbered from 1: this is none of them.
const NO_GENERATION: u32 = 0;

/// Takes out of `entries` what gives way. `newest` is asked of each topic with steps whether they give way to one [`Entry::Latest`], and with `None` of
/// steps of topics that have gone. The sequence numbers of messages that had to be acknowledged and gave way are appended to `gone`, newest first.
pub(super) fn conflate(entries: Lane, newest: &mut impl FnMut(Option<&LocalTopic>) -> Newest, gone: &mut Vec<u64>) -> Lane {
    let mut later: HashMap<*const LocalTopic, Later> = HashMap::new();
    let mut kept: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    for at in (0..kept.len()).rev() {
        let entry = kept[at].take().expect("each entry is looked at once");
        kept[at] = match entry {
            Entry::Step(outgoing) => match outgoing.topic() {
                None => matches!(newest(None), Newest::Itself).then_some(Entry::Step(outgoing)),
                Some(topic) if topic.specification.conflation() == Conflation::Off => Some(Entry::Step(outgoing)),
                Some(topic) => {
                    let later = later.entry(Rc::as_ptr(&topic)).or_default();
                    let choice = if later.is_settled() { Newest::Nothing } else { newest(Some(&topic)) };
                    if !matches!(choice, Newest::Nothing) {
                        later.newest_at = Some(at);
                    }
                    match choice {
                        Newest::Nothing => None,
                        Newest::Itself => Some(Entry::Step(outgoing)),
                        Newest::Of(generation) => Some(Entry::Latest(topic, generation)),
                    }
                }
            },
            Entry::Message(message) => conflate_message(message, at, &mut later, gone),
            Entry::Latest(topic, generation) => {
                let later = later.entry(Rc::as_ptr(&topic)).or_default();
                let is_stale = later.is_settled();
                later.newest_at = later.newest_at.or(Some(at));
                if is_stale { None } else { Some(Entry::Latest(topic, generation)) }
            }
            // It is told in any case, and the value behind it is the newest.
            Entry::Gap(topic, generation) => {
                let later = later.entry(Rc::as_ptr(&topic)).or_default();
                if let Some(newest) =
                    later.newest_at.replace(at).filter(|_| later.ended_at.is_none() && topic.specification.retains_value())
                {
                    kept[newest] = None;
                }
                Some(Entry::Gap(topic, generation))
            }
            Entry::Subscribed(topic, generation) => {
                let later = std::mem::take(later.entry(Rc::as_ptr(&topic)).or_default());
                match later {
                    // Who is not told that it fell behind would take the topic for one that is not there.
                    Later { ended_under_pressure: true, .. } => Some(Entry::Subscribed(topic, generation)),
                    // What the session has not heard of need not end, unless there is something between that must be told.
                    Later { ended_at: Some(end), .. } if topic.specification.conflation() != Conflation::Off => {
                        kept[end] = None;
                        None
                    }
                    Later { newest_at, .. } => {
                        // Who keeps no value sends none with the subscription, and a time series none but its events.
                        if let Some(newest) = newest_at.filter(|_| topic.specification.retains_value() && !topic.is_time_series()) {
                            kept[newest] = None;
                        }
                        Some(Entry::Subscribed(topic, generation))
                    }
                }
            }
            Entry::Unsubscribed(topic, reason) => {
                let ended_under_pressure = reason == Reason::BackPressure;
                later.insert(Rc::as_ptr(&topic), Later { newest_at: None, ended_at: Some(at), ended_under_pressure });
                Some(Entry::Unsubscribed(topic, reason))
            }
            control @ (Entry::Control(_) | Entry::Behind(_)) => Some(control),
        };
    }
    kept.into_iter().flatten().collect()
}

/// Takes out all steps: where some of a topic were, it has a gap, which its newest value follows. `current` is asked of each topic to which the session is still
/// subscribed where it has one, and gives the subscription's generation. How many gaps there are more than before is added to `gaps`.
pub(super) fn leave_gaps(entries: Lane, current: &mut impl FnMut(&LocalTopic) -> Option<u32>, gaps: &mut usize) -> Lane {
    let mut later: HashMap<*const LocalTopic, Gaps> = HashMap::new();
    let mut kept: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    for at in (0..kept.len()).rev() {
        let topic = match &kept[at] {
            Some(Entry::Step(outgoing)) => outgoing.topic(),
            Some(Entry::Latest(topic, _) | Entry::Gap(topic, _) | Entry::Subscribed(topic, _) | Entry::Unsubscribed(topic, _)) => {
                Some(topic.clone())
            }
            _ => continue,
        };
        let Some(topic) = topic else {
            kept[at] = None;
            continue;
        };
        let later = later.entry(Rc::as_ptr(&topic)).or_default();
        match &kept[at] {
            Some(Entry::Step(_)) => {
                kept[at] = None;
                let gap_at = *later.newest_at.get_or_insert(at);
                if !std::mem::replace(&mut later.has_gap, true) {
                    *gaps += 1;
                    let generation = if later.is_over { None } else { current(&topic) };
                    kept[gap_at] = Some(Entry::Gap(topic, generation.unwrap_or(NO_GENERATION)));
                }
            }
            Some(Entry::Latest(..)) => later.newest_at = Some(at),
            Some(Entry::Gap(..)) => (later.newest_at, later.has_gap) = (Some(at), true),
            Some(Entry::Unsubscribed(..)) => *later = Gaps { is_over: true, ..Gaps::default() },
            _ => {
                // The subscription begins with the newest value, and has not missed any.
                if let Some(newest) = later.newest_at.filter(|_| topic.specification.retains_value() && !topic.is_time_series()) {
                    kept[newest] = None;
                    *gaps = gaps.saturating_sub(usize::from(later.has_gap));
                }
                *later = Gaps { is_over: true, ..Gaps::default() };
            }
        }
    }
    kept.into_iter().flatten().collect()
}

/// What a walk from the back has seen of one subscription to a topic.
#[derive(Clone, Copy, Default)]
struct Gaps {
    /// It ends behind, or another one begins there.
    is_over: bool,
    newest_at: Option<usize>,
    has_gap: bool,
}

fn conflate_message(message: Box<Message>, at: usize, later: &mut HashMap<*const LocalTopic, Later>, gone: &mut Vec<u64>) -> Option<Entry> {
    let topic = message.outgoing.topic();
    let Some(topic) = topic.filter(|topic| topic.specification.conflation() != Conflation::Off && !topic.is_time_series()) else {
        return Some(Entry::Message(message));
    };
    let later = later.entry(Rc::as_ptr(&topic)).or_default();
    let is_stale = later.is_settled();
    later.newest_at = later.newest_at.or(Some(at));
    if !is_stale || message.is_lasting() {
        return Some(Entry::Message(message));
    }
    if message.qos != QoS::AtMostOnce {
        gone.push(message.sequence);
    }
    None
}

/// What a walk from the back has seen of a topic.
#[derive(Clone, Copy, Default)]
struct Later {
    newest_at: Option<usize>,
    ended_at: Option<usize>,
    ended_under_pressure: bool,
}

impl Later {
    fn is_settled(self) -> bool {
        self.newest_at.is_some() || self.ended_at.is_some()
    }
}
