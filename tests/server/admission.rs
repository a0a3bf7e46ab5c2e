//! Very many clients at once: sessions begin evenly, those that stand go on, and the others are told when to come.

use crate::client::{Message, Seen, Session, Socket, connect_ask};
use crate::server::Server;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const COME_LATER: u16 = 4107;

fn start(per_s: &str) -> Server {
    Server::start_with_mqtt(1, &[("SESSION_ADMISSION_PER_S", per_s)])
}

/// Many clients at once: those that have a session, and in how many milliseconds the others should come.
fn storm(server: &Server) -> (Vec<Session>, Vec<u64>) {
    let (mut sessions, mut waits) = (Vec::new(), Vec::new());
    let all: Vec<Session> = (0..60).map(|_| Session::begin(server.address, connect_ask(60_000, "", 0))).collect();
    for mut session in all {
        match session.next() {
            Seen::Welcome => sessions.push(session),
            Seen::Later(wait_ms) => {
                assert_eq!(session.wait_for_close(), COME_LATER);
                waits.push(wait_ms);
            }
            other => panic!("{other:?}"),
        }
    }
    (sessions, waits)
}

#[test]
fn who_has_a_session_goes_on_and_the_others_come_as_told() {
    let server = start("5");
    let (mut sessions, waits) = storm(&server);
    assert!(sessions.len() >= 5 && !waits.is_empty(), "{} and {waits:?}", sessions.len());
    assert!(waits.iter().all(|wait_ms| (1..38_000).contains(wait_ms)), "{waits:?}");
    assert_eq!(server.count("sessions_deferred"), waits.len() as u64);
    // What was told last is furthest away.
    let first = *waits.iter().min().unwrap();
    let mut wait_ms = first;
    loop {
        std::thread::sleep(Duration::from_millis(wait_ms));
        match Session::begin(server.address, connect_ask(0, "", 0)).next() {
            Seen::Welcome => break,
            Seen::Later(again_ms) => wait_ms = again_ms,
            other => panic!("{other:?}"),
        }
    }
    for session in &mut sessions {
        drop(session.resume(server.address));
        session.settle();
    }
}

#[test]
fn the_text_form_and_mqtt_say_it_in_their_ways() {
    let server = start("1");
    let _all = storm(&server);
    // One more may begin in each second.
    loop {
        let mut text = Socket::open(server.address, "tidewire.1.json");
        text.send_text(r#"{"op":"connect","id":7,"version":1}"#);
        match text.receive() {
            Message::Text(said) if said.starts_with(r#"{"op":"welcome""#) => {}
            Message::Text(said) => {
                assert!(said.starts_with(r#"{"op":"later","id":7,"wait_ms":"#), "{said}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    for (connect, expected) in [
        (&b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"[..], &b"\x20\x02\x00\x03"[..]),
        (&b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01b"[..], &b"\x00\x89"[..]),
    ] {
        let mut connect = connect.to_vec();
        loop {
            let mut stream = TcpStream::connect(server.mqtt.unwrap()).unwrap();
            stream.write_all(&connect).unwrap();
            let mut answer = [0; 512];
            let length = stream.read(&mut answer).unwrap();
            let is_refused = answer[..length].windows(expected.len()).any(|part| part == expected);
            if is_refused {
                break;
            }
            // CONNACK of another client's session.
            assert_eq!(answer[0], 0x20, "{answer:x?}");
            *connect.last_mut().unwrap() += 1;
        }
    }
}

#[test]
fn the_command_line_comes_when_it_is_told() {
    let server = start("40");
    let _all = storm(&server);
    let outputs: Vec<_> = (0..3).map(|_| server.command(&["fetch", "?a//"])).collect();
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
}
