//! Fetches, and queries of time series.

use super::Asking;
use crate::gate::{self, Deed};
use crate::mail::{DeepLimit, Fetch};
use crate::protocol::{ErrorCode, Refusal};
use crate::series;
use crate::topic::path::TopicPath;
use crate::topic::tree::{Direction, Span};
use crate::wire::native::{self, Shown};
use std::ops::Bound;

impl Asking<'_> {
    pub(super) fn query(&mut self, path: &str, query: &native::Query) -> Result<(), Refusal> {
        let deed = if shows_replaced(query) { Deed::QueryReplaced } else { Deed::Query };
        let refusal = self.leave_path(deed, path)?;
        let kind = match query.kind {
            0 => series::QueryKind::Values,
            1 => series::QueryKind::LatestEdits,
            2 => series::QueryKind::AllEdits,
            _ => return Err(Refusal::new(ErrorCode::InvalidQuery, "there are three kinds: 0 values, 1 latest edits, 2 all edits")),
        };
        let range = series_range(query.range)?;
        let edit_range = query.edit_range.map(series_range).transpose()?;
        let limit = if query.limit == 0 { u64::MAX } else { query.limit }.min(self.desk.limits.query_events_max as u64);
        let query = series::Query { kind, range, edit_range, limit };
        self.audience.query_owner(self.desk, self.asker, (deed, path), query, refusal);
        Ok(())
    }

    pub(super) fn fetch(&mut self, wanted: &native::Fetch<'_>) -> Result<(), Refusal> {
        let selector = gate::parse_selector(self.desk, &wanted.selector)?;
        let allowed = gate::selected(self.rights(), Deed::Select, &selector);
        let refusal = self.audience.leave_to_owner(self.desk, self.asker.session, allowed)?;
        let span = self.span(wanted)?;
        if wanted.first != 0 && wanted.last != 0 {
            return Err(Refusal::new(ErrorCode::UnsupportedProperty, "'first' and 'last' do not go together"));
        }
        if (wanted.depth == 0) != (wanted.depth_limit == 0) {
            return Err(Refusal::new(ErrorCode::UnsupportedProperty, "a deep branch has both a depth and a limit of at least 1"));
        }
        let deep = (wanted.depth != 0).then(|| {
            let bounded = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            DeepLimit { depth: bounded(wanted.depth), count_max: bounded(wanted.depth_limit) }
        });
        let page_max = self.desk.limits.fetch_page_max;
        let (direction, count) = if wanted.last == 0 { (Direction::Forward, wanted.first) } else { (Direction::Backward, wanted.last) };
        let bound =
            |wanted: u64, max: usize| usize::try_from(wanted).ok().filter(|wanted| *wanted > 0).map_or(max, |wanted| wanted.min(max));
        let fetch = Fetch {
            selector: selector.as_str().into(),
            span,
            direction,
            count_max: bound(count, page_max),
            bytes_max: bound(wanted.bytes_max, self.desk.limits.message_bytes_max),
            types: wanted.types,
            shown: Shown { values: wanted.with_values, properties: wanted.with_properties, sizes: wanted.with_sizes },
            deep,
            region: None,
            viewer: self.audience.viewer(self.asker.session),
            refusal,
        };
        self.audience.fetch(self.desk, self.asker, &selector, fetch);
        Ok(())
    }

    /// Which part of path order is meant. The ends need not be topics.
    fn span(&self, wanted: &native::Fetch<'_>) -> Result<Span, Refusal> {
        let place = |name: &str, path: &str| {
            if path.len() > self.desk.limits.path_bytes_max {
                let message = format!("'{name}' is longer than a path may be");
                return Err(Refusal::at(ErrorCode::InvalidPath, self.desk.limits.path_bytes_max, message));
            }
            Ok(TopicPath::of_branch(path))
        };
        let end = |inclusive: (&str, &str), exclusive: (&str, &str)| match (inclusive.1.is_empty(), exclusive.1.is_empty()) {
            (true, true) => Ok(Bound::Unbounded),
            (false, true) => Ok(Bound::Included(place(inclusive.0, inclusive.1)?)),
            (true, false) => Ok(Bound::Excluded(place(exclusive.0, exclusive.1)?)),
            (false, false) => {
                let message = format!("'{}' and '{}' do not go together", inclusive.0, exclusive.0);
                Err(Refusal::new(ErrorCode::UnsupportedProperty, message))
            }
        };
        let start = end(("from", &wanted.from), ("after", &wanted.after))?;
        let end = end(("to", &wanted.to), ("before", &wanted.before))?;
        Ok(Span { start, end })
    }
}

/// Whether the answer may have what later edits have replaced: all edits, values as they were before some edits, and the latest edits of a part of them.
fn shows_replaced(query: &native::Query) -> bool {
    const TO_THE_END: u8 = 0;
    match query.kind {
        0 => query.edit_range.is_some(),
        1 => query.edit_range.is_some_and(|range| range.span.0 != TO_THE_END),
        _ => true,
    }
}

fn series_range(range: native::QueryRange) -> Result<series::QueryRange, Refusal> {
    use series::{Anchor, Span};
    let malformed = |what: &str, number: u8| Refusal::new(ErrorCode::InvalidQuery, format!("there is no {what} {number} of a range"));
    let anchor = match range.anchor {
        (0, _) => Anchor::Start,
        (1, sequence) => Anchor::Sequence(sequence),
        (2, instant) => Anchor::Instant(instant),
        (3, events) => Anchor::LastEvents(events),
        (4, ms) => Anchor::LastMs(ms),
        (number, _) => return Err(malformed("anchor", number)),
    };
    let span = match range.span {
        (0, _) => Span::End,
        (1, sequence) => Span::ToSequence(sequence),
        (2, instant) => Span::ToInstant(instant),
        (3, events) => Span::NextEvents(events),
        (4, ms) => Span::NextMs(ms),
        (5, events) => Span::UntilLastEvents(events),
        (6, ms) => Span::UntilLastMs(ms),
        (7, events) => Span::PreviousEvents(events),
        (8, ms) => Span::PreviousMs(ms),
        (number, _) => return Err(malformed("span", number)),
    };
    Ok(series::QueryRange { anchor, span })
}
