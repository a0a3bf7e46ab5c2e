//! What a value carries: when it was due, its number in the topic's sequence, and filler.
//!
//! A value has exactly the size asked for, in every type. Binary values start with two big-endian
//! integers; JSON and string values hold the same numbers as text.

use tidewire::surface::value::ValueType;

/// When an update was due, and which update of its topic it is. Number 0 is the value that a
/// topic is created with; the updates count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub due_ns: u64,
    pub sequence: u64,
}

/// Makes and checks the values of one run.
pub struct Payload {
    value_type: ValueType,
    size: usize,
    filler: Vec<u8>,
}

const BINARY_HEAD: usize = 16;
/// Two integers of at most 20 digits, each with a space behind.
const STRING_HEAD_MAX: usize = 42;
const JSON_DUE: &[u8] = b"{\"due\":";
const JSON_SEQUENCE: &[u8] = b",\"sequence\":";
const JSON_FILLER: &[u8] = b",\"filler\":\"";
const JSON_END: &[u8] = b"\"}";

impl Payload {
    /// `size` must be at least `size_min(value_type)`.
    pub fn new(value_type: ValueType, size: usize) -> Self {
        assert!(Self::size_min(value_type).is_some_and(|min| size >= min));
        Self { value_type, size, filler: filler(value_type, size) }
    }

    /// The smallest value that holds the stamps, or none for a type that cannot.
    pub fn size_min(value_type: ValueType) -> Option<usize> {
        match value_type {
            ValueType::Binary => Some(BINARY_HEAD),
            ValueType::String => Some(STRING_HEAD_MAX),
            ValueType::Json => Some(JSON_DUE.len() + JSON_SEQUENCE.len() + JSON_FILLER.len() + JSON_END.len() + STRING_HEAD_MAX - 2),
            ValueType::Int64 | ValueType::Double => None,
        }
    }

    pub fn value_type(&self) -> ValueType {
        self.value_type
    }

    /// Bytes of each value.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Appends the value that carries `stamp`.
    pub fn encode(&self, stamp: Stamp, out: &mut Vec<u8>) {
        let start = out.len();
        match self.value_type {
            ValueType::Binary => {
                out.extend_from_slice(&stamp.due_ns.to_be_bytes());
                out.extend_from_slice(&stamp.sequence.to_be_bytes());
                self.fill(start, 0, out);
            }
            ValueType::String => {
                push_digits(stamp.due_ns, out);
                out.push(b' ');
                push_digits(stamp.sequence, out);
                out.push(b' ');
                self.fill(start, 0, out);
            }
            _ => {
                out.extend_from_slice(JSON_DUE);
                push_digits(stamp.due_ns, out);
                out.extend_from_slice(JSON_SEQUENCE);
                push_digits(stamp.sequence, out);
                out.extend_from_slice(JSON_FILLER);
                self.fill(start, JSON_END.len(), out);
                out.extend_from_slice(JSON_END);
            }
        }
    }

    fn fill(&self, start: usize, behind: usize, out: &mut Vec<u8>) {
        let missing = self.size - behind - (out.len() - start);
        out.extend_from_slice(&self.filler[..missing]);
    }

    /// The stamp of a value, or none if these are not the bytes of such a value.
    #[inline]
    pub fn stamp(&self, value: &[u8]) -> Option<Stamp> {
        if value.len() != self.size {
            return None;
        }
        if self.value_type == ValueType::Binary {
            let (due, rest) = value.split_first_chunk::<8>()?;
            let sequence = rest.first_chunk::<8>()?;
            return Some(Stamp { due_ns: u64::from_be_bytes(*due), sequence: u64::from_be_bytes(*sequence) });
        }
        self.text_parts(value).map(|(stamp, _)| stamp)
    }

    /// Whether a value is byte for byte the one that was published with its stamp.
    pub fn is_intact(&self, value: &[u8]) -> bool {
        if value.len() != self.size {
            return false;
        }
        if self.value_type == ValueType::Binary {
            return value[BINARY_HEAD..] == self.filler[..self.size - BINARY_HEAD];
        }
        let Some((_, rest)) = self.text_parts(value) else { return false };
        let rest = if self.value_type == ValueType::Json { rest.strip_suffix(JSON_END) } else { Some(rest) };
        rest.is_some_and(|rest| self.filler.starts_with(rest))
    }

    fn text_parts<'a>(&self, value: &'a [u8]) -> Option<(Stamp, &'a [u8])> {
        let is_json = self.value_type == ValueType::Json;
        let rest = if is_json { value.strip_prefix(JSON_DUE)? } else { value };
        let (due_ns, rest) = take_digits(rest)?;
        let rest = rest.strip_prefix(if is_json { JSON_SEQUENCE } else { b" " })?;
        let (sequence, rest) = take_digits(rest)?;
        let rest = rest.strip_prefix(if is_json { JSON_FILLER } else { b" " })?;
        Some((Stamp { due_ns, sequence }, rest))
    }
}

/// Bytes that do not repeat, so that a link or a delta that compresses does not profit more than
/// it would from real values. Text types get letters only.
fn filler(value_type: ValueType, size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..size).map(|_| if value_type == ValueType::Binary { next() } else { b'a' + next() % 26 }).collect()
}

pub(crate) fn push_digits(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn take_digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(length);
    std::str::from_utf8(digits).ok()?.parse().ok().map(|number| (number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value_type: ValueType, size: usize, stamp: Stamp) {
        let payload = Payload::new(value_type, size);
        let mut value = b"before".to_vec();
        payload.encode(stamp, &mut value);
        let value = &mut value[6..];
        assert_eq!(value.len(), size);
        assert_eq!(payload.stamp(value), Some(stamp));
        assert!(payload.is_intact(value));
        if value_type == ValueType::Json {
            let document: serde_json::Value = serde_json::from_slice(value).unwrap();
            assert_eq!(document["due"], stamp.due_ns);
            assert_eq!(document["sequence"], stamp.sequence);
        }
        assert_eq!(payload.stamp(&value[..size - 1]), None);
    }

    #[test]
    fn every_type_carries_its_stamp_in_exactly_the_size_asked() {
        for value_type in [ValueType::Binary, ValueType::String, ValueType::Json] {
            let min = Payload::size_min(value_type).unwrap();
            for size in [min, min + 1, 125, 4000] {
                check(value_type, size, Stamp { due_ns: 0, sequence: 0 });
                check(value_type, size, Stamp { due_ns: 123_456_789_012, sequence: 7 });
                check(value_type, size, Stamp { due_ns: u64::MAX, sequence: u64::MAX });
            }
        }
    }

    #[test]
    fn a_changed_byte_is_seen() {
        let payload = Payload::new(ValueType::Binary, 40);
        let mut value = Vec::new();
        payload.encode(Stamp { due_ns: 1, sequence: 2 }, &mut value);
        value[39] ^= 1;
        assert!(!payload.is_intact(&value));
    }
}
