//! What one topic remembers for its removal policy.
//!
//! Conditions are joined by `and` and `or` alone, so without news each can only come to hold: the policy comes due at one
//! time, which is known ahead, and stays due until there is news.

use super::{Condition, Hold, RemovalPolicy};
use crate::base::Time;
use crate::topic::expression::Expression;

/// The two clocks: periods are measured by the one, `time after` by the other.
#[derive(Clone, Copy, Debug)]
pub struct RemovalClock {
    pub now: Time,
    /// Since the start of 1970.
    pub wall_ms: u64,
}

/// One topic's state. Three kinds of method:
/// A. `note_*`: what happened, told at once and in the order of time;
/// B. [`Self::is_due`]: whether to remove now;
/// C. [`Self::next_look`]: when to ask again though nothing happens.
#[derive(Clone, Debug)]
pub struct RemovalState {
    policy: RemovalPolicy,
    created: Time,
    updated: Time,
    /// Since when each condition has held that is told of its truth; [`NEVER`] if it does not hold.
    since: Box<[Time]>,
}

const NEVER: Time = Time(u64::MAX);

impl RemovalState {
    /// For a topic that is made or restored now: with no subscriptions, and by a session that is open. No session filter
    /// counts before [`Self::note_sessions`] has told how many sessions match it.
    pub fn new(policy: RemovalPolicy, now: Time) -> Self {
        let held = |condition: &Condition| match condition {
            Condition::Subscriptions { .. } => now,
            _ => NEVER,
        };
        let since = policy.0.conditions.iter().map(held).collect();
        Self { policy, created: now, updated: now, since }
    }

    pub fn policy(&self) -> &RemovalPolicy {
        &self.policy
    }

    pub fn note_update(&mut self, now: Time) {
        self.updated = now;
    }

    /// How many sessions are subscribed: `all`, and the `local` ones among them.
    pub fn note_subscriptions(&mut self, all: u64, local: u64, now: Time) {
        self.note(now, |condition| match condition {
            Condition::Subscriptions { scope, below, .. } => Some(scope.choose(all, local) < *below),
            _ => None,
        });
    }

    /// How many sessions match the filter at `filter_index` of [`RemovalPolicy::filters`].
    pub fn note_sessions(&mut self, filter_index: usize, all: u64, local: u64, now: Time) {
        self.note(now, |condition| match condition {
            Condition::NoSession { scope, filter_index: index, .. } if *index == filter_index => Some(scope.choose(all, local) == 0),
            _ => None,
        });
    }

    /// The session that made the topic is closed, or is not known any more.
    pub fn note_creator_closed(&mut self, now: Time) {
        self.note(now, |condition| matches!(condition, Condition::CreatorCloses).then_some(true));
    }

    pub fn is_due(&self, now: RemovalClock) -> bool {
        let due = self.due(&self.policy.0.expression, now);
        due != NEVER && due <= now.now
    }

    /// When [`Self::is_due`] changes if nothing is noted until then and no one sets the wall clock; `None` if it does not.
    pub fn next_look(&self, now: RemovalClock) -> Option<Time> {
        let due = self.due(&self.policy.0.expression, now);
        (due != NEVER && due > now.now).then_some(due)
    }

    /// Notes the truth of those conditions that `truth` knows about.
    fn note(&mut self, now: Time, truth: impl Fn(&Condition) -> Option<bool>) {
        for (condition, since) in self.policy.0.conditions.iter().zip(&mut self.since) {
            match truth(condition) {
                Some(true) => *since = (*since).min(now),
                Some(false) => *since = NEVER,
                None => {}
            }
        }
    }

    fn due(&self, expression: &Expression<usize>, now: RemovalClock) -> Time {
        match expression {
            Expression::Condition(index) => self.condition_due(*index, now),
            Expression::All(members) => members.iter().map(|member| self.due(member, now)).max().unwrap_or(NEVER),
            Expression::Any(members) => members.iter().map(|member| self.due(member, now)).min().unwrap_or(NEVER),
        }
    }

    fn condition_due(&self, index: usize, now: RemovalClock) -> Time {
        match &self.policy.0.conditions[index] {
            Condition::TimeAfter { wall_ms } if *wall_ms <= now.wall_ms => Time(0),
            Condition::TimeAfter { wall_ms } => now.now.after_ms(wall_ms - now.wall_ms),
            Condition::Subscriptions { hold, .. } | Condition::NoSession { hold, .. } => self.hold_due(*hold, self.since[index]),
            Condition::NoUpdates { hold } => self.hold_due(*hold, self.updated),
            Condition::CreatorCloses => self.since[index],
        }
    }

    fn hold_due(&self, hold: Hold, since: Time) -> Time {
        if since == NEVER { NEVER } else { since.after_ms(hold.for_ms).max(self.created.after_ms(hold.after_ms)) }
    }
}
