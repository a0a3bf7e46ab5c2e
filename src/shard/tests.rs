//! What a shard keeps and does for removal policies and listeners, where nobody outside can see it.

use super::{Identity, Limits, Replication, Shard, Storing};
use crate::audience::MISSING;
use crate::base::{ConnectionKey, SessionId, SessionKey, ShardIndex, SlabKey, Time, TopicId};
use crate::cluster::topic_id;
use crate::journal::{StoredEvent, StoredTopic};
use crate::mail::{Action, Call, Caller, Change, Content, Fetch, ListenerKind, Question, Viewer};
use crate::security::Rights;
use crate::session::{Form, Life, QueueLimits, Session, Step};
use crate::topic::path::TopicPath;
use crate::topic::selector::{Selector, SelectorLimits};
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::topic::tree::{Direction, Span, Topic};
use crate::value::ValueType;
use crate::wire::native::{self, Heard, Shown};
use std::borrow::Cow;
use std::sync::Arc;

const HERE: ShardIndex = ShardIndex(0);
const WALL_MS: u64 = 1_700_000_000_000;

struct World {
    shard: Shard,
    now: Time,
}

impl World {
    fn new() -> Self {
        Self::of(0)
    }

    /// A server of a cluster with so many groups.
    fn of(groups: u16) -> Self {
        let queue = QueueLimits { bytes_high: 1000, bytes_max: 1000 };
        let limits =
            Limits { groups, listeners_max: 10, queue, transmit_bytes_max: 1000, walk_slice: 3, mail_high: 1000, ..Limits::default() };
        let identity = Identity {
            index: HERE,
            count: 1,
            server: "test".into(),
            run: 1,
            start: 1,
            storing: Storing::Off,
            topics_base: 0,
            node: 0,
            secret: [7; 32],
        };
        Self { shard: Shard::new(identity, limits, Time(0), WALL_MS), now: Time(0) }
    }

    fn session(&mut self) -> SessionKey {
        let (id, connection) = (self.shard.desk.take_session_id(), ConnectionKey::new(0, 0));
        let session = self.shard.audience.enter(Session::new(id, Life::Connected(connection), Form::Text, self.now));
        self.shard.audience.give_all_rights(session);
        session
    }

    fn specification(policy: &str) -> Arc<Specification> {
        let properties = if policy.is_empty() { None } else { Some(("REMOVAL", policy)) };
        Arc::new(Specification::parse(TopicType::String, properties.into_iter(), SpecificationLimits::default()).unwrap())
    }

    /// A topic that the session makes.
    fn make(&mut self, session: SessionKey, path: &str, policy: &str) {
        let change = Change { action: Action::Add(Self::specification(policy)), conditions: None };
        self.update(session, path, &change);
        self.shard.settle();
    }

    fn update(&mut self, session: SessionKey, path: &str, change: &Change<'_>) {
        let by = self.shard.audience.id_of(session);
        self.shard.owner.update(&mut self.shard.desk, (by, None), path, change, self.now).0.unwrap();
    }

    fn restore(&mut self, path: &str, policy: &str) {
        let path = TopicPath::parse(path, 100).unwrap();
        self.shard.owner.make_topic(&mut self.shard.desk, path, Self::specification(policy));
    }

    fn set(&mut self, path: &str) {
        let content = Content { kind: ValueType::String, value: Some(Cow::Borrowed(b"a")) };
        let change = Change { action: Action::Set(content), conditions: None };
        self.shard.owner.update(&mut self.shard.desk, (None, None), path, &change, self.now).0.unwrap();
    }

    fn tick(&mut self) {
        self.now = self.now.after_ms(100);
        self.shard.handle_tick(self.now, WALL_MS + self.now.0 / 1_000_000);
    }

    /// Lets time pass, and all be done that waits.
    fn wait(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.tick();
            self.walk();
        }
    }

    fn walk(&mut self) {
        self.shard.settle();
        while self.shard.has_walks() {
            self.shard.run_slice(self.now);
        }
    }

    fn topic(&self, path: &str) -> Option<&Topic> {
        self.shard.owner.topic_at(path)
    }
}

#[test]
fn what_a_policy_selects_is_removed_in_slices_and_once_for_many_policies() {
    let mut world = World::new();
    let session = world.session();
    (0..10).for_each(|number| world.make(session, &format!("a/{number}"), ""));
    (0..5).for_each(|number| world.make(session, &format!("b/{number}"), "when time after 1 remove '?a/'"));
    while !world.shard.has_walks() {
        world.tick();
    }
    assert_eq!((world.shard.owner_counts()[1], world.shard.topic_count()), (1, 15));
    let mut left = Vec::new();
    while world.shard.has_walks() {
        world.shard.run_slice(world.now);
        left.push(world.shard.topic_count());
    }
    assert_eq!(left[..4], [12, 9, 6, 5]);
    assert_eq!(world.shard.desk.report.expired, 10, "the topics that are gone");
}

#[test]
fn a_policy_that_stays_due_removes_what_it_selects_now_and_then() {
    let mut world = World::new();
    let session = world.session();
    world.make(session, "b", "when time after 1 remove '>a'");
    let mut gone_after_ms = Vec::new();
    for _ in 0..4 {
        world.make(session, "a", "");
        let since = world.now;
        while world.topic("a").is_some() {
            world.wait(100);
        }
        gone_after_ms.push(world.now.since(since) / 1_000_000);
    }
    assert_eq!(gone_after_ms, [2_000, 60_000, 60_000, 60_000]);
}

#[test]
fn a_policy_that_comes_due_anew_removes_what_it_selects_anew() {
    let mut world = World::new();
    let session = world.session();
    world.make(session, "b", "when no updates for 3s remove '>a'");
    for _ in 0..4 {
        world.make(session, "a", "");
        world.set("b");
        world.wait(2_900);
        assert!(world.topic("a").is_some());
        world.wait(200);
        assert!(world.topic("a").is_none());
    }
}

#[test]
fn counts_end_where_neither_a_listener_nor_a_policy_needs_them() {
    let mut world = World::new();
    let session = world.session();
    (0..9).for_each(|number| world.make(session, &format!("a/{number}"), ""));
    world.make(session, "a/policy", "when subscriptions < 1 for 1h");
    world.make(session, "b", "");
    let counted = |world: &World| {
        let paths = ["a/0", "a/8", "a/policy", "b"];
        paths.map(|path| world.topic(path).is_some_and(Topic::is_counted))
    };
    let listen = |world: &mut World, ticket, selector: &str| {
        let question = Question::Listen { kind: ListenerKind::Subscribers, selector: selector.into() };
        world.shard.owner.start_walk(&mut world.shard.desk, HERE, ticket, question);
        world.walk();
    };
    assert_eq!(counted(&world), [false, false, true, false]);
    listen(&mut world, 1, "?.*//");
    listen(&mut world, 2, ">a/8");
    assert_eq!(counted(&world), [true; 4]);
    world.shard.owner.stop_listening(&mut world.shard.desk, HERE, ListenerKind::Subscribers, "?.*//");
    world.walk();
    assert_eq!(counted(&world), [false, true, true, false]);
    assert!(world.topic("a/0").is_some_and(|topic| topic.rare.is_none()));
    world.shard.owner.stop_listening(&mut world.shard.desk, HERE, ListenerKind::Subscribers, ">a/8");
    world.walk();
    assert_eq!(counted(&world), [false, false, true, false]);
}

#[test]
fn a_session_is_watched_only_for_topics_that_are_there() {
    let mut world = World::new();
    let session = world.session();
    let watched =
        |world: &World| world.shard.audience.session(session).unwrap().extras.as_ref().map_or(0, |extras| extras.watched_by.len());
    for _ in 0..3 {
        world.make(session, "a", "when this session closes");
        world.make(session, "b", "when this session closes");
        assert_eq!(watched(&world), 2);
        for path in ["a", "b"] {
            world.shard.owner.remove_at(&mut world.shard.desk, path);
        }
        world.shard.settle();
        assert_eq!(watched(&world), 0);
    }
    world.make(session, "a", "when this session closes");
    world.wait(2_000);
    world.shard.audience.end_session(&mut world.shard.desk, session);
    world.wait(200);
    assert!(world.topic("a").is_none());
}

#[test]
fn a_tick_removes_a_bounded_number_of_topics() {
    let mut world = World::new();
    (0..9_000).for_each(|number| world.restore(&format!("a/{number}"), "when time after 1"));
    let mut removed = Vec::new();
    while world.shard.topic_count() > 0 {
        let before = world.shard.topic_count();
        world.tick();
        removed.push(before - world.shard.topic_count());
    }
    assert!(removed.len() > 15, "restored topics are spread over a while: {removed:?}");
    // Now so many that they cannot all have their turn.
    (0..9_000).for_each(|number| world.restore(&format!("a/{number}"), "when time after 1"));
    world.now = world.now.after_ms(5_000);
    for left in [5_000, 1_000, 0] {
        world.tick();
        assert_eq!(world.shard.topic_count(), left);
    }
}

#[test]
fn sessions_are_counted_a_bounded_part_a_tick() {
    let mut world = World::new();
    let session = world.session();
    (0..100).for_each(|_| _ = world.session());
    let long = "a".repeat(3_800);
    for number in 0..10 {
        world.make(session, &format!("a/{number}"), &format!("when no session has '$Principal is \"{number}{long}\"'"));
    }
    world.tick();
    let mut waiting = vec![world.shard.audience.asked_count()];
    while world.shard.audience.asked_count() > 0 {
        world.tick();
        waiting.push(world.shard.audience.asked_count());
    }
    assert_eq!(waiting, [10, 7, 4, 1, 0]);
    world.wait(3_000);
    assert_eq!(world.shard.topic_count(), 0, "no session is any of these");
}

/// What the handler of missing topics is told, in bytes, when a fetch finds nothing slice by slice; whether its session is over by then.
fn told_of_missing(is_over: bool) -> usize {
    let mut world = World::new();
    let (asking, handling) = (world.session(), world.session());
    (0..10).for_each(|number| world.make(asking, &format!("a/{number}"), ""));
    let caller = |session| Caller { session, call: Call::Request(1) };
    world.shard.audience.listen(&mut world.shard.desk, caller(handling), 1, MISSING, "a").unwrap();
    world.walk();
    let told = |world: &World| world.shard.audience.session(handling).unwrap().queue.bytes();
    let before = told(&world);
    let selector = Selector::parse("?a/x.*", SelectorLimits::default()).unwrap();
    let fetch = Fetch {
        selector: selector.as_str().into(),
        span: Span::default(),
        direction: Direction::Forward,
        count_max: 10,
        bytes_max: 1000,
        types: 0,
        shown: Shown::default(),
        deep: None,
        region: None,
        viewer: Viewer { rights: Arc::new(Rights::all()), principal: None },
        refusal: None,
    };
    world.shard.audience.fetch(&mut world.shard.desk, caller(asking), &selector, fetch);
    world.shard.settle();
    assert!(world.shard.has_walks(), "the fetch is under way");
    if is_over {
        world.shard.audience.end_session(&mut world.shard.desk, asking);
    }
    world.walk();
    told(&world) - before
}

#[test]
fn a_session_that_is_over_misses_nothing() {
    assert!(told_of_missing(false) > 0);
    assert_eq!(told_of_missing(true), 0);
}

#[test]
fn who_subscribes_right_behind_the_last_subscriber_that_left_is_sent_the_value_once() {
    let mut world = World::new();
    let sessions = [(); 2].map(|()| world.shard.open_inside(world.now));
    let keys = sessions.map(|session| world.shard.audience.find(session).unwrap());
    world.make(keys[0], "a", "");
    world.set("a");
    let selector = Selector::parse("a", SelectorLimits::default()).unwrap();
    let caller = |session| Caller { session, call: Call::Unheard };
    world.shard.audience.subscribe(&mut world.shard.desk, caller(keys[0]), "", &selector, Step::Selects).unwrap();
    world.walk();
    let mut told = Vec::new();
    // Before the owner hears of either.
    world.shard.audience.unsubscribe(&mut world.shard.desk, caller(keys[0]), None, &selector).unwrap();
    world.shard.audience.subscribe(&mut world.shard.desk, caller(keys[1]), "", &selector, Step::Selects).unwrap();
    world.shard.poll_inside(world.now, sessions[1], &mut told);
    assert!(!told.is_empty(), "the shard has the value");
    world.walk();
    told.clear();
    world.shard.poll_inside(world.now, sessions[1], &mut told);
    assert_eq!(told, [0; 0], "it is not sent again");
    world.set("a");
    world.walk();
    world.shard.poll_inside(world.now, sessions[1], &mut told);
    assert!(!told.is_empty(), "what follows is");
}

/// A series as another server's snapshot has it: the events of these sequences, of which those below the first are trimmed.
fn stored_series(sequences: std::ops::Range<u64>) -> (TopicId, StoredTopic, bool) {
    let event = |sequence| StoredEvent { sequence, original: None, timestamp_ms: sequence, author: "".into(), value: b"\x61e"[..].into() };
    let properties = vec![("TIME_SERIES_EVENT_VALUE_TYPE".into(), "string".into())];
    let mut stored = StoredTopic::new(TopicPath::parse("a", 100).unwrap(), TopicType::TimeSeries.number(), properties);
    (stored.first_kept, stored.latest_ms) = (sequences.start, sequences.end);
    stored.last_sequence = sequences.end.checked_sub(1);
    stored.events = sequences.map(|sequence| (sequence, event(sequence))).collect();
    (topic_id(0, 1, 1), stored, false)
}

#[test]
fn a_series_is_brought_on_by_the_events_that_it_lacks() {
    let mut world = World::of(1);
    let session = world.shard.open_inside(world.now);
    let key = world.shard.audience.find(session).unwrap();
    let selector = Selector::parse("?a", SelectorLimits::default()).unwrap();
    world
        .shard
        .audience
        .subscribe(&mut world.shard.desk, Caller { session: key, call: Call::Unheard }, "", &selector, Step::Selects)
        .unwrap();
    world.walk();
    // What the topic is from then on, and which events are shown.
    for (stored, shown) in [(0..3, vec![2]), (0..3, vec![]), (0..6, vec![3, 4, 5]), (4..6, vec![5]), (5..8, vec![6, 7]), (7..9, vec![8])] {
        let place = stored.end;
        let mut replication = Replication::of(&mut world.shard, world.now);
        replication.handle_installed(0, vec![stored_series(stored.clone())]).unwrap();
        replication.handle_all_installed(0, place, &[]);
        world.walk();
        let mut told = Vec::new();
        world.shard.poll_inside(world.now, session, &mut told);
        assert_eq!(events_of(&told), shown, "{stored:?}");
        let series = world.topic("a").unwrap().series().unwrap();
        assert_eq!(
            (series.first_kept(), series.next_sequence(), series.len() as u64),
            (stored.start, stored.end, stored.end - stored.start)
        );
    }
}

/// The sequences of the events in what a session was sent.
fn events_of(mut told: &[u8]) -> Vec<u64> {
    let mut events = Vec::new();
    while let Some(frame) = native::next_frame(&mut told).unwrap() {
        if let Heard::Event { head, .. } = native::decode_event(frame).unwrap() {
            events.push(head.sequence);
        }
    }
    events
}

#[test]
fn sessions_are_told_whether_what_is_here_may_be_old() {
    let mut world = World::of(1);
    let sessions: Vec<_> = (0..600).map(|_| world.shard.open_inside(world.now)).collect();
    for is_stale in [true, false] {
        Replication::of(&mut world.shard, world.now).handle_staleness(is_stale);
        Replication::of(&mut world.shard, world.now).handle_staleness(is_stale);
        let mut slices = 0;
        while world.shard.has_walks() {
            world.shard.run_slice(world.now);
            slices += 1;
        }
        assert_eq!(slices, 3, "a part has its turn at a time");
        assert!(sessions.iter().all(|session| staleness_of(&mut world, *session) == [is_stale]), "each is told once");
    }
    // It changes before all were told: they are told how it is.
    Replication::of(&mut world.shard, world.now).handle_staleness(true);
    world.shard.run_slice(world.now);
    Replication::of(&mut world.shard, world.now).handle_staleness(false);
    world.walk();
    assert_eq!(staleness_of(&mut world, sessions[0]), [true, false]);
    assert_eq!(staleness_of(&mut world, sessions[599]), [false]);
}

/// What the session was told of how old what its server shows may be.
fn staleness_of(world: &mut World, session: SessionId) -> Vec<bool> {
    let (mut bytes, mut told) = (Vec::new(), Vec::new());
    world.shard.poll_inside(world.now, session, &mut bytes);
    let mut bytes = &bytes[..];
    while let Some(frame) = native::next_frame(&mut bytes).unwrap() {
        if let Heard::Staleness { is_stale } = native::decode_event(frame).unwrap() {
            told.push(is_stale);
        }
    }
    told
}
