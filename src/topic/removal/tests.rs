//! Removal policies: what is read, what is refused, and when one comes true.

use proptest::prelude::*;

use super::*;
use crate::base::Time;
use crate::topic::syntax::fuzz::{self, Numbers};

fn limits() -> RemovalLimits {
    RemovalLimits::default()
}

fn parse(text: &str) -> RemovalPolicy {
    RemovalPolicy::parse(text, limits()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn check(text: &str, canonical: &str) {
    let policy = parse(text);
    assert_eq!(policy.as_str(), canonical, "{text:?}");
    assert_eq!(parse(canonical), policy);
}

fn check_refused(text: &str, position: usize, words: &str) {
    let error = RemovalPolicy::parse(text, limits()).expect_err(text);
    assert_eq!(error.position, position, "{text:?}: {error}");
    assert!(error.to_string().contains(words), "{text:?}: {error}");
}

fn at(seconds: u64) -> RemovalClock {
    RemovalClock { now: second(seconds), wall_ms: seconds * 1000 }
}

fn second(seconds: u64) -> Time {
    Time(0).after_ms(seconds * 1000)
}

#[test]
fn every_condition_prints_as_it_reads() {
    check("when subscriptions < 1 for 5m after 1h", "when subscriptions < 1 for 5m after 1h");
    check("WHEN\nLocal Subscriptions<2For 60 S", "when local subscriptions < 2 for 1m");
    check("when no updates for 86400s after 0d", "when no updates for 1d");
    check("when no updates for 0h", "when no updates for 0s");
    check("when no session has '$Principal is \"bob\"' for 5m", "when no session has '$Principal is \"bob\"' for 5m");
    check("when no local session has \"$Principal eq 'bob'\"", "when no local session has '$Principal is \"bob\"'");
    check("when no session has 'all' after 90s", "when no session has 'all' after 90s");
    check("when no session has 'all' for 0s", "when no session has 'all'");
    check("when this session closes", "when this session closes");
    check("when time after 1735689600000 remove '*a/b//'", "when time after 1735689600000 remove '*a/b//'");
    check("when this session closes remove \"it's\"", r"when this session closes remove '>it\'s'");
    check(r"when this session closes remove '?\d'", r"when this session closes remove '?\\d'");
}

#[test]
fn a_date_is_kept_as_milliseconds() {
    let text = "when time after 'Tue, 3 Jun 2025 11:05:30 GMT' and (subscriptions < 2 for 10m or no updates for 20m)";
    check(text, "when time after 1748948730000 and (subscriptions < 2 for 10m or no updates for 20m)");
}

#[test]
fn a_policy_says_what_it_needs() {
    let policy = parse("when no session has 'has a' and (no local session has '(has a)' or no session has 'all') remove 'a/b'");
    assert_eq!(policy.filters().iter().map(|filter| filter.as_str()).collect::<Vec<_>>(), ["has a", "all"]);
    assert_eq!(policy.remove_selector(), Some(">a/b"));
    assert!(!policy.needs_subscriptions() && !policy.needs_creator());
    let policy = parse("when local subscriptions < 1 for 1s or this session closes");
    assert!(policy.needs_subscriptions() && policy.needs_creator());
    assert_eq!((policy.filters().len(), policy.remove_selector()), (0, None));
}

#[test]
fn errors_say_where_and_what() {
    check_refused("", 0, "`when`");
    check_refused("subscriptions < 1 for 5m", 0, "found `subscriptions` at byte 0, expected `when`");
    check_refused("when", 4, "a condition");
    check_refused("when subscriptions > 1 for 5m", 19, "'<'");
    check_refused("when subscriptions < 0 for 5m", 21, "1 or more");
    check_refused("when subscriptions < 1", 22, "`for`");
    check_refused("when subscriptions < 1 for 5", 28, "s, m, h or d");
    check_refused("when subscriptions < 1 for 5w", 28, "found `w`");
    check_refused("when subscriptions < 1 for 36526d", 27, "at most 36525d");
    check_refused("when subscriptions < 1 for 9999999999999999999d", 27, "at most 36525d");
    check_refused("when local session has 'all'", 11, "`subscriptions`");
    check_refused("when no sessions", 8, "`updates`, `session` or `local`");
    check_refused("when no updates", 15, "`for`");
    check_refused("when no session has all", 20, "a quoted session filter");
    check_refused("when no session has 'all or'", 27, "a clause");
    check_refused(r"when no session has 'a is \'x\' b'", 32, "found `b`");
    check_refused("when this session ends", 18, "`closes`");
    check_refused("when time before 5", 10, "`after`");
    check_refused("when time after x", 16, "milliseconds");
    check_refused("when time after '3 Jun 2025'", 27, "an hour");
    check_refused("when this session closes remove a", 32, "a quoted topic selector");
    check_refused("when this session closes remove 'a/'", 34, "`?a//`");
    check_refused("when this session closes remove 'a' x", 36, "the end");
    check_refused("when this session closes x", 25, "`remove`");
    check_refused("when (this session closes", 25, "')'");
}

#[test]
fn everything_has_a_limit() {
    let tiny = RemovalLimits { text_bytes_max: 60, conditions_max: 2, depth_max: 1, period_days_max: 1, ..limits() };
    let parse = |text: &str| RemovalPolicy::parse(text, tiny).map(|_| ()).map_err(|error| (error.position, error.expected));
    assert_eq!(parse(&format!("{:60}", "when this session closes")), Ok(()));
    assert_eq!(parse(&format!("{:61}", "when this session closes")), Err((60, "at most 60".into())));
    assert_eq!(parse("when time after 1 and time after 2"), Ok(()));
    assert_eq!(parse("when time after 1 and time after 2 or time after 3"), Err((38, "at most 2 conditions".into())));
    assert_eq!(parse("when (time after 1)"), Ok(()));
    assert_eq!(parse("when ((time after 1))").map_err(|(position, _)| position), Err(6));
    assert_eq!(parse("when no updates for 24h"), Ok(()));
    assert_eq!(parse("when no updates for 25h"), Err((20, "a period of at most 1d".into())));
}

#[test]
fn noise_is_refused_inside_its_text() {
    let texts = [
        "when subscriptions < 1 for 5m after 1h",
        r#"when no session has '$Principal is "bob"' for 5m or no local session has "hasRoles ['a', \"b\"]""#,
        "when time after 'Tue, 3 Jun 2025 11:05:30 GMT' and (local subscriptions < 2 for 10m or no updates for 20m)",
        "when this session closes remove '*a/b//'",
    ];
    fuzz::check(&texts, |text| {
        let policy = RemovalPolicy::parse(text, limits())?;
        assert_eq!(RemovalPolicy::parse(policy.as_str(), limits()), Ok(policy.clone()), "{text:?}");
        Ok(())
    });
}

#[test]
fn subscriptions_must_stay_few_without_a_break() {
    let mut state = RemovalState::new(parse("when subscriptions < 1 for 10s after 15s"), second(0));
    assert_eq!((state.is_due(at(14)), state.next_look(at(0))), (false, Some(second(15))));
    assert!(state.is_due(at(15)));
    state.note_subscriptions(1, 0, second(16));
    assert_eq!((state.is_due(at(99)), state.next_look(at(99))), (false, None));
    state.note_subscriptions(0, 0, second(20));
    state.note_subscriptions(0, 0, second(25));
    assert_eq!(state.next_look(at(25)), Some(second(30)));
    assert_eq!((state.is_due(at(30)), state.next_look(at(30))), (true, None));
}

#[test]
fn a_filter_counts_once_its_sessions_have_been_counted() {
    let mut state = RemovalState::new(parse("when no session has 'all'"), second(0));
    assert_eq!((state.is_due(at(9)), state.next_look(at(9))), (false, None));
    state.note_sessions(0, 0, 0, second(9));
    assert!(state.is_due(at(9)));
}

#[test]
fn the_wall_clock_decides_what_time_it_is() {
    let state = RemovalState::new(parse("when time after 5000"), second(100));
    let early = RemovalClock { now: second(100), wall_ms: 4000 };
    assert_eq!((state.is_due(early), state.next_look(early)), (false, Some(second(101))));
    assert!(state.is_due(RemovalClock { now: second(101), wall_ms: 5000 }));
    let never = RemovalState::new(parse(&format!("when time after {}", u64::MAX)), second(0));
    assert_eq!((never.is_due(early), never.next_look(early)), (false, None));
}

#[test]
fn a_state_is_small() {
    assert!(size_of::<RemovalState>() <= 40);
}

/// A condition with its periods in seconds, judged from the whole list of what happened.
#[derive(Clone, Debug)]
enum Model {
    TimeAfter(u64),
    Subscriptions { local: &'static str, below: u64, hold: (u64, u64) },
    NoUpdates { hold: (u64, u64) },
    NoSession { local: &'static str, filter: &'static str, hold: (u64, u64) },
    CreatorCloses,
    And(Vec<Model>),
    Or(Vec<Model>),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Update,
    Subscriptions { all: u64, local: u64 },
    Sessions { filter: &'static str, all: u64, local: u64 },
    CreatorClosed,
}

const FILTERS: [&str; 2] = ["has a", "all"];

impl Model {
    fn any(numbers: &mut Numbers, depth: usize) -> Self {
        let hold = (numbers.next(6) as u64, numbers.pick(&[0, 0, 3, 9]));
        let local = numbers.pick(&["", "local "]);
        let several = |numbers: &mut Numbers| (0..2).map(|_| Self::any(numbers, depth - 1)).collect();
        match numbers.next(if depth == 0 { 5 } else { 9 }) {
            0 => Self::TimeAfter(numbers.next(20) as u64),
            1 => Self::Subscriptions { local, below: 1 + numbers.next(2) as u64, hold },
            2 => Self::NoUpdates { hold },
            3 => Self::NoSession { local, filter: numbers.pick(&FILTERS), hold },
            4 => Self::CreatorCloses,
            5 | 6 => Self::And(several(numbers)),
            _ => Self::Or(several(numbers)),
        }
    }

    fn print(&self) -> String {
        let joined = |members: &[Self], word: &str| format!("({})", members.iter().map(Self::print).collect::<Vec<_>>().join(word));
        let periods = |(hold, after): &(u64, u64)| format!("for {hold}s after {after}s");
        match self {
            Self::TimeAfter(seconds) => format!("time after {}", seconds * 1000),
            Self::Subscriptions { local, below, hold } => format!("{local}subscriptions < {below} {}", periods(hold)),
            Self::NoUpdates { hold } => format!("no updates {}", periods(hold)),
            Self::NoSession { local, filter, hold } => format!("no {local}session has '{filter}' {}", periods(hold)),
            Self::CreatorCloses => "this session closes".into(),
            Self::And(members) => joined(members, " and "),
            Self::Or(members) => joined(members, " OR "),
        }
    }

    fn holds(&self, history: &[(u64, Event)], now: u64) -> bool {
        match self {
            Self::TimeAfter(seconds) => *seconds <= now,
            Self::Subscriptions { local, below, hold } => held(*hold, now, history, Some(true), |event| match event {
                Event::Subscriptions { all, local: local_count } => Some((if local.is_empty() { all } else { local_count }) < *below),
                _ => None,
            }),
            Self::NoUpdates { hold: (period, after) } => {
                let quiet = |(when, event): &(u64, Event)| !matches!(event, Event::Update) || when + period <= now;
                now >= *after && now >= *period && history.iter().all(quiet)
            }
            Self::NoSession { local, filter, hold } => held(*hold, now, history, None, |event| match event {
                Event::Sessions { filter: counted, all, local: local_count } if counted == *filter => {
                    Some((if local.is_empty() { all } else { local_count }) == 0)
                }
                _ => None,
            }),
            Self::CreatorCloses => history.iter().any(|(_, event)| matches!(event, Event::CreatorClosed)),
            Self::And(members) => members.iter().all(|member| member.holds(history, now)),
            Self::Or(members) => members.iter().any(|member| member.holds(history, now)),
        }
    }
}

/// Whether what `truth` tells was so at the start of the period that ends now, and no event in it says otherwise.
fn held(
    (period, after): (u64, u64),
    now: u64,
    history: &[(u64, Event)],
    at_first: Option<bool>,
    truth: impl Fn(Event) -> Option<bool>,
) -> bool {
    let Some(start) = now.checked_sub(period) else { return false };
    let told = history.iter().filter_map(|(when, event)| truth(*event).map(|truth| (*when, truth)));
    let at_start = told.clone().filter(|(when, _)| *when <= start).last().map(|(_, truth)| truth).or(at_first);
    now >= after && at_start == Some(true) && told.clone().all(|(when, truth)| when <= start || truth)
}

fn any_event(numbers: &mut Numbers) -> Event {
    let local = numbers.next(2) as u64;
    let all = local + numbers.next(2) as u64;
    match numbers.next(8) {
        0 | 1 => Event::Update,
        2..=4 => Event::Subscriptions { all, local },
        5 | 6 => Event::Sessions { filter: numbers.pick(&FILTERS), all, local },
        _ => Event::CreatorClosed,
    }
}

fn apply(state: &mut RemovalState, event: Event, now: Time) {
    match event {
        Event::Update => state.note_update(now),
        Event::Subscriptions { all, local } => state.note_subscriptions(all, local, now),
        Event::Sessions { filter, all, local } => {
            if let Some(index) = state.policy().filters().iter().position(|known| known.as_str() == filter) {
                state.note_sessions(index, all, local, now);
            }
        }
        Event::CreatorClosed => state.note_creator_closed(now),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_state_agrees_with_one_that_looks_through_the_whole_history(seed in any::<u64>()) {
        let mut numbers = Numbers(seed);
        let model = Model::any(&mut numbers, 2);
        let policy = parse(&format!("when {}", model.print()));
        prop_assert_eq!(&parse(policy.as_str()), &policy);
        let mut state = RemovalState::new(policy, second(0));
        let mut history = Vec::new();
        let mut now = 0;
        for _ in 0..10 {
            let event = any_event(&mut numbers);
            history.push((now, event));
            apply(&mut state, event, second(now));
            let due = model.holds(&history, now);
            prop_assert_eq!(state.is_due(at(now)), due, "{:?} at {}: {:?}", state, now, history);
            // Without news the answer changes when it is said to, and at no other time.
            let look = state.next_look(at(now));
            for later in now..now + 30 {
                let changed = look.is_some_and(|look| second(later) >= look);
                prop_assert_eq!(model.holds(&history, later), due != changed, "{:?} at {}: {:?}", state, later, history);
                prop_assert_eq!(state.is_due(at(later)), due != changed);
            }
            now += numbers.pick(&[0, 1, 1, 2, 5, 8]);
        }
    }
}
