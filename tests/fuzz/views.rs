//! The language of views, and what any view makes of any topic.

use std::collections::BTreeSet;
use tidewire::surface::topic::path::TopicPath;
use tidewire::surface::value::json::{Checker, JsonLimits, is_compact};
use tidewire::surface::value::{ValueType, scalar};
use tidewire::surface::view::evaluate::{Derived, Evaluation, EvaluationLimits, Evaluator, Input, Looked, Topics};
use tidewire::surface::view::{Definition, ViewLimits};

const LIMITS: EvaluationLimits =
    EvaluationLimits { references_max: 20, value_bytes_max: 500, path_bytes_max: 60, depth_max: 20, work_max: 200_000 };

fn language() -> ViewLimits {
    ViewLimits { text_bytes_max: 1024, depth_max: 8, ..ViewLimits::default() }
}

/// The text of a view behind which values may stand.
pub fn text_of(input: &[u8]) -> &[u8] {
    input.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

/// What reaches deep is a view.
pub fn expect_view(text: &[u8]) {
    let text = std::str::from_utf8(text).expect("UTF-8");
    if let Err(error) = Definition::parse(text, &language()) {
        panic!("{text}: {error}");
    }
}

/// Any text is a view, or is refused at a place of it.
pub fn definition(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(error) = Definition::parse(text, &language()) {
        assert!(error.position <= text.len() && text.is_char_boundary(error.position), "{} of {}", error.position, text.len());
        let said = error.to_string();
        assert!(!said.is_empty() && said.len() < 2000, "{said}");
    }
}

/// The topics that are looked up: all there, all missing, or some of them not known.
struct Others<'t>(&'t [u8], usize);

impl Topics for Others<'_> {
    fn look(&mut self, path: &str) -> Looked<'_> {
        match (self.1, path.len() % 2) {
            (0, _) => Looked::Value(ValueType::Json, self.0),
            (1, _) => Looked::Nothing,
            (_, 0) => Looked::Unknown,
            _ => Looked::Value(ValueType::String, self.0),
        }
    }
}

/// A view, behind a line break the value of a topic, and behind another one that of the topics that are looked up.
pub fn evaluation(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.splitn(3, '\n');
    let Ok(definition) = Definition::parse(lines.next().unwrap_or_default(), &language()) else { return };
    let [value, other] = [lines.next(), lines.next()].map(|line| compact(line.unwrap_or("null")));
    let (Some(value), Some(other)) = (value, other) else { return };
    let number = 7i64.to_be_bytes();
    let inputs = [
        (ValueType::Json, Some(&value[..])),
        (ValueType::String, Some(&value[..])),
        (ValueType::Int64, Some(&number)),
        (ValueType::Json, None),
    ];
    let mut evaluator = Evaluator::default();
    for (kind, value) in inputs {
        let input = Input { path: "a/b/c", kind, value };
        for which in 0..3 {
            let mut evaluation = Evaluation::default();
            evaluator.evaluate(&definition, &input, &mut Others(&other, which), &LIMITS, &mut evaluation);
            check(&evaluation);
            let mut again = Evaluation::default();
            Evaluator::default().evaluate(&definition, &input, &mut Others(&other, which), &LIMITS, &mut again);
            assert_eq!(
                (evaluation.references, evaluation.failures),
                (again.references, again.failures),
                "memory that was used before tells"
            );
        }
    }
}

fn compact(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    Checker::new().compact(text.as_bytes(), JsonLimits { depth_max: LIMITS.depth_max }, &mut out).ok()?;
    Some(out).filter(|value| value.len() <= LIMITS.value_bytes_max)
}

fn check(evaluation: &Evaluation<'_>) {
    let references = &evaluation.references;
    assert!(references.len() <= LIMITS.references_max);
    assert!(references.is_empty() || !evaluation.is_waiting);
    assert_eq!(evaluation.failures > 0, evaluation.failure.is_some());
    let paths: BTreeSet<&str> = references.iter().map(|reference| &*reference.path).collect();
    assert_eq!(paths.len(), references.len(), "each path once");
    for Derived { path, kind, value } in references {
        TopicPath::parse(path, LIMITS.path_bytes_max).expect("a valid path");
        let Some(value) = value else { continue };
        assert!(value.len() <= LIMITS.value_bytes_max);
        match kind {
            ValueType::Json => assert!(is_compact(value) && compact(std::str::from_utf8(value).expect("UTF-8")).is_some()),
            kind => scalar::check(*kind, value).expect("a value of its type"),
        }
    }
}
