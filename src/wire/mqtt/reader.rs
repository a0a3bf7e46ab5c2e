//! The data types that packets are made of (MQTT 5, section 1.5), taken apart from the front.

use super::{Fault, ReasonCode};

/// The largest number that four bytes of seven bits hold.
pub(super) const VARINT_MAX: u32 = 268_435_455;

pub(super) const fn malformed(what: &'static str) -> Fault {
    Fault::new(ReasonCode::MALFORMED_PACKET, what)
}

pub(super) const fn protocol_error(what: &'static str) -> Fault {
    Fault::new(ReasonCode::PROTOCOL_ERROR, what)
}

const CUT: Fault = malformed("the packet ends inside a field");

/// The variable byte integer that `bytes` start with, and how long it is; `None` while it is incomplete.
pub(super) fn parse_varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, Fault> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            // MQTT-1.5.5-1: the encoded value takes the fewest bytes that hold it.
            return if at > 0 && *byte == 0 { Err(malformed("a number is longer than it need be")) } else { Ok(Some((value, at + 1))) };
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(malformed("a number of more than four bytes")) }
}

/// Takes a packet's body apart from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn byte(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    pub fn two_bytes(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn four_bytes(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn varint(&mut self) -> Result<u32, Fault> {
        let (value, length) = parse_varint(self.0)?.ok_or(CUT)?;
        self.0 = &self.0[length..];
        Ok(value)
    }

    pub fn boolean(&mut self) -> Result<bool, Fault> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(protocol_error("a property is neither 0 nor 1")),
        }
    }

    pub fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.two_bytes()?;
        self.take(usize::from(length))
    }

    pub fn string(&mut self) -> Result<&'a str, Fault> {
        // MQTT-1.5.4-1: the bytes are well-formed UTF-8, which has no surrogates.
        let text = std::str::from_utf8(self.binary()?).map_err(|_| malformed("a string is not UTF-8"))?;
        // MQTT-1.5.4-2: a string has no U+0000.
        if text.as_bytes().contains(&0) { Err(malformed("a string has a U+0000")) } else { Ok(text) }
    }

    /// A packet identifier.
    pub fn packet_id(&mut self) -> Result<u16, Fault> {
        // MQTT-2.2.1-3, MQTT-2.2.1-4: a packet identifier is not 0.
        match self.two_bytes()? {
            0 => Err(protocol_error("a packet identifier is 0")),
            id => Ok(id),
        }
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), Fault> {
        if self.is_empty() { Ok(()) } else { Err(malformed("bytes are left behind the packet's last field")) }
    }
}
