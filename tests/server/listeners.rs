//! Who listens: to topics, to what lies below them, to subscribers, to selectors that match nothing; and scopes of selections.

use crate::client::{Refused, Seen, Session};
use crate::server::Server;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Request};

const TOPICS: u8 = 1;
const SUBSCRIBERS: u8 = 2;
const MISSING: u8 = 3;

fn topic(what: u8, path: &str) -> Seen {
    Seen::TopicNotice { listener: 5, what, path: path.into(), kind: 1, properties: Vec::new() }
}

fn below(what: u8, path: &str) -> Seen {
    Seen::DescendantNotice { listener: 5, what, path: path.into() }
}

fn subscribers(path: &str, has_subscribers: bool) -> Seen {
    Seen::SubscribersNotice { listener: 5, path: path.into(), has_subscribers }
}

#[test]
fn topics_that_come_and_go_are_told() {
    let server = Server::start(2);
    let (mut writer, mut listener) = (server.connect(), server.connect());
    writer.add("a/old", ValueType::Json).unwrap();
    listener.listen(5, TOPICS, "?a/.*").unwrap();
    assert_eq!(listener.settle(), [topic(3, "a/old")], "what was there comes before the answer");
    writer.add("a/new", ValueType::Json).unwrap();
    assert_eq!(listener.next(), topic(1, "a/new"));
    writer.add("b", ValueType::Json).unwrap();
    writer.add("a/new/below", ValueType::Json).unwrap();
    assert_eq!(listener.next(), below(1, "a/new/below"));
    writer.remove("a/old").unwrap();
    assert_eq!(listener.next(), topic(2, "a/old"));
    listener.unlisten(5, "").unwrap();
    writer.add("a/unheard", ValueType::Json).unwrap();
    assert_eq!(listener.settle(), []);
    assert_eq!(listener.unlisten(5, ""), Err(Refused { code: 302, position: None }));
}

#[test]
fn a_selector_that_is_taken_away_deselects() {
    let server = Server::start(2);
    let (mut writer, mut listener) = (server.connect(), server.connect());
    writer.add("a", ValueType::Json).unwrap();
    writer.add("b", ValueType::Json).unwrap();
    listener.listen(5, TOPICS, "a").unwrap();
    listener.listen(5, TOPICS, "b").unwrap();
    assert_eq!(listener.settle(), [topic(3, "a"), topic(3, "b")]);
    listener.unlisten(5, "a").unwrap();
    assert_eq!(listener.settle(), [topic(4, "a")]);
    assert_eq!(listener.listen(5, SUBSCRIBERS, "a"), Err(Refused { code: 302, position: None }), "of another kind");
}

#[test]
fn the_first_subscriber_and_the_end_of_the_last_are_told() {
    let server = Server::start(2);
    let (mut writer, mut listener) = (server.connect(), server.connect());
    let (mut one, mut two) = (server.connect(), server.connect());
    writer.add("a", ValueType::Json).unwrap();
    listener.listen(5, SUBSCRIBERS, "?.*//").unwrap();
    one.subscribe("a").unwrap();
    assert_eq!(listener.next(), subscribers("a", true));
    two.subscribe("?.*//").unwrap();
    one.unsubscribe("a").unwrap();
    drop(two);
    assert_eq!(listener.next(), subscribers("a", false), "only the last counts, also where its connection breaks");
    one.subscribe("b").unwrap();
    writer.add("b", ValueType::Json).unwrap();
    // What two shards count may cross, so that the end of the last is told more than once.
    while listener.next() != subscribers("b", true) {}
}

fn missing(session: &Session, selector: &str) -> Seen {
    Seen::MissingNotice { listener: 5, selector: selector.into(), session: session.id.clone() }
}

#[test]
fn selectors_that_match_nothing_are_told_to_the_longest_branch() {
    let server = Server::start(2);
    let (mut asker, mut wide, mut deep) = (server.connect(), server.connect(), server.connect());
    wide.listen(5, MISSING, "a").unwrap();
    deep.listen(5, MISSING, "a/b").unwrap();
    asker.subscribe("a/x").unwrap();
    assert_eq!(wide.next(), missing(&asker, ">a/x"));
    asker.fetch("?a/b/.*", "", 0).unwrap();
    assert_eq!(deep.next(), missing(&asker, "?a/b/.*"));
    asker.add("a/there", ValueType::Json).unwrap();
    asker.subscribe("a/there").unwrap();
    asker.subscribe("c/x").unwrap();
    drop(deep);
    // The end of a session is noticed in its own time.
    let mut asked = 0;
    loop {
        asker.fetch("a/b/y", "", 0).unwrap();
        asked += 1;
        if wide.settle().contains(&missing(&asker, ">a/b/y")) {
            break;
        }
        assert!(asked < 1000, "the branch is not given back");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A topic that a missing topic's listener makes joins the selection that missed it.
#[test]
fn a_topic_can_be_made_when_it_is_asked_for() {
    let server = Server::start(2);
    let (mut asker, mut maker) = (server.connect(), server.connect());
    maker.listen(5, MISSING, "rates").unwrap();
    asker.subscribe("rates/EUR").unwrap();
    let told = maker.next();
    let Seen::MissingNotice { selector, .. } = &told else { panic!("{told:?} is told") };
    maker.add_and_set(selector.trim_start_matches('>'), ValueType::Json, b"1").unwrap();
    let seen = [asker.next(), asker.next()];
    assert_eq!(seen, [Seen::Subscribed("rates/EUR".into(), TopicType::Json), Seen::Value("rates/EUR".into(), b"1".into())]);
}

#[test]
fn a_session_has_its_most_of_listeners_and_no_more() {
    let server = Server::start_with(1, &[("LIMITS_LISTENERS_MAX", "2")]);
    let mut session = server.connect();
    session.listen(1, TOPICS, "a").unwrap();
    session.listen(2, MISSING, "a").unwrap();
    assert_eq!(session.listen(3, TOPICS, "b"), Err(Refused { code: 301, position: None }));
    assert_eq!(session.listen(9, 4, "b"), Err(Refused { code: 301, position: None }));
    session.unlisten(2, "").unwrap();
    assert_eq!(session.listen(3, TOPICS, "b"), Ok(()));
}

// Scopes.

#[test]
fn a_topic_stays_while_one_scope_selects_it() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    writer.add("a", ValueType::Json).unwrap();
    reader.subscribe_in("a", "one").unwrap();
    reader.subscribe_in("?.*//", "two").unwrap();
    assert_eq!(reader.settle(), [Seen::Subscribed("a".into(), TopicType::Json)], "once, whoever selects it");
    reader.unsubscribe_in("a", "one").unwrap();
    reader.unsubscribe("a").unwrap();
    reader.unsubscribe_in("a", "One").unwrap();
    assert_eq!(reader.settle(), [], "names are case-sensitive, and others' selections stand");
    reader.unsubscribe_in("?.*//", "two").unwrap();
    assert_eq!(reader.settle(), [Seen::Unsubscribed("a".into(), 1)]);
}

#[test]
fn all_scopes_are_unsubscribed_at_once() {
    let server = Server::start(2);
    let mut session = server.connect();
    for path in ["a", "b"] {
        session.add(path, ValueType::Json).unwrap();
    }
    for scope in ["", "one", "two"] {
        session.subscribe_in("?.*//", scope).unwrap();
    }
    session.settle();
    session.ask(|id| Request { id, ask: Ask::UnsubscribeAllScopes { selector: "a".into() } }).unwrap();
    assert_eq!(session.settle(), [Seen::Unsubscribed("a".into(), 1)]);
}

#[test]
fn names_of_scopes_are_bounded() {
    let server = Server::start(1);
    let mut session = server.connect();
    assert_eq!(session.subscribe_in("a", "$mine"), Err(Refused { code: 216, position: Some(0) }));
    assert_eq!(session.unsubscribe_in("a", "$mine"), Err(Refused { code: 216, position: Some(0) }));
    assert_eq!(session.subscribe_in("a", &"x".repeat(256)), Ok(()));
    assert_eq!(session.subscribe_in("a", &"x".repeat(257)), Err(Refused { code: 216, position: Some(256) }));
}
