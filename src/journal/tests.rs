//! Records written and read again, torn, flipped and foreign ones among them.

use super::segment::{HeaderError, SegmentRead};
use super::*;
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;

const SALT: Salt = Salt(0x1234_5678_9abc_def0);

fn header(first_record: u64, synced: u64) -> Header {
    Header { segment: 3, first_record, checkpoint: first_record - 1, synced, salt: SALT }
}

/// One record of every kind, and a value that holds the bytes of a journal.
fn records() -> Vec<Record<'static>> {
    let properties: Vec<(Box<str>, Box<str>)> = vec![("CONFLATION".into(), "off".into()), ("é".into(), "".into())];
    let topic = TopicId(7);
    vec![
        Record::Added { topic, path: "a/b", kind: 1, properties: Cow::Owned(properties) },
        Record::Value { topic, version: 1, value: b"{\"a\":1}" },
        Record::Mark,
        Record::Value { topic, version: 2, value: &[0xf5; 40] },
        Record::Message { topic, version: 3, qos: 1, expiry: Some(Expiry { at_ms: 9, left_ms: 7 }), passed_on: &[1, 1], value: b"kept" },
        Record::Message { topic, version: 4, qos: 0, expiry: None, passed_on: &[], value: &[] },
        Record::NoValue { topic, version: 3 },
        Record::Event {
            topic,
            sequence: 5,
            original: Some(2),
            timestamp_ms: 1,
            author: "me",
            value: b"e",
            first_kept: 4,
            dropped: Some(3),
        },
        Record::Event { topic, sequence: 6, original: None, timestamp_ms: 2, author: "", value: b"", first_kept: 4, dropped: None },
        Record::Removed { topic },
        logged(u64::MAX, Payload::Entry { judged: 3, bytes: b"entry" }),
        logged(0, Payload::Members(b"members")),
        logged(1, Payload::Nothing),
        Record::Cut { group: 3, after: Some(7) },
        Record::Cut { group: 3, after: None },
        Record::Voted { group: u16::MAX, vote: b"vote" },
        Record::Committed { group: 1, index: 9 },
    ]
}

fn logged(index: u64, payload: Payload<'static>) -> Record<'static> {
    Record::Logged { group: 2, logged: Logged { index, term: 4, payload } }
}

struct Written {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
}

/// A segment of `records`; those from number `first + synced_after` on note that all up to there are synced.
fn write(first: u64, records: &[Record<'_>], synced_after: u64) -> Written {
    let mut bytes = header(first, first - 1).encode().to_vec();
    let mut ends = Vec::new();
    for (number, record) in (first..).zip(records) {
        let synced = if number >= first + synced_after { first + synced_after - 1 } else { first - 1 };
        encode(SALT, Frame { number, synced }, record, &mut bytes);
        ends.push(bytes.len());
    }
    Written { bytes, ends }
}

fn read(bytes: &[u8], until: Option<u64>) -> (Vec<Record<'_>>, SegmentRead) {
    let mut found = Vec::new();
    let read = read_segment(bytes, Expected { salt: SALT, from: 10, until }, |read| {
        assert_eq!(read.number, 10 + found.len() as u64);
        found.push(read.record);
    });
    (found, read)
}

#[test]
fn every_kind_of_record_comes_back() {
    let written = write(10, &records(), 99);
    let (found, read) = read(&written.bytes, Some(10 + found_count()));
    assert_eq!(found, records());
    assert_eq!(read.damage, None);
    assert_eq!(Header::decode(&written.bytes, SALT), Ok(header(10, 9)));
}

#[test]
fn nothing_has_longer_than_it_had_when_it_was_written() {
    let expiry = Expiry::new(700, 100);
    assert_eq!(expiry.left_ms(100), 600);
    assert_eq!(expiry.left_ms(400), 300);
    assert_eq!(expiry.left_ms(700), 0);
    assert_eq!(expiry.left_ms(5000), 0);
    assert_eq!(expiry.left_ms(0), 600, "the clock was set back, or was ahead when it was written");
    assert_eq!(Expiry::new(100, 700).left_ms(0), 0);
}

fn found_count() -> u64 {
    records().len() as u64
}

#[test]
fn a_cut_segment_gives_exactly_the_whole_records_before() {
    let written = write(10, &records(), 99);
    for length in HEADER_BYTES..written.bytes.len() {
        let whole = written.ends.iter().filter(|end| **end <= length).count();
        let (found, read) = read(&written.bytes[..length], None);
        assert_eq!(found, records()[..whole], "cut at {length}");
        let end = written.ends[..whole].last().copied().unwrap_or(HEADER_BYTES);
        assert_eq!(read.damage.as_ref().map(|damage| damage.offset), (end < length).then_some(end), "cut at {length}");
        assert!(read.damage.is_none_or(|damage| !damage.is_corruption(9) && damage.records_behind == 0));
    }
}

#[test]
fn an_unwritten_end_of_zeros_is_torn() {
    let mut written = write(10, &records(), 99);
    let end = written.bytes.len();
    written.bytes.resize(end + 5000, 0);
    let (found, read) = read(&written.bytes, None);
    assert_eq!(found, records());
    let damage = read.damage.unwrap();
    assert_eq!((damage.offset, damage.bytes, damage.is_corruption(9)), (end, 5000, false));
}

#[test]
fn a_flipped_byte_is_corruption_before_the_last_note_and_torn_behind_it_never_another_record() {
    let synced_after = 5;
    let written = write(10, &records(), synced_after);
    for at in HEADER_BYTES..written.bytes.len() {
        for bit in [0x01, 0x10, 0x80] {
            let mut bytes = written.bytes.clone();
            bytes[at] ^= bit;
            let hit = written.ends.iter().filter(|end| **end <= at).count();
            let (found, read) = read(&bytes, None);
            assert_eq!(found, records()[..hit], "byte {at}");
            let damage = read.damage.expect("a flipped byte is noticed");
            assert_eq!(damage.records_behind, records().len() as u64 - 1 - hit as u64, "byte {at}");
            assert_eq!(damage.is_corruption(0), (hit as u64) < synced_after, "byte {at} in record {hit}");
            assert!(damage.is_corruption(10 + hit as u64), "a later segment's note counts");
        }
    }
}

#[test]
fn a_flipped_byte_in_the_header_is_noticed() {
    let written = write(10, &records(), 99);
    for at in 0..HEADER_BYTES {
        let mut bytes = written.bytes.clone();
        bytes[at] ^= 4;
        assert_eq!(Header::decode(&bytes, SALT), Err(HeaderError::Torn), "byte {at}");
    }
    assert_eq!(Header::decode(&written.bytes[..63], SALT), Err(HeaderError::Torn));
    assert_eq!(Header::decode(&written.bytes, Salt(1)), Err(HeaderError::Salt));
}

#[test]
fn a_missing_or_repeated_record_is_corruption() {
    for skipped in [0_usize, 3] {
        let mut records = records();
        let mut written = write(10, &records, 99);
        let start = skipped.checked_sub(1).map_or(HEADER_BYTES, |before: usize| written.ends[before]);
        written.bytes.drain(start..written.ends[skipped]);
        let (found, read) = read(&written.bytes, None);
        records.truncate(skipped);
        assert_eq!(found, records);
        assert!(read.damage.unwrap().is_corruption(0));
    }
}

#[test]
fn what_the_next_segment_supersedes_is_not_read() {
    let mut written = write(10, &records(), 99);
    let at = written.ends[4];
    written.bytes[at] ^= 1;
    let (found, read) = read(&written.bytes, Some(15));
    assert_eq!((found.len(), read.damage), (5, None));
    let (_, read) = self::read(&written.bytes[..written.ends[3]], Some(15));
    let damage = read.damage.expect("it does not reach the next one");
    assert!(damage.is_corruption(14) && !damage.is_corruption(13));
}

#[test]
fn a_value_that_holds_a_journal_is_not_taken_for_one() {
    let mut inner = Vec::new();
    encode(Salt(99), Frame { number: 11, synced: 1000 }, &Record::Removed { topic: TopicId(1) }, &mut inner);
    let outer = [Record::Value { topic: TopicId(1), version: 1, value: &inner }];
    let mut written = write(10, &outer, 99);
    written.bytes[HEADER_BYTES + 20] ^= 1;
    let (found, read) = read(&written.bytes, None);
    assert!(found.is_empty());
    assert_eq!(read.damage.unwrap().records_behind, 0);
}

#[test]
fn a_sound_frame_of_an_unsound_record_is_corruption() {
    let mut bytes = header(10, 9).encode().to_vec();
    encode(
        SALT,
        Frame { number: 10, synced: 9 },
        &Record::Added { topic: TopicId(1), path: "a//b", kind: 1, properties: Cow::Borrowed(&[]) },
        &mut bytes,
    );
    let (found, read) = read(&bytes, None);
    assert!(found.is_empty());
    let damage = read.damage.unwrap();
    assert!(damage.is_corruption(0));
    assert_eq!(damage.what, "found an added topic whose path is not one");
}

/// What a client may do to a few topics, as the naive model and the records see it.
#[derive(Clone, Debug)]
enum Step {
    Add(u64),
    Set(u64, u8),
    Clear(u64),
    Append(u64, u64),
    Remove(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let topic = 1..5_u64;
    let step = prop_oneof![
        2 => topic.clone().prop_map(Step::Add),
        4 => (topic.clone(), any::<u8>()).prop_map(|(t, v)| Step::Set(t, v)),
        1 => topic.clone().prop_map(Step::Clear),
        4 => (topic.clone(), 0..4_u64).prop_map(|(t, kept)| Step::Append(t, kept)),
        1 => topic.prop_map(Step::Remove),
    ];
    proptest::collection::vec(step, 0..60)
}

/// The model: per topic its version, its value, and the sequence numbers that are kept.
type Model = BTreeMap<u64, (u64, Option<u8>, Vec<u64>)>;

fn run(steps: &[Step]) -> (Model, Vec<(RecordKind, Vec<u8>)>) {
    let (mut model, mut payloads, mut sequence) = (Model::new(), Vec::new(), 0);
    let mut push = |record: Record<'_>| {
        let mut payload = Vec::new();
        record.put_payload(&mut payload);
        payloads.push((record.kind(), payload));
    };
    for step in steps {
        match *step {
            Step::Add(topic) => {
                model.entry(topic).or_default();
                push(Record::Added { topic: TopicId(topic), path: "p", kind: 1, properties: Cow::Borrowed(&[]) });
            }
            Step::Set(topic, value) => {
                let Some(found) = model.get_mut(&topic) else { continue };
                (found.0, found.1) = (found.0 + 1, Some(value));
                push(Record::Value { topic: TopicId(topic), version: found.0, value: &[value] });
            }
            Step::Clear(topic) => {
                let Some(found) = model.get_mut(&topic) else { continue };
                (found.0, found.1) = (found.0 + 1, None);
                push(Record::NoValue { topic: TopicId(topic), version: found.0 });
            }
            Step::Append(topic, kept) => {
                let Some(found) = model.get_mut(&topic) else { continue };
                sequence += 1;
                let dropped = (kept == 3 && !found.2.is_empty()).then(|| found.2.remove(found.2.len() / 2));
                found.2.push(sequence);
                let first_kept = sequence.saturating_sub(kept);
                found.2.retain(|sequence| *sequence >= first_kept);
                let (original, author, value) = (None, "", [].as_slice());
                push(Record::Event { topic: TopicId(topic), sequence, original, timestamp_ms: 0, author, value, first_kept, dropped });
            }
            Step::Remove(topic) => {
                model.remove(&topic);
                push(Record::Removed { topic: TopicId(topic) });
            }
        }
    }
    (model, payloads)
}

fn summary(state: &State) -> Model {
    let of = |topic: &StoredTopic| {
        let events = topic.events.keys().copied().collect();
        (topic.version, topic.value.as_deref().map(|value| value[0]), events)
    };
    state.topics.iter().map(|(id, topic)| (id.0, of(topic))).collect()
}

proptest! {
    #[test]
    fn records_add_up_to_what_was_done(steps in steps()) {
        let (model, payloads) = run(&steps);
        let mut state = State::default();
        for (kind, payload) in &payloads {
            state.apply(&Record::from_payload(*kind, payload).unwrap());
        }
        prop_assert_eq!(summary(&state), model);
    }

    #[test]
    fn a_record_applied_twice_changes_nothing(steps in steps()) {
        let (_, payloads) = run(&steps);
        let mut state = State::default();
        for (kind, payload) in &payloads {
            state.apply(&Record::from_payload(*kind, payload).unwrap());
            let once = state.clone();
            state.apply(&Record::from_payload(*kind, payload).unwrap());
            prop_assert_eq!(&state, &once);
        }
    }

    #[test]
    fn random_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0..12_u8) {
        let _ = Header::decode(&bytes, SALT);
        let _ = read(&bytes, None);
        let _ = Record::from_payload(RecordKind::from_number(kind).unwrap(), &bytes).map(|record| State::default().apply(&record));
    }
}

/// `cargo test --release --no-default-features --lib journal::tests::cost -- --ignored --nocapture`
#[test]
#[ignore = "prints what a record costs"]
fn cost() {
    for length in [125, 1000] {
        let value = vec![b'x'; length];
        let mut out = Vec::with_capacity(64 << 20);
        let start = std::time::Instant::now();
        let count = 50_000;
        for number in 0..count {
            encode(SALT, Frame { number, synced: 0 }, &Record::Value { topic: TopicId(1), version: number, value: &value }, &mut out);
        }
        let each = start.elapsed().as_nanos() / u128::from(count);
        println!("{length} B value: {each} ns, {} B a record", out.len() as u64 / count);
    }
}
