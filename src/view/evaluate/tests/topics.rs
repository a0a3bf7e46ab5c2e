//! `insert`, and `scalar` with a level: what other topics give.

use super::*;

fn others() -> Others {
    Others::of(&[
        ("o/json", ValueType::Json, r#"{"k":[1,2],"n":"x"}"#),
        ("o/string", ValueType::String, "\"a\\\"b\""),
        ("o/int64", ValueType::Int64, "5"),
        ("o/double", ValueType::Double, "0.5"),
        ("o/binary", ValueType::Binary, "\"AA==\""),
        ("a", ValueType::Json, r#"{"n":"x/y","l":[true],"e":""}"#),
    ])
}

fn check_insert(clauses: &str, json: &str, expected: Result<&str, &str>) {
    let text = format!("map ?a// to b {clauses}");
    match expected {
        Ok(value) => check_among(&text, "a/json", (ValueType::Json, json), &mut others(), &[&format!("b={value}")], &[]),
        Err(words) => check_among(&text, "a/json", (ValueType::Json, json), &mut others(), &[], &[words]),
    }
}

#[test]
fn values_of_other_topics_are_inserted() {
    check_insert("insert o/json at /i", "{}", Ok(r#"{"i":{"k":[1,2],"n":"x"}}"#));
    check_insert("insert o/string at /i", "{}", Ok(r#"{"i":"a\"b"}"#));
    check_insert("insert o/int64 at /l/-", r#"{"l":[0]}"#, Ok(r#"{"l":[0,5]}"#));
    check_insert("insert o/double at /l/0", r#"{"l":[0]}"#, Ok(r#"{"l":[0.5]}"#));
    check_insert("insert o/json key /k/1 at /i", r#"{"i":0}"#, Ok(r#"{"i":2}"#));
    check_insert("insert o/<path(1)> key /n at /i", "{}", Ok(r#"{"i":"x"}"#));
    check_insert("insert o/<scalar(/t)> at /i", r#"{"t":"int64"}"#, Ok(r#"{"t":"int64","i":5}"#));
    check_insert("process { set(/t, 'double') } insert o/<scalar(/t)> at /t", "{}", Ok(r#"{"t":0.5}"#));
    check_insert("insert o/int64 at /i insert o/double at /j", "{}", Ok(r#"{"i":5,"j":0.5}"#));
    check_insert("insert o/binary at /i", "{}", Err("found a topic of type binary"));
    check_insert("insert o/int64 at /i/j", "{}", Err("found an object at \"\" without `i`"));
}

#[test]
fn what_is_missing_is_the_default_or_nothing() {
    for insert in ["insert o/none", "insert o/json key /none", "insert o/int64 key /k", "insert o/<scalar(/none)>", "insert o/<path(5)>"] {
        check_insert(&format!("{insert} at /i"), "{}", Ok("{}"));
        check_insert(&format!("{insert} at /i default {{\"d\":1}}"), "{}", Ok(r#"{"i":{"d":1}}"#));
    }
    check_insert("insert o/none at /i/j", "{}", Ok("{}"));
    check_insert("insert o/none at /i/j default 1", "{}", Err("without `i`"));
}

#[test]
fn scalars_are_read_from_ancestors() {
    let check_level = |directive: &str, kind: ValueType, expected: Result<&str, &str>| {
        let text = format!("map ?a// to v/{directive}");
        match expected {
            Ok(path) => check_among(&text, "a/b", (kind, "1"), &mut others(), &[&format!("v/{path}=1")], &[]),
            Err(words) => check_among(&text, "a/b", (kind, "1"), &mut others(), &[], &[words]),
        }
    };
    for kind in [ValueType::Json, ValueType::Int64] {
        check_level("<scalar(/n,0)>/z", kind, Ok("x/y/z"));
        check_level("<scalar(/l/0,0)>", kind, Ok("true"));
        check_level("<scalar('',1)>", kind, Ok("1"));
        check_level("<scalar(/l,0)>", kind, Err("found no string, number or boolean at \"/l\" of `a`"));
        check_level("<scalar(/none,0)>", kind, Err("found no string"));
        check_level("<scalar(/e,0)>", kind, Err("found an empty string"));
        check_level("<scalar(/n,2)>", kind, Err("without level 2"));
    }
    let text = "map ?o// to <scalar('',1)>/z";
    for (source, expected) in [("o/string/x", "a\"b/z=no value"), ("o/int64/x", "5/z=no value"), ("o/double/x", "0.5/z=no value")] {
        check_among(text, source, (ValueType::Int64, "null"), &mut others(), &[expected], &[]);
    }
    for source in ["o/binary/x", "o/none/x"] {
        check_among(text, source, (ValueType::Json, "1"), &mut others(), &[], &["found no"]);
    }
    check_among("map ?a// to v/<scalar(/n,0)> separator '-'", "a/b", (ValueType::Json, "1"), &mut others(), &["v/x-y=1"], &[]);
}

#[test]
fn an_unknown_topic_makes_the_source_wait_and_the_others_are_asked_at_once() {
    let check_waiting = |text: &str, asked: &[&str]| {
        let mut others = others();
        others.unknown = vec!["o/int64".into(), "a".into()];
        let input = Input { path: "a/b", kind: ValueType::Json, value: Some(br#"{"t":"int64"}"#) };
        let out = evaluate(&view(text), &input, &mut others, &EvaluationLimits::default());
        assert_eq!((out.is_waiting, out.references.len(), out.failures), (true, 0, 0), "{text}");
        assert_eq!(others.asked, asked, "{text}");
    };
    check_waiting("map ?a// to b insert o/int64 at /i insert o/json at /j", &["o/int64", "o/json"]);
    check_waiting("map ?a// to b insert o/<scalar(/t)> at /i insert o/<scalar(/t)> at /j insert o/<path(1)> at /k", &["o/int64", "o/b"]);
    check_waiting("map ?a// to b/<scalar(/n,0)> insert o/json at /j", &["a", "o/json"]);
    check_waiting("map ?a// to b/<expand()> process { set('', empty_object) } insert o/int64 at /i", &["o/int64"]);
}
