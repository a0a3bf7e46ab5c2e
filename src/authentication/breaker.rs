//! A circuit breaker: what fails again and again is left alone for a while.
//!
//! Closed, everything is tried. After so many failures within a window it opens, and nothing is. After a pause one try goes through (half open): if it
//! succeeds, it closes, and opens again otherwise. Time is an argument.

use std::collections::VecDeque;

use crate::base::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many failures open it.
    pub failures: usize,
    /// If they come within this time.
    pub window_ms: u64,
    /// How long it stays open.
    pub open_ms: u64,
}

/// Use: `may_try`; where it says yes, `succeeded` or `failed` afterwards.
pub struct Breaker {
    limits: Limits,
    state: State,
}

enum State {
    Closed {
        failures: VecDeque<Time>,
    },
    Open {
        until: Time,
    },
    /// One try is under way; should its end never be told, another may follow after the pause.
    HalfOpen {
        since: Time,
    },
}

impl Breaker {
    pub fn new(limits: Limits) -> Self {
        assert!(limits.failures > 0);
        Self { limits, state: State::Closed { failures: VecDeque::new() } }
    }

    pub fn may_try(&mut self, now: Time) -> bool {
        let again = match &self.state {
            State::Closed { .. } => return true,
            State::Open { until } => *until,
            State::HalfOpen { since } => since.after_ms(self.limits.open_ms),
        };
        if now < again {
            return false;
        }
        self.state = State::HalfOpen { since: now };
        true
    }

    pub fn succeeded(&mut self) {
        match &mut self.state {
            // Those that failed beside it count on: an endpoint that fails every other time is broken too.
            State::Closed { .. } => {}
            // One that was under way when it opened.
            State::Open { .. } => {}
            State::HalfOpen { .. } => self.state = State::Closed { failures: VecDeque::new() },
        }
    }

    pub fn failed(&mut self, now: Time) {
        let until = now.after_ms(self.limits.open_ms);
        match &mut self.state {
            State::Closed { failures } => {
                let window_ns = self.limits.window_ms.saturating_mul(1_000_000);
                failures.push_back(now);
                while failures.front().is_some_and(|first| now.since(*first) > window_ns) {
                    failures.pop_front();
                }
                if failures.len() >= self.limits.failures {
                    self.state = State::Open { until };
                }
            }
            State::Open { .. } => {}
            State::HalfOpen { .. } => self.state = State::Open { until },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::default().after_ms(ms)
    }

    fn breaker() -> Breaker {
        Breaker::new(Limits { failures: 3, window_ms: 100, open_ms: 1000 })
    }

    #[test]
    fn failures_within_the_window_open_it() {
        let mut breaker = breaker();
        breaker.failed(at(0));
        breaker.failed(at(50));
        breaker.failed(at(101));
        assert!(breaker.may_try(at(101)), "the first is outside of the window");
        breaker.succeeded();
        breaker.failed(at(150));
        assert!(!breaker.may_try(at(150)));
        assert!(!breaker.may_try(at(1149)));
    }

    #[test]
    fn one_try_closes_it_or_opens_it_again() {
        let mut breaker = breaker();
        (0..3).for_each(|ms| breaker.failed(at(ms)));
        assert!(breaker.may_try(at(1002)));
        assert!(!breaker.may_try(at(1003)), "only one");
        breaker.failed(at(1100));
        assert!(!breaker.may_try(at(2099)));
        assert!(breaker.may_try(at(2100)));
        breaker.succeeded();
        assert!(breaker.may_try(at(2101)) && breaker.may_try(at(2101)));
        breaker.failed(at(2102));
        assert!(breaker.may_try(at(2103)), "it counts from the beginning");
    }

    #[test]
    fn what_was_under_way_when_it_opened_changes_nothing() {
        let mut breaker = breaker();
        (0..3).for_each(|ms| breaker.failed(at(ms)));
        breaker.succeeded();
        breaker.failed(at(900));
        assert!(!breaker.may_try(at(1001)));
        assert!(breaker.may_try(at(1002)));
    }

    #[test]
    fn a_try_that_is_never_heard_of_does_not_keep_it_open_for_ever() {
        let mut breaker = breaker();
        (0..3).for_each(|ms| breaker.failed(at(ms)));
        assert!(breaker.may_try(at(1002)));
        assert!(!breaker.may_try(at(2001)));
        assert!(breaker.may_try(at(2002)));
    }
}
