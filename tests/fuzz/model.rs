//! What is to hold for the texts of the topic model, for patches, series and the journal.

use std::sync::Arc;
use tidewire::surface::base::TopicId;
use tidewire::surface::journal::{Expected, Frame, HEADER_BYTES, Header, Record, RecordKind, Salt, encode, read_segment, synced_mark};
use tidewire::surface::security::{Author, PrincipalLimits, PrincipalScript, PrincipalStore, SecurityLimits, SecurityStore};
use tidewire::surface::series::{Anchor, EVENT_NUMBERS_BYTES, Query, QueryKind, QueryRange, Range, Series, Span};
use tidewire::surface::topic::constraint::{Constraint, ConstraintLimits, Subject};
use tidewire::surface::topic::range_expression::RangeExpression;
use tidewire::surface::topic::removal::{RemovalLimits, RemovalPolicy};
use tidewire::surface::topic::session_filter::{SessionFilter, SessionFilterLimits};
use tidewire::surface::topic::specification::{Specification, SpecificationLimits, TopicType};
use tidewire::surface::value::json::{Checker, JsonLimits, is_compact};
use tidewire::surface::value::patch::{self, PatchError, PatchLimits};
use tidewire::surface::value::pointer::{Pointer, find};
use tidewire::surface::value::{ValueType, scalar};

/// A type and properties, a line each: `json`, then keys and values by turns. What is shown means the same, and is shown again as it is.
pub fn specification(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.split('\n');
    let Some(topic_type) = lines.next().and_then(TopicType::from_name) else { return };
    let lines: Vec<&str> = lines.collect();
    let properties: Vec<(&str, &str)> = lines.chunks(2).map(|pair| (pair[0], pair.get(1).copied().unwrap_or_default())).collect();
    let limits = SpecificationLimits::default();
    match Specification::parse(topic_type, properties.iter().copied(), limits) {
        Ok(specification) => {
            let again = Specification::parse(topic_type, specification.properties(), limits).expect("what is shown is a specification");
            assert_eq!(again, specification);
            assert!(again.properties().eq(specification.properties()));
            assert!(specification.properties().all(|(key, _)| properties.iter().any(|(given, _)| *given == key)), "nothing is made up");
        }
        Err(error) => {
            let values = properties.iter().filter(|(key, _)| key.starts_with(error.property.trim_end_matches('…')));
            let longest = values.map(|(_, value)| value.len()).max().unwrap_or(0);
            assert!(error.position <= longest.max(limits.value_bytes_max), "{error}");
            assert!(error.to_string().len() < 1000, "{error}");
        }
    }
}

pub fn removal_policy(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match RemovalPolicy::parse(text, RemovalLimits::default()) {
        Ok(policy) => {
            let again = RemovalPolicy::parse(policy.as_str(), RemovalLimits::default()).expect("the canonical text is a policy");
            assert_eq!(again.as_str(), policy.as_str());
            assert_eq!(again.remove_selector(), policy.remove_selector());
            assert_eq!((again.needs_creator(), again.needs_subscriptions()), (policy.needs_creator(), policy.needs_subscriptions()));
        }
        Err(error) => assert!(error.position <= text.len() && error.to_string().len() < 1000, "{error}"),
    }
}

/// What a script of roles makes is printed as one that makes the same.
pub fn script_of_roles(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match SecurityStore::parse(text, SecurityLimits::default()) {
        Ok(store) => {
            let script = store.to_script();
            let again = SecurityStore::parse(&script, SecurityLimits::default()).unwrap_or_else(|error| panic!("{error} in {script}"));
            assert_eq!(again.to_script(), script);
        }
        Err(error) => assert!(error.len() < 1000, "{error}"),
    }
}

/// The same of principals; hashing is not what is looked at. What is no script does not say what stands in it: it may be a password.
pub fn script_of_principals(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let limits = PrincipalLimits::default();
    let apply = |store: &mut PrincipalStore, text: &str| {
        let script = PrincipalScript::parse(text, limits).map_err(|error| error.to_string())?;
        let result = store.apply(&script, Author::Operator, |_| Some(HASH.into()), |_, _| true);
        result.map_err(|error| error.to_string())
    };
    let mut store = PrincipalStore::empty(limits);
    match apply(&mut store, text) {
        Ok(()) => {
            let script = store.to_script();
            let mut again = PrincipalStore::empty(limits);
            apply(&mut again, &script).unwrap_or_else(|error| panic!("{error} in {script}"));
            assert_eq!(again.to_script(), script);
        }
        Err(error) => assert!(error.len() < 1000, "{error}"),
    }
}

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA";

/// A filter, and behind a line break the value of every property that it asks for.
pub fn session_filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (text, value) = text.split_once('\n').unwrap_or((text, "x"));
    match SessionFilter::parse(text, SessionFilterLimits::default()) {
        Ok(filter) => {
            let again = SessionFilter::parse(filter.as_str(), SessionFilterLimits::default()).expect("the canonical text is a filter");
            assert_eq!(again.as_str(), filter.as_str());
            for found in [None, Some(value)] {
                assert_eq!(again.matches(|_| found), filter.matches(|_| found));
            }
        }
        Err(error) => assert!(error.position <= text.len() && error.to_string().len() < 1000, "{error}"),
    }
}

pub fn range_expression(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match RangeExpression::parse(text) {
        Ok(range) => {
            assert!(range.limit != Some(0) && range.last_ms != Some(0) && (range.limit.is_some() || range.last_ms.is_some()));
            assert_eq!(RangeExpression::parse(&range.to_string()), Ok(range));
        }
        Err(error) => assert!(error.position <= text.len(), "{error}"),
    }
}

/// A constraint, and behind a line break the value that it is asked about, as each type that it can be.
pub fn constraint(input: &[u8]) {
    let end = input.iter().rposition(|byte| *byte == b'\n').unwrap_or(input.len());
    let (text, value) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    match Constraint::parse(text, ConstraintLimits::default()) {
        Ok(constraint) => {
            let is_bare = !constraint.evaluate(Subject::NoTopic);
            constraint.evaluate(Subject::NoValue);
            let kinds = [ValueType::Json, ValueType::String, ValueType::Int64, ValueType::Double, ValueType::Binary];
            for kind in kinds {
                let mut bytes = Vec::new();
                let is_value = match kind {
                    ValueType::Json => Checker::new().compact(value, JsonLimits { depth_max: 100 }, &mut bytes).is_ok(),
                    kind => {
                        bytes.extend_from_slice(value);
                        scalar::check(kind, value).is_ok()
                    }
                };
                if is_value {
                    let holds = constraint.evaluate(Subject::Value { kind, bytes: &bytes });
                    // A test that a value passes goes with itself.
                    let both = [b"{\"and\":[", text, b",", text, b"]}"].concat();
                    let both = Constraint::parse(&both, ConstraintLimits::default());
                    assert!(
                        !holds
                            || !is_bare
                            || both.map_or_else(
                                |error| is_limit(&error.expected),
                                |both| both.evaluate(Subject::Value { kind, bytes: &bytes })
                            )
                    );
                }
            }
        }
        Err(error) => assert!(error.position <= text.len() && error.to_string().len() < 1000, "{error}"),
    }
}

fn is_limit(expected: &str) -> bool {
    expected.contains("at most")
}

/// A document and a patch, a line each.
pub fn json_patch(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (document, text) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let limits =
        PatchLimits { operations_max: 20, value_bytes_max: 3000, handled_bytes_max: 10_000, depth_max: 20, ..PatchLimits::default() };
    let mut compact = Vec::new();
    if Checker::new().compact(document, JsonLimits { depth_max: 20 }, &mut compact).is_err() {
        compact = b"{\"a\":[1,2]}".to_vec();
    }
    match patch::apply(&compact, text, limits) {
        Ok(value) => {
            assert!(is_compact(&value) && (value.len() <= limits.value_bytes_max || value == compact));
            let mut again = Vec::new();
            Checker::new().compact(&value, JsonLimits { depth_max: 20 }, &mut again).expect("a patched value is JSON of a bounded depth");
            assert_eq!(again, value);
        }
        Err(PatchError::Malformed { position, message }) => assert!(position <= text.len() && message.len() < 1000),
        Err(PatchError::Failed { operation, message }) => assert!(operation < limits.operations_max && message.len() < 1000),
    }
}

/// A pointer and a value, a line each. What is found is what another reader finds, where no name stands twice.
pub fn pointer(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (text, value) = text.split_once('\n').unwrap_or((text, "{\"a\":[{\"b\":1}]}"));
    match Pointer::parse(text) {
        Ok(pointer) => {
            let printed: String = pointer.tokens().iter().map(ToString::to_string).collect();
            assert_eq!(printed, text);
            let mut compact = Vec::new();
            if Checker::new().compact(value.as_bytes(), JsonLimits { depth_max: 100 }, &mut compact).is_ok() {
                let meaning: serde_json::Value = serde_json::from_slice(&compact).expect("it is JSON");
                let found =
                    find(&compact, &pointer).map(|found| serde_json::from_slice::<serde_json::Value>(found).expect("a part is JSON"));
                assert_eq!(found.as_ref(), meaning.pointer(text));
            }
        }
        Err(error) => assert!(error.position <= text.len(), "{error}"),
    }
}

/// A script of appends and edits, and a query of what they made: eight bytes each.
pub fn series(input: &[u8]) {
    let [retained, limit, rest @ ..] = input else { return };
    let retained =
        Range { limit: (*retained % 8 > 0).then_some(u64::from(*retained % 8)), last_ms: (*limit % 4 > 0).then_some(u64::from(*limit)) };
    let mut series = Series::new(retained);
    let (alone, author): (Arc<str>, Arc<str>) = (Arc::from(""), Arc::from("ann"));
    let mut now_ms = 1000;
    for step in rest.chunks_exact(8) {
        let [what, a, b, c, d, e, f, g] = *step else { return };
        now_ms += u64::from(g % 16);
        let author = if b % 2 == 0 { &alone } else { &author };
        match what % 4 {
            0 => drop(series.append(&[a; 3][..usize::from(a % 4)], None, author, now_ms)),
            1 => drop(series.append(&[a], Some(1000 + u64::from(c)), author, now_ms)),
            2 => drop(series.edit(u64::from(c), &[a, b], author, now_ms)),
            _ => {
                let number =
                    |byte: u8| [u64::from(byte % 32), 1000 + u64::from(byte), u64::MAX, u64::MAX - u64::from(byte)][usize::from(byte % 4)];
                let range = |at: u8, n: u8, m: u8| QueryRange { anchor: anchor(at, number(n)), span: span(at / 8, number(m)) };
                let kind = [QueryKind::Values, QueryKind::LatestEdits, QueryKind::AllEdits][usize::from(a % 3)];
                let edit_range = (a % 2 == 1).then(|| range(e, d, c));
                let query = Query { kind, range: range(b, c, d), edit_range, limit: number(f) };
                check_query(&series, &query, usize::from(g));
                check_query(&series, &query, usize::MAX);
            }
        }
        assert!(retained.limit.is_none_or(|limit| series.query(&Query::default(), usize::MAX).events.len() as u64 <= limit));
        series.subscription(&Range { limit: Some(u64::from(a)), last_ms: Some(u64::from(b)) }, usize::from(c) * 8);
    }
}

fn anchor(number: u8, n: u64) -> Anchor {
    [Anchor::Start, Anchor::Sequence(n), Anchor::Instant(n), Anchor::LastEvents(n), Anchor::LastMs(n)][usize::from(number % 5)]
}

fn span(number: u8, n: u64) -> Span {
    let spans = [
        Span::End,
        Span::ToSequence(n),
        Span::ToInstant(n),
        Span::NextEvents(n),
        Span::NextMs(n),
        Span::UntilLastEvents(n),
        Span::UntilLastMs(n),
        Span::PreviousEvents(n),
        Span::PreviousMs(n),
    ];
    spans[usize::from(number % 9)]
}

fn check_query(series: &Series, query: &Query, bytes_max: usize) {
    let selection = series.query(query, bytes_max);
    let bytes: usize = selection.events.iter().map(|event| event.value.len() + event.author.len() + EVENT_NUMBERS_BYTES).sum();
    assert!(selection.events.len() as u64 <= query.limit && bytes <= bytes_max);
    for event in &selection.events {
        assert_eq!(series.event(event.sequence), Some(*event));
        assert_eq!(event.original.is_some(), event.original.is_some() && event.original < Some(event.sequence));
    }
    if query.kind != QueryKind::Values {
        assert!(
            selection.events.is_sorted_by(|a, b| a.sequence < b.sequence) && selection.events.iter().all(|event| event.original.is_some())
        );
    }
    if bytes_max == usize::MAX && query.limit == u64::MAX {
        assert!(selection.is_complete);
    }
}

/// A segment as it is, and one of records that the input makes, damaged at one place: what is read is a start of what was written.
pub fn segment(input: &[u8]) {
    let salt = Salt(7);
    let expected = Expected { salt, from: 1, until: None };
    let read = read_segment(input, expected, |_| {});
    assert!(read.end <= input.len());
    let _ = (Header::decode(input, salt), synced_mark(input, salt));
    for kind in 0..8 {
        if let Some(Ok(record)) = RecordKind::from_number(kind).map(|kind| Record::from_payload(kind, input.get(1..).unwrap_or_default())) {
            let mut payload = Vec::new();
            record.put_payload(&mut payload);
            assert_eq!(Record::from_payload(record.kind(), &payload), Ok(record));
        }
    }
    let [place, flip, rest @ ..] = input else { return };
    let mut bytes = Header { segment: 1, first_record: 1, checkpoint: 0, synced: 0, salt }.encode().to_vec();
    assert_eq!(bytes.len(), HEADER_BYTES);
    let records: Vec<Record<'_>> = rest.chunks(5).map(record).collect();
    for (at, record) in records.iter().enumerate() {
        encode(salt, Frame { number: at as u64 + 1, synced: at as u64 / 2 }, record, &mut bytes);
    }
    let whole = bytes.len();
    let at = HEADER_BYTES + usize::from(*place) * 8 % (whole - HEADER_BYTES).max(1);
    match flip {
        0 => {}
        1..=9 => bytes.truncate(at),
        _ if at < whole => bytes[at] ^= flip,
        _ => {}
    }
    let mut seen = 0;
    let read = read_segment(&bytes, expected, |read| {
        assert_eq!((read.number, &read.record), (seen as u64 + 1, &records[seen]));
        seen += 1;
    });
    assert_eq!(read.next_record, seen as u64 + 1);
    assert_eq!(read.damage.is_none(), read.end == bytes.len());
    assert!(*flip > 0 || seen == records.len());
}

fn record(bytes: &[u8]) -> Record<'_> {
    let topic = TopicId(u64::from(bytes[0]) / 5);
    let number = u64::from(bytes.get(1).copied().unwrap_or_default());
    match bytes[0] % 6 {
        0 => Record::Added { topic, path: "a/b", kind: 1, properties: vec![("K".into(), "v".into())].into() },
        1 => Record::Value { topic, version: number, value: bytes },
        2 => Record::NoValue { topic, version: number },
        3 => Record::Event {
            topic,
            sequence: number,
            original: number.checked_sub(9),
            timestamp_ms: number,
            author: "ann",
            value: bytes,
            first_kept: number,
            dropped: number.checked_sub(3),
        },
        4 => Record::Removed { topic },
        _ => Record::Mark,
    }
}
