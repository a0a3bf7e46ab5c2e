//! Removal policies. Each test waits for the removal; none says how soon it comes.

use crate::client::Seen;
use crate::server::Server;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;

/// A topic with this policy goes by itself, and one without stays.
fn check(policy: &str) {
    let server = Server::start(2);
    let (mut writer, mut watcher) = (server.connect(), server.connect());
    watcher.listen(1, 1, "?.*//").unwrap();
    writer.add("stays", TopicType::Json).unwrap();
    writer.add_with("goes", TopicType::Json, &[("REMOVAL", policy)]).unwrap();
    loop {
        match watcher.next() {
            Seen::TopicNotice { what: 2, path, .. } => break assert_eq!(path, "goes", "{policy}"),
            Seen::TopicNotice { what: 1 | 3, .. } => {}
            other => panic!("{policy}: {other:?}"),
        }
    }
    assert_eq!(watcher.fetch_all("*.*").len(), 1);
}

#[test]
fn without_updates() {
    check("when no updates for 1s");
}

#[test]
fn without_subscriptions() {
    check("when subscriptions < 1 for 1s after 1s");
}

#[test]
fn at_a_time() {
    check("when time after 1000");
    check(r#"when time after "Tue, 3 Jun 2025 11:05:30 GMT""#);
}

#[test]
fn without_a_session() {
    check(r#"when no session has "$Principal is 'nobody'" for 1s"#);
}

#[test]
fn when_its_session_closes_with_what_it_names() {
    let server = Server::start(2);
    let (mut owner, mut beside) = (server.connect(), server.connect());
    beside.subscribe("?.*//").unwrap();
    for path in ["of/a", "of/b", "other"] {
        beside.add(path, TopicType::Json).unwrap();
    }
    owner.add_with("mark", TopicType::Json, &[("REMOVAL", r#"when this session closes remove "?of//""#)]).unwrap();
    drop(owner);
    let mut removed = Vec::new();
    while removed.len() < 2 {
        if let Seen::Unsubscribed(path, reason) = beside.next() {
            assert_eq!(reason, 2);
            removed.push(path);
        }
    }
    removed.sort();
    assert_eq!(removed, ["of/a", "of/b"]);
}

#[test]
fn updates_keep_a_topic() {
    let server = Server::start(1);
    let (mut writer, mut watcher) = (server.connect(), server.connect());
    watcher.subscribe("?.*//").unwrap();
    writer.add_with("kept", TopicType::Json, &[("REMOVAL", "when no updates for 3s")]).unwrap();
    writer.add_with("left", TopicType::Json, &[("REMOVAL", "when no updates for 1s")]).unwrap();
    // As long as it takes for the other to go.
    loop {
        writer.set("kept", ValueType::Json, b"1").unwrap();
        if watcher.settle().contains(&Seen::Unsubscribed("left".into(), 2)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(writer.set("kept", ValueType::Json, b"2"), Ok(()));
}
