//! A stream has no packets: wherever the bytes are cut, the same comes of them.

use crate::frames::{BINARY, CLOSE, FIN, PING, PING_MESSAGE, TEXT, frame};
use crate::handshake::request;
use crate::peer::Peer;

/// Gives `bytes` in two pieces at every boundary, and byte by byte; everything sent, and whether it ended, is what it is in one piece.
fn check(bytes: &[u8]) {
    let whole = run(&[bytes]);
    for cut in 0..=bytes.len() {
        assert!(run(&[&bytes[..cut], &bytes[cut..]]) == whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert!(run(&single) == whole, "byte by byte");
}

fn run(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut peer = Peer::new();
    for piece in pieces {
        peer.give(piece);
    }
    (peer.take(), peer.is_ended())
}

#[test]
fn a_greeting_may_be_cut_anywhere() {
    let long = [PING_MESSAGE, &[b' '; 300]].concat();
    let parts = [
        request("tidewire.1.json").into_bytes(),
        frame(FIN | PING, b"Hello"),
        frame(TEXT, &PING_MESSAGE[..4]),
        frame(FIN | PING, b""),
        frame(FIN, &PING_MESSAGE[4..]),
        frame(FIN | TEXT, &long),
        frame(FIN | CLOSE, &[3, 232]),
        frame(FIN | TEXT, PING_MESSAGE),
    ];
    check(&parts.concat());
}

#[test]
fn a_session_may_be_cut_anywhere() {
    let parts = [
        request("tidewire.1.json").into_bytes(),
        frame(FIN | TEXT, br#"{"op":"connect","id":1}"#),
        frame(TEXT, br#"{"op":"add_and_set","id":2,"#),
        frame(FIN, br#""path":"a","value":[1]}"#),
        frame(FIN | TEXT, br#"{"op":"subscribe","id":3,"selector":"a"}"#),
    ];
    check(&parts.concat());
}

#[test]
fn the_binary_form_may_be_cut_anywhere() {
    let parts = [
        request("tidewire.1").into_bytes(),
        frame(FIN | BINARY, &[1, 2, 1, 1]),
        frame(FIN | BINARY, &[0x12, 7, 2, 1, b'a', 1, 0, b'4', b'2', 2, 0]),
        frame(FIN | BINARY, &[0x14, 6, 3, 1, b'a', 0, 0, 1]),
    ];
    check_messages(&parts.concat());
}

/// Several answers may share a WebSocket message, so only the protocol's own frames are compared.
fn check_messages(bytes: &[u8]) {
    let frames = |sent: &[u8]| {
        let head = sent.windows(4).position(|end| end == b"\r\n\r\n").expect("the handshake is answered") + 4;
        crate::frames::parse_frames(&sent[head..]).into_iter().flat_map(|(_, payload)| payload).collect::<Vec<u8>>()
    };
    let whole = frames(&run(&[bytes]).0);
    assert!(!whole.is_empty());
    let head = request("tidewire.1").len();
    for cut in head..=bytes.len() {
        assert_eq!(frames(&run(&[&bytes[..cut], &bytes[cut..]]).0), whole, "cut at {cut}");
    }
    assert_eq!(frames(&run(&bytes.chunks(1).collect::<Vec<_>>()).0), whole, "byte by byte");
}

#[test]
fn broken_bytes_are_refused_wherever_they_are_cut() {
    for broken in
        [vec![0xc1, 0x80, 0, 0, 0, 0], vec![0x81, 0x01, b'x'], frame(FIN | TEXT, b"\xff"), frame(FIN, b"x"), frame(FIN | CLOSE, &[3])]
    {
        check(&[request("tidewire.1.json").into_bytes(), broken].concat());
    }
}
