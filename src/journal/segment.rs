//! One file of the journal: a header, then frames with ascending numbers.
//!
//! Reading tells three ends apart. Whole: every frame holds. Torn: the bytes from some frame on were never known to be on
//! the disk, as when the power went while they were written; whole frames may even follow, since a disk writes in any
//! order. Corrupt: the damage is in what was known to be kept. Every frame notes what was synced when it was written, and
//! those notes decide: what lies behind the last of them was on its way, what lies before it was not.

use super::frame::{self, Broken, Salt};
use super::record::Record;
use xxhash_rust::xxh3::xxh3_64;

pub const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"TIDEWJNL";
/// Raised whenever the meaning of a segment's bytes changes.
pub const FORMAT: u32 = 1;

/// What a segment starts with; synced before the first frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Ascends from file to file; gaps are no damage.
    pub segment: u64,
    /// The number of the first record. What the segments before hold from this number on is superseded.
    pub first_record: u64,
    /// The checkpointed state held all records up to this one already. One that holds less has lost some.
    pub checkpoint: u64,
    /// All records up to this one were known to be synced.
    pub synced: u64,
    pub salt: Salt,
}

/// Why the start of a file is no segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Torn while the segment was created: as no frame is written before the header is synced, there is none.
    Torn,
    /// Written by another version.
    Format { found: u32 },
    /// Of another store.
    Salt,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        let numbers = [self.segment, self.first_record, self.checkpoint, self.synced, self.salt.0];
        for (at, number) in (16..).step_by(8).zip(numbers) {
            out[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let checksum = xxh3_64(&out[..56]);
        out[56..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8], salt: Salt) -> Result<Self, HeaderError> {
        let header = bytes.get(..HEADER_BYTES).ok_or(HeaderError::Torn)?;
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        if header[..8] != MAGIC || xxh3_64(&header[..56]) != number(56) {
            return Err(HeaderError::Torn);
        }
        let found = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
        if found != FORMAT {
            return Err(HeaderError::Format { found });
        }
        if number(48) != salt.0 {
            return Err(HeaderError::Salt);
        }
        Ok(Self { segment: number(16), first_record: number(24), checkpoint: number(32), synced: number(40), salt })
    }
}

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Torn => f.write_str("the header is damaged"),
            Self::Format { found } => write!(f, "found a segment of format {found}, expected {FORMAT}"),
            Self::Salt => f.write_str("the segment belongs to another store"),
        }
    }
}

/// What a segment has to hold.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub salt: Salt,
    /// The number of its first record.
    pub from: u64,
    /// The number of the next segment's first record. The segment has to reach it; what it holds beyond is superseded.
    pub until: Option<u64>,
}

/// A record in its segment.
#[derive(Debug)]
pub struct Read<'a> {
    pub number: u64,
    pub record: Record<'a>,
    pub payload: &'a [u8],
}

/// What was found behind a segment's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRead {
    /// The number of the record that comes next.
    pub next_record: u64,
    /// Where the last whole record ends.
    pub end: usize,
    /// The highest note of what is synced.
    pub synced: u64,
    pub damage: Option<Damage>,
}

/// Where a segment's whole records end, though bytes or records are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub offset: usize,
    /// The record that was expected there.
    pub number: u64,
    pub what: String,
    /// From the offset to the end of the file.
    pub bytes: usize,
    /// Whole records behind the damage, which are lost if the segment is cut.
    pub records_behind: u64,
    /// The highest note, in this segment, of what is synced.
    pub synced: u64,
    /// The damage is none that a loss of power makes.
    pub is_certain: bool,
}

impl Damage {
    /// Whether something is lost that was known to be kept. `synced_behind` is the highest note in later segments.
    pub fn is_corruption(&self, synced_behind: u64) -> bool {
        self.is_certain || self.number <= self.synced.max(synced_behind)
    }
}

/// Hands every whole record that is not superseded to `visit`, in order, up to the first damage.
pub fn read_segment<'a>(bytes: &'a [u8], expected: Expected, mut visit: impl FnMut(Read<'a>)) -> SegmentRead {
    let Expected { salt, from, until } = expected;
    let mut read = SegmentRead { next_record: from, end: HEADER_BYTES.min(bytes.len()), synced: 0, damage: None };
    while until.is_none_or(|until| read.next_record < until) && read.end < bytes.len() {
        let (what, is_certain) = match frame::take(salt, &bytes[read.end..]) {
            Err(broken) => (broken.to_string(), matches!(broken, Broken::Kind(_))),
            Ok(whole) if whole.frame.number != read.next_record => {
                (format!("found record {}, expected record {}", whole.frame.number, read.next_record), true)
            }
            Ok(whole) => match Record::from_payload(whole.kind, whole.payload) {
                Err(malformed) => (format!("found {}", malformed.what), true),
                Ok(record) => {
                    visit(Read { number: read.next_record, record, payload: whole.payload });
                    read.synced = read.synced.max(whole.frame.synced);
                    read.next_record += 1;
                    read.end += whole.bytes;
                    continue;
                }
            },
        };
        read.damage = Some(assess(bytes, salt, &read, what, is_certain));
        return read;
    }
    if let Some(until) = until.filter(|until| read.next_record < *until) {
        let what = format!("the segment ends at record {}, expected it to reach record {}", read.next_record - 1, until - 1);
        read.damage = Some(assess(bytes, salt, &read, what, false));
    }
    read
}

/// Looks at what lies behind the damage.
fn assess(bytes: &[u8], salt: Salt, read: &SegmentRead, what: String, is_certain: bool) -> Damage {
    let offset = read.end;
    let (mut at, mut records_behind, mut synced) = (offset + 1, 0, read.synced);
    while let Some((found, whole)) = frame::next_whole(salt, bytes, at) {
        records_behind += 1;
        synced = synced.max(whole.frame.synced);
        at = found + whole.bytes;
    }
    Damage { offset, number: read.next_record, what, bytes: bytes.len() - offset, records_behind, synced, is_certain }
}

/// The highest note of what is synced in any whole frame of a segment, and in its header.
pub fn synced_mark(bytes: &[u8], salt: Salt) -> u64 {
    let mut mark = Header::decode(bytes, salt).map_or(0, |header| header.synced);
    let mut at = HEADER_BYTES;
    while let Some((found, whole)) = frame::next_whole(salt, bytes, at) {
        mark = mark.max(whole.frame.synced);
        at = found + whole.bytes;
    }
    mark
}
