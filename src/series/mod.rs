//! The events of one time series topic.
//!
//! Append-only: an event has a value, a sequence (from 0, each one more than the one before), a timestamp and an author, and never
//! changes. An edit is an event of its own that overrides the value of an original event; both are kept. Timestamps do not go back
//! from one event to the next, edits included, so that ranges of time are ranges of sequences.
//!
//! The retained range bounds the original events. One that goes takes its edits along, however new they are: an edit without its
//! original says nothing. Originals go oldest first, so that those kept are always the latest; the sequences of edits that went may
//! leave gaps between them. A retained duration counts back from the timestamp of the latest original, whatever the clock says: only
//! another original makes one go, so that an idle series, or one of past times, keeps what it has. Of one original at most [`EDITS_PER_ORIGINAL_MAX`] edits are kept.
//!
//! Appending is amortised O(1), editing O(log n), a query O(log n) and what it selects. An event costs [`EVENT_BYTES`] beside its
//! value and at most 50 more if it is an edit; [`Series::bytes`] counts them, for whoever bounds a topic's memory.
//! Permissions, value types, the text of range expressions and storage are left to others.

mod log;
mod query;
#[cfg(test)]
mod tests;

pub use query::{Anchor, EVENT_NUMBERS_BYTES, Query, QueryKind, QueryRange, Span};

use log::{Chunk, Log, Stored};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

/// What an event takes beside its value.
pub const EVENT_BYTES: usize = size_of::<Stored>();

/// The most edits of one original event that are kept: the oldest, long overridden, gives way.
pub const EDITS_PER_ORIGINAL_MAX: usize = 1000;

/// The last sequence there is: clients count in signed 64 bits.
pub const SEQUENCE_MAX: u64 = i64::MAX as u64;

/// The latest events of a series: where both bounds are there, the one that selects fewer applies. Without any, all events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The latest so many.
    pub limit: Option<u64>,
    /// Those at most so long before the latest.
    pub last_ms: Option<u64>,
}

/// One event, for [`Series::take`] and [`Series::restore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub value: Box<[u8]>,
    pub sequence: u64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: u64,
    /// The principal that published it.
    pub author: Arc<str>,
    /// Of an edit, the sequence of the event that it overrides.
    pub original: Option<u64>,
}

/// One event that a series holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRef<'a> {
    pub value: &'a [u8],
    pub sequence: u64,
    pub timestamp_ms: u64,
    pub author: &'a Arc<str>,
    /// Of an edit, the sequence of the event that it overrides.
    pub original: Option<u64>,
}

/// What an event is beside its value and author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub sequence: u64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: u64,
    /// Of an edit, the sequence of the event that it overrides.
    pub original: Option<u64>,
}

/// What becomes of a new event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub sequence: u64,
    pub timestamp_ms: u64,
    /// Events before this sequence are not kept any more, nor are the edits of such events. It may be behind the new one.
    pub first_kept: u64,
    /// The edit that gave way because its original had [`EDITS_PER_ORIGINAL_MAX`].
    pub dropped: Option<u64>,
}

/// See the module. In order: [`Series::new`], for a stored series [`Series::restore`] for each event and [`Series::restore_end`]; then
/// the commands.
#[derive(Clone, Default)]
pub struct Series {
    retained: Range,
    next_sequence: u64,
    /// The timestamp of the latest event, kept or not.
    latest_ms: u64,
    originals: Log,
    edits: Log,
    /// `(original, edit)`, both by sequence, for each edit held.
    edits_by_original: BTreeSet<(u64, u64)>,
    bytes: usize,
    /// The author of the latest event, whose text the next one by the same author shares.
    author: Option<Arc<str>>,
    gone: Gone,
}

/// Events that are not retained any more, and whose memory is given back a part at a time.
#[derive(Clone, Default)]
pub struct Gone {
    chunks: VecDeque<Chunk>,
}

impl Gone {
    /// Whether there are so few that they may go at once.
    pub fn is_small(&self) -> bool {
        self.chunks.len() <= Self::PART
    }

    /// Gives back the memory of a part; whether more is left.
    pub fn drop_part(&mut self) -> bool {
        self.chunks.drain(..Self::PART.min(self.chunks.len()));
        !self.chunks.is_empty()
    }

    /// Chunks: some thousand events.
    const PART: usize = 4;
}

impl Series {
    pub fn new(retained: Range) -> Self {
        Self { retained, ..Self::default() }
    }

    /// Adds an original event, then trims. `timestamp_ms` must not be before the latest event's; without one it is `now_ms`, or the
    /// latest event's where the clock is behind that.
    pub fn append(&mut self, value: &[u8], timestamp_ms: Option<u64>, author: &Arc<str>, now_ms: u64) -> Result<Appended, SeriesError> {
        let appended = self.plan_append(timestamp_ms, now_ms)?;
        self.take(appended.event(value, author, None), appended.first_kept, appended.dropped);
        Ok(appended)
    }

    /// Adds an event that overrides the value of an original one, then trims. Its timestamp is as that of an original without one.
    pub fn edit(&mut self, original: u64, value: &[u8], author: &Arc<str>, now_ms: u64) -> Result<Appended, SeriesError> {
        let appended = self.plan_edit(original, now_ms)?;
        self.take(appended.event(value, author, Some(original)), appended.first_kept, appended.dropped);
        Ok(appended)
    }

    /// What [`Series::append`] would do; [`Series::take`] does it.
    pub fn plan_append(&self, timestamp_ms: Option<u64>, now_ms: u64) -> Result<Appended, SeriesError> {
        let (sequence, timestamp_ms) = (self.next_sequence, timestamp_ms.unwrap_or(now_ms.max(self.latest_ms)));
        self.check_next(sequence, timestamp_ms)?;
        Ok(self.planned(sequence, timestamp_ms, None))
    }

    /// What [`Series::edit`] would do; [`Series::take`] does it.
    pub fn plan_edit(&self, original: u64, now_ms: u64) -> Result<Appended, SeriesError> {
        let (sequence, timestamp_ms) = (self.next_sequence, now_ms.max(self.latest_ms));
        self.check_next(sequence, timestamp_ms)?;
        self.check_original(original)?;
        Ok(self.planned(sequence, timestamp_ms, Some(original)))
    }

    /// What taking an event of another series or of a store would do, which has its sequence already. The first may be any, and events
    /// that were not kept may be missing or come again with an original that is gone: such an edit only moves the sequence on.
    pub fn plan_foreign(&self, event: Numbers) -> Result<Appended, SeriesError> {
        let Numbers { sequence, timestamp_ms, original } = event;
        self.check_next(sequence, timestamp_ms)?;
        match original {
            Some(original) if original >= sequence => return Err(SeriesError::UnknownOriginal { original, next: sequence }),
            Some(original) if !self.is_gone(original) => self.check_original(original)?,
            _ => {}
        }
        Ok(self.planned(sequence, timestamp_ms, original))
    }

    /// Takes an event as it was planned: it follows all that there are, those below `first_kept` go, and the edit `dropped`. An edit whose
    /// original is gone only moves the sequence on.
    pub fn take(&mut self, event: Event, first_kept: u64, dropped: Option<u64>) {
        if event.original.is_some_and(|original| self.is_gone(original)) {
            self.restore_end(event.sequence + 1, event.timestamp_ms);
        } else {
            self.push(event);
        }
        if let Some((original, edit)) = dropped.and_then(|edit| Some((self.edits.find(edit)?.link, edit))) {
            self.edits_by_original.remove(&(original, edit));
            self.drop_edit(edit);
        }
        // Each event goes once. Mostly one; where a range is a time, all that are too old: these are only counted here.
        while self.originals.first().is_some_and(|first| first.sequence < first_kept) {
            match self.originals.pop_chunk(first_kept) {
                Some(chunk) => self.drop_chunk(chunk),
                None => self.drop_first(),
            }
        }
    }

    /// What has gone since the last time and was not given back.
    pub fn take_gone(&mut self) -> Option<Gone> {
        (!self.gone.chunks.is_empty()).then(|| std::mem::take(&mut self.gone))
    }

    /// The series goes, with all its events.
    pub fn into_gone(self) -> Gone {
        let Self { originals, edits, mut gone, .. } = self;
        gone.chunks.extend(originals.into_chunks());
        gone.chunks.extend(edits.into_chunks());
        gone
    }

    /// Takes up an event as [`Series::plan_foreign`] says, then trims.
    pub fn restore(&mut self, event: Event) -> Result<(), SeriesError> {
        let Event { sequence, timestamp_ms, original, .. } = event;
        let Appended { first_kept, dropped, .. } = self.plan_foreign(Numbers { sequence, timestamp_ms, original })?;
        self.take(event, first_kept, dropped);
        Ok(())
    }

    /// Goes on behind events that are not kept: the sequence of the next event is at least this, its timestamp too. A series all of
    /// whose events had gone would else use sequences again.
    pub fn restore_end(&mut self, next_sequence: u64, latest_ms: u64) {
        self.next_sequence = self.next_sequence.max(next_sequence);
        self.latest_ms = self.latest_ms.max(latest_ms);
    }

    pub fn is_empty(&self) -> bool {
        self.originals.len() == 0
    }

    /// Events held, edits included.
    pub fn len(&self) -> usize {
        self.originals.len() + self.edits.len()
    }

    /// What the events take in memory: their values and [`EVENT_BYTES`] each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn retained(&self) -> Range {
        self.retained
    }

    /// The sequence of the event to come.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The sequence of the oldest event held, the next one's where none is.
    pub fn first_kept(&self) -> u64 {
        self.originals.first().map_or(self.next_sequence, |first| first.sequence)
    }

    /// Whether an event that was planned stays: an edit whose original is gone does not.
    pub fn admits(&self, original: Option<u64>) -> bool {
        original.is_none_or(|original| !self.is_gone(original))
    }

    /// The event that was added last, original or edit, of those held.
    pub fn latest(&self) -> Option<EventRef<'_>> {
        let edit = self.edits.last().map(edit_ref);
        let original = self.originals.last().map(original_ref);
        edit.into_iter().chain(original).max_by_key(|event| event.sequence)
    }

    pub fn event(&self, sequence: u64) -> Option<EventRef<'_>> {
        let original = self.originals.find(sequence).map(original_ref);
        original.or_else(|| self.edits.find(sequence).map(edit_ref))
    }

    /// Whether an event may come next.
    fn check_next(&self, sequence: u64, timestamp_ms: u64) -> Result<(), SeriesError> {
        if sequence < self.next_sequence || sequence > SEQUENCE_MAX {
            return Err(SeriesError::Sequence { found: sequence, expected: self.next_sequence });
        }
        if timestamp_ms < self.latest_ms {
            return Err(SeriesError::TimestampBeforeLatest { given_ms: timestamp_ms, latest_ms: self.latest_ms });
        }
        Ok(())
    }

    fn check_original(&self, original: u64) -> Result<(), SeriesError> {
        if original >= self.next_sequence {
            return Err(SeriesError::UnknownOriginal { original, next: self.next_sequence });
        }
        if self.originals.find(original).is_some() {
            return Ok(());
        }
        Err(match self.edits.find(original) {
            Some(edit) => SeriesError::EditOfEdit { edit: original, original: edit.link },
            None => SeriesError::NotRetained { original, first_kept: self.first_kept() },
        })
    }

    /// Whether the original is older than all that are held.
    fn is_gone(&self, original: u64) -> bool {
        self.originals.first().is_none_or(|first| original < first.sequence)
    }

    /// An original makes those go that are too long before it; an edit, however late, none.
    fn planned(&self, sequence: u64, timestamp_ms: u64, original: Option<u64>) -> Appended {
        let all = self.originals.len() + usize::from(original.is_none());
        let last_ms = self.retained.last_ms.filter(|_| original.is_none());
        let oldest_ms = last_ms.map_or(0, |last_ms| timestamp_ms.saturating_sub(last_ms));
        let too_old = match self.originals.first() {
            Some(first) if first.timestamp_ms < oldest_ms => self.originals.partition_point(|event| event.timestamp_ms < oldest_ms),
            _ => 0,
        };
        let too_many = self.retained.limit.map_or(0, |limit| (all as u64).saturating_sub(limit) as usize);
        let gone = too_old.max(too_many);
        let first_kept = match self.originals.at(gone) {
            Some(first) => first.sequence,
            None if gone < all => sequence,
            None => sequence + 1,
        };
        let dropped = original.filter(|original| !self.is_gone(*original)).and_then(|original| self.first_edit_above_limit(original));
        Appended { sequence, timestamp_ms, first_kept, dropped }
    }

    /// The edit that gives way to one more of this original.
    fn first_edit_above_limit(&self, original: u64) -> Option<u64> {
        let mut edits = self.edits_by_original.range((original, 0)..=(original, u64::MAX));
        let (_, oldest) = *edits.next()?;
        (edits.count() + 1 >= EDITS_PER_ORIGINAL_MAX).then_some(oldest)
    }

    fn push(&mut self, event: Event) {
        let Event { value, sequence, timestamp_ms, author, original } = event;
        let author = self.author.take().filter(|latest| *latest == author).unwrap_or(author);
        self.author = Some(author.clone());
        self.next_sequence = sequence + 1;
        self.latest_ms = timestamp_ms;
        self.bytes += EVENT_BYTES + value.len();
        let event = Stored { sequence, timestamp_ms, link: original.unwrap_or(0), author, value };
        match original {
            None => self.originals.push(event),
            Some(original) => {
                if let Some(overridden) = self.originals.find_mut(original) {
                    overridden.link = sequence;
                }
                self.edits.push(event);
                self.edits_by_original.insert((original, sequence));
            }
        }
    }

    /// Drops the oldest original and its edits.
    fn drop_first(&mut self) {
        let Some(event) = self.originals.pop_front() else { return };
        self.bytes -= EVENT_BYTES + event.value.len();
        self.drop_edits_up_to(event.sequence);
    }

    /// The same with many: the memory of the originals is not given back now.
    fn drop_chunk(&mut self, chunk: Chunk) {
        let mut last = 0;
        for event in chunk.events() {
            self.bytes -= EVENT_BYTES + event.value.len();
            last = event.sequence;
        }
        self.drop_edits_up_to(last);
        self.gone.chunks.push_back(chunk);
    }

    /// Of the oldest originals, which are the first of those by original.
    fn drop_edits_up_to(&mut self, original: u64) {
        while let Some((_, edit)) = self.edits_by_original.first().copied().filter(|(edited, _)| *edited <= original) {
            self.edits_by_original.pop_first();
            self.drop_edit(edit);
        }
    }

    fn drop_edit(&mut self, sequence: u64) {
        if let Some(edit) = self.edits.remove(sequence) {
            self.bytes -= EVENT_BYTES + edit.value.len();
        }
    }
}

fn original_ref(event: &Stored) -> EventRef<'_> {
    let Stored { sequence, timestamp_ms, author, value, .. } = event;
    EventRef { value, sequence: *sequence, timestamp_ms: *timestamp_ms, author, original: None }
}

fn edit_ref(event: &Stored) -> EventRef<'_> {
    EventRef { original: Some(event.link), ..original_ref(event) }
}

impl Appended {
    fn event(&self, value: &[u8], author: &Arc<str>, original: Option<u64>) -> Event {
        Event { value: value.into(), sequence: self.sequence, timestamp_ms: self.timestamp_ms, author: author.clone(), original }
    }
}

impl EventRef<'_> {
    pub fn to_event(self) -> Event {
        let Self { value, sequence, timestamp_ms, author, original } = self;
        Event { value: value.into(), sequence, timestamp_ms, author: author.clone(), original }
    }
}

/// Why an event was refused: the publisher's fault, or that of the store where it was restored from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesError {
    TimestampBeforeLatest {
        given_ms: u64,
        latest_ms: u64,
    },
    /// No event has that sequence yet.
    UnknownOriginal {
        original: u64,
        next: u64,
    },
    NotRetained {
        original: u64,
        first_kept: u64,
    },
    /// What is to be edited is itself an edit, of `original`.
    EditOfEdit {
        edit: u64,
        original: u64,
    },
    /// A restored event comes again or out of order, or there are no sequences left.
    Sequence {
        found: u64,
        expected: u64,
    },
}

impl fmt::Display for SeriesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TimestampBeforeLatest { given_ms, latest_ms } => {
                write!(f, "found the timestamp {given_ms} ms, expected at least that of the latest event, {latest_ms} ms")
            }
            Self::UnknownOriginal { original, next } => {
                write!(f, "found an edit of event {original}, expected the sequence of an event before {next}")
            }
            Self::NotRetained { original, first_kept } => {
                write!(f, "found an edit of event {original}, which is not kept any more, expected an original event from {first_kept} on")
            }
            Self::EditOfEdit { edit, original } => {
                write!(f, "found an edit of event {edit}, which is an edit itself, expected its original event {original}")
            }
            Self::Sequence { found, expected } => {
                write!(f, "found an event of sequence {found}, expected one from {expected} to {SEQUENCE_MAX}")
            }
        }
    }
}

impl std::error::Error for SeriesError {}
