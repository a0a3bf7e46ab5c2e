//! The edges of every limit, and what lies beyond.

use super::*;

fn check_at_edge(text: &str, json: &str, limits: EvaluationLimits, beyond: EvaluationLimits, words: &str) {
    let input = Input { path: "a", kind: ValueType::Json, value: Some(json.as_bytes()) };
    let within = evaluate(&view(text), &input, &mut Others::default(), &limits);
    assert_eq!(within.failure, None, "{text}");
    let without = evaluate(&view(text), &input, &mut Others::default(), &beyond);
    let failure = without.failure.expect(text);
    assert!(failure.message.contains(words), "{text}: {}", failure.message);
    assert!(without.failures == 1 && without.references.len() < within.references.len(), "{text}");
}

#[test]
fn references_paths_values_and_depth_have_edges() {
    let limits = EvaluationLimits::default();
    let references = |references_max| EvaluationLimits { references_max, ..limits };
    check_at_edge("map a to b/<expand()>", "[1,2,3]", references(3), references(2), "found more than 2 reference topics of one source");
    check_at_edge("map a to b", "1", references(1), references(0), "more than 0");
    let path_bytes = |path_bytes_max| EvaluationLimits { path_bytes_max, ..limits };
    check_at_edge("map a to b/<scalar('')>", "\"xyz\"", path_bytes(5), path_bytes(4), "found a path of more than 4 bytes");
    let value_bytes = |value_bytes_max| EvaluationLimits { value_bytes_max, ..limits };
    check_at_edge("map a to b process { set(/x, 1) }", "{}", value_bytes(7), value_bytes(6), "found a value of 7 bytes");
    check_at_edge("map a to b patch '[{\"op\":\"add\",\"path\":\"/x\",\"value\":1}]'", "{}", value_bytes(7), value_bytes(6), "7 bytes");
    check_at_edge("map a to b insert c at /x default 1", "{}", value_bytes(7), value_bytes(6), "found a value of 7 bytes");
    check_at_edge("map a to b as <value(/0)> type STRING", "[123]", value_bytes(3), value_bytes(2), "found a value of 3 bytes");
    let depth = |depth_max| EvaluationLimits { depth_max, ..limits };
    check_at_edge("map a to b process { set(/x/y, [[]]) }", "{\"x\":{}}", depth(4), depth(3), "found 4 arrays and objects within");
    check_at_edge("map a to b insert c at /x default [[]]", "{}", depth(3), depth(2), "found 3 arrays and objects within");
    check_at_edge("map a to b/<expand()>/<expand()>", "[[1]]", depth(2), depth(1), "found one more expand");
}

#[test]
fn a_source_beyond_its_work_makes_nothing() {
    let texts = [
        "map a to b/<expand()>",
        "map a to b process { if '/x = 1' continue elseif '/y = 1' continue else set(/z, calc '/n + /n') }",
        "map a to b patch '[{\"op\":\"copy\",\"from\":\"/l\",\"path\":\"/m\"}]'",
        "map a to b insert c at /x default [1]",
        "map a to b process { remove(/l/0/1); set(/l/-, /l) } as <value(/l)>",
        "map a to b/<scalar(/s)>/<path(0)>",
        "map a to b process { if '/s =~ x.*' continue }",
    ];
    let json = br#"{"n":1,"l":[[1,2],"x"],"s":"xyz"}"#;
    let input = Input { path: "a", kind: ValueType::Json, value: Some(json) };
    for text in texts {
        let mut is_enough = false;
        for work_max in (0..5000).step_by(7) {
            let limits = EvaluationLimits { work_max, ..EvaluationLimits::default() };
            let out = evaluate(&view(text), &input, &mut Others::default(), &limits);
            assert!(!is_enough || out.failure.is_none(), "{text}: more work takes no less");
            is_enough = out.failure.is_none();
            if let Some(failure) = out.failure {
                assert_eq!((out.references.len(), out.failures, failure.path), (0, 1, None), "{text}");
                assert!(failure.message.contains(&format!("more than {work_max} steps")), "{}", failure.message);
            }
        }
        assert!(is_enough, "{text}");
    }
}

#[test]
fn a_failure_names_the_path_once_it_is_known() {
    let path = |text: &str, json: &str| {
        let input = Input { path: "a", kind: ValueType::Json, value: Some(json.as_bytes()) };
        evaluate(&view(text), &input, &mut Others::default(), &EvaluationLimits::default()).failure.unwrap().path
    };
    assert_eq!(path("map a to b/<scalar(/x)> as <value(/y)>", "{\"x\":1}").as_deref(), Some("b/1"));
    assert_eq!(path("map a to b/<expand()> as <value(/y)>", "[{\"y\":1},{}]").as_deref(), Some("b/1"));
    assert_eq!(path("map a to b/<scalar(/x)>", "{}"), None);
}

#[test]
fn a_regex_costs_as_much_as_its_states() {
    let json = format!("{{\"t\":\"{}\"}}", "ab".repeat(5_000));
    let limits = EvaluationLimits { work_max: 1_000_000, ..EvaluationLimits::default() };
    let is_too_much = |pattern: &str| {
        let input = Input { path: "a", kind: ValueType::Json, value: Some(json.as_bytes()) };
        let definition = view(&format!("map a to b process {{ if '/t =~ \"{pattern}\"' continue }}"));
        evaluate(&definition, &input, &mut Others::default(), &limits).failure.is_some()
    };
    assert!(!is_too_much("[ab]*c") && !is_too_much("a{1,3}.*") && !is_too_much(".*[0-9]{4}-[0-9]{2}"));
    assert!(is_too_much("[ab]*a[ab]{40}") && is_too_much("((ab){20}){20}") && is_too_much("[ab]*a[ab]{2,40}"));
}
