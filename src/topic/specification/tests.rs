//! Specifications: which properties a type takes, their values, and their printed form.

use proptest::prelude::*;

use super::*;
use crate::topic::syntax::fuzz::{self, Numbers};

const JSON_SERIES: (&str, &str) = ("TIME_SERIES_EVENT_VALUE_TYPE", "json");

fn try_parse(topic_type: TopicType, properties: &[(&str, &str)]) -> Result<Specification, PropertyError> {
    Specification::parse(topic_type, properties.iter().copied(), SpecificationLimits::default())
}

fn parse(topic_type: TopicType, properties: &[(&str, &str)]) -> Specification {
    try_parse(topic_type, properties).unwrap_or_else(|error| panic!("{properties:?}: {error}"))
}

fn json(properties: &[(&str, &str)]) -> Specification {
    parse(TopicType::Json, properties)
}

fn series(properties: &[(&str, &str)]) -> Specification {
    parse(TopicType::TimeSeries, &[&[JSON_SERIES], properties].concat())
}

fn shown(specification: &Specification) -> Vec<(&str, &str)> {
    specification.properties().collect()
}

/// A JSON topic with `key` set to `value` shows it as `canonical`, or not at all.
fn check(key: &str, value: &str, canonical: Option<&str>) {
    let specification = json(&[(key, value)]);
    let expected: Vec<_> = canonical.map(|canonical| (key, canonical)).into_iter().collect();
    assert_eq!(shown(&specification), expected, "{key} {value}");
    assert_eq!(json(&shown(&specification)), specification);
}

fn check_refused(topic_type: TopicType, properties: &[(&str, &str)], key: &str, position: usize, words: &str) {
    let error = try_parse(topic_type, properties).expect_err(key);
    assert_eq!((&*error.property, error.position), (key, position), "{properties:?}: {error}");
    assert!(error.to_string().contains(words), "{properties:?}: {error}");
}

#[test]
fn a_topic_type_has_a_number_and_a_name() {
    for topic_type in TopicType::ALL {
        assert_eq!(TopicType::from_number(topic_type.number()), Some(topic_type));
        assert_eq!(TopicType::from_name(topic_type.name()), Some(topic_type));
    }
    assert_eq!((TopicType::TimeSeries.number(), TopicType::TimeSeries.name()), (6, "time_series"));
    assert_eq!((TopicType::from_number(0), TopicType::from_number(7), TopicType::from_name("JSON")), (None, None, None));
    for value_type in ValueType::ALL {
        let topic_type = TopicType::from(value_type);
        assert_eq!((topic_type.value_type(), topic_type.number()), (Some(value_type), value_type as u8));
    }
}

#[test]
fn without_properties_the_defaults_hold() {
    for topic_type in TopicType::ALL {
        let is_series = topic_type == TopicType::TimeSeries;
        let is_number = matches!(topic_type, TopicType::Int64 | TopicType::Double);
        let specification = parse(topic_type, if is_series { &[JSON_SERIES] } else { &[] });
        assert_eq!(specification.topic_type(), topic_type);
        assert_eq!(specification.value_type(), topic_type.value_type().unwrap_or(ValueType::Json));
        assert!(!specification.publishes_values_only() && specification.retains_value() && !specification.validates_values());
        assert!(!specification.tidies_on_unsubscribe() && specification.is_persistent());
        assert_eq!(specification.conflation(), if is_series { Conflation::Off } else { Conflation::Conflate });
        assert_eq!(specification.compression(), if is_number { Compression::Off } else { Compression::Low });
        assert_eq!(specification.priority(), Priority::Default);
        assert_eq!((specification.owner(), specification.removal()), (None, None));
        assert_eq!(specification.retained_range(), RangeExpression::limit(10));
        assert_eq!(specification.subscription_range(), is_series.then_some(RangeExpression::limit(1)));
        assert_eq!(specification.properties().len(), usize::from(is_series));
    }
}

#[test]
fn flags_have_no_case_and_show_what_is_not_the_default() {
    for key in ["PUBLISH_VALUES_ONLY", "DONT_RETAIN_VALUE", "VALIDATE_VALUES", "TIDY_ON_UNSUBSCRIBE"] {
        check(key, "TRUE", Some("true"));
        check(key, "False", None);
        check_refused(TopicType::Json, &[(key, "yes")], key, 0, "found \"yes\" at byte 0, expected one of true, false");
    }
    check("PERSISTENT", "true", None);
    check("PERSISTENT", "False", Some("false"));
    let specification = json(&[("PUBLISH_VALUES_ONLY", "true"), ("DONT_RETAIN_VALUE", "true"), ("VALIDATE_VALUES", "true")]);
    assert!(specification.publishes_values_only() && !specification.retains_value() && specification.validates_values());
    let specification = json(&[("TIDY_ON_UNSUBSCRIBE", "true"), ("PERSISTENT", "false")]);
    assert!(specification.tidies_on_unsubscribe() && !specification.is_persistent());
}

#[test]
fn conflation_is_one_of_four() {
    let words = [
        ("off", Conflation::Off),
        ("Conflate", Conflation::Conflate),
        ("UNSUBSCRIBE", Conflation::Unsubscribe),
        ("always", Conflation::Always),
    ];
    for (word, expected) in words {
        assert_eq!(json(&[("CONFLATION", word)]).conflation(), expected);
        check("CONFLATION", word, Some(&*word.to_lowercase()));
    }
    check_refused(TopicType::Json, &[("CONFLATION", "on")], "CONFLATION", 0, "off, conflate, unsubscribe, always");
    check_refused(TopicType::Json, &[("CONFLATION", "")], "CONFLATION", 0, "found \"\"");
}

#[test]
fn compression_has_old_words_too() {
    check("COMPRESSION", "off", Some("off"));
    check("COMPRESSION", "FALSE", Some("off"));
    check("COMPRESSION", "low", None);
    check("COMPRESSION", "true", Some("medium"));
    check("COMPRESSION", "Medium", Some("medium"));
    check("COMPRESSION", "high", Some("high"));
    assert_eq!(json(&[("COMPRESSION", "true")]), json(&[("COMPRESSION", "medium")]));
    check_refused(TopicType::Json, &[("COMPRESSION", "max")], "COMPRESSION", 0, "low, medium, high");
}

#[test]
fn priority_is_one_of_three() {
    check("PRIORITY", "LOW", Some("low"));
    check("PRIORITY", "default", None);
    check("PRIORITY", "high", Some("high"));
    assert!(json(&[("PRIORITY", "low")]).priority() < json(&[]).priority());
    check_refused(TopicType::Json, &[("PRIORITY", "urgent")], "PRIORITY", 0, "low, default, high");
}

#[test]
fn an_owner_is_a_principal() {
    check("OWNER", "$Principal  IS 'bob'", Some(r#"$Principal is "bob""#));
    check("OWNER", r#"$Principal eq "b\"o""#, Some(r#"$Principal is "b\"o""#));
    assert_eq!(json(&[("OWNER", r#"$Principal is "b\"o""#)]).owner(), Some("b\"o"));
    for (text, position, words) in [
        ("bob", 0, "`$Principal is"),
        ("$principal is 'bob'", 0, "`$Principal is"),
        ("$Principal ne 'bob'", 11, "`is`"),
        ("$Principal is bob", 14, "the quoted name"),
        ("$Principal is 'bob' or all", 20, "the end"),
        ("$Principal is 'bob", 14, "not closed"),
    ] {
        check_refused(TopicType::Json, &[("OWNER", text)], "OWNER", position, words);
    }
}

#[test]
fn a_removal_policy_is_kept_in_canonical_form() {
    check("REMOVAL", "When Subscriptions<1 for 60s", Some("when subscriptions < 1 for 1m"));
    let specification = json(&[("REMOVAL", "when this session closes")]);
    assert!(specification.removal().is_some_and(RemovalPolicy::needs_creator));
    check_refused(TopicType::Json, &[("REMOVAL", "when never")], "REMOVAL", 5, "a condition");
}

#[test]
fn a_time_series_must_say_its_events_type() {
    let key = JSON_SERIES.0;
    check_refused(TopicType::TimeSeries, &[], key, 0, "found no value at byte 0, expected one of json, string, int64, double, binary");
    check_refused(TopicType::TimeSeries, &[(key, "time_series")], key, 0, "found \"time_series\"");
    for value_type in ValueType::ALL {
        let specification = parse(TopicType::TimeSeries, &[(key, &value_type.name().to_uppercase())]);
        assert_eq!(specification.value_type(), value_type);
        assert_eq!(shown(&specification), [(key, value_type.name())]);
    }
}

#[test]
fn a_time_series_conflates_nothing() {
    assert_eq!(series(&[("CONFLATION", "unsubscribe")]).conflation(), Conflation::Unsubscribe);
    assert_eq!(series(&[("CONFLATION", "off")]), series(&[]));
    for word in ["conflate", "always"] {
        check_refused(TopicType::TimeSeries, &[JSON_SERIES, ("CONFLATION", word)], "CONFLATION", 0, "one of off, unsubscribe");
    }
}

#[test]
fn ranges_have_defaults_of_their_own() {
    let key = "TIME_SERIES_RETAINED_RANGE";
    assert_eq!(series(&[(key, "LIMIT 10")]), series(&[]));
    let specification = series(&[(key, "limit 5 last 60s")]);
    assert_eq!(specification.retained_range(), RangeExpression { limit: Some(5), last_ms: Some(60_000) });
    assert_eq!(shown(&specification), [JSON_SERIES, (key, "last 1M limit 5")]);
    check_refused(TopicType::TimeSeries, &[JSON_SERIES, (key, "limit 0")], key, 6, "1 or more");
    check_refused(TopicType::TimeSeries, &[JSON_SERIES, (key, "")], key, 0, "`limit`");
}

#[test]
fn a_new_subscriber_gets_the_latest_event_unless_there_are_no_deltas() {
    let key = "TIME_SERIES_SUBSCRIPTION_RANGE";
    assert_eq!(series(&[(key, "limit 1")]), series(&[]));
    for other in [("PUBLISH_VALUES_ONLY", "true"), ("DONT_RETAIN_VALUE", "true")] {
        assert_eq!(series(&[other]).subscription_range(), None);
        let specification = series(&[other, (key, "limit 1")]);
        assert_eq!(specification.subscription_range(), Some(RangeExpression::limit(1)));
        assert_ne!(specification, series(&[other]));
    }
}

#[test]
fn what_means_nothing_for_the_type_is_ignored() {
    let ignored = [
        ("SCHEMA", "{}"),
        ("conflation", "always"),
        ("COLOUR", "blue"),
        ("COLOUR", "red"),
        ("", ""),
        (JSON_SERIES.0, "json"),
        ("TIME_SERIES_RETAINED_RANGE", "rubbish"),
    ];
    assert_eq!(json(&ignored), json(&[]));
    for number in [TopicType::Int64, TopicType::Double] {
        assert_eq!(parse(number, &[("COMPRESSION", "rubbish"), ("PUBLISH_VALUES_ONLY", "true")]), parse(number, &[]));
    }
}

#[test]
fn properties_are_shown_in_the_order_of_keys() {
    let keys = Property::ALL.map(Property::key);
    assert!(keys.is_sorted());
    assert!(Property::ALL.iter().enumerate().all(|(index, property)| *property as usize == index));
    let specification = series(&[("VALIDATE_VALUES", "true"), ("OWNER", "$Principal is ''"), ("COMPRESSION", "off")]);
    assert!(shown(&specification).is_sorted() && specification.properties().len() == 4);
}

#[test]
fn the_type_is_part_of_what_is_equal() {
    assert_ne!(json(&[]), parse(TopicType::String, &[]));
    assert_ne!(json(&[("PRIORITY", "low")]), json(&[("PRIORITY", "high")]));
}

#[test]
fn a_property_is_given_once() {
    check_refused(TopicType::Json, &[("PRIORITY", "low"), ("PRIORITY", "low")], "PRIORITY", 0, "at most once");
}

#[test]
fn everything_has_a_limit() {
    let limits = SpecificationLimits { properties_max: 2, key_bytes_max: 8, value_bytes_max: 20, ..SpecificationLimits::default() };
    let refused = |properties: &[(&str, &str)]| {
        let result = Specification::parse(TopicType::Json, properties.iter().copied(), limits);
        result.map(|_| ()).map_err(|error| (error.property, error.position))
    };
    assert_eq!(refused(&[("a", ""), ("b", "")]), Ok(()));
    assert_eq!(refused(&[("a", ""), ("b", ""), ("c", "")]), Err(("c".into(), 0)));
    assert_eq!(refused(&[("12345678", "")]), Ok(()));
    assert_eq!(refused(&[("123456789", "")]), Err(("123456789".into(), 0)));
    assert_eq!(refused(&[("a", &"x".repeat(20))]), Ok(()));
    assert_eq!(refused(&[("a", &"x".repeat(21))]), Err(("a".into(), 20)));
    assert_eq!(refused(&[("OWNER", r"$Principal is 'abc'")]), Ok(()));
    // In canonical form, each mark is escaped.
    assert_eq!(refused(&[("OWNER", r#"$Principal is '""""'"#)]), Err(("OWNER".into(), 20)));
}

#[test]
fn a_long_key_is_quoted_in_part() {
    let key = "k".repeat(1000);
    let error = try_parse(TopicType::Json, &[(&key, "")]).unwrap_err();
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
fn noise_is_refused_inside_its_text() {
    let texts =
        ["true", "unsubscribe", "limit 10 last 5S", "$Principal is \"bob\"", "when subscriptions < 1 for 5m or no session has 'all'"];
    let mut numbers = Numbers(3);
    fuzz::check(&texts, |text| {
        let key = numbers.pick(&Property::ALL).key();
        let event_type = if key == JSON_SERIES.0 { ("", "") } else { JSON_SERIES };
        let result = try_parse(TopicType::TimeSeries, &[event_type, (key, text)]);
        if let Ok(specification) = &result {
            assert_eq!(parse(TopicType::TimeSeries, &shown(specification)), *specification);
        }
        result.map(|_| ()).map_err(|error| SyntaxError { position: error.position, found: error.found, expected: error.expected })
    });
}

proptest! {
    #[test]
    fn what_is_shown_makes_an_equal_specification(seed in any::<u64>()) {
        let mut numbers = Numbers(seed);
        let values: [(&str, &[&str]); 12] = [
            ("COMPRESSION", &["off", "LOW", "true"]),
            ("CONFLATION", &["off", "unsubscribe"]),
            ("DONT_RETAIN_VALUE", &["true", "false"]),
            ("OWNER", &["$Principal is 'a'", r#"$Principal is "\"""#]),
            ("PERSISTENT", &["true", "false"]),
            ("PRIORITY", &["low", "default", "HIGH"]),
            ("PUBLISH_VALUES_ONLY", &["true", "false"]),
            ("REMOVAL", &["when this session closes", "when no updates for 3600s remove '?a//'"]),
            ("TIDY_ON_UNSUBSCRIBE", &["true", "false"]),
            ("TIME_SERIES_RETAINED_RANGE", &["limit 10", "limit 9 last 1000MS"]),
            ("TIME_SERIES_SUBSCRIPTION_RANGE", &["limit 1", "last 5m"]),
            ("VALIDATE_VALUES", &["true", "false"]),
        ];
        let topic_type = numbers.pick(&TopicType::ALL);
        let mut properties = vec![JSON_SERIES];
        for (key, values) in values {
            if numbers.next(2) == 0 {
                properties.push((key, numbers.pick(values)));
            }
        }
        let specification = parse(topic_type, &properties);
        let again = parse(topic_type, &shown(&specification));
        prop_assert_eq!(&again, &specification);
        prop_assert_eq!(shown(&again), shown(&specification));
        prop_assert_eq!(again.subscription_range(), specification.subscription_range());
        properties.reverse();
        prop_assert_eq!(&parse(topic_type, &properties), &specification);
    }
}
