//! Section 5: frames as they are on the wire.

use crate::peer::{MESSAGE_BYTES_MAX, Peer};

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;
pub const FIN: u8 = 0x80;

/// A client's frame with this first byte, masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    put_masked(&mut out, payload);
    out
}

fn put_masked(out: &mut Vec<u8>, payload: &[u8]) {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    out.extend(mask);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
}

/// A server's frame: its first byte and its payload.
pub type ServerFrame = (u8, Vec<u8>);

/// Takes the server's bytes apart, and checks what section 5 asks of every frame of a server.
pub fn parse_frames(mut bytes: &[u8]) -> Vec<ServerFrame> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!(first & 0x70, 0, "5.2: no extension was agreed on, so the reserved bits are 0");
        assert_eq!(second & 0x80, 0, "5.1: a server does not mask");
        let (length, rest) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            short => (usize::from(short), rest),
        };
        let least = if second & 0x7f == 127 { 0x1_0000 } else { 126 };
        assert!(second & 0x7f < 126 || length >= least, "5.2: the length is written in the least number of bytes");
        let (payload, rest) = rest.split_at(length);
        frames.push((*first, payload.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a frame is cut: {bytes:02x?}");
    frames
}

/// What must come of bytes given to a connection of the text form.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These frames, and the connection lives.
    Frames(Vec<ServerFrame>),
    /// A close frame with this code, and the end of the transport.
    Close(u16),
}

pub fn outcome(peer: &mut Peer) -> Outcome {
    let mut frames = parse_frames(&peer.take());
    if !peer.is_ended() {
        return Outcome::Frames(frames);
    }
    let (first, payload) = frames.pop().expect("an end without a close frame");
    assert_eq!((first, frames.len()), (FIN | CLOSE, 0), "nothing but the close frame");
    assert!(payload.len() <= 125 && std::str::from_utf8(&payload[2..]).is_ok(), "5.5: at most 125 bytes; 5.5.1: the reason is UTF-8");
    Outcome::Close(u16::from_be_bytes([payload[0], payload[1]]))
}

pub fn check(requirement: &str, bytes: &[u8], expected: &Outcome) {
    let mut peer = Peer::upgraded("tidewire.1.json");
    peer.give(bytes);
    assert_eq!(outcome(&mut peer), *expected, "{requirement}: {:02x?}", &bytes[..bytes.len().min(40)]);
}

pub fn pong(payload: &[u8]) -> Outcome {
    Outcome::Frames(vec![(FIN | PONG, payload.to_vec())])
}

/// The answer to the keep-alive message of the text form, which shows that a message was understood.
pub fn pong_message() -> ServerFrame {
    (FIN | TEXT, br#"{"op":"pong"}"#.to_vec())
}

pub const PING_MESSAGE: &[u8] = br#"{"op":"ping"}"#;

#[test]
fn a_client_must_mask() {
    let unmasked = |first: u8, payload: &[u8]| [&[first, payload.len() as u8], payload].concat();
    let requirement = "5.1: the server must close the connection upon receiving a frame that is not masked";
    check(requirement, &unmasked(FIN | TEXT, PING_MESSAGE), &Outcome::Close(1002));
    check(requirement, &unmasked(FIN | PING, b""), &Outcome::Close(1002));
    check(requirement, &unmasked(FIN | CLOSE, b""), &Outcome::Close(1002));
    let mut zero = vec![FIN | TEXT, 0x80 | PING_MESSAGE.len() as u8, 0, 0, 0, 0];
    zero.extend(PING_MESSAGE);
    check("5.3: a masking key may be any value", &zero, &Outcome::Frames(vec![pong_message()]));
}

#[test]
fn reserved_bits_are_refused() {
    for bit in [0x40, 0x20, 0x10, 0x70] {
        for opcode in [TEXT, PING, CLOSE, 0] {
            let requirement = "5.2: a nonzero reserved bit that no extension defines fails the connection";
            check(requirement, &frame(FIN | bit | opcode, b""), &Outcome::Close(1002));
        }
    }
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        for first in [opcode, FIN | opcode] {
            check("5.2: an unknown opcode fails the connection", &frame(first, b""), &Outcome::Close(1002));
        }
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [CLOSE, PING, PONG] {
        check("5.5: control frames have at most 125 bytes", &frame(FIN | opcode, &[b' '; 126]), &Outcome::Close(1002));
        check("5.5: control frames must not be fragmented", &frame(opcode, b""), &Outcome::Close(1002));
    }
    check("5.5: control frames have at most 125 bytes", &frame(FIN | PING, &[b' '; 125]), &pong(&[b' '; 125]));
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    for payload in [&b""[..], b"Hello", &[0, 0xff, 0x80]] {
        check("5.5.3: a pong has the application data of its ping", &frame(FIN | PING, payload), &pong(payload));
    }
    let three = [frame(FIN | PING, b"1"), frame(FIN | PING, b"2"), frame(FIN | PING, b"3")].concat();
    let mut peer = Peer::upgraded("tidewire.1.json");
    peer.give(&three);
    let Outcome::Frames(pongs) = outcome(&mut peer) else { panic!("the connection ended") };
    assert_eq!(pongs.last(), Some(&(FIN | PONG, b"3".to_vec())), "5.5.3: of several pings the most recent may be answered alone");
}

#[test]
fn a_pong_unasked_for_is_not_answered() {
    check("5.5.3: an unsolicited pong expects no response", &frame(FIN | PONG, b"x"), &Outcome::Frames(vec![]));
}

#[test]
fn a_flood_of_pings_is_answered_within_a_bound() {
    let mut peer = Peer::upgraded("tidewire.1.json");
    peer.give(&frame(FIN | PING, &[b' '; 125]).repeat(10_000));
    assert!(peer.take().len() < 8192, "pings must not make memory grow");
    assert!(!peer.is_ended());
}

#[test]
fn every_form_of_length_is_read() {
    // A message of the wanted length that is answered: white space is allowed behind JSON.
    let message = |length: usize| [PING_MESSAGE, &vec![b' '; length - PING_MESSAGE.len()]].concat();
    let answered = Outcome::Frames(vec![pong_message()]);
    for length in [13, 125, 126, 127, 128, 0xffff, 0x1_0000, MESSAGE_BYTES_MAX] {
        check("5.2: payload length in 7, 16 and 64 bits", &frame(FIN | TEXT, &message(length)), &answered);
    }
    let too_long = frame(FIN | TEXT, &message(MESSAGE_BYTES_MAX + 1));
    check("7.4.1: 1009 for a message too big to process", &too_long, &Outcome::Close(1009));
    check("7.4.1: 1009 for a message too big to process", &too_long[..14], &Outcome::Close(1009));
    let most_significant = [&[FIN | TEXT, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 1][..], &[0; 4]].concat();
    check("5.2: the most significant bit of a 64-bit length must be 0", &most_significant, &Outcome::Close(1009));
}

#[test]
fn a_length_in_more_bytes_than_needed_is_borne() {
    let mut in_16_bits = vec![FIN | TEXT, 0x80 | 126, 0, PING_MESSAGE.len() as u8];
    put_masked(&mut in_16_bits, PING_MESSAGE);
    let mut in_64_bits = vec![FIN | TEXT, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, PING_MESSAGE.len() as u8];
    put_masked(&mut in_64_bits, PING_MESSAGE);
    for bytes in [in_16_bits, in_64_bits] {
        check("5.2: the least number of bytes is the sender's duty", &bytes, &Outcome::Frames(vec![pong_message()]));
    }
}
