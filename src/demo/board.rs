//! What the demo's topics hold now, so that a sample says only what changed.
//!
//! A round is one sample. What a round puts and was not there before, or differs, is an update; what it
//! does not put again is removed. A sampler that reads seldom therefore puts its last reading each round.

use std::collections::HashMap;

use serde::Serialize;

use super::telemetry::{Sample, Update};
use crate::value::ValueType;

#[derive(Default)]
pub(super) struct Board {
    topics: HashMap<String, Topic>,
    round: u64,
    updates: Vec<Update>,
}

struct Topic {
    kind: ValueType,
    value: Vec<u8>,
    round: u64,
}

impl Board {
    pub fn put_json(&mut self, path: &str, value: &impl Serialize) {
        let text = serde_json::to_vec(value).expect("plain structs of numbers and text always serialise");
        self.put(path, ValueType::Json, text);
    }

    pub fn put_string(&mut self, path: &str, value: &str) {
        self.put(path, ValueType::String, value.as_bytes().to_vec());
    }

    pub fn put_int64(&mut self, path: &str, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.put(path, ValueType::Int64, value.to_be_bytes().to_vec());
    }

    pub fn put_double(&mut self, path: &str, value: f64) {
        self.put(path, ValueType::Double, value.to_be_bytes().to_vec());
    }

    /// Ends the round: what changed since the round before.
    pub fn finish_round(&mut self) -> Sample {
        let round = self.round;
        let removed = self.topics.extract_if(|_, topic| topic.round != round).map(|(path, _)| path).collect();
        self.round += 1;
        Sample { updates: std::mem::take(&mut self.updates), removed }
    }

    fn put(&mut self, path: &str, kind: ValueType, value: Vec<u8>) {
        let round = self.round;
        match self.topics.get_mut(path) {
            Some(topic) if topic.kind == kind && topic.value == value => {
                topic.round = round;
                return;
            }
            Some(topic) => *topic = Topic { kind, value: value.clone(), round },
            None => drop(self.topics.insert(path.to_owned(), Topic { kind, value: value.clone(), round })),
        }
        self.updates.push(Update { path: path.to_owned(), kind, value });
    }
}

/// `text` as one segment of a topic path: what a path cannot hold is percent-encoded.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '/' | '%' | '\0'..='\x1f' | '\x7f' => out.push_str(&format!("%{:02X}", c as u32)),
            _ => out.push(c),
        }
    }
    if out.is_empty() { "_".to_owned() } else { out }
}

/// `value` to one place: more would change every sample and say nothing.
pub(super) fn round1(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// How much of `whole` `part` is, in percent from 0 to 100.
pub(super) fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { round1((part / whole * 100.0).clamp(0.0, 100.0)) } else { 0.0 }
}

/// A counter's growth per second. A counter that went back was reset: its growth is unknown, so none.
pub(super) fn per_second(now: u64, before: u64, seconds: f64) -> f64 {
    now.saturating_sub(before) as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_holds_no_slash() {
        assert_eq!(segment("cciss/c0d0"), "cciss%2Fc0d0");
        assert_eq!(segment("50%\n"), "50%25%0A");
        assert_eq!(segment("eth0"), "eth0");
        assert_eq!(segment(""), "_");
    }

    #[test]
    fn only_a_changed_value_is_an_update() {
        let mut board = Board::default();
        board.put_int64("a", 1);
        board.put_int64("b", 1);
        assert_eq!(board.finish_round().updates.len(), 2);
        board.put_int64("a", 1);
        board.put_int64("b", 2);
        let sample = board.finish_round();
        assert_eq!(sample.updates.len(), 1);
        assert_eq!(sample.updates[0].path, "b");
        assert_eq!(sample.updates[0].value, 2i64.to_be_bytes());
    }

    #[test]
    fn what_is_not_put_again_is_removed_once() {
        let mut board = Board::default();
        board.put_string("gone", "x");
        board.finish_round();
        assert_eq!(board.finish_round().removed, ["gone"]);
        assert!(board.finish_round().removed.is_empty());
        board.put_string("gone", "x");
        assert_eq!(board.finish_round().updates.len(), 1, "a topic that returns is told again");
    }

    #[test]
    fn a_counter_that_went_back_grew_by_nothing() {
        assert_eq!(per_second(5, 9, 1.0), 0.0);
        assert_eq!(per_second(9, 5, 0.5), 8.0);
    }
}
