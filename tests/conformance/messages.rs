//! Sections 5.4 and 8.1: fragmentation, and UTF-8 in text messages.

use crate::frames::{FIN, Outcome, PING, PING_MESSAGE, PONG, TEXT, check, frame, pong_message};
use crate::peer::MESSAGE_BYTES_MAX;

const CONTINUATION: u8 = 0;

fn answered() -> Outcome {
    Outcome::Frames(vec![pong_message()])
}

#[test]
fn a_message_may_come_in_fragments() {
    let requirement = "5.4: a fragmented message is the concatenation of its fragments";
    for cut in 0..=PING_MESSAGE.len() {
        let (head, tail) = PING_MESSAGE.split_at(cut);
        check(requirement, &[frame(TEXT, head), frame(FIN, tail)].concat(), &answered());
        check(requirement, &[frame(TEXT, head), frame(CONTINUATION, b""), frame(FIN, tail)].concat(), &answered());
    }
    let bytes = PING_MESSAGE.iter().map(|byte| frame(CONTINUATION, &[*byte])).collect::<Vec<_>>().concat();
    check(requirement, &[frame(TEXT, b""), bytes, frame(FIN, b"")].concat(), &answered());
}

#[test]
fn control_frames_may_come_between_fragments() {
    let (head, tail) = PING_MESSAGE.split_at(5);
    let requirement = "5.4: control frames may be injected in the middle of a fragmented message";
    let bytes = [frame(TEXT, head), frame(FIN | PING, b"x"), frame(FIN | PONG, b""), frame(FIN, tail)].concat();
    check(requirement, &bytes, &Outcome::Frames(vec![(FIN | PONG, b"x".to_vec()), pong_message()]));
}

#[test]
fn fragments_out_of_order_are_refused() {
    let requirement = "5.4: fragments of one message must not be interleaved with another message";
    for opcode in [TEXT, FIN | TEXT, 2, FIN | 2] {
        check(requirement, &[frame(TEXT, b"a"), frame(opcode, b"b")].concat(), &Outcome::Close(1002));
    }
    for first in [CONTINUATION, FIN] {
        check("5.4: a continuation continues a message", &frame(first, b"a"), &Outcome::Close(1002));
        let behind = [frame(FIN | TEXT, PING_MESSAGE), frame(first, b"a")].concat();
        let mut peer = crate::peer::Peer::upgraded("tidewire.1.json");
        peer.give(&behind);
        assert!(peer.is_ended(), "5.4: a message that is whole is not continued");
    }
}

#[test]
fn fragments_together_obey_the_limit() {
    let half = vec![b' '; MESSAGE_BYTES_MAX / 2];
    let whole = [frame(TEXT, &half), frame(CONTINUATION, &half[..half.len() - 13]), frame(FIN, PING_MESSAGE)].concat();
    check("10.4: limits on the size of a message after reassembly", &whole, &answered());
    let over = [frame(TEXT, &half), frame(CONTINUATION, &half), frame(FIN, b" ")].concat();
    check("10.4: limits on the size of a message after reassembly", &over, &Outcome::Close(1009));
}

#[test]
fn the_other_kind_of_data_is_1003() {
    check("7.4.1: 1003 for a type of data that cannot be accepted", &frame(FIN | 2, PING_MESSAGE), &Outcome::Close(1003));
    check("7.4.1: 1003 for a type of data that cannot be accepted", &[frame(2, b"{"), frame(FIN, b"}")].concat(), &Outcome::Close(1003));
}

/// Text with these bytes in a member that the server ignores.
fn text_with(bytes: &[u8]) -> Vec<u8> {
    [br#"{"op":"ping","x":""#, bytes, br#""}"#].concat()
}

#[test]
fn valid_utf8_is_taken() {
    for text in ["κόσμε", "\u{7f}", "\u{80}", "\u{7ff}", "\u{800}", "\u{d7ff}", "\u{e000}", "\u{ffff}", "\u{10000}", "\u{10ffff}"] {
        check("8.1: text is UTF-8", &frame(FIN | TEXT, &text_with(text.as_bytes())), &answered());
    }
}

#[test]
fn text_that_is_not_utf8_is_1007() {
    let requirement = "8.1: text that is not valid UTF-8 fails the connection";
    for bytes in [
        &[0x80][..],
        &[0xbf],
        &[0xc0, 0x80],
        &[0xc3],
        &[0xc3, b'x'],
        &[0xe0, 0x80, 0x80],
        &[0xed, 0xa0, 0x80],
        &[0xed, 0xbf, 0xbf],
        &[0xf0, 0x8f, 0xbf, 0xbf],
        &[0xf4, 0x90, 0x80, 0x80],
        &[0xf8, 0x88, 0x80, 0x80, 0x80],
        &[0xfe],
        &[0xff],
    ] {
        check(requirement, &frame(FIN | TEXT, &text_with(bytes)), &Outcome::Close(1007));
    }
}

#[test]
fn a_character_may_be_cut_by_fragments() {
    let message = text_with("κ🌊".as_bytes());
    for cut in 0..=message.len() {
        let (head, tail) = message.split_at(cut);
        let requirement = "5.6: a fragment need not be valid UTF-8 by itself, the message must";
        check(requirement, &[frame(TEXT, head), frame(FIN, tail)].concat(), &answered());
    }
}
