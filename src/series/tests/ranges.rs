//! What each query selects of one small series, by anchor, span and kind.

use super::*;

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
