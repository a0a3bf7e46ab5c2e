//! SIGTERM: every session is told, and what was queued for it still comes.

use crate::client::Seen;
use crate::server::Server;
use std::time::Duration;
use tidewire::surface::value::ValueType;

#[test]
fn sessions_are_told_1001() {
    let server = Server::start(2);
    let mut sessions: Vec<_> = (0..4).map(|_| server.connect()).collect();
    let mut text = server.open("tidewire.1.json");
    text.send_text(r#"{"op":"connect","id":1}"#);
    text.receive();
    let mut greeting = server.open("tidewire.1");
    server.terminate();
    for session in &mut sessions {
        assert_eq!(session.next(), Seen::Closed(1001));
    }
    assert_eq!(text.receive(), crate::client::Message::Closed(1001));
    assert_eq!(greeting.receive(), crate::client::Message::Closed(1001));
}

/// A reader is sent all that was queued for it, although it waits this long before it reads.
fn check(waits: Duration) {
    let server = Server::start_with(2, &[("SERVER_SHUTDOWN_DRAIN_MS", "60000")]);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    reader.subscribe("?a//").unwrap();
    // More than the sockets hold, so that the queue still has some when the server stops.
    let value = |number: u8| vec![number; 250_000];
    for number in 0..60 {
        writer.add_and_set(&format!("a/{number}"), ValueType::Binary, &value(number)).unwrap();
    }
    server.terminate();
    assert_eq!(writer.wait_for_close(), 1001);
    std::thread::sleep(waits);
    let mut values = 0;
    loop {
        match reader.next() {
            Seen::Value(..) => values += 1,
            Seen::Closed(code) => break assert_eq!(code, 1001),
            _ => {}
        }
    }
    assert_eq!(values, 60);
}

#[test]
fn what_was_queued_is_sent_before_the_close() {
    check(Duration::ZERO);
}

#[test]
fn who_is_slow_has_the_time_that_the_configuration_says() {
    check(Duration::from_secs(5));
}

#[test]
fn who_does_not_read_does_not_hold_the_server_longer_than_that() {
    let server = Server::start_with(1, &[("SERVER_SHUTDOWN_DRAIN_MS", "300")]);
    let (mut writer, mut stalled) = (server.connect(), server.connect());
    stalled.subscribe("?a//").unwrap();
    for number in 0..60 {
        writer.add_and_set(&format!("a/{number}"), ValueType::Binary, &vec![number; 250_000]).unwrap();
    }
    // The server's drop expects its end; only then `stalled` goes.
    drop(server);
    drop(stalled);
}
