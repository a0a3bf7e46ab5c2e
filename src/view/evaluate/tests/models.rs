//! Random values against naive models that work on serde_json's trees.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-100_i64..100).prop_map(Value::from),
        (-999_i64..999).prop_map(|n| json!(n as f64 / 10.0)),
        any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(Value::from),
        "[abxyn/\"\\\\é]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[abxyn/]{0,2}", inner, 0..5).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn run(text: &str, source: &str, value: &Value) -> (Vec<(String, Value)>, u64) {
    let json = value.to_string();
    let input = Input { path: source, kind: ValueType::Json, value: Some(json.as_bytes()) };
    let out = evaluate(&view(text), &input, &mut Others::default(), &EvaluationLimits::default());
    let read = |derived: &Derived<'_>| (derived.path.clone(), serde_json::from_str(&print(derived)).unwrap());
    (out.references.iter().map(read).collect(), out.failures)
}

/// What `<expand()>` makes of `value`, with `name` as the pointer.
fn expanded(value: &Value, name: Option<&str>) -> Option<Vec<(String, Value)>> {
    let children: Vec<(String, &Value)> = match value {
        Value::Array(elements) => elements.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        _ => return None,
    };
    let mut made: Vec<(String, Value)> = Vec::new();
    for (key, child) in children {
        let named = match name.map(|pointer| child.pointer(pointer)) {
            None => key,
            Some(Some(Value::String(text))) => text.clone(),
            Some(Some(scalar @ (Value::Number(_) | Value::Bool(_)))) => scalar.to_string(),
            Some(_) => continue,
        };
        let path = format!("v/{named}");
        if path.split('/').all(|segment| !segment.is_empty()) && made.iter().all(|(made, _)| *made != path) {
            made.push((path, child.clone()));
        }
    }
    Some(made)
}

/// A statement on the members and elements `/x`, `/y` and `/a/0`.
#[derive(Clone, Debug)]
enum Edit {
    SetConstant(&'static str, i64),
    SetPointer(&'static str, &'static str),
    Remove(&'static str),
}

const PLACES: [&str; 6] = ["/x", "/y", "/a", "/a/x", "/a/0", "/a/-"];

fn arbitrary_edit() -> impl Strategy<Value = Edit> {
    let place = || prop::sample::select(&PLACES[..]);
    prop_oneof![
        (place(), 0_i64..9).prop_map(|(target, n)| Edit::SetConstant(target, n)),
        (place(), place()).prop_map(|(target, source)| Edit::SetPointer(target, source)),
        place().prop_map(Edit::Remove),
    ]
}

impl Edit {
    fn text(&self) -> String {
        match self {
            Self::SetConstant(target, n) => format!("set({target}, {n})"),
            Self::SetPointer(target, source) => format!("set({target}, {source})"),
            Self::Remove(target) => format!("remove({target})"),
        }
    }

    fn apply(&self, input: &Value, output: &mut Value) -> Option<()> {
        let (target, value) = match self {
            Self::SetConstant(target, n) => (target, Some(json!(n))),
            Self::SetPointer(target, source) => (target, Some(input.pointer(source)?.clone())),
            Self::Remove(target) => (target, None),
        };
        let (parent, last) = target.rsplit_once('/')?;
        match (output.pointer_mut(parent), value) {
            (Some(Value::Object(members)), Some(value)) => drop(members.insert(last.into(), value)),
            (Some(Value::Array(elements)), Some(value)) => match last.parse::<usize>() {
                Ok(index) if index < elements.len() => elements[index] = value,
                Ok(index) if index == elements.len() => elements.push(value),
                _ if last == "-" => elements.push(value),
                _ => return None,
            },
            (_, Some(_)) => return None,
            (Some(Value::Object(members)), None) => drop(members.remove(last)),
            (Some(Value::Array(elements)), None) => {
                if let Some(index) = last.parse::<usize>().ok().filter(|&index| index < elements.len()) {
                    elements.remove(index);
                }
            }
            (_, None) => {}
        }
        Some(())
    }
}

/// A calculation of whole numbers, as text and as its value in quarters of 10^-6, where that is exact.
#[derive(Clone, Debug)]
enum Sum {
    Number(i32),
    Pointer(usize),
    Of(char, Box<Sum>, Box<Sum>),
}

fn arbitrary_sum() -> impl Strategy<Value = Sum> {
    let leaf = prop_oneof![(-50_i32..50).prop_map(Sum::Number), (0_usize..4).prop_map(Sum::Pointer)];
    leaf.prop_recursive(3, 12, 2, |inner| {
        (prop::sample::select(vec!['+', '-', '*']), inner.clone(), inner).prop_map(|(operator, a, b)| Sum::Of(operator, a.into(), b.into()))
    })
}

impl Sum {
    fn text(&self) -> String {
        match self {
            Self::Number(n) => n.to_string(),
            Self::Pointer(index) => format!("/{index}"),
            Self::Of(operator, a, b) => format!("({} {operator} {})", a.text(), b.text()),
        }
    }

    /// The value as a fraction of 10^places.
    fn value(&self, cents: &[i32]) -> (i128, u32) {
        let Self::Of(operator, a, b) = self else {
            return match self {
                Self::Number(n) => (i128::from(*n), 0),
                Self::Pointer(index) => (i128::from(cents[*index]), 2),
                Self::Of(..) => unreachable!(),
            };
        };
        let ((a, a_places), (b, b_places)) = (a.value(cents), b.value(cents));
        if *operator == '*' {
            return (a * b, a_places + b_places);
        }
        let places = a_places.max(b_places);
        let (a, b) = (a * 10_i128.pow(places - a_places), b * 10_i128.pow(places - b_places));
        (if *operator == '+' { a + b } else { a - b }, places)
    }
}

const VIEWS: [&str; 16] = [
    "map a to v/<scalar('')>",
    "map a to v/<scalar(/a)>/<expand()> separator '.'",
    "map a to <expand()>/<expand(/x,/n)>",
    "map a to v/<expand()>/<expand()>/<expand()>",
    "map a to v as <value(/a/0)>",
    "map a to v/<expand()> as <value(/x)> type STRING",
    "map a to v/<expand()> type INT64",
    "map a to v/<expand()> type DOUBLE",
    "map a to v type TIME_SERIES",
    "map a to v process { set(/x, /a); if '/a > 1 or /x =~ .*a' set(/y, calc '/a / /x') else remove(/a) }",
    "map a to v/<expand()> process { set(/x, calc '-/x * 3' format 'type=string,scale=2,round=up') }",
    "map a to v process { if 'not /a = /b and /x != null' { set('', /a); remove(/0) } elseif '/x <= 5' continue }",
    "map a to v patch '[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/x\"},{\"op\":\"test\",\"path\":\"/x\",\"value\":1}]'",
    "map a to v insert v/<scalar(/a)> at /x default {\"n\":1}",
    "map a to v/<scalar(/x,0)>/<path(0)>",
    "map a to v/<expand()> insert w at /- default 1 process { set(/-, /0) } as <value('')> type STRING",
];

proptest! {
    #[test]
    fn every_view_gives_valid_references_of_any_value(value in arbitrary_json(), index in 0..VIEWS.len(), references_max in 0_usize..6, work_max in 0_usize..20_000) {
        let json = value.to_string();
        let limits = EvaluationLimits { references_max, work_max, ..EvaluationLimits::default() };
        for value in [Some(json.as_bytes()), None] {
            let input = Input { path: "a", kind: ValueType::Json, value };
            let mut others = Others::of(&[("a", ValueType::Json, &json), ("w", ValueType::Json, &json)]);
            let out = evaluate(&view(VIEWS[index]), &input, &mut others, &limits);
            prop_assert!(out.references.len() <= references_max);
            prop_assert_eq!(out.failures > 0, out.failure.is_some());
            for derived in &out.references {
                prop_assert!(check_path(&derived.path, limits.path_bytes_max).is_ok());
                prop_assert!(serde_json::from_str::<Value>(&print(derived)).is_ok() || derived.value.is_none());
            }
            let mut paths: Vec<_> = out.references.iter().map(|derived| &derived.path).collect();
            paths.sort();
            paths.dedup();
            prop_assert_eq!(paths.len(), out.references.len());
        }
    }

    #[test]
    fn expand_makes_what_the_model_makes(value in arbitrary_json()) {
        for (text, name) in [("map a to v/<expand()>", None), ("map a to v/<expand('',/n)>", Some("/n")), ("map a to v/<expand('',/0)>", Some("/0"))] {
            let (made, failures) = run(text, "a", &value);
            let expected = expanded(&value, name);
            prop_assert_eq!(&made, &expected.clone().unwrap_or_default());
            let children = value.as_array().map(Vec::len).or(value.as_object().map(Map::len));
            prop_assert_eq!(failures as usize, expected.map_or(1, |expected| children.unwrap_or(1) - expected.len()));
        }
    }

    #[test]
    fn processes_make_what_the_model_makes(value in arbitrary_json(), edits in prop::collection::vec(arbitrary_edit(), 1..6), a in arbitrary_json()) {
        let mut value = value;
        if let Value::Object(members) = &mut value {
            members.insert("a".into(), a);
        }
        let statements: Vec<_> = edits.iter().map(Edit::text).collect();
        let (made, failures) = run(&format!("map a to v process {{ {} }}", statements.join("; ")), "a", &value);
        let mut output = value.clone();
        let result = edits.iter().try_for_each(|edit| edit.apply(&value, &mut output));
        let expected = result.map(|()| ("v".to_string(), output));
        prop_assert_eq!(failures, u64::from(expected.is_none()));
        prop_assert_eq!(made, Vec::from_iter(expected));
    }

    #[test]
    fn calculations_are_exact(sum in arbitrary_sum(), cents in prop::collection::vec(-9999_i32..9999, 4)) {
        let numbers: Vec<_> = cents.iter().map(|&c| format!("{}{}.{:02}", if c < 0 { "-" } else { "" }, c.abs() / 100, c.abs() % 100)).collect();
        let json = format!("[{}]", numbers.join(","));
        let input = Input { path: "a", kind: ValueType::Json, value: Some(json.as_bytes()) };
        let text = format!("map a to v process {{ set('', calc '{}') }}", sum.text());
        let out = evaluate(&view(&text), &input, &mut Others::default(), &EvaluationLimits::default());
        let (value, places) = sum.value(&cents);
        let expected = rust_decimal::Decimal::from_i128_with_scale(value, places).normalize().to_string();
        prop_assert_eq!(print(&out.references[0]), expected, "{} on {}", text, json);
    }

    #[test]
    fn decimals_are_read_exactly_or_not_at_all(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?") {
        if let Some(number) = calculation::decimal(text.as_bytes()) {
            let written = number.to_string();
            prop_assert_eq!(crate::value::number::Decimal::parse(written.as_bytes()), crate::value::number::Decimal::parse(text.as_bytes()));
        } else {
            prop_assert!(text.len() > 28 || text.contains(['e', 'E']), "{}", text);
        }
    }
}
