//! SIGTERM: every session is told, and what was queued for it still comes.

use crate::client::Seen;
use crate::server::Server;
use tidewire::value::ValueType;

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

#[test]
fn what_was_queued_is_sent_before_the_close() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    reader.subscribe("?a//").unwrap();
    // More than the sockets hold, so that the queue still has some when the server stops.
    let value = |number: u8| vec![number; 250_000];
    for number in 0..60 {
        writer.add_and_set(&format!("a/{number}"), ValueType::Binary, &value(number)).unwrap();
    }
    server.terminate();
    assert_eq!(writer.wait_for_close(), 1001);
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
