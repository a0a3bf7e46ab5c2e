//! Which events a query selects, and what a new subscriber gets.
//!
//! A range is resolved against one list of events in the order of their sequences: a query's range against the original events, its
//! edit range against the edits. What a range counts are events of that list. The end of a series is its latest event, original or
//! edit, kept or not, whatever the clock says: durations "before the end" count from that event's timestamp. Both ends of a
//! range belong to it; a range whose end lies before its anchor is empty.
//!
//! Where a result is bounded it keeps the latest of what was selected, in order, and says that it is not complete.

use super::log::{Log, Stored};
use super::{EventRef, Range, Series, edit_ref, original_ref};
use std::iter;
use std::ops::ControlFlow;

/// What the numbers of an event may take when it is written, for `bytes_max`: sequence, timestamp, original, each at most ten
/// bytes, and two for the lengths of short texts.
pub const EVENT_NUMBERS_BYTES: usize = 32;

/// How many edits are looked at one by one for each original in the range, before each original is asked for its edits instead.
const EDITS_SCANNED_PER_ORIGINAL: usize = 4;

/// The default is the latest value of each event of the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    pub kind: QueryKind,
    /// The original events meant.
    pub range: QueryRange,
    /// The edits meant; without, all.
    pub edit_range: Option<QueryRange>,
    /// The most events that are returned: the latest.
    pub limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// The merged view: for each original event in the range its latest edit in the edit range, or itself where there is none. In
    /// the order of the originals.
    Values,
    /// For each original event in the range its latest edit in the edit range. In the order of sequences.
    LatestEdits,
    /// All edits in the edit range of original events in the range. In the order of sequences.
    AllEdits,
}

/// A part of a list of events, from an anchor on or back. The default is all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryRange {
    pub anchor: Anchor,
    pub span: Span,
}

/// Where a range begins; where it goes back, where it ends. The event at the anchor belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// Before the first event kept.
    #[default]
    Start,
    /// The event of this sequence. Where the list has none, the next one in the direction of the span.
    Sequence(u64),
    /// This time, in milliseconds since the epoch; all events at it belong to the range.
    Instant(u64),
    /// So many events before the end: 1 is the latest event, 0 the end itself. More than there are is before the first.
    LastEvents(u64),
    /// So many milliseconds before the end; all events at that time belong to the range.
    LastMs(u64),
}

/// How far a range goes from its anchor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Span {
    /// To the end.
    #[default]
    End,
    /// To the event of this sequence, or the last one before it.
    ToSequence(u64),
    /// To the last event at this time or before.
    ToInstant(u64),
    /// So many events, the one at the anchor included.
    NextEvents(u64),
    /// To the last event at most so much later than the anchor's time: that of an instant itself, else of the event at the anchor.
    NextMs(u64),
    /// To the end but for the latest so many events; 0 is to the end.
    UntilLastEvents(u64),
    /// To the last event that is at least so much before the end; 0 is to the end.
    UntilLastMs(u64),
    /// So many events back, the one at the anchor included.
    PreviousEvents(u64),
    /// Back to the first event that is at most so much earlier than the anchor's time.
    PreviousMs(u64),
}

/// What was selected, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    /// Whether nothing that was selected is left out.
    pub is_complete: bool,
    pub events: Vec<EventRef<'a>>,
}

impl Default for Query {
    fn default() -> Self {
        Self { kind: QueryKind::Values, range: QueryRange::default(), edit_range: None, limit: u64::MAX }
    }
}

impl<'a> IntoIterator for Selection<'a> {
    type Item = EventRef<'a>;
    type IntoIter = std::vec::IntoIter<EventRef<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}

impl Series {
    /// The events that `query` selects. They are the latest that together take at most `bytes_max` with their values, authors and
    /// [`EVENT_NUMBERS_BYTES`] each, which bounds what encoding them takes.
    pub fn query(&self, query: &Query, bytes_max: usize) -> Selection<'_> {
        let taken = Taken::new(query.limit, bytes_max);
        let originals = self.originals_in(query.range);
        let edits = query.edit_range.map(|range| self.edits_in(range));
        match query.kind {
            QueryKind::Values => self.select_values(originals, edits, taken),
            kind => self.select_edits(originals, edits.unwrap_or(Part { first: 0, end: self.edits.len() }), kind, taken),
        }
    }

    /// What a new subscriber gets: the latest events, originals and edits alike, in the order of sequences, as subscribers saw them
    /// come. `range` counts both kinds, its duration is before the end of the series. At most `bytes_max`, as in a query; only
    /// these bytes make it incomplete.
    pub fn subscription(&self, range: &Range, bytes_max: usize) -> Selection<'_> {
        let oldest_ms = range.last_ms.map_or(0, |last_ms| self.latest_ms.saturating_sub(last_ms));
        let mut originals = self.originals.range(0..self.originals.len()).rev().map(original_ref).peekable();
        let mut edits = self.edits.range(0..self.edits.len()).rev().map(edit_ref).peekable();
        let newest_first = iter::from_fn(|| match (originals.peek(), edits.peek()) {
            (Some(original), Some(edit)) if original.sequence < edit.sequence => edits.next(),
            (None, _) => edits.next(),
            _ => originals.next(),
        });
        let wanted = newest_first.take_while(|event| event.timestamp_ms >= oldest_ms);
        let limit = range.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Taken::new(u64::MAX, bytes_max).all(wanted.take(limit))
    }

    fn originals_in(&self, range: QueryRange) -> Part {
        List { log: &self.originals, latest_ms: self.latest_ms.into() }.resolve(range)
    }

    fn edits_in(&self, range: QueryRange) -> Part {
        List { log: &self.edits, latest_ms: self.latest_ms.into() }.resolve(range)
    }

    fn select_values<'a>(&'a self, originals: Part, edits: Option<Part>, taken: Taken<'a>) -> Selection<'a> {
        let sequences = edits.map(|edits| self.edits_between(edits));
        taken.all(self.originals.range(originals.first..originals.end).rev().map(|original| {
            let edit = match (original.link, sequences) {
                (0, _) => None,
                (latest, None) => Some(latest),
                (_, Some(sequences)) => self.latest_edit(original.sequence, sequences),
            };
            edit.and_then(|edit| self.edits.find(edit)).map_or_else(|| original_ref(original), edit_ref)
        }))
    }

    /// There may be many edits of few originals and few edits of many, so both ways are tried: the edits themselves, newest first,
    /// and when that takes too long the edits of each original.
    fn select_edits<'a>(&'a self, originals: Part, edits: Part, kind: QueryKind, taken: Taken<'a>) -> Selection<'a> {
        let Some(last) = originals.end.checked_sub(1).and_then(|last| self.originals.at(last)) else { return taken.finish() };
        let Some(first) = self.originals.at(originals.first).filter(|_| originals.first < originals.end) else { return taken.finish() };
        let (first, last) = (first.sequence, last.sequence);
        let sequences = self.edits_between(edits);
        let is_wanted = |edit: &Stored| {
            (first..=last).contains(&edit.link)
                && (kind == QueryKind::AllEdits || self.latest_edit(edit.link, sequences) == Some(edit.sequence))
        };
        let scanned_max = (originals.end - originals.first).saturating_mul(EDITS_SCANNED_PER_ORIGINAL);
        let mut scanned = taken.clone();
        // Bounded by a few edits for each original in the range, and by the bytes of an answer where all are wanted.
        for (count, edit) in self.edits.range(edits.first..edits.end).rev().enumerate() {
            if count == scanned_max {
                return taken.all(self.edits_of(first, last, sequences, kind).into_iter().rev());
            }
            if is_wanted(edit) && scanned.take(edit_ref(edit)).is_break() {
                break;
            }
        }
        scanned.finish()
    }

    /// The edits of the originals from `first` to `last`, in the order of sequences.
    fn edits_of(&self, first: u64, last: u64, sequences: Sequences, kind: QueryKind) -> Vec<EventRef<'_>> {
        let mut found = Vec::new();
        let mut from = first;
        // One for each original in the range that was edited.
        while let Some((original, _)) = self.edits_by_original.range((from, 0)..).next().filter(|(original, _)| *original <= last) {
            match kind {
                QueryKind::AllEdits => found.extend(self.edits_by_original.range(sequences.of(*original)).map(|(_, edit)| *edit)),
                _ => found.extend(self.latest_edit(*original, sequences)),
            }
            from = original + 1;
        }
        found.sort_unstable();
        found.into_iter().filter_map(|edit| self.edits.find(edit)).map(edit_ref).collect()
    }

    fn latest_edit(&self, original: u64, sequences: Sequences) -> Option<u64> {
        self.edits_by_original.range(sequences.of(original)).next_back().map(|(_, edit)| *edit)
    }

    fn edits_between(&self, edits: Part) -> Sequences {
        let sequence = |position: usize| self.edits.at(position).map_or(self.next_sequence, |edit| edit.sequence);
        Sequences { first: sequence(edits.first), end: sequence(edits.end) }
    }
}

/// Positions in a list; `first <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    first: usize,
    end: usize,
}

/// The sequences of a part.
#[derive(Clone, Copy)]
struct Sequences {
    first: u64,
    end: u64,
}

impl Sequences {
    /// The keys of an original's edits among them.
    fn of(self, original: u64) -> std::ops::Range<(u64, u64)> {
        (original, self.first)..(original, self.end)
    }
}

/// What a range is resolved against.
#[derive(Clone, Copy)]
struct List<'a> {
    log: &'a Log,
    /// The time of the end. Signed and wide, as all times here: a duration may reach back behind the epoch.
    latest_ms: i128,
}

/// An anchor in a list.
struct Point {
    /// The position of the first event at the anchor or behind it.
    first: usize,
    /// The position behind the last event at the anchor or before it.
    end: usize,
    /// The anchor's own time, where that is not an event's.
    time_ms: Option<i128>,
}

impl List<'_> {
    fn resolve(self, range: QueryRange) -> Part {
        let point = self.point(range.anchor);
        let length = self.log.len();
        let time_at = |position: usize| self.log.at(position).map_or(self.latest_ms, |event| event.timestamp_ms.into());
        let (first, end) = match range.span {
            Span::End => (point.first, length),
            Span::ToSequence(sequence) => (point.first, self.behind_sequence(sequence)),
            Span::ToInstant(ms) => (point.first, self.behind(ms.into())),
            Span::NextEvents(count) => (point.first, point.first.saturating_add(clamped(count)).min(length)),
            Span::NextMs(ms) => {
                let time_ms = point.time_ms.unwrap_or_else(|| time_at(point.first));
                (point.first, self.behind(time_ms + i128::from(ms)))
            }
            Span::UntilLastEvents(count) => (point.first, length.saturating_sub(clamped(count))),
            Span::UntilLastMs(ms) => (point.first, self.behind(self.latest_ms - i128::from(ms))),
            Span::PreviousEvents(count) => (point.end.saturating_sub(clamped(count)), point.end),
            Span::PreviousMs(ms) => {
                let time_ms = point.time_ms.unwrap_or_else(|| time_at(point.end.saturating_sub(1)));
                (self.before(time_ms - i128::from(ms)), point.end)
            }
        };
        Part { first: first.min(end), end }
    }

    fn point(self, anchor: Anchor) -> Point {
        let at = |time_ms| Point { first: self.before(time_ms), end: self.behind(time_ms), time_ms: Some(time_ms) };
        match anchor {
            Anchor::Start => Point { first: 0, end: 0, time_ms: None },
            Anchor::Sequence(sequence) => {
                Point { first: self.log.before_sequence(sequence), end: self.behind_sequence(sequence), time_ms: None }
            }
            Anchor::Instant(ms) => at(ms.into()),
            Anchor::LastEvents(0) => Point { first: self.log.len(), end: self.log.len(), time_ms: Some(self.latest_ms) },
            Anchor::LastEvents(count) => match self.log.len().checked_sub(clamped(count)) {
                Some(first) => Point { first, end: first + 1, time_ms: None },
                None => Point { first: 0, end: 0, time_ms: None },
            },
            Anchor::LastMs(ms) => at(self.latest_ms - i128::from(ms)),
        }
    }

    /// The position of the first event at this time or later.
    fn before(self, time_ms: i128) -> usize {
        self.log.partition_point(|event| i128::from(event.timestamp_ms) < time_ms)
    }

    /// The position behind the last event at this time or earlier.
    fn behind(self, time_ms: i128) -> usize {
        self.log.partition_point(|event| i128::from(event.timestamp_ms) <= time_ms)
    }

    fn behind_sequence(self, sequence: u64) -> usize {
        self.log.partition_point(|event| event.sequence <= sequence)
    }
}

fn clamped(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The latest events that fit, newest first.
#[derive(Clone)]
struct Taken<'a> {
    limit: u64,
    bytes_left: usize,
    is_complete: bool,
    events: Vec<EventRef<'a>>,
}

impl<'a> Taken<'a> {
    fn new(limit: u64, bytes_max: usize) -> Self {
        Self { limit, bytes_left: bytes_max, is_complete: true, events: Vec::new() }
    }

    fn take(&mut self, event: EventRef<'a>) -> ControlFlow<()> {
        let bytes = event.value.len() + event.author.len() + EVENT_NUMBERS_BYTES;
        if self.events.len() as u64 == self.limit || bytes > self.bytes_left {
            self.is_complete = false;
            return ControlFlow::Break(());
        }
        self.bytes_left -= bytes;
        self.events.push(event);
        ControlFlow::Continue(())
    }

    fn all(mut self, newest_first: impl Iterator<Item = EventRef<'a>>) -> Selection<'a> {
        // Bounded by the bytes of an answer.
        for event in newest_first {
            if self.take(event).is_break() {
                break;
            }
        }
        self.finish()
    }

    fn finish(mut self) -> Selection<'a> {
        self.events.reverse();
        Selection { is_complete: self.is_complete, events: self.events }
    }
}
