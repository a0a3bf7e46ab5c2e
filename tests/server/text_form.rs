//! The text form, as transcripts: `→` is sent, `←` is what must come. `"…"` stands for any value, and members that are not named may be there;
//! `← …` passes over messages up to the next that fits.

use crate::client::{Message, Socket};
use crate::server::Server;
use serde_json::Value;

fn check(server: &Server, transcript: &str) {
    let mut socket = server.open("tidewire.1.json");
    let mut is_skipping = false;
    for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once(' ').expect("an arrow and a message") {
            ("→", message) => socket.send_text(message),
            ("←", "…") => is_skipping = true,
            ("←", expected) => {
                receive(&mut socket, expected, is_skipping);
                is_skipping = false;
            }
            _ => panic!("not a line of a transcript: {line}"),
        }
    }
}

fn receive(socket: &mut Socket, expected: &str, is_skipping: bool) {
    // The specification writes numbers that depend on the configuration, and further list members, as an ellipsis.
    let expected = expected.replace(":…", ":\"…\"").replace(",…]", ",\"…\"]");
    let wanted: Value = serde_json::from_str(&expected).expect("the transcript is JSON");
    loop {
        let message = socket.receive();
        let Message::Text(text) = &message else { panic!("{message:?} instead of {expected}") };
        let got: Value = serde_json::from_str(text).expect("the server sends JSON");
        if fits(&wanted, &got) {
            return;
        }
        assert!(is_skipping, "{text} instead of {expected}");
    }
}

fn fits(wanted: &Value, got: &Value) -> bool {
    match (wanted, got) {
        (Value::String(any), _) if any == "…" => true,
        (Value::Object(wanted), Value::Object(got)) => {
            wanted.iter().all(|(name, wanted)| got.get(name).is_some_and(|got| fits(wanted, got)))
        }
        (Value::Array(wanted), Value::Array(got)) => match wanted.split_last() {
            Some((rest, first)) if rest == "…" => first.iter().zip(got).all(|(wanted, got)| fits(wanted, got)),
            _ => wanted.len() == got.len() && wanted.iter().zip(got).all(|(wanted, got)| fits(wanted, got)),
        },
        _ => wanted == got,
    }
}

const CONNECT: &str = "→ {\"op\":\"connect\",\"id\":1}\n← {\"op\":\"welcome\",\"id\":1}\n";

fn check_connected(transcript: &str) {
    check(&Server::start(2), &format!("{CONNECT}{transcript}"));
}

#[test]
fn the_transcript_of_the_specification_is_what_happens() {
    let specification = include_str!("../../sdk/protocol/README.md");
    let (_, from) = specification.split_once("```\n→").expect("the specification has a transcript");
    let (transcript, _) = from.split_once("```").expect("it ends");
    // One shard: over several, topics of one selection come in any order.
    check(&Server::start(1), &format!("→{transcript}"));
}

#[test]
fn every_type_makes_a_round_trip() {
    for (kind, value) in [
        ("json", r#"{"x":[1,2.5,"a",null,true]}"#),
        ("json", "null"),
        ("string", r#""Grüße \"🌊\" \u0001""#),
        ("int64", "-9223372036854775808"),
        ("int64", "9223372036854775807"),
        ("double", "0.1"),
        ("double", r#""NaN""#),
        ("double", r#""-Infinity""#),
        ("binary", r#""AP+A""#),
        ("binary", r#""""#),
    ] {
        check_connected(&format!(
            r#"
            → {{"op":"add_and_set","id":2,"path":"a","type":"{kind}","value":{value}}}
            ← {{"op":"ok","id":2,"created":true}}
            → {{"op":"subscribe","id":3,"selector":"a"}}
            ← {{"op":"subscribed","path":"a","type":"{kind}"}}
            ← {{"op":"value","path":"a","value":{value}}}
            ← {{"op":"ok","id":3}}
            → {{"op":"fetch","id":4,"selector":"a","values":true}}
            ← {{"op":"ok","id":4,"has_more":false,"topics":[{{"path":"a","type":"{kind}","value":{value}}}]}}
            "#
        ));
    }
}

#[test]
fn a_value_that_nests_too_deep_is_refused_as_a_value() {
    for (depth, code) in [(128, 202), (129, 205), (10_000, 205)] {
        let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check_connected(&format!(
            "→ {{\"op\":\"set\",\"id\":7,\"path\":\"a\",\"value\":{value}}}\n← {{\"op\":\"error\",\"id\":7,\"code\":{code}}}"
        ));
    }
}

#[test]
fn both_forms_see_the_same_topics() {
    let server = Server::start(2);
    let mut binary = server.connect();
    binary.add_and_set("a", tidewire::surface::value::ValueType::Int64, &7i64.to_be_bytes()).unwrap();
    check(
        &server,
        r#"
        → {"op":"connect","id":1}
        ← {"op":"welcome","id":1}
        → {"op":"fetch","id":2,"selector":"a","values":true}
        ← {"op":"ok","id":2,"topics":[{"path":"a","type":"int64","value":7}]}
        → {"op":"set","id":3,"path":"a","type":"int64","value":8}
        ← {"op":"ok","id":3}
        "#,
    );
    assert_eq!(binary.fetch("a", "", 0).unwrap().1[0].value.as_deref(), Some(&8i64.to_be_bytes()[..]));
}

#[test]
fn unknown_members_are_ignored() {
    check_connected(
        r#"
        → {"op":"add","id":2,"path":"a","type":"json","colour":{"deep":[1]}}
        ← {"op":"ok","id":2,"created":true}
        "#,
    );
}

#[test]
fn a_message_that_is_not_an_object_tells_where() {
    for (message, position) in [("nonsense", 0), (" [3]", 2), (r#"{"op":"ping""#, 12), (r#"{"op":x}"#, 6), (r#"{"op":"ping"} x"#, 14)] {
        check_connected(&format!(
            r#"
            → {message}
            ← {{"op":"error","id":0,"code":105,"name":"malformed_json","position":{position}}}
            → {{"op":"ping"}}
            ← {{"op":"pong"}}
            "#
        ));
    }
}

#[test]
fn a_member_that_is_missing_or_of_another_type_is_refused_with_the_id() {
    for message in [
        r#"{"id":7}"#,
        r#"{"op":7,"id":7}"#,
        r#"{"op":"add","id":7}"#,
        r#"{"op":"add","id":7,"path":3}"#,
        r#"{"op":"set","id":7,"path":"a"}"#,
        r#"{"op":"subscribe","id":7}"#,
        r#"{"op":"fetch","id":7,"selector":"a","first":-1}"#,
    ] {
        check_connected(&format!("→ {message}\n← {{\"op\":\"error\",\"id\":7,\"code\":106,\"name\":\"invalid_field\"}}"));
    }
}

#[test]
fn errors_are_the_binary_forms() {
    for (message, code, position) in [
        (r#"{"op":"frobnicate","id":7}"#, 101, ""),
        (r#"{"op":"connect","id":7}"#, 103, ""),
        (r#"{"op":"add","id":7,"path":"a//b"}"#, 200, r#","position":2"#),
        (r#"{"op":"add","id":7,"path":"Tidewire/a"}"#, 209, r#","position":0"#),
        (r#"{"op":"subscribe","id":7,"selector":"?a/("}"#, 201, r#","position":"…""#),
        (r#"{"op":"set","id":7,"path":"a","value":1}"#, 202, ""),
        (r#"{"op":"add","id":7,"path":"a","type":"colour"}"#, 207, ""),
        (r#"{"op":"add","id":7,"path":"a","properties":{"CONFLATION":"sometimes"}}"#, 211, r#","position":0"#),
        (r#"{"op":"add","id":7,"path":"a","type":"time_series"}"#, 211, r#","position":0"#),
        (r#"{"op":"set","id":7,"path":"a","type":"time_series","value":1}"#, 207, ""),
        (r#"{"op":"subscribe","id":7,"selector":"a","scope":"$s"}"#, 216, r#","position":0"#),
        (r#"{"op":"update","id":7,"path":"a","value":1,"constraint":{"values":1}}"#, 213, r#","position":1"#),
        (r#"{"op":"update","id":7,"path":"a","value":1,"constraint":{"value":{"eq":1}}}"#, 212, ""),
        (r#"{"op":"update","id":7,"path":"a","patch":{"op":"remove"}}"#, 202, ""),
        (r#"{"op":"query","id":7,"path":"a"}"#, 202, ""),
        (r#"{"op":"stream_set","id":7,"stream":1,"value":1}"#, 220, ""),
        (r#"{"op":"unlisten","id":7,"listener":1,"selector":""}"#, 302, ""),
        (r#"{"op":"add_and_set","id":7,"path":"a","type":"int64","value":1.5}"#, 205, ""),
        (r#"{"op":"add_and_set","id":7,"path":"a","type":"int64","value":9223372036854775808}"#, 205, ""),
        (r#"{"op":"add_and_set","id":7,"path":"a","type":"string","value":1}"#, 205, ""),
        (r#"{"op":"add_and_set","id":7,"path":"a","type":"binary","value":"?"}"#, 205, ""),
    ] {
        check_connected(&format!(
            r#"
            → {message}
            ← {{"op":"error","id":7,"code":{code}{position}}}
            → {{"op":"ping"}}
            ← {{"op":"pong"}}
            "#
        ));
    }
}

#[test]
fn connect_must_come_first() {
    check(
        &Server::start(1),
        r#"
        → {"op":"fetch","id":7,"selector":"a"}
        ← {"op":"error","id":7,"code":102}
        → {"op":"connect","id":8}
        ← {"op":"welcome","id":8,"version":1}
        "#,
    );
}
