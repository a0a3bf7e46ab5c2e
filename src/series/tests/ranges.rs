//! What each query selects of one small series, by anchor, span and kind.

use super::*;
use crate::series::query::Selection;

/// ```text
/// sequence  0   1   2   3   4   5   6   7   8   9
/// time    100 110 120 130 140 150 160 170 180 190
/// edits             0           1   0       4
/// ```
fn edited() -> Series {
    let mut series = series(None, None);
    for (sequence, original) in [None, None, Some(0), None, None, Some(1), Some(0), None, Some(4), None].into_iter().enumerate() {
        let now_ms = 100 + 10 * sequence as u64;
        match original {
            None => series.append(b"v", None, &anne(), now_ms).unwrap(),
            Some(original) => series.edit(original, b"e", &anne(), now_ms).unwrap(),
        };
    }
    series
}

fn select(query: Query) -> String {
    sequences(&edited().query(&query, usize::MAX).events)
}

/// A range, then the sequences of the values, the latest edits and all edits that it selects.
fn check(anchor: Anchor, span: Span, selected: [&str; 3]) {
    let kinds = [QueryKind::Values, QueryKind::LatestEdits, QueryKind::AllEdits];
    let found = kinds.map(|kind| select(Query { kind, range: QueryRange { anchor, span }, ..Query::default() }));
    assert_eq!(found, selected, "{anchor:?} {span:?}");
}

#[test]
fn from_the_start() {
    check(Anchor::Start, Span::End, ["6 5 3 8 7 9", "5 6 8", "2 5 6 8"]);
    check(Anchor::Start, Span::ToSequence(4), ["6 5 3 8", "5 6 8", "2 5 6 8"]);
    check(Anchor::Start, Span::ToInstant(170), ["6 5 3 8 7", "5 6 8", "2 5 6 8"]);
    check(Anchor::Start, Span::NextEvents(2), ["6 5", "5 6", "2 5 6"]);
    check(Anchor::Start, Span::NextMs(40), ["6 5 3 8", "5 6 8", "2 5 6 8"]);
    check(Anchor::Start, Span::UntilLastEvents(1), ["6 5 3 8 7", "5 6 8", "2 5 6 8"]);
    check(Anchor::Start, Span::UntilLastMs(20), ["6 5 3 8 7", "5 6 8", "2 5 6 8"]);
    check(Anchor::Start, Span::PreviousEvents(2), ["", "", ""]);
    check(Anchor::Start, Span::PreviousMs(30), ["", "", ""]);
}

#[test]
fn from_a_sequence() {
    check(Anchor::Sequence(1), Span::End, ["5 3 8 7 9", "5 8", "5 8"]);
    check(Anchor::Sequence(1), Span::ToSequence(4), ["5 3 8", "5 8", "5 8"]);
    check(Anchor::Sequence(1), Span::ToInstant(170), ["5 3 8 7", "5 8", "5 8"]);
    check(Anchor::Sequence(1), Span::NextEvents(2), ["5 3", "5", "5"]);
    check(Anchor::Sequence(1), Span::NextMs(40), ["5 3 8", "5 8", "5 8"]);
    check(Anchor::Sequence(1), Span::UntilLastEvents(1), ["5 3 8 7", "5 8", "5 8"]);
    check(Anchor::Sequence(1), Span::UntilLastMs(20), ["5 3 8 7", "5 8", "5 8"]);
    check(Anchor::Sequence(1), Span::PreviousEvents(2), ["6 5", "5 6", "2 5 6"]);
    check(Anchor::Sequence(1), Span::PreviousMs(30), ["6 5", "5 6", "2 5 6"]);
}

#[test]
fn from_the_sequence_of_an_edit() {
    check(Anchor::Sequence(5), Span::End, ["7 9", "", ""]);
    check(Anchor::Sequence(5), Span::ToSequence(4), ["", "", ""]);
    check(Anchor::Sequence(5), Span::ToInstant(170), ["7", "", ""]);
    check(Anchor::Sequence(5), Span::NextEvents(2), ["7 9", "", ""]);
    check(Anchor::Sequence(5), Span::NextMs(40), ["7 9", "", ""]);
    check(Anchor::Sequence(5), Span::UntilLastEvents(1), ["7", "", ""]);
    check(Anchor::Sequence(5), Span::UntilLastMs(20), ["7", "", ""]);
    check(Anchor::Sequence(5), Span::PreviousEvents(2), ["3 8", "8", "8"]);
    check(Anchor::Sequence(5), Span::PreviousMs(30), ["5 3 8", "5 8", "5 8"]);
}

#[test]
fn from_the_instant_of_an_event() {
    check(Anchor::Instant(130), Span::End, ["3 8 7 9", "8", "8"]);
    check(Anchor::Instant(130), Span::ToSequence(4), ["3 8", "8", "8"]);
    check(Anchor::Instant(130), Span::ToInstant(170), ["3 8 7", "8", "8"]);
    check(Anchor::Instant(130), Span::NextEvents(2), ["3 8", "8", "8"]);
    check(Anchor::Instant(130), Span::NextMs(40), ["3 8 7", "8", "8"]);
    check(Anchor::Instant(130), Span::UntilLastEvents(1), ["3 8 7", "8", "8"]);
    check(Anchor::Instant(130), Span::UntilLastMs(20), ["3 8 7", "8", "8"]);
    check(Anchor::Instant(130), Span::PreviousEvents(2), ["5 3", "5", "5"]);
    check(Anchor::Instant(130), Span::PreviousMs(30), ["6 5 3", "5 6", "2 5 6"]);
}

#[test]
fn from_an_instant_between_events() {
    check(Anchor::Instant(135), Span::End, ["8 7 9", "8", "8"]);
    check(Anchor::Instant(135), Span::ToSequence(4), ["8", "8", "8"]);
    check(Anchor::Instant(135), Span::ToInstant(170), ["8 7", "8", "8"]);
    check(Anchor::Instant(135), Span::NextEvents(2), ["8 7", "8", "8"]);
    check(Anchor::Instant(135), Span::NextMs(40), ["8 7", "8", "8"]);
    check(Anchor::Instant(135), Span::UntilLastEvents(1), ["8 7", "8", "8"]);
    check(Anchor::Instant(135), Span::UntilLastMs(20), ["8 7", "8", "8"]);
    check(Anchor::Instant(135), Span::PreviousEvents(2), ["5 3", "5", "5"]);
    check(Anchor::Instant(135), Span::PreviousMs(30), ["5 3", "5", "5"]);
}

#[test]
fn from_the_third_last_event() {
    check(Anchor::LastEvents(3), Span::End, ["8 7 9", "8", "8"]);
    check(Anchor::LastEvents(3), Span::ToSequence(4), ["8", "8", "8"]);
    check(Anchor::LastEvents(3), Span::ToInstant(170), ["8 7", "8", "8"]);
    check(Anchor::LastEvents(3), Span::NextEvents(2), ["8 7", "8", "8"]);
    check(Anchor::LastEvents(3), Span::NextMs(40), ["8 7", "8", "8"]);
    check(Anchor::LastEvents(3), Span::UntilLastEvents(1), ["8 7", "8", "8"]);
    check(Anchor::LastEvents(3), Span::UntilLastMs(20), ["8 7", "8", "8"]);
    check(Anchor::LastEvents(3), Span::PreviousEvents(2), ["3 8", "8", "8"]);
    check(Anchor::LastEvents(3), Span::PreviousMs(30), ["5 3 8", "5 8", "5 8"]);
}

#[test]
fn from_the_end() {
    check(Anchor::LastEvents(0), Span::End, ["", "", ""]);
    check(Anchor::LastEvents(0), Span::ToSequence(4), ["", "", ""]);
    check(Anchor::LastEvents(0), Span::ToInstant(170), ["", "", ""]);
    check(Anchor::LastEvents(0), Span::NextEvents(2), ["", "", ""]);
    check(Anchor::LastEvents(0), Span::NextMs(40), ["", "", ""]);
    check(Anchor::LastEvents(0), Span::UntilLastEvents(1), ["", "", ""]);
    check(Anchor::LastEvents(0), Span::UntilLastMs(20), ["", "", ""]);
    check(Anchor::LastEvents(0), Span::PreviousEvents(2), ["7 9", "", ""]);
    check(Anchor::LastEvents(0), Span::PreviousMs(30), ["7 9", "", ""]);
}

#[test]
fn from_a_duration_before_the_end() {
    check(Anchor::LastMs(60), Span::End, ["3 8 7 9", "8", "8"]);
    check(Anchor::LastMs(60), Span::ToSequence(4), ["3 8", "8", "8"]);
    check(Anchor::LastMs(60), Span::ToInstant(170), ["3 8 7", "8", "8"]);
    check(Anchor::LastMs(60), Span::NextEvents(2), ["3 8", "8", "8"]);
    check(Anchor::LastMs(60), Span::NextMs(40), ["3 8 7", "8", "8"]);
    check(Anchor::LastMs(60), Span::UntilLastEvents(1), ["3 8 7", "8", "8"]);
    check(Anchor::LastMs(60), Span::UntilLastMs(20), ["3 8 7", "8", "8"]);
    check(Anchor::LastMs(60), Span::PreviousEvents(2), ["5 3", "5", "5"]);
    check(Anchor::LastMs(60), Span::PreviousMs(30), ["6 5 3", "5 6", "2 5 6"]);
}
#[test]
fn a_range_whose_end_is_before_its_anchor_is_empty() {
    check(Anchor::Sequence(7), Span::ToSequence(3), ["", "", ""]);
    check(Anchor::Instant(150), Span::ToInstant(149), ["", "", ""]);
    check(Anchor::LastEvents(2), Span::UntilLastEvents(2), ["", "", ""]);
    check(Anchor::LastMs(10), Span::UntilLastMs(30), ["", "", ""]);
}

#[test]
fn ranges_may_reach_over_the_ends() {
    let all = ["6 5 3 8 7 9", "5 6 8", "2 5 6 8"];
    for number in [200, u64::MAX] {
        check(Anchor::LastEvents(number), Span::End, all);
        check(Anchor::LastEvents(number), Span::PreviousEvents(9), ["", "", ""]);
        check(Anchor::LastMs(number), Span::NextMs(number), all);
        check(Anchor::LastMs(number), Span::PreviousMs(number), ["", "", ""]);
        check(Anchor::Start, Span::NextEvents(number), all);
        check(Anchor::Start, Span::NextMs(number), all);
        check(Anchor::Start, Span::UntilLastEvents(number), ["", "", ""]);
        check(Anchor::Start, Span::UntilLastMs(number), ["", "", ""]);
        check(Anchor::Sequence(number), Span::End, ["", "", ""]);
        check(Anchor::Sequence(number), Span::PreviousEvents(number), all);
        check(Anchor::Instant(number), Span::NextMs(number), ["", "", ""]);
        check(Anchor::Instant(number), Span::PreviousMs(number), all);
    }
}

#[test]
fn ranges_of_nothing_are_empty() {
    check(Anchor::Start, Span::NextEvents(0), ["", "", ""]);
    check(Anchor::LastEvents(0), Span::PreviousEvents(0), ["", "", ""]);
    check(Anchor::Instant(110), Span::NextMs(0), ["5", "5", "5"]);
    check(Anchor::Instant(110), Span::PreviousMs(0), ["5", "5", "5"]);
    let series = Series::default();
    let empty = series.query(&Query::default(), 0);
    assert_eq!(empty, Selection { is_complete: true, events: Vec::new() });
}

/// A range of edits, then what each kind selects of all originals.
fn check_edit_range(anchor: Anchor, span: Span, selected: [&str; 3]) {
    let edit_range = Some(QueryRange { anchor, span });
    let kinds = [QueryKind::Values, QueryKind::LatestEdits, QueryKind::AllEdits];
    let found = kinds.map(|kind| select(Query { kind, edit_range, ..Query::default() }));
    assert_eq!(found, selected, "{anchor:?} {span:?}");
}

#[test]
fn an_edit_range_is_a_range_of_the_edits() {
    check_edit_range(Anchor::Start, Span::End, ["6 5 3 8 7 9", "5 6 8", "2 5 6 8"]);
    check_edit_range(Anchor::Start, Span::ToSequence(5), ["2 5 3 4 7 9", "2 5", "2 5"]);
    check_edit_range(Anchor::Sequence(3), Span::NextEvents(2), ["6 5 3 4 7 9", "5 6", "5 6"]);
    check_edit_range(Anchor::Sequence(7), Span::PreviousEvents(2), ["6 5 3 4 7 9", "5 6", "5 6"]);
    check_edit_range(Anchor::LastEvents(1), Span::End, ["0 1 3 8 7 9", "8", "8"]);
    check_edit_range(Anchor::LastMs(30), Span::End, ["6 1 3 8 7 9", "6 8", "6 8"]);
    check_edit_range(Anchor::Start, Span::NextMs(30), ["2 5 3 4 7 9", "2 5", "2 5"]);
    check_edit_range(Anchor::Instant(181), Span::End, ["0 1 3 4 7 9", "", ""]);
}

#[test]
fn both_ranges_apply() {
    let range = QueryRange { anchor: Anchor::Start, span: Span::NextEvents(1) };
    let edit_range = Some(QueryRange { anchor: Anchor::Start, span: Span::ToSequence(5) });
    let kinds = [QueryKind::Values, QueryKind::LatestEdits, QueryKind::AllEdits];
    let select = |edit_range| kinds.map(|kind| select(Query { kind, range, edit_range, ..Query::default() }));
    assert_eq!(select(edit_range), ["2", "2", "2"]);
    assert_eq!(select(None), ["6", "6", "2 6"]);
}

/// A limit and a bound in bytes, then what they leave of each kind; whether that is all.
fn check_bounds(limit: u64, bytes_max: usize, left: [(bool, &str); 3]) {
    let series = edited();
    for (kind, left) in [QueryKind::Values, QueryKind::LatestEdits, QueryKind::AllEdits].into_iter().zip(left) {
        let selection = series.query(&Query { kind, limit, ..Query::default() }, bytes_max);
        assert_eq!((selection.is_complete, &*sequences(&selection.events)), left, "{kind:?} {limit} {bytes_max}");
    }
}

#[test]
fn a_limit_keeps_the_latest() {
    check_bounds(6, usize::MAX, [(true, "6 5 3 8 7 9"), (true, "5 6 8"), (true, "2 5 6 8")]);
    check_bounds(5, usize::MAX, [(false, "5 3 8 7 9"), (true, "5 6 8"), (true, "2 5 6 8")]);
    check_bounds(3, usize::MAX, [(false, "8 7 9"), (true, "5 6 8"), (false, "5 6 8")]);
    check_bounds(2, usize::MAX, [(false, "7 9"), (false, "6 8"), (false, "6 8")]);
    check_bounds(0, usize::MAX, [(false, ""), (false, ""), (false, "")]);
}

#[test]
fn a_bound_in_bytes_keeps_the_latest_that_fit() {
    let event = 1 + ANNE.len() + EVENT_NUMBERS_BYTES;
    check_bounds(u64::MAX, 6 * event, [(true, "6 5 3 8 7 9"), (true, "5 6 8"), (true, "2 5 6 8")]);
    check_bounds(u64::MAX, 6 * event - 1, [(false, "5 3 8 7 9"), (true, "5 6 8"), (true, "2 5 6 8")]);
    check_bounds(u64::MAX, 3 * event, [(false, "8 7 9"), (true, "5 6 8"), (false, "5 6 8")]);
    check_bounds(1, 3 * event, [(false, "9"), (false, "8"), (false, "8")]);
    check_bounds(u64::MAX, event - 1, [(false, ""), (false, ""), (false, "")]);
}

/// A subscription range, then the sequences that a new subscriber gets.
fn check_subscription(limit: Option<u64>, last_ms: Option<u64>, given: &str) {
    let series = edited();
    let selection = series.subscription(&Range { limit, last_ms }, usize::MAX);
    assert_eq!((selection.is_complete, &*sequences(&selection.events)), (true, given), "{limit:?} {last_ms:?}");
}

#[test]
fn a_new_subscriber_gets_the_latest_events_and_edits_as_they_came() {
    check_subscription(None, None, "0 1 2 3 4 5 6 7 8 9");
    check_subscription(Some(1), None, "9");
    check_subscription(Some(4), None, "6 7 8 9");
    check_subscription(Some(0), None, "");
    check_subscription(Some(u64::MAX), Some(u64::MAX), "0 1 2 3 4 5 6 7 8 9");
    check_subscription(None, Some(0), "9");
    check_subscription(None, Some(30), "6 7 8 9");
    check_subscription(None, Some(29), "7 8 9");
    check_subscription(Some(2), Some(30), "8 9");
    check_subscription(Some(8), Some(30), "6 7 8 9");
}

#[test]
fn what_a_new_subscriber_gets_is_flagged_as_edits_and_bounded_in_bytes() {
    let series = edited();
    let latest = Range { limit: Some(2), last_ms: None };
    let event = 1 + ANNE.len() + EVENT_NUMBERS_BYTES;
    let selection = series.subscription(&latest, 2 * event);
    assert_eq!(selection.events.iter().map(|event| event.original).collect::<Vec<_>>(), [Some(4), None]);
    assert!(selection.is_complete);
    let selection = series.subscription(&latest, 2 * event - 1);
    assert_eq!((selection.is_complete, &*sequences(&selection.events)), (false, "9"));
}

#[test]
fn many_edits_of_few_originals_are_found_as_few_of_many() {
    let mut series = series(None, None);
    append_at(&mut series, 0..100);
    (100..160).for_each(|ms| assert!(series.edit((ms % 3) * 49, b"", &anne(), ms).is_ok()));
    let select = |first, last, kind, limit| {
        let range = QueryRange { anchor: Anchor::Sequence(first), span: Span::ToSequence(last) };
        sequences(&series.query(&Query { kind, range, limit, ..Query::default() }, usize::MAX).events)
    };
    for (first, last) in [(0, 49), (0, 50), (0, 97)] {
        assert_eq!(select(first, last, QueryKind::LatestEdits, u64::MAX), "157 159", "{first}-{last}");
        assert_eq!(select(first, last, QueryKind::AllEdits, 4), "154 156 157 159", "{first}-{last}");
    }
    assert_eq!(select(98, 98, QueryKind::AllEdits, 2), "155 158");
    assert_eq!(select(98, 99, QueryKind::LatestEdits, 2), "158");
    assert_eq!(select(50, 97, QueryKind::AllEdits, 2), "");
}
