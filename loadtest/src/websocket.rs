//! The client's half of RFC 6455: the upgrade, masked frames out, frames in, in place.
//!
//! Written for the receiving side of a load: a deframer holds a few integers, the bytes stay in
//! the caller's buffer. The server's payloads are handed out as they lie, also in parts.

use tungstenite::handshake::{client::generate_key, derive_accept_key};

/// The request of an upgrade and the answer that proves that the server understood it.
pub struct Upgrade {
    pub request: Vec<u8>,
    accept: String,
    subprotocol: Option<&'static str>,
}

/// The longest head of an answer to an upgrade.
const HEAD_BYTES_MAX: usize = 16 * 1024;

impl Upgrade {
    /// Offers the subprotocol, where there is one.
    pub fn new(authority: &str, path: &str, subprotocol: Option<&'static str>) -> Self {
        let key = generate_key();
        let offer = subprotocol.map_or_else(String::new, |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{offer}\r\n"
        );
        Self { request: request.into_bytes(), accept: derive_accept_key(key.as_bytes()), subprotocol }
    }

    /// Reads the answer. `Ok(None)`: not whole yet; else the length of its head.
    pub fn answer(&self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if bytes.len() > HEAD_BYTES_MAX { Err("an HTTP head without end".to_owned()) } else { Ok(None) };
        };
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("101") {
            let body = String::from_utf8_lossy(&bytes[end + 4..]);
            return Err(format!("the upgrade was answered with \"{status}\" {}", body.trim()));
        }
        let header = |name: &str| {
            head.split("\r\n")
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        if header("sec-websocket-accept") != Some(self.accept.as_str()) {
            return Err("the upgrade's answer has a wrong Sec-WebSocket-Accept".to_owned());
        }
        if header("sec-websocket-protocol") != self.subprotocol {
            return Err(match self.subprotocol {
                Some(name) => format!("the server does not speak the subprotocol {name}"),
                None => "the server chose a subprotocol that was not offered".to_owned(),
            });
        }
        Ok(Some(end + 4))
    }
}

/// A frame's opcode, as far as a client of a message protocol meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }
}

/// The head of a frame from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub opcode: Opcode,
    pub head_bytes: usize,
    pub payload_bytes: u64,
}

/// Reads the head at the start of `bytes`. `Ok(None)`: not whole yet.
#[inline]
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>, &'static str> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err("a frame has reserved bits set without an extension");
    }
    if second & 0x80 != 0 {
        return Err("a frame from the server is masked");
    }
    let opcode = Opcode::from_bits(first & 0x0f).ok_or("a frame has a reserved opcode")?;
    if first & 0x80 == 0 && opcode.bits() >= 8 {
        return Err("a control frame is fragmented");
    }
    let (head_bytes, payload_bytes) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        length => (2, u64::from(length)),
    };
    Ok(Some(Head { opcode, head_bytes, payload_bytes }))
}

/// Appends one whole masked frame that holds `payload`.
pub fn encode_frame(opcode: Opcode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(0x80 | opcode.bits());
    push_length(payload.len(), 0x80, out);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// Appends one whole frame as a server sends it: not masked.
pub fn encode_server_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode.bits());
    push_length(payload.len(), 0, out);
    out.extend_from_slice(payload);
}

/// Masks or unmasks `bytes`; the mask starts at the first.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte ^= mask[index & 3];
    }
}

fn push_length(length: usize, mask_bit: u8, out: &mut Vec<u8>) {
    match length {
        0..126 => out.push(mask_bit | length as u8),
        126..65_536 => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Takes one masked frame from the front of `bytes` as a server reads it: its opcode, payload and
/// length. The roofline and the tests' server use this; they are handed whole frames soon enough.
pub fn take_client_frame(bytes: &[u8]) -> Option<(Opcode, Vec<u8>, usize)> {
    let mut plain = [0; 10];
    let known = bytes.len().min(10);
    plain[..known].copy_from_slice(&bytes[..known]);
    if known < 2 {
        return None;
    }
    plain[1] &= 0x7f;
    let head = parse_head(&plain[..known]).ok()??;
    let payload_at = head.head_bytes + 4;
    let end = payload_at.checked_add(usize::try_from(head.payload_bytes).ok()?)?;
    let mask = *bytes.get(head.head_bytes..payload_at)?.first_chunk::<4>()?;
    let mut payload = bytes.get(payload_at..end)?.to_vec();
    apply_mask(&mut payload, mask);
    Some((head.opcode, payload, end))
}

/// The server's answer to the upgrade request in `head`, or none where it is no such request.
pub fn accept_upgrade(head: &str, subprotocol: &str) -> Option<String> {
    let key =
        head.split("\r\n").filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))?.1;
    let accept = derive_accept_key(key.trim().as_bytes());
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_head(bytes: &[u8], expected: Result<Option<(Opcode, usize, u64)>, &'static str>) {
        let head = parse_head(bytes).map(|head| head.map(|head| (head.opcode, head.head_bytes, head.payload_bytes)));
        assert_eq!(head, expected, "{bytes:02x?}");
    }

    #[test]
    fn heads_have_three_lengths() {
        check_head(&[0x82, 5], Ok(Some((Opcode::Binary, 2, 5))));
        check_head(&[0x82, 126, 1, 0], Ok(Some((Opcode::Binary, 4, 256))));
        check_head(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], Ok(Some((Opcode::Binary, 10, 65_536))));
        check_head(&[0x88, 0], Ok(Some((Opcode::Close, 2, 0))));
    }

    #[test]
    fn an_unfinished_head_waits() {
        for bytes in [&[][..], &[0x82], &[0x82, 126, 1], &[0x82, 127, 0, 0, 0, 0, 0, 1, 0]] {
            check_head(bytes, Ok(None));
        }
    }

    #[test]
    fn heads_that_break_the_rules_are_refused() {
        check_head(&[0xC2, 0], Err("a frame has reserved bits set without an extension"));
        check_head(&[0x82, 0x80], Err("a frame from the server is masked"));
        check_head(&[0x83, 0], Err("a frame has a reserved opcode"));
        check_head(&[0x09, 0], Err("a control frame is fragmented"));
    }

    #[test]
    fn a_masked_frame_is_read_back_by_a_server() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let mut frame = Vec::new();
            encode_frame(Opcode::Binary, &payload, [1, 2, 3, 4], &mut frame);
            assert_eq!(take_client_frame(&frame), Some((Opcode::Binary, payload, frame.len())));
            assert_eq!(take_client_frame(&frame[..frame.len() - 1]), None);
        }
    }

    #[test]
    fn the_upgrade_accepts_only_the_answer_to_its_own_key() {
        let upgrade = Upgrade::new("127.0.0.1:8080", "/tidewire", Some("tidewire.1"));
        let request = String::from_utf8(upgrade.request.clone()).unwrap();
        let answer = accept_upgrade(&request, "tidewire.1").unwrap();
        assert_eq!(upgrade.answer(answer.as_bytes()), Ok(Some(answer.len())));
        assert_eq!(upgrade.answer(&answer.as_bytes()[..20]), Ok(None));
        let other = Upgrade::new("127.0.0.1:8080", "/tidewire", Some("tidewire.1"));
        assert!(other.answer(answer.as_bytes()).is_err());
        let wrong = accept_upgrade(&request, "mqtt").unwrap();
        assert!(upgrade.answer(wrong.as_bytes()).unwrap_err().contains("subprotocol"));
        let unnamed = Upgrade::new("127.0.0.1:8080", "/", None);
        let request = String::from_utf8(unnamed.request.clone()).unwrap();
        assert!(!request.contains("Sec-WebSocket-Protocol"));
        let answer = accept_upgrade(&request, "tidewire.1").unwrap();
        assert!(unnamed.answer(answer.as_bytes()).unwrap_err().contains("not offered"));
        let answer = answer.replace("Sec-WebSocket-Protocol: tidewire.1\r\n", "");
        assert_eq!(unnamed.answer(answer.as_bytes()), Ok(Some(answer.len())));
        let refused = upgrade.answer(b"HTTP/1.1 400 Bad Request\r\n\r\nno").unwrap_err();
        assert!(refused.contains("400 Bad Request"), "{refused}");
    }
}
