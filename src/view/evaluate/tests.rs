//! Each clause by its cases, as view texts and what they make of a source.

mod clauses;
mod limits;
mod models;
mod topics;

use std::collections::BTreeMap;

use super::*;
use crate::value::scalar;
use crate::view::parse::ViewLimits;

/// Other topics by path; those in `unknown` are not known yet. Notes what is asked for.
#[derive(Default)]
struct Others {
    values: BTreeMap<String, (ValueType, Vec<u8>)>,
    unknown: Vec<String>,
    asked: Vec<String>,
}

impl Others {
    fn of(values: &[(&str, ValueType, &str)]) -> Self {
        let stored = |kind, json: &str| (kind, stored(kind, json).unwrap());
        Self { values: values.iter().map(|(path, kind, json)| (path.to_string(), stored(*kind, json))).collect(), ..Self::default() }
    }
}

impl Topics for Others {
    fn look(&mut self, path: &str) -> Looked<'_> {
        self.asked.push(path.into());
        if self.unknown.iter().any(|unknown| unknown == path) {
            return Looked::Unknown;
        }
        match self.values.get(path) {
            Some((kind, value)) => Looked::Value(*kind, value),
            None => Looked::Nothing,
        }
    }
}

/// The stored form of what `json` says; no value for `null` of a type that is not JSON.
fn stored(kind: ValueType, json: &str) -> Option<Vec<u8>> {
    if kind != ValueType::Json && json == "null" {
        return None;
    }
    let mut value = Vec::new();
    scalar::from_json(kind, json, &mut value).unwrap();
    Some(value)
}

fn view(text: &str) -> Definition {
    Definition::parse(text, &ViewLimits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn evaluate<'a>(definition: &Definition, input: &Input<'a>, topics: &mut Others, limits: &EvaluationLimits) -> Evaluation<'a> {
    let mut out = Evaluation::default();
    let stale = Failure { path: None, message: "of an earlier one".into() };
    (out.failures, out.failure, out.is_waiting) = (7, Some(stale), true);
    Evaluator::default().evaluate(definition, input, topics, limits, &mut out);
    out
}

fn print(derived: &Derived<'_>) -> String {
    let Some(value) = &derived.value else { return "no value".into() };
    let mut json = Vec::new();
    scalar::check(derived.kind, value).unwrap();
    scalar::append_json(derived.kind, value, &mut json);
    String::from_utf8(json).unwrap()
}

/// What the view makes, as `path=value` with values as JSON writes them; each failure counts as one more, named by words
/// of its reason.
fn check_among(text: &str, source: &str, (kind, json): (ValueType, &str), others: &mut Others, expected: &[&str], words: &[&str]) {
    let value = stored(kind, json);
    let input = Input { path: source, kind, value: value.as_deref() };
    let out = evaluate(&view(text), &input, others, &EvaluationLimits::default());
    let found: Vec<_> = out.references.iter().map(|derived| format!("{}={}", derived.path, print(derived))).collect();
    assert_eq!(found, expected, "{text} on {json}: {:?}", out.failure);
    assert_eq!(out.failures, words.len() as u64, "{text} on {json}: {:?}", out.failure);
    let message = out.failure.map(|failure| failure.message).unwrap_or_default();
    if let Some(words) = words.last() {
        assert!(message.contains(words), "{text} on {json}: {message}");
        assert!(message.contains("found ") && message.contains("expected "), "{message}");
    }
    assert!(!out.is_waiting);
}

fn check(text: &str, source: &str, json: &str, expected: &[&str]) {
    check_among(text, source, (ValueType::Json, json), &mut Others::default(), expected, &[]);
}

/// Nothing is made, for one reason.
fn check_failed(text: &str, source: &str, json: &str, words: &str) {
    check_among(text, source, (ValueType::Json, json), &mut Others::default(), &[], &[words]);
}
