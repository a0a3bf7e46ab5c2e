//! WebSocket frames, the server's side (RFC 6455 section 5).
//!
//! Heads are read and written with tungstenite's frame header; the stream stays ours, because a buffer per connection is too much
//! for hundreds of thousands of them. Extensions are not offered, so every reserved bit is an error.

use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

pub use tungstenite::protocol::frame::coding::OpCode as Opcode;

/// The peer broke a rule of RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketError {
    /// Close code 1002, with the rule in words.
    Protocol(&'static str),
    /// Close code 1009.
    TooLarge,
}

/// A client's frame: where its payload lies and how it is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    pub is_final: bool,
    pub opcode: OpCode,
    pub mask: [u8; 4],
    pub head_len: usize,
    pub payload_len: usize,
}

pub const TEXT: OpCode = OpCode::Data(Data::Text);
pub const BINARY: OpCode = OpCode::Data(Data::Binary);
pub const CONTINUATION: OpCode = OpCode::Data(Data::Continue);
pub const CLOSE: OpCode = OpCode::Control(Control::Close);
pub const PING: OpCode = OpCode::Control(Control::Ping);
pub const PONG: OpCode = OpCode::Control(Control::Pong);

/// Reads the head of the frame that `bytes` starts with; `None` while it is incomplete.
pub fn parse_head(bytes: &[u8], payload_max: usize) -> Result<Option<FrameHead>, WebSocketError> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| WebSocketError::Protocol("unknown opcode"))?;
    let Some((header, length)) = parsed else { return Ok(None) };
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(WebSocketError::Protocol("a reserved bit is set"));
    }
    let Some(mask) = header.mask else { return Err(WebSocketError::Protocol("a client's frame is not masked")) };
    if matches!(header.opcode, OpCode::Control(_)) && (length > 125 || !header.is_final) {
        return Err(WebSocketError::Protocol("a control frame is fragmented or longer than 125 bytes"));
    }
    let payload_len = usize::try_from(length).ok().filter(|len| *len <= payload_max).ok_or(WebSocketError::TooLarge)?;
    Ok(Some(FrameHead { is_final: header.is_final, opcode: header.opcode, mask, head_len: cursor.position() as usize, payload_len }))
}

/// Takes the mask off (or puts it on).
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes((&*chunk).try_into().expect("a chunk has 8 bytes")) ^ wide;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    for (at, byte) in chunks.into_remainder().iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
}

/// The longest head of a server's frame.
pub const HEAD_MAX: usize = 10;

/// Appends a whole server frame.
pub fn put_frame(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    put_head(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// What follows the first of a server's frames, which are whole.
pub fn behind_frame(frames: &[u8]) -> &[u8] {
    let mut cursor = std::io::Cursor::new(frames);
    let (_, payload_len) = FrameHeader::parse(&mut cursor).ok().flatten().expect("the frames are the server's own");
    &frames[cursor.position() as usize + payload_len as usize..]
}

/// Appends a server frame's head.
pub fn put_head(out: &mut Vec<u8>, opcode: OpCode, payload_len: usize) {
    let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    header.format(payload_len as u64, out).expect("writing to memory does not fail");
}

/// Writes the head of a binary frame, whose payload begins at `payload_at`, into the room of [`HEAD_MAX`] bytes that was left for it at `start`; takes
/// the room away where there is no payload.
pub fn fill_head(out: &mut Vec<u8>, start: usize, payload_at: usize) {
    let payload_len = out.len() - payload_at;
    if payload_len == 0 {
        return out.truncate(start);
    }
    let mut head = Vec::with_capacity(HEAD_MAX);
    put_head(&mut head, BINARY, payload_len);
    if start == 0 {
        out.copy_within(payload_at.., head.len());
        out.truncate(head.len() + payload_len);
        out[..head.len()].copy_from_slice(&head);
    } else {
        out.splice(start..payload_at, head);
    }
}

/// Appends a close frame; the reason is cut to what a control frame holds.
pub fn put_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let mut payload = code.to_be_bytes().to_vec();
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    put_frame(out, CLOSE, &payload);
}

/// Checks a peer's close payload and gives the code to answer with.
pub fn close_answer(payload: &[u8]) -> Result<u16, WebSocketError> {
    if payload.is_empty() {
        return Ok(1000);
    }
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return Err(WebSocketError::Protocol("a close payload of one byte"));
    };
    let code = u16::from_be_bytes(*code);
    let is_allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !is_allowed || std::str::from_utf8(reason).is_err() {
        return Err(WebSocketError::Protocol("an invalid close code or reason"));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<Option<(usize, usize)>, WebSocketError>) {
        let got = parse_head(bytes, 1000).map(|head| head.map(|h| (h.head_len, h.payload_len)));
        assert_eq!(got, expected, "{bytes:02x?}");
    }

    #[test]
    fn heads_of_every_length_form_are_read() {
        check(&[0x82, 0x83, 1, 2, 3, 4], Ok(Some((6, 3))));
        check(&[0x82, 0xfe, 0, 126, 1, 2, 3, 4], Ok(Some((8, 126))));
        check(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4], Ok(Some((14, 256))));
    }

    #[test]
    fn an_incomplete_head_waits() {
        let head = [0x82, 0xff, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4];
        for cut in 0..head.len() {
            check(&head[..cut], Ok(None));
        }
    }

    #[test]
    fn broken_heads_are_refused() {
        check(&[0x82, 0x03, 1, 2, 3], Err(WebSocketError::Protocol("a client's frame is not masked")));
        check(&[0xc2, 0x80, 1, 2, 3, 4], Err(WebSocketError::Protocol("a reserved bit is set")));
        check(&[0x83, 0x80, 1, 2, 3, 4], Err(WebSocketError::Protocol("unknown opcode")));
        check(&[0x09, 0x80, 1, 2, 3, 4], Err(WebSocketError::Protocol("a control frame is fragmented or longer than 125 bytes")));
        check(&[0x82, 0xfe, 0x03, 0xe9, 1, 2, 3, 4], Err(WebSocketError::TooLarge));
        check(&[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], Err(WebSocketError::TooLarge));
    }

    #[test]
    fn unmasking_twice_changes_nothing() {
        for len in 0..40 {
            let plain: Vec<u8> = (0..len).collect();
            let mut masked = plain.clone();
            unmask(&mut masked, [9, 8, 7, 6]);
            let slow: Vec<u8> = plain.iter().enumerate().map(|(at, b)| b ^ [9, 8, 7, 6][at % 4]).collect();
            assert_eq!(masked, slow);
        }
    }

    #[test]
    fn close_payloads_are_checked() {
        assert_eq!(close_answer(&[]), Ok(1000));
        assert_eq!(close_answer(&[0x0f, 0xa0]), Ok(4000));
        for broken in [&[3][..], &[0x03, 0xed], &[0x03, 0xe8, 0xff]] {
            assert!(close_answer(broken).is_err(), "{broken:02x?}");
        }
    }
}
