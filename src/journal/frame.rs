//! The frame around a record: what makes a damaged one stand out.
//!
//! ```text
//! 0 magic, 4 bytes    4 payload length, u32    8 checksum, u64
//! 16 record number, u64    24 synced, u64    32 kind, u8    33 payload
//! ```
//! Little-endian. The checksum is xxh3-64 over everything behind it, seeded with everything before it and the store's salt.

use super::record::{Record, RecordKind};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What a frame adds to its payload.
pub const FRAME_BYTES: usize = 33;
const CHECKED_AT: usize = 16;

/// A random number of the store, unknown to clients, that seeds every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub u64);

impl Salt {
    /// What every frame of the store starts with. Unknown to clients too, or values full of it could make the search behind a
    /// damaged frame take for ever.
    fn magic(self) -> [u8; 4] {
        let [a, b, c, d, ..] = xxh3_64(&self.0.to_le_bytes()).to_le_bytes();
        // Never zero, as a file's unwritten end is.
        [a | 1, b, c, d]
    }
}

/// What a frame says beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Ascends by one over the whole store, from 1.
    pub number: u64,
    /// All records up to this one were known to survive a loss of power when the frame was written.
    pub synced: u64,
}

/// Appends a record's frame.
pub fn encode(salt: Salt, frame: Frame, record: &Record<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&salt.magic());
    out.extend_from_slice(&[0; CHECKED_AT - 4]);
    out.extend_from_slice(&frame.number.to_le_bytes());
    out.extend_from_slice(&frame.synced.to_le_bytes());
    out.push(record.kind() as u8);
    record.put_payload(out);
    let length = u32::try_from(out.len() - start - FRAME_BYTES).expect("a value is bounded far below 4 GiB");
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(salt, &out[start..]);
    out[start + 8..start + CHECKED_AT].copy_from_slice(&checksum.to_le_bytes());
}

/// A frame whose checksum holds.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    pub frame: Frame,
    pub kind: RecordKind,
    pub payload: &'a [u8],
    /// Of the frame and its payload.
    pub bytes: usize,
}

/// Why no frame starts at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The bytes end within the frame.
    Cut,
    NoMagic,
    Checksum,
    /// The checksum holds, but the kind is unknown: a newer version wrote it.
    Kind(u8),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cut => f.write_str("the bytes end within the record"),
            Self::NoMagic => f.write_str("no record starts here"),
            Self::Checksum => f.write_str("the record's checksum does not hold"),
            Self::Kind(kind) => write!(f, "the record is of kind {kind}, which this version does not know"),
        }
    }
}

/// Reads the frame at the start of `bytes`.
pub fn take(salt: Salt, bytes: &[u8]) -> Result<Whole<'_>, Broken> {
    let magic = salt.magic();
    if !bytes.starts_with(&magic[..bytes.len().min(4)]) {
        return Err(Broken::NoMagic);
    }
    if bytes.len() < FRAME_BYTES {
        return Err(Broken::Cut);
    }
    let length = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")) as usize;
    let Some(whole) = length.checked_add(FRAME_BYTES).and_then(|end| bytes.get(..end)) else {
        return Err(Broken::Cut);
    };
    if checksum(salt, whole) != number_at(whole, 8) {
        return Err(Broken::Checksum);
    }
    let kind = RecordKind::from_number(whole[32]).ok_or(Broken::Kind(whole[32]))?;
    let frame = Frame { number: number_at(whole, 16), synced: number_at(whole, 24) };
    Ok(Whole { frame, kind, payload: &whole[FRAME_BYTES..], bytes: whole.len() })
}

/// The next whole frame that starts at `from` or behind it, and where.
pub fn next_whole(salt: Salt, bytes: &[u8], from: usize) -> Option<(usize, Whole<'_>)> {
    let magic = salt.magic();
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == magic[0])?;
        if let Ok(whole) = take(salt, &bytes[at..]) {
            return Some((at, whole));
        }
        at += 1;
    }
}

fn checksum(salt: Salt, frame: &[u8]) -> u64 {
    let head = number_at(frame, 0);
    xxh3_64_with_seed(&frame[CHECKED_AT..], xxh3_64(&head.to_le_bytes()) ^ salt.0)
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
