//! Sections 5.5.1, 7.1 and 7.4: the closing handshake.

use crate::frames::{CLOSE, FIN, Outcome, PING, PING_MESSAGE, TEXT, check, frame, outcome, pong_message};
use crate::peer::Peer;

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes()[..], reason].concat())
}

#[test]
fn a_close_is_answered_with_its_code() {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        check("5.5.1: the answer typically echoes the status code", &close(code, b""), &Outcome::Close(code));
        check("5.5.1: a reason may follow the code", &close(code, "Ende 🌊".as_bytes()), &Outcome::Close(code));
    }
    check("5.5.1: a reason may fill the frame", &close(1000, &[b'x'; 123]), &Outcome::Close(1000));
}

#[test]
fn a_close_without_a_code_is_answered() {
    check("5.5.1: a close frame may have no body", &frame(FIN | CLOSE, b""), &Outcome::Close(1000));
}

#[test]
fn codes_that_must_not_be_sent_are_refused() {
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        check("7.4.1, 7.4.2: codes that no endpoint may send", &close(code, b""), &Outcome::Close(1002));
    }
}

#[test]
fn broken_bodies_are_refused() {
    check("5.5.1: the body begins with a code of two bytes", &frame(FIN | CLOSE, &[3]), &Outcome::Close(1002));
    for reason in [&[0xff][..], &[0xce], &[0xed, 0xa0, 0x80]] {
        let mut peer = Peer::upgraded("tidewire.1.json");
        peer.give(&close(1000, reason));
        let outcome = outcome(&mut peer);
        assert!(matches!(outcome, Outcome::Close(1002 | 1007)), "8.1: the reason is UTF-8, else the connection fails: {outcome:?}");
    }
}

#[test]
fn nothing_is_read_behind_a_close() {
    let requirement = "5.5.1: behind a close frame no data is processed, 1.4: nor answered";
    for behind in [frame(FIN | TEXT, PING_MESSAGE), frame(FIN | PING, b"x"), close(1001, b""), vec![0xff; 20]] {
        check(requirement, &[close(1000, b""), behind].concat(), &Outcome::Close(1000));
    }
}

#[test]
fn nothing_is_read_behind_a_failure() {
    let requirement = "7.1.7: behind a failure the server does not process further data";
    let broken = frame(FIN | 0x40 | TEXT, b"");
    for behind in [frame(FIN | TEXT, PING_MESSAGE), broken.clone(), close(1000, b"")] {
        check(requirement, &[broken.clone(), behind].concat(), &Outcome::Close(1002));
    }
}

#[test]
fn what_came_before_a_close_is_answered_first() {
    let mut peer = Peer::upgraded("tidewire.1.json");
    peer.give(&frame(FIN | TEXT, PING_MESSAGE));
    assert_eq!(outcome(&mut peer), Outcome::Frames(vec![pong_message()]));
    peer.give(&close(1000, b""));
    assert_eq!(outcome(&mut peer), Outcome::Close(1000));
}

#[test]
fn the_server_ends_the_transport_first() {
    let mut peer = Peer::upgraded("tidewire.1");
    peer.give(&close(1000, b""));
    assert!(peer.is_ended(), "7.1.1: the server closes the underlying connection first");
}
