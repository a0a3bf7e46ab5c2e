//! The journal as it is found: which segments still count, what they hold, and whether anything is missing.

use super::disk::Disk;
use crate::journal::{Damage, Expected, HEADER_BYTES, Header, HeaderError, Record, Salt, read_segment, synced_mark};
use std::fmt;
use std::io;

/// A segment that is written to no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub segment: u64,
    pub first_record: u64,
    /// What it holds from this number on is superseded.
    pub until: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Journal {
    /// Segments with records that the state does not hold yet, in order.
    pub sealed: Vec<Sealed>,
    /// Segments that nothing is lost with.
    pub stale: Vec<u64>,
    /// Segments behind a torn one: what they hold was on its way to the disk, as was what the torn one lacks.
    pub behind: Vec<u64>,
    pub torn: Option<Torn>,
    pub next_record: u64,
    pub last_segment: u64,
    /// Records that the state does not hold yet.
    pub records: u64,
    pub bytes: u64,
}

/// Writes that were under way when the power went, or the process ended, and never were acknowledged as durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    pub segment: u64,
    pub offset: usize,
    pub bytes: usize,
    /// Whole records behind the first torn one, which go with it.
    pub records_behind: u64,
    pub what: String,
}

/// Something is missing or wrong in what was known to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// The checkpointed state has lost records that a segment says it held.
    State {
        through: u64,
        segment: u64,
        expected: u64,
    },
    Header {
        segment: u64,
        what: String,
    },
    /// Records between two segments, or between the state and the first, are missing.
    Gap {
        segment: u64,
        found: u64,
        expected: u64,
    },
    Record {
        segment: u64,
        damage: Damage,
    },
}

#[derive(Debug)]
pub enum ReplayError {
    Host(io::Error),
    Corrupt(Corruption),
}

impl From<io::Error> for ReplayError {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl From<Corruption> for ReplayError {
    fn from(corruption: Corruption) -> Self {
        Self::Corrupt(corruption)
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { through, segment, expected } => write!(
                f,
                "the checkpointed state holds the records up to {through}, but segment {segment} says that it held those up to {expected}"
            ),
            Self::Header { segment, what } => write!(f, "segment {segment}: {what}"),
            Self::Gap { segment, found, expected } => {
                write!(f, "segment {segment} starts with record {found}, expected record {expected} or one before: segments are missing")
            }
            Self::Record { segment, damage } => write!(
                f,
                "segment {segment}, byte {}: {}; expected record {}; {} whole records follow",
                damage.offset, damage.what, damage.number, damage.records_behind
            ),
        }
    }
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "segment {} ends torn at byte {}: {}; {} bytes are cut, with {} whole records behind the first torn one",
            self.segment, self.offset, self.what, self.bytes, self.records_behind
        )
    }
}

/// Reads all segments and hands to `visit` the records behind `through`, which is what the state holds. Changes nothing.
pub fn replay(disk: &mut dyn Disk, salt: Salt, through: u64, visit: &mut dyn FnMut(&Record<'_>)) -> Result<Journal, ReplayError> {
    let mut journal = Journal { next_record: through + 1, ..Journal::default() };
    let headers = read_headers(disk, salt, through, &mut journal)?;
    for (at, header) in headers.iter().enumerate() {
        let until = headers.get(at + 1).map(|next| next.first_record);
        // Segments are folded whole: one that begins with a folded record holds no other. One without records holds none.
        if header.first_record <= through || until.is_some_and(|until| until <= journal.next_record) {
            journal.stale.push(header.segment);
            continue;
        }
        if header.first_record > journal.next_record {
            let (found, expected) = (header.first_record, journal.next_record);
            return Err(Corruption::Gap { segment: header.segment, found, expected }.into());
        }
        let bytes = disk.read(header.segment, usize::MAX)?;
        journal.bytes += bytes.len() as u64;
        let read = read_segment(&bytes, Expected { salt, from: header.first_record, until }, |read| {
            journal.records += 1;
            visit(&read.record);
        });
        journal.next_record = read.next_record;
        let sealed = Sealed { segment: header.segment, first_record: header.first_record, until: journal.next_record };
        if let Some(damage) = read.damage {
            journal.take_torn(disk, salt, header.segment, damage, &headers[at + 1..])?;
            journal.sealed.push(sealed);
            break;
        }
        journal.sealed.push(sealed);
    }
    Ok(journal)
}

/// The headers of all segments. One that was torn while its segment was created is that of the last.
fn read_headers(disk: &mut dyn Disk, salt: Salt, through: u64, journal: &mut Journal) -> Result<Vec<Header>, ReplayError> {
    let segments = disk.segments()?;
    journal.last_segment = segments.last().copied().unwrap_or(0);
    let mut headers = Vec::<Header>::new();
    for segment in segments {
        let corrupt = |what: String| Corruption::Header { segment, what };
        let header = match Header::decode(&disk.read(segment, HEADER_BYTES)?, salt) {
            Ok(header) => header,
            Err(HeaderError::Torn) if segment == journal.last_segment && synced_mark(&disk.read(segment, usize::MAX)?, salt) == 0 => {
                journal.stale.push(segment);
                continue;
            }
            Err(error) => return Err(corrupt(error.to_string()).into()),
        };
        if header.segment != segment {
            return Err(corrupt(format!("found the header of segment {}", header.segment)).into());
        }
        if header.checkpoint > through {
            return Err(Corruption::State { through, segment, expected: header.checkpoint }.into());
        }
        if headers.last().is_some_and(|before| before.first_record > header.first_record) {
            return Err(corrupt("its first record is before that of the segment before".to_owned()).into());
        }
        headers.push(header);
    }
    Ok(headers)
}

impl Journal {
    /// Makes what was found the ground to go on from. Puts out of the way what must not be read again; a crash in between
    /// leaves what the next start judges the same. A killed process may have left unsynced what was read now: it is synced,
    /// or a loss of power would take it, and with it all that is written behind it.
    pub fn settle(&self, disk: &mut dyn Disk) -> io::Result<()> {
        for segment in self.behind.iter().rev() {
            disk.set_aside(*segment)?;
        }
        for sealed in &self.sealed {
            disk.sync_old(sealed.segment)?;
        }
        self.stale.iter().try_for_each(|segment| disk.remove(*segment))
    }

    fn take_torn(&mut self, disk: &mut dyn Disk, salt: Salt, segment: u64, damage: Damage, behind: &[Header]) -> Result<(), ReplayError> {
        let mut mark = 0;
        let mut records_behind = damage.records_behind;
        for header in behind {
            let bytes = disk.read(header.segment, usize::MAX)?;
            mark = mark.max(synced_mark(&bytes, salt));
            let read = read_segment(&bytes, Expected { salt, from: header.first_record, until: None }, |_| ());
            records_behind += read.next_record - header.first_record;
        }
        if damage.is_corruption(mark) {
            return Err(Corruption::Record { segment, damage }.into());
        }
        self.behind = behind.iter().map(|header| header.segment).collect();
        let Damage { offset, bytes, what, .. } = damage;
        self.torn = Some(Torn { segment, offset, bytes, records_behind, what });
        Ok(())
    }
}
