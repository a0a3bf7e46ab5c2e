//! Appends, edits, ranges and queries of one time series.

use super::*;

mod model;
mod ranges;

const ANNE: &str = "anne";

fn series(limit: Option<u64>, last_ms: Option<u64>) -> Series {
    Series::new(Range { limit, last_ms })
}

fn anne() -> Arc<str> {
    ANNE.into()
}

/// Appends events at these times, which are given.
fn append_at(series: &mut Series, times: impl IntoIterator<Item = u64>) {
    for ms in times {
        series.append(b"v", Some(ms), &anne(), 0).unwrap();
    }
}

fn sequences(events: &[EventRef<'_>]) -> String {
    events.iter().map(|event| event.sequence.to_string()).collect::<Vec<_>>().join(" ")
}

fn held(series: &Series) -> String {
    sequences(&series.subscription(&Range::default(), usize::MAX).events)
}

#[test]
fn events_count_from_0_and_edits_count_too() {
    let mut series = series(None, None);
    let author = anne();
    assert_eq!(series.append(b"a", None, &author, 5), Ok(Appended { sequence: 0, timestamp_ms: 5, first_kept: 0, dropped: None }));
    assert_eq!(series.edit(0, b"b", &author, 6), Ok(Appended { sequence: 1, timestamp_ms: 6, first_kept: 0, dropped: None }));
    assert_eq!(series.append(b"c", Some(9), &author, 7), Ok(Appended { sequence: 2, timestamp_ms: 9, first_kept: 0, dropped: None }));
    let edit = EventRef { value: b"b", sequence: 1, timestamp_ms: 6, author: &author, original: Some(0) };
    assert_eq!(series.event(1), Some(edit));
    assert_eq!(series.event(0).unwrap().value, b"a", "an event never changes");
    assert_eq!((series.event(3), series.latest()), (None, series.event(2)));
    series.edit(2, b"d", &author, 7).unwrap();
    assert_eq!(series.latest(), series.event(3));
    assert_eq!((series.len(), series.bytes()), (4, 4 + 4 * EVENT_BYTES));
}

#[test]
fn timestamps_do_not_go_back() {
    let mut series = series(None, None);
    let author = anne();
    let stamp = |appended: Result<Appended, SeriesError>| appended.unwrap().timestamp_ms;
    assert_eq!(stamp(series.append(b"", Some(100), &author, 5)), 100);
    assert_eq!(stamp(series.append(b"", None, &author, 5)), 100, "the clock is behind");
    assert_eq!(stamp(series.append(b"", Some(100), &author, 5)), 100);
    assert_eq!(stamp(series.edit(0, b"", &author, 5)), 100);
    assert_eq!(stamp(series.edit(0, b"", &author, 200)), 200);
    let refused = series.append(b"", Some(199), &author, 300).unwrap_err();
    assert_eq!(refused, SeriesError::TimestampBeforeLatest { given_ms: 199, latest_ms: 200 });
    assert_eq!(refused.to_string(), "found the timestamp 199 ms, expected at least that of the latest event, 200 ms");
    assert_eq!((series.next_sequence(), series.latest_ms), (5, 200), "what is refused leaves nothing behind");
}

#[test]
fn timestamps_do_not_go_back_behind_events_that_are_gone() {
    let mut series = series(None, None);
    series.restore_end(1, 100);
    assert!(series.is_empty());
    let refused = series.append(b"", Some(99), &anne(), 1000);
    assert_eq!(refused, Err(SeriesError::TimestampBeforeLatest { given_ms: 99, latest_ms: 100 }));
}

#[test]
fn only_original_events_that_are_kept_can_be_edited() {
    let mut series = series(Some(2), None);
    let author = anne();
    append_at(&mut series, [1, 2]);
    series.edit(1, b"", &author, 3).unwrap();
    append_at(&mut series, [4]);
    let mut edit = |original| series.edit(original, b"", &author, 5).unwrap_err().to_string();
    assert_eq!(edit(0), "found an edit of event 0, which is not kept any more, expected an original event from 1 on");
    assert_eq!(edit(2), "found an edit of event 2, which is an edit itself, expected its original event 1");
    assert_eq!(edit(4), "found an edit of event 4, expected the sequence of an event before 4");
    assert_eq!(edit(u64::MAX), format!("found an edit of event {}, expected the sequence of an event before 4", u64::MAX));
    assert_eq!(held(&series), "1 2 3");
}

#[test]
fn an_edit_that_went_with_its_original_cannot_be_edited() {
    let mut series = series(Some(2), None);
    append_at(&mut series, [1, 2]);
    series.edit(0, b"", &anne(), 3).unwrap();
    append_at(&mut series, [4]);
    let refused = series.edit(2, b"", &anne(), 5);
    assert_eq!(refused, Err(SeriesError::NotRetained { original: 2, first_kept: 1 }));
}

#[test]
fn an_original_that_goes_takes_its_edits_along() {
    let mut series = series(Some(2), None);
    append_at(&mut series, [1, 2]);
    for original in [0, 1, 0] {
        series.edit(original, b"", &anne(), 3).unwrap();
    }
    assert_eq!(held(&series), "0 1 2 3 4");
    let appended = series.append(b"v", None, &anne(), 4).unwrap();
    assert_eq!(appended, Appended { sequence: 5, timestamp_ms: 4, first_kept: 1, dropped: None });
    assert_eq!(held(&series), "1 3 5");
    series.append(b"v", None, &anne(), 4).unwrap();
    assert_eq!(held(&series), "5 6");
    assert_eq!(series.bytes(), 2 * (1 + EVENT_BYTES));
}

#[test]
fn edits_do_not_count_for_the_limit() {
    let mut series = series(Some(1), None);
    append_at(&mut series, [1]);
    for _ in 0..5 {
        assert_eq!(series.edit(0, b"", &anne(), 2).unwrap().first_kept, 0);
    }
    assert_eq!(held(&series), "0 1 2 3 4 5");
}

/// A range, the events' times, then what is left of them.
fn check_retained(limit: Option<u64>, last_ms: Option<u64>, times: &[u64], left: &str) {
    let mut series = series(limit, last_ms);
    append_at(&mut series, times.iter().copied());
    assert_eq!(held(&series), left, "limit {limit:?} last {last_ms:?}");
    let mut restored = Series::new(series.retained());
    for event in series.subscription(&Range::default(), usize::MAX) {
        restored.restore(event.to_event()).unwrap();
    }
    assert_eq!(held(&restored), left, "a store that kept them gives them back");
}

#[test]
fn the_retained_range_keeps_the_latest() {
    let times = [70, 75, 80, 90, 90, 100];
    check_retained(None, None, &times, "0 1 2 3 4 5");
    check_retained(Some(7), None, &times, "0 1 2 3 4 5");
    check_retained(Some(6), None, &times, "0 1 2 3 4 5");
    check_retained(Some(5), None, &times, "1 2 3 4 5");
    check_retained(Some(1), None, &times, "5");
    check_retained(Some(0), None, &times, "");
    check_retained(None, Some(u64::MAX), &times, "0 1 2 3 4 5");
    check_retained(None, Some(30), &times, "0 1 2 3 4 5");
    check_retained(None, Some(29), &times, "1 2 3 4 5");
    check_retained(None, Some(10), &times, "3 4 5");
    check_retained(None, Some(0), &times, "5");
    check_retained(Some(2), Some(10), &times, "4 5");
    check_retained(Some(4), Some(10), &times, "3 4 5");
    check_retained(Some(4), Some(10), &[], "");
    check_retained(None, Some(10), &[10, 500], "1");
}

#[test]
fn of_very_many_events_that_go_at_once_the_memory_is_given_back_a_part_at_a_time() {
    const EVENTS: u64 = 10_000;
    let mut series = series(None, Some(1000));
    append_at(&mut series, (0..EVENTS).map(|number| number / 10));
    for original in [0, 700, 9_990] {
        series.edit(original, b"edited", &anne(), 0).unwrap();
    }
    // All but the last ten are too old, and the edits of all that went.
    series.append(b"x", Some(1999), &anne(), 0).unwrap();
    assert_eq!((series.first_kept(), series.len()), (9_990, 12));
    let mut bytes = 0;
    (9_990..EVENTS + 4).for_each(|sequence| bytes += series.event(sequence).map_or(0, |event| EVENT_BYTES + event.value.len()));
    assert_eq!(series.bytes(), bytes);
    assert_eq!(series.latest().map(|event| event.sequence), Some(EVENTS + 3));
    let mut gone = series.take_gone().expect("most went in whole chunks");
    assert!(!gone.is_small() && series.take_gone().is_none());
    let mut parts = 1;
    while gone.drop_part() {
        parts += 1;
    }
    assert!(parts >= 4, "{parts} parts of some thousand events each");
    // The rest goes the same way, with the series.
    assert!(series.into_gone().is_small());
}

#[test]
fn a_retained_duration_counts_back_from_the_latest_original_whatever_the_clock_says() {
    let mut series = series(None, Some(10));
    let appended = series.append(b"", Some(5), &anne(), 1_000_000).unwrap();
    assert_eq!(appended, Appended { sequence: 0, timestamp_ms: 5, first_kept: 0, dropped: None });
    assert_eq!(series.append(b"", Some(15), &anne(), 1_000_000).unwrap().first_kept, 0);
    assert_eq!(series.edit(0, b"", &anne(), 1_000_000).unwrap().first_kept, 0, "an edit makes no original go");
    assert_eq!(held(&series), "0 1 2");
    assert_eq!(series.append(b"", None, &anne(), 1_000_000).unwrap().first_kept, 3);
    assert_eq!(held(&series), "3");
}

#[test]
fn of_one_original_the_latest_edits_are_kept() {
    let mut series = series(None, None);
    append_at(&mut series, [1, 2]);
    series.edit(1, b"", &anne(), 3).unwrap();
    let edits = EDITS_PER_ORIGINAL_MAX as u64;
    for count in 0..edits {
        let appended = series.edit(0, b"", &anne(), 4).unwrap();
        assert_eq!((appended.sequence, appended.dropped), (3 + count, None));
    }
    assert_eq!(series.len() as u64, 3 + edits);
    assert_eq!(series.edit(0, b"", &anne(), 4).unwrap().dropped, Some(3));
    assert_eq!(series.len() as u64, 3 + edits);
    assert_eq!(series.event(3), None, "the oldest edit gave way");
    assert!(series.event(0).is_some() && series.event(2).is_some() && series.event(4).is_some());
    assert_eq!(series.bytes(), 2 + series.len() * EVENT_BYTES);
}

#[test]
fn events_by_the_same_author_share_its_name() {
    let mut series = series(None, None);
    append_at(&mut series, [1, 1]);
    series.append(b"", None, &"bob".into(), 1).unwrap();
    let name = |sequence| series.event(sequence).unwrap().author;
    assert!(Arc::ptr_eq(name(0), name(1)));
    assert_eq!(&**name(2), "bob");
}

#[test]
fn an_event_takes_less_than_64_bytes_beside_its_value() {
    const { assert!(EVENT_BYTES < 64) }
}

fn stored(sequence: u64, timestamp_ms: u64, original: Option<u64>) -> Event {
    Event { value: [sequence as u8].into(), sequence, timestamp_ms, author: anne(), original }
}

/// Restores `(sequence, timestamp, original)`, then says what is held or what was wrong.
fn check_restored(limit: Option<u64>, events: &[(u64, u64, Option<u64>)], result: Result<&str, SeriesError>) {
    let mut series = series(limit, None);
    let restored = events.iter().try_for_each(|(sequence, ms, original)| series.restore(stored(*sequence, *ms, *original)));
    assert_eq!(restored.map(|()| held(&series)), result.map(str::to_owned), "{events:?}");
    if let (Ok(()), Some(last)) = (restored, events.last()) {
        assert_eq!((series.next_sequence(), series.latest_ms), (last.0 + 1, last.1));
    }
}

#[test]
fn a_series_is_restored_from_its_events() {
    check_restored(None, &[], Ok(""));
    check_restored(None, &[(0, 1, None), (1, 1, Some(0))], Ok("0 1"));
    check_restored(None, &[(7, 1, None), (9, 2, None), (12, 3, Some(7))], Ok("7 9 12"));
    check_restored(Some(1), &[(7, 1, None), (9, 2, None), (12, 3, Some(7)), (13, 3, Some(9))], Ok("9 13"));
    check_restored(None, &[(5, 1, Some(2))], Ok(""));
    check_restored(None, &[(5, 1, Some(2)), (6, 1, None), (7, 1, Some(3))], Ok("6"));
}

#[test]
fn a_broken_store_is_refused() {
    use SeriesError::{EditOfEdit, NotRetained, Sequence, TimestampBeforeLatest, UnknownOriginal};
    check_restored(None, &[(3, 1, None), (3, 1, None)], Err(Sequence { found: 3, expected: 4 }));
    check_restored(None, &[(u64::MAX, 1, None)], Err(Sequence { found: u64::MAX, expected: 0 }));
    check_restored(None, &[(3, 2, None), (4, 1, None)], Err(TimestampBeforeLatest { given_ms: 1, latest_ms: 2 }));
    check_restored(None, &[(3, 2, Some(3))], Err(UnknownOriginal { original: 3, next: 3 }));
    check_restored(None, &[(3, 1, None), (4, 1, Some(3)), (5, 1, Some(4))], Err(EditOfEdit { edit: 4, original: 3 }));
    check_restored(None, &[(3, 1, None), (6, 1, Some(5))], Err(UnknownOriginal { original: 5, next: 4 }));
    check_restored(None, &[(3, 1, None), (5, 1, None), (6, 1, Some(4))], Err(NotRetained { original: 4, first_kept: 3 }));
}

#[test]
fn sequences_end() {
    let mut series = series(None, None);
    series.restore(stored(SEQUENCE_MAX - 1, 1, None)).unwrap();
    assert_eq!(series.append(b"", None, &anne(), 2).unwrap().sequence, SEQUENCE_MAX);
    let refused = SeriesError::Sequence { found: SEQUENCE_MAX + 1, expected: SEQUENCE_MAX + 1 };
    assert_eq!(series.append(b"", None, &anne(), 2), Err(refused));
    assert_eq!(series.edit(SEQUENCE_MAX, b"", &anne(), 2), Err(refused));
}

#[test]
fn a_series_whose_events_all_went_does_not_use_their_sequences_again() {
    let mut series = series(None, Some(10));
    series.restore_end(5, 100);
    assert_eq!((series.is_empty(), series.first_kept()), (true, 5));
    assert_eq!(series.append(b"", None, &anne(), 90).unwrap(), Appended { sequence: 5, timestamp_ms: 100, first_kept: 5, dropped: None });
    series.restore_end(2, 3);
    assert_eq!((series.next_sequence(), series.latest_ms), (6, 100), "it only goes on");
}
