//! Close codes: which input ends a connection and how, and that other sessions notice nothing.

use crate::client::Seen;
use crate::raw::masked;
use crate::server::{PATIENCE, Server};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Request};

/// Sends bytes on a connected connection; the close code that answers them. A session beside it goes on.
fn check(protocol: &str, bytes: &[u8], code: u16) {
    let server = Server::start(1);
    let mut beside = server.connect();
    beside.subscribe("a").unwrap();
    let mut socket = server.open_raw();
    socket.connect(protocol);
    socket.send(bytes);
    assert_eq!(socket.read_close(), code);
    beside.add_and_set("a", ValueType::Json, b"1").unwrap();
    let seen = [beside.next(), beside.next()];
    assert_eq!(seen, [Seen::Subscribed("a".into(), TopicType::Json), Seen::Value("a".into(), b"1".into())]);
    assert_eq!(beside.settle(), []);
}

#[test]
fn a_frame_that_overruns_its_message_is_4100() {
    check("tidewire.1", &masked(0x82, &[0x13, 9, 1, 1, b'a']), 4100);
    check("tidewire.1", &masked(0x82, &[0x13]), 4100);
}

#[test]
fn bytes_that_are_not_websocket_are_1002() {
    check("tidewire.1", b"GET / HTTP/1.1\r\n\r\n", 1002);
}

#[test]
fn the_other_kind_of_message_is_1003() {
    check("tidewire.1", &masked(0x81, b"{}"), 1003);
    check("tidewire.1.json", &masked(0x82, b"{}"), 1003);
}

#[test]
fn text_that_is_not_utf8_is_1007() {
    check("tidewire.1.json", &masked(0x81, b"{\"op\":\"\xff\"}"), 1007);
}

#[test]
fn a_message_longer_than_the_limit_is_1009() {
    // The head alone says enough.
    check("tidewire.1", &masked(0x82, &vec![0; 1_114_113])[..14], 1009);
    let half = vec![0; 557_057];
    check("tidewire.1", &[masked(0x02, &half), masked(0x80, &half)].concat(), 1009);
}

#[test]
fn the_client_may_close_in_two_ways() {
    check("tidewire.1", &masked(0x82, &[0x04, 0]), 1000);
    check("tidewire.1.json", &masked(0x81, br#"{"op":"close"}"#), 1000);
    check("tidewire.1", &masked(0x88, &4000u16.to_be_bytes()), 4000);
}

#[test]
fn a_connection_that_breaks_off_goes_unnoticed() {
    let server = Server::start(2);
    let mut beside = server.connect();
    for cut in [0, 1, 7, 40] {
        let mut socket = server.open_raw();
        socket.send(&crate::raw::upgrade_request("/tidewire", "tidewire.1").as_bytes()[..cut]);
    }
    for cut in [1, 3, 6, 9] {
        let mut socket = server.open_raw();
        socket.connect("tidewire.1");
        socket.send(&masked(0x82, &[0x13, 3, 1, 1, b'a'])[..cut]);
    }
    assert_eq!(beside.add("a", ValueType::Json), Ok(true));
}

#[test]
fn a_head_that_does_not_come_whole_times_out() {
    let server = Server::start_with(1, &[("SESSION_HANDSHAKE_TIMEOUT_MS", "200")]);
    let mut socket = server.open_raw();
    socket.send(b"GET /tidewire HTTP/1.1\r\n");
    assert!(socket.read_head().starts_with("HTTP/1.1 408 "));
    socket.read_to_end();
}

#[test]
fn a_connection_without_connect_is_4102() {
    let server = Server::start_with(1, &[("SESSION_HANDSHAKE_TIMEOUT_MS", "200")]);
    for protocol in ["tidewire.1", "tidewire.1.json"] {
        let mut socket = server.open_raw();
        socket.upgrade(protocol);
        assert_eq!(socket.read_close(), 4102);
    }
}

#[test]
fn a_silent_client_is_pinged_and_then_closed_with_4103() {
    let server = Server::start_with(1, &[("SESSION_KEEP_ALIVE_MS", "200")]);
    let mut socket = server.open_raw();
    socket.connect("tidewire.1");
    let ping = socket.read_frame();
    assert_eq!((ping.opcode, &ping.payload[..]), (2, &[2, 0][..]));
    assert_eq!(socket.read_close(), 4103);

    let mut socket = server.open_raw();
    socket.connect("tidewire.1.json");
    let ping = socket.read_frame();
    assert_eq!((ping.opcode, &ping.payload[..]), (1, &br#"{"op":"ping"}"#[..]));
    assert_eq!(socket.read_close(), 4103);
}

#[test]
fn a_client_that_answers_pings_stays() {
    let server = Server::start_with(1, &[("SESSION_KEEP_ALIVE_MS", "500")]);
    let mut session = server.connect();
    for _ in 0..3 {
        assert_eq!(session.next(), Seen::Ping);
        session.send(&Request { id: 0, ask: Ask::Pong });
    }
    assert_eq!(session.add("a", ValueType::Json), Ok(true));
}

#[test]
fn a_client_that_only_listens_is_asked_whether_it_lives() {
    let server = Server::start_with(1, &[("SESSION_KEEP_ALIVE_MS", "500")]);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    reader.subscribe("a").unwrap();
    let mut pings = 0;
    // The server always has something to send; the reader only answers.
    while pings < 3 {
        writer.add_and_set("a", ValueType::Json, b"1").unwrap();
        loop {
            match reader.next() {
                Seen::Value(..) => break,
                Seen::Subscribed(..) => {}
                Seen::Ping => {
                    pings += 1;
                    reader.send(&Request { id: 0, ask: Ask::Pong });
                }
                other => panic!("{other:?}"),
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn one_connection_more_than_the_limit_is_not_taken() {
    let server = Server::start_with(1, &[("LIMITS_CONNECTIONS_MAX", "2")]);
    let (mut first, second) = (server.connect(), server.connect());
    assert_eq!(server.open_raw().read_to_end(), b"");
    drop(second);
    // The server learns of the end in its own time.
    let started = Instant::now();
    while !server.ask_for_health().is_some_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
        assert!(started.elapsed() < PATIENCE, "the place is not given free");
    }
    assert_eq!(first.add("a", ValueType::Json), Ok(true));
}

/// Clients that pipe a request in, as `nc -N` does, end their own side with it.
#[test]
fn who_ends_its_own_side_hears_the_answer() {
    let server = Server::start_with_mqtt(2, &[]);
    let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c";
    let publish = b"\x32\x06\x00\x01a\x00\x07x";
    let mqtt = server.mqtt.expect("it serves MQTT");
    let get = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    for _ in 0..50 {
        for (address, bytes, expected) in [
            (server.address, get.as_bytes(), &b"\r\n\r\nok"[..]),
            (mqtt, &[&connect[..], publish].concat(), b"\x20\x02\x00\x00\x40\x02\x00\x07"),
        ] {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(bytes).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            assert!(answer.trim_ascii_end().ends_with(expected), "{:?}", String::from_utf8_lossy(&answer));
        }
    }
}
