//! Deltas apply to what they were made from, and nothing hostile applies.

use super::*;
use proptest::prelude::*;

/// Encodes, applies, and returns the form and the delta.
fn check(previous: &[u8], next: &[u8]) -> Option<(Form, Vec<u8>)> {
    let mut out = b"before".to_vec();
    let form = Encoder::new().encode(previous, next, &mut out);
    assert_eq!(&out[..6], b"before");
    let delta = out.split_off(6);
    let Some(form) = form else {
        assert!(delta.is_empty());
        return None;
    };
    assert!(delta.len() < next.len());
    assert_eq!(apply(form, previous, &delta, next.len()).as_deref(), Ok(next));
    assert_eq!(apply(form, previous, &delta, next.len() - 1), Err(DeltaError::ValueTooLarge));
    for cut in 0..delta.len().min(64) {
        let _ = apply(form, previous, &delta[..cut], next.len());
    }
    Some((form, delta))
}

/// Bytes without repetition, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut step = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 56) as u8
    };
    (0..length).map(|_| step()).collect()
}

fn rows(count: usize, seed: usize) -> Vec<u8> {
    (0..count)
        .map(|i| format!("{{\"id\":{i},\"name\":\"row {i}\",\"value\":{}}},", (i * i + i / 7 * seed) % 99_991))
        .collect::<String>()
        .into_bytes()
}

#[test]
fn an_equal_value_costs_a_few_bytes() {
    let value = noise(1, 1000);
    assert_eq!(check(&value, &value), Some((Form::Copy, vec![0xd0, 0x0f])));
}

#[test]
fn one_changed_number_costs_its_digits_and_three_bytes() {
    let previous = br#"{"name":"pressure","value":1013,"unit":"hPa"}"#;
    let next = br#"{"name":"pressure","value":1027,"unit":"hPa"}"#;
    assert_eq!(check(previous, next), Some((Form::Copy, vec![58, 0x20, b'2', b'7'])));
}

#[test]
fn unlike_values_are_given_up() {
    for length in [10, 100, 5000, 262_144] {
        assert_eq!(check(&noise(1, length), &noise(2, length)), None);
    }
}

#[test]
fn too_short_and_too_long_values_are_given_up() {
    assert_eq!(check(b"12", b"13"), None);
    assert_eq!(check(b"", &[b'a'; 100]), None);
    assert_eq!(check(&[b'a'; 100], b""), None);
    assert!(check(&vec![b'a'; VALUE_BYTES_MAX], &vec![b'a'; VALUE_BYTES_MAX]).is_some());
    assert_eq!(check(&vec![b'a'; VALUE_BYTES_MAX], &vec![b'a'; VALUE_BYTES_MAX + 1]), None);
}

#[test]
fn values_over_the_window_take_copies() {
    let (previous, next) = (rows(3000, 0), rows(3000, 0).split_off(500));
    assert!(previous.len() > 100_000);
    let (form, delta) = check(&previous, &next).unwrap();
    assert_eq!(form, Form::Copy);
    assert!(delta.len() < 20);
    let (_, delta) = check(&previous, &rows(3000, 1)).unwrap();
    assert!(delta.len() < previous.len() / 4);
}

#[test]
fn moved_parts_are_found() {
    let mut parts: Vec<Vec<u8>> = (0..8).map(|seed| noise(seed, 9000)).collect();
    let previous = parts.concat();
    parts.swap(1, 6);
    parts.remove(3);
    let (_, delta) = check(&previous, &parts.concat()).unwrap();
    assert!(delta.len() < 64);
}

#[test]
fn a_deflated_value_of_many_blocks_is_whole() {
    // Many blocks, and stored ones among them.
    let mut next = rows(1500, 3);
    next.extend(noise(7, 20_000));
    next.extend(rows(900, 5));
    check(b"x", &next).unwrap();
    check(&rows(30, 3), &next).unwrap();
}

#[test]
fn hostile_programs_are_refused() {
    let previous = [b'p'; 50];
    let refused = |delta: &[u8]| apply(Form::Copy, &previous, delta, 1000).unwrap_err();
    assert_eq!(refused(&[]), DeltaError::Truncated);
    assert_eq!(refused(&[102]), DeltaError::CopyOutside);
    assert_eq!(refused(&[0, 0x20, b'a']), DeltaError::Truncated);
    assert_eq!(refused(&[100, 0x01]), DeltaError::CopyOutside);
    assert_eq!(refused(&[0, 0x80, 1]), DeltaError::CopyOutside);
    assert_eq!(refused(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), DeltaError::NumberTooLarge);
    assert_eq!(refused(&[0xfe, 0xff, 0xff, 0xff, 0x1f]), DeltaError::NumberTooLarge);
    assert_eq!(refused(&[1, 0x06]), DeltaError::BadDeflate);
    let mut bomb = vec![0];
    for _ in 0..1000 {
        bomb.extend([0x80, 99]);
    }
    assert_eq!(refused(&bomb), DeltaError::CopyOutside);
    let copies_all = [0, 0x00, 0x80, 99, 0x80, 99];
    assert_eq!(apply(Form::Copy, &previous, &copies_all, 149), Err(DeltaError::ValueTooLarge));
    assert_eq!(apply(Form::Copy, &previous, &copies_all, 150).map(|next| next.len()), Ok(150));
    assert_eq!(apply(Form::Deflate, &previous, &[], 10), Err(DeltaError::Truncated));
    assert_eq!(apply(Form::Deflate, &previous, &[3, 0, 0], 10), Err(DeltaError::BadDeflate));
}

#[test]
fn gain_skips_more_after_each_failure_and_forgets_on_success() {
    let mut gain = Gain::default();
    let mut attempts = Vec::new();
    for update in 0..200 {
        if gain.should_attempt() {
            attempts.push(update);
            gain.note(None, 100);
        }
    }
    assert_eq!(attempts, [0, 1, 3, 7, 15, 31, 63, 127, 191]);
    gain = Gain::default();
    gain.note(Some(10), 100);
    assert_eq!(gain, Gain::default());
}

/// The golden vectors that the clients' tests read too.
#[test]
fn golden_vectors_apply() {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let file: serde_json::Value = serde_json::from_str(include_str!("../../../sdk/protocol/vectors/delta.json")).unwrap();
    let value = |parts: &serde_json::Value| -> Vec<u8> {
        let part = |part: &serde_json::Value| part["text"].as_str().unwrap().repeat(part["repeat"].as_u64().unwrap_or(1) as usize);
        parts.as_array().unwrap().iter().map(part).collect::<String>().into_bytes()
    };
    let applied = |vector: &serde_json::Value, value_bytes_max| {
        let form = match vector["form"].as_str().unwrap() {
            "deflate" => Form::Deflate,
            "copy" => Form::Copy,
            other => panic!("unknown form {other}"),
        };
        apply(form, &value(&vector["previous"]), &BASE64_STANDARD.decode(vector["delta"].as_str().unwrap()).unwrap(), value_bytes_max)
    };
    let vectors = file["vectors"].as_array().unwrap();
    assert!(vectors.iter().any(|vector| value(&vector["previous"]).len() > parse::WINDOW_BYTES));
    for vector in vectors {
        assert_eq!(applied(vector, VALUE_BYTES_MAX).as_ref(), Ok(&value(&vector["next"])), "{}", vector["name"]);
        check(&value(&vector["previous"]), &value(&vector["next"]));
    }
    for vector in file["refused"].as_array().unwrap() {
        assert!(applied(vector, 1000).is_err(), "{}", vector["name"]);
    }
}

fn edited() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let text = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        proptest::collection::vec(prop::sample::select(b"ab,:1".to_vec()), 0..3000),
        (1..900_usize, 0..9_usize).prop_map(|(count, seed)| rows(count, seed)),
    ];
    let edit = (any::<prop::sample::Index>(), 0..40_usize, proptest::collection::vec(any::<u8>(), 0..20), any::<prop::sample::Index>());
    (text, proptest::collection::vec(edit, 0..12)).prop_map(|(previous, edits)| {
        let mut next = previous.clone();
        for (at, cut, insert, other) in edits {
            let at = at.index(next.len() + 1);
            let cut = cut.min(next.len() - at);
            next.splice(at..at + cut, insert);
            let (from, to) = (other.index(next.len() + 1), at.min(next.len()));
            if from < to && to - from < 200 {
                next[from..to].rotate_left((to - from) / 2);
            }
        }
        (previous, next)
    })
}

proptest! {
    #[test]
    fn what_is_encoded_applies((previous, next) in edited()) {
        check(&previous, &next);
    }

    #[test]
    fn unrelated_values_apply((previous, _) in edited(), (next, _) in edited()) {
        check(&previous, &next);
    }

    #[test]
    fn hostile_deltas_are_bounded(previous in proptest::collection::vec(any::<u8>(), 0..300), delta in proptest::collection::vec(any::<u8>(), 0..200), max in 0..2000_usize) {
        for form in [Form::Deflate, Form::Copy] {
            if let Ok(next) = apply(form, &previous, &delta, max) {
                prop_assert!(next.len() <= max);
            }
        }
    }

    #[test]
    fn broken_deltas_are_bounded((previous, next) in edited(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        if let Some((form, mut delta)) = check(&previous, &next) {
            let at = at.index(delta.len());
            delta[at] ^= flip;
            if let Ok(next) = apply(form, &previous, &delta, 100_000) {
                prop_assert!(next.len() <= 100_000);
            }
        }
    }
}
