//! The series against a list of all events that ever were, in which everything is found by looking at each.

use super::*;
use crate::series::query::Selection;
use proptest::prelude::*;

/// Straight from the words of the documentation: no positions, no searching, no state but the events.
#[derive(Default)]
struct Model {
    retained: Range,
    all: Vec<Event>,
    /// Originals before this are gone.
    first: u64,
}

impl Model {
    fn push(&mut self, value: &[u8], timestamp_ms: u64, author: &Arc<str>, original: Option<u64>) -> Appended {
        let sequence = self.all.len() as u64;
        self.all.push(Event { value: value.into(), sequence, timestamp_ms, author: author.clone(), original });
        Appended { sequence, timestamp_ms, first_kept: self.trim(), dropped: None }
    }

    fn trim(&mut self) -> u64 {
        let originals: Vec<&Event> = self.all.iter().filter(|event| event.original.is_none()).collect();
        let too_many = originals.len().saturating_sub(self.retained.limit.map_or(usize::MAX, |limit| limit as usize));
        let latest_ms = originals.last().map_or(0, |last| last.timestamp_ms);
        let oldest_ms = i128::from(latest_ms) - self.retained.last_ms.map_or(i128::MAX / 2, i128::from);
        let too_old = originals.iter().take_while(|event| i128::from(event.timestamp_ms) < oldest_ms).count();
        let gone = originals.get(..too_many.max(too_old)).and_then(<[_]>::last).map_or(0, |last| last.sequence + 1);
        self.first = self.first.max(gone);
        self.originals().first().map_or(self.all.len() as u64, |first| first.sequence)
    }

    fn latest_ms(&self) -> u64 {
        self.all.last().map_or(0, |last| last.timestamp_ms)
    }

    fn originals(&self) -> Vec<Event> {
        self.all.iter().filter(|event| event.original.is_none() && event.sequence >= self.first).cloned().collect()
    }

    fn edits(&self) -> Vec<Event> {
        self.all.iter().filter(|event| event.original.is_some_and(|original| original >= self.first)).cloned().collect()
    }

    fn held(&self) -> Vec<Event> {
        let mut held = [self.originals(), self.edits()].concat();
        held.sort_by_key(|event| event.sequence);
        held
    }

    fn part(&self, list: &[Event], range: QueryRange) -> Vec<Event> {
        let end_ms = i128::from(self.latest_ms());
        let time = |event: &Event| i128::from(event.timestamp_ms);
        let from_end = |event: &Event| list.iter().filter(|other| other.sequence >= event.sequence).count() as u64;
        let keep =
            |list: &[Event], is_kept: &dyn Fn(&Event) -> bool| list.iter().filter(|event| is_kept(event)).cloned().collect::<Vec<_>>();
        let (after, before) = match range.anchor {
            Anchor::Start => (list.to_vec(), Vec::new()),
            Anchor::Sequence(at) => (keep(list, &|event| event.sequence >= at), keep(list, &|event| event.sequence <= at)),
            Anchor::Instant(ms) => (keep(list, &|event| event.timestamp_ms >= ms), keep(list, &|event| event.timestamp_ms <= ms)),
            Anchor::LastEvents(count) => (keep(list, &|event| from_end(event) <= count), keep(list, &|event| from_end(event) >= count)),
            Anchor::LastMs(ms) => {
                (keep(list, &|event| time(event) + i128::from(ms) >= end_ms), keep(list, &|event| time(event) + i128::from(ms) <= end_ms))
            }
        };
        let anchor_ms = |event: Option<&Event>| match range.anchor {
            Anchor::Instant(ms) => i128::from(ms),
            Anchor::LastMs(ms) => end_ms - i128::from(ms),
            Anchor::LastEvents(0) => end_ms,
            _ => event.map_or(0, time),
        };
        let (next_ms, previous_ms) = (anchor_ms(after.first()), anchor_ms(before.last()));
        match range.span {
            Span::End => after,
            Span::ToSequence(to) => keep(&after, &|event| event.sequence <= to),
            Span::ToInstant(ms) => keep(&after, &|event| event.timestamp_ms <= ms),
            Span::NextEvents(count) => after.into_iter().take(count as usize).collect(),
            Span::NextMs(ms) => keep(&after, &|event| time(event) - next_ms <= i128::from(ms)),
            Span::UntilLastEvents(count) => keep(&after, &|event| from_end(event) > count),
            Span::UntilLastMs(ms) => keep(&after, &|event| end_ms - time(event) >= i128::from(ms)),
            Span::PreviousEvents(count) => before[before.len().saturating_sub(count as usize)..].to_vec(),
            Span::PreviousMs(ms) => keep(&before, &|event| previous_ms - time(event) <= i128::from(ms)),
        }
    }

    fn query(&self, query: &Query, bytes_max: usize) -> (bool, Vec<Event>) {
        let originals = self.part(&self.originals(), query.range);
        let edits = query.edit_range.map_or(self.edits(), |range| self.part(&self.edits(), range));
        let edits_of = |original: &Event| edits.iter().filter(|edit| edit.original == Some(original.sequence)).cloned().collect::<Vec<_>>();
        let mut selected = Vec::new();
        for original in &originals {
            let edits = edits_of(original);
            match query.kind {
                QueryKind::Values => selected.push(edits.last().unwrap_or(original).clone()),
                QueryKind::LatestEdits => selected.extend(edits.last().cloned()),
                QueryKind::AllEdits => selected.extend(edits),
            }
        }
        if query.kind != QueryKind::Values {
            selected.sort_by_key(|event| event.sequence);
        }
        keep_latest(selected, query.limit, bytes_max)
    }

    fn subscription(&self, range: &Range, bytes_max: usize) -> (bool, Vec<Event>) {
        let held = self.held();
        let limit = range.limit.map_or(held.len(), |limit| (limit as usize).min(held.len()));
        let is_new = |event: &Event| range.last_ms.is_none_or(|last_ms| event.timestamp_ms.saturating_add(last_ms) >= self.latest_ms());
        let selected = held[held.len() - limit..].iter().filter(|event| is_new(event)).cloned().collect();
        keep_latest(selected, u64::MAX, bytes_max)
    }
}

fn keep_latest(mut selected: Vec<Event>, limit: u64, bytes_max: usize) -> (bool, Vec<Event>) {
    let count = selected.len();
    let bytes = |events: &[Event]| events.iter().map(|event| event.value.len() + event.author.len() + EVENT_NUMBERS_BYTES).sum::<usize>();
    while selected.len() as u64 > limit || bytes(&selected) > bytes_max {
        selected.remove(0);
    }
    (selected.len() == count, selected)
}

fn events(selection: Selection<'_>) -> (bool, Vec<Event>) {
    (selection.is_complete, selection.into_iter().map(|event| event.to_event()).collect())
}

#[derive(Clone, Debug)]
enum Step {
    Append { later_ms: Option<u64>, value: usize, author: usize },
    Edit { original: u64, value: usize, author: usize },
    Wait(u64),
}

/// Applies the same step to both; both refuse the same.
fn apply(series: &mut Series, model: &mut Model, step: &Step, now_ms: &mut u64) {
    let authors: [Arc<str>; 3] = ["".into(), "anne".into(), "bob".into()];
    let stamp_ms = model.latest_ms().max(*now_ms);
    match *step {
        Step::Append { later_ms, value, author } => {
            let given_ms = later_ms.map(|later_ms| model.latest_ms() + later_ms);
            let expected = model.push(&vec![7; value], given_ms.unwrap_or(stamp_ms), &authors[author], None);
            assert_eq!(series.append(&vec![7; value], given_ms, &authors[author], *now_ms), Ok(expected));
        }
        Step::Edit { original, value, author } => {
            let result = series.edit(original, &vec![8; value], &authors[author], *now_ms);
            if model.originals().iter().any(|event| event.sequence == original) {
                let expected = model.push(&vec![8; value], stamp_ms, &authors[author], Some(original));
                assert_eq!(result, Ok(expected));
            } else {
                let was_edit = model.edits().iter().any(|event| event.sequence == original);
                match result.unwrap_err() {
                    SeriesError::EditOfEdit { edit, .. } => assert!(edit == original && was_edit),
                    SeriesError::NotRetained { .. } => assert!(original < model.all.len() as u64 && !was_edit),
                    SeriesError::UnknownOriginal { .. } => assert!(original >= model.all.len() as u64),
                    other => panic!("{other}"),
                }
            }
        }
        Step::Wait(ms) => *now_ms += ms,
    }
    let held = model.held();
    assert_eq!(events(series.subscription(&Range::default(), usize::MAX)), (true, held.clone()));
    assert_eq!(series.bytes(), held.iter().map(|event| event.value.len() + EVENT_BYTES).sum::<usize>());
    assert_eq!((series.len(), series.next_sequence()), (held.len(), model.all.len() as u64));
    assert_eq!(series.latest().map(|event| event.to_event()), held.last().cloned());
}

/// A store that kept the events held, or all of them, makes the same series.
fn check_restored(series: &Series, model: &Model) {
    for stored in [&model.held(), &model.all] {
        let mut restored = Series::new(series.retained());
        for event in stored {
            restored.restore(event.clone()).unwrap();
        }
        restored.restore_end(series.next_sequence(), series.latest_ms);
        let expected = Model { retained: model.retained, all: model.all.clone(), first: model.first };
        assert_eq!(restored.first_kept(), series.first_kept());
        assert_eq!(events(restored.subscription(&Range::default(), usize::MAX)), (true, expected.held()));
        let latest = Query { edit_range: Some(QueryRange::default()), ..Query::default() };
        assert_eq!(events(restored.query(&latest, usize::MAX)), expected.query(&latest, usize::MAX));
        assert_eq!((restored.next_sequence(), restored.latest_ms), (series.next_sequence(), series.latest_ms));
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let later_ms = prop_oneof![3 => Just(None), 1 => (0..3_u64).prop_map(Some)];
    let step = prop_oneof![
        6 => (later_ms, 0..20_usize, 0..3_usize).prop_map(|(later_ms, value, author)| Step::Append { later_ms, value, author }),
        6 => (0..60_u64, 0..20_usize, 0..3_usize).prop_map(|(original, value, author)| Step::Edit { original, value, author }),
        3 => (0..4_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..80)
}

fn range() -> impl Strategy<Value = Range> {
    let limit = proptest::option::of(prop_oneof![0..4_u64, 0..40_u64, Just(u64::MAX)]);
    let last_ms = proptest::option::of(prop_oneof![0..4_u64, 0..60_u64, Just(u64::MAX)]);
    (limit, last_ms).prop_map(|(limit, last_ms)| Range { limit, last_ms })
}

fn query_range() -> impl Strategy<Value = QueryRange> {
    let number = || prop_oneof![8 => 0..70_u64, 4 => 0..6_u64, 1 => Just(u64::MAX)];
    let anchor = (0..5_u8, number()).prop_map(|(kind, number)| match kind {
        0 => Anchor::Start,
        1 => Anchor::Sequence(number),
        2 => Anchor::Instant(number),
        3 => Anchor::LastEvents(number),
        _ => Anchor::LastMs(number),
    });
    let span = (0..9_u8, number()).prop_map(|(kind, number)| match kind {
        0 => Span::End,
        1 => Span::ToSequence(number),
        2 => Span::ToInstant(number),
        3 => Span::NextEvents(number),
        4 => Span::NextMs(number),
        5 => Span::UntilLastEvents(number),
        6 => Span::UntilLastMs(number),
        7 => Span::PreviousEvents(number),
        _ => Span::PreviousMs(number),
    });
    (anchor, span).prop_map(|(anchor, span)| QueryRange { anchor, span })
}

fn query() -> impl Strategy<Value = Query> {
    let kind = prop::sample::select(vec![QueryKind::Values, QueryKind::LatestEdits, QueryKind::AllEdits]);
    let limit = prop_oneof![Just(u64::MAX), 0..20_u64];
    (kind, query_range(), proptest::option::of(query_range()), limit).prop_map(|(kind, range, edit_range, limit)| Query {
        kind,
        range,
        edit_range,
        limit,
    })
}

fn bytes_max() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(usize::MAX), 1 => 0..600_usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_series_is_a_list_of_events(
        retained in range(),
        steps in steps(),
        queries in proptest::collection::vec((query(), bytes_max()), 24),
        ranges in proptest::collection::vec((range(), bytes_max()), 4),
    ) {
        let (mut series, mut model, mut now_ms) = (Series::new(retained), Model { retained, ..Model::default() }, 0);
        for step in &steps {
            apply(&mut series, &mut model, step, &mut now_ms);
        }
        for (query, bytes_max) in &queries {
            prop_assert_eq!(events(series.query(query, *bytes_max)), model.query(query, *bytes_max), "{:?}", query);
        }
        for (range, bytes_max) in &ranges {
            prop_assert_eq!(events(series.subscription(range, *bytes_max)), model.subscription(range, *bytes_max), "{:?}", range);
        }
        check_restored(&series, &model);
    }
}
