//! The native protocol, text form, as far as a load speaks it. See `sdk/protocol/README.md`.
//!
//! A delivery is read in place: its members are taken in the order in which the server writes them, its value is found by
//! its end, and nothing is made of it. Everything else, and values whose members stand in another order, takes the way over
//! all members. Paths that a load sends need no escapes: they are a run's own, which its plan has checked.

use super::{Event, Malformed, Request, text};
use crate::payload::push_digits;

pub const SUBPROTOCOL: &str = "tidewire.1.json";

/// Appends one request as a JSON object.
pub fn encode(request: &Request<'_>, out: &mut Vec<u8>) {
    match *request {
        Request::Connect { id, name, login, .. } => {
            push(out, &[b"{\"op\":\"connect\",\"version\":1,\"client\":\"", name.as_bytes(), b"\""]);
            for (key, text) in [("principal", &login.principal), ("password", &login.password)] {
                if !text.is_empty() {
                    push(out, &[b",\"", key.as_bytes(), b"\":", serde_json::Value::from(text.as_str()).to_string().as_bytes()]);
                }
            }
            push_id(id, out);
        }
        Request::Subscribe { id, selector } => {
            push(out, &[b"{\"op\":\"subscribe\",\"selector\":\"", selector.as_bytes(), b"\""]);
            push_id(id, out);
        }
        Request::Create { id, path, value_type, value } => {
            push(out, &[b"{\"op\":\"add_and_set\",\"path\":\"", path.as_bytes(), b"\",\"type\":\"", value_type.name().as_bytes()]);
            push(out, &[b"\",\"value\":", value]);
            push_id(id, out);
        }
        // What is left out is JSON.
        Request::Set { id, path, value, .. } => {
            push(out, &[b"{\"op\":\"set\",\"path\":\"", path.as_bytes(), b"\",\"value\":", value]);
            push_id(id, out);
        }
        Request::Remove { id, selector } => {
            push(out, &[b"{\"op\":\"remove\",\"selector\":\"", selector.as_bytes(), b"\""]);
            push_id(id, out);
        }
        // Nothing that the server sends asks for one.
        Request::Answer(_) => {}
        Request::Ping => out.extend_from_slice(b"{\"op\":\"ping\"}"),
        Request::Pong => out.extend_from_slice(b"{\"op\":\"pong\"}"),
        Request::Close => out.extend_from_slice(b"{\"op\":\"close\"}"),
    }
}

fn push(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Ends a request with its id, which stands for 0 where it is left out.
fn push_id(id: u64, out: &mut Vec<u8>) {
    if id != 0 {
        out.extend_from_slice(b",\"id\":");
        push_digits(id, out);
    }
    out.push(b'}');
}

const VALUE_HEAD: &[u8] = b"{\"op\":\"value\",\"topic\":";

/// Reads the object at the start of `bytes` and its length. `Ok(None)`: not whole yet.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Option<(Event<'_>, usize)>, Malformed> {
    match delivery(bytes) {
        Some(found) => Ok(Some(found)),
        None => parse_rare(bytes),
    }
}

/// A value as the server writes it: `{"op":"value","topic":1,"path":"a","value":…}`.
#[inline]
fn delivery(bytes: &[u8]) -> Option<(Event<'_>, usize)> {
    let (topic, rest) = text::take_number(bytes.strip_prefix(VALUE_HEAD)?)?;
    let rest = rest.strip_prefix(b",\"path\":\"")?;
    let rest = rest[text::string_end(rest)?..].strip_prefix(b"\",\"value\":")?;
    let (value, rest) = rest.split_at(text::value_length(rest).ok()??);
    let rest = rest.strip_prefix(b"}")?;
    Some((Event::Value { topic, value }, bytes.len() - rest.len()))
}

/// Everything but values, out of the loop's way.
#[cold]
fn parse_rare(bytes: &[u8]) -> Result<Option<(Event<'_>, usize)>, Malformed> {
    match bytes.first() {
        None => Ok(None),
        Some(b'{') => match text::value_length(bytes)? {
            None => Ok(None),
            Some(length) => Ok(Some((event(&bytes[..length])?, length))),
        },
        // A message may be an array: what stands around its objects is passed over.
        Some(byte) if matches!(byte, b'[' | b',' | b']') || text::is_space(*byte) => Ok(Some((Event::Other, 1))),
        Some(_) => Err(Malformed("a message of the text form is no JSON object")),
    }
}

fn event(object: &[u8]) -> Result<Event<'_>, Malformed> {
    let (mut op, mut id, mut code, mut keep_alive_ms) = ("", 0, 0, 0);
    let (mut topic, mut path, mut message, mut value) = (None, None, "", None);
    let mut members = text::Members::new(object)?;
    while let Some((name, member)) = members.next_member()? {
        match name {
            b"op" => op = text::string(member)?,
            b"id" => id = text::number(member)?,
            b"code" => code = text::number(member)?,
            b"keep_alive_ms" => keep_alive_ms = text::number(member)?,
            b"topic" => topic = Some(text::number(member)?),
            b"path" => path = Some(text::string(member)?),
            b"message" => message = text::string(member)?,
            b"value" => value = Some(member),
            _ => {}
        }
    }
    let absent = Malformed("an object of the text form lacks a member");
    Ok(match op {
        "value" => Event::Value { topic: topic.ok_or(absent)?, value: value.ok_or(absent)? },
        "subscribed" => Event::Topic { topic: topic.ok_or(absent)?, path: path.ok_or(absent)? },
        "welcome" => Event::Welcome { keep_alive_ms, in_flight_max: u16::MAX },
        "ok" => Event::Accepted { id },
        "error" => Event::Refused { id, code, message },
        "ping" => Event::Ping,
        "" => return Err(absent),
        _ => Event::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::Login;
    use tidewire::surface::value::ValueType;

    fn check_encode(request: Request<'_>, expected: &str) {
        let mut out = b"before".to_vec();
        encode(&request, &mut out);
        assert_eq!(std::str::from_utf8(&out[6..]).unwrap(), expected, "{request:?}");
        serde_json::from_str::<serde_json::Value>(expected).unwrap();
    }

    fn check_parse(bytes: &str, expected: Event<'_>) {
        let bytes = bytes.as_bytes();
        assert_eq!(parse(bytes), Ok(Some((expected, bytes.len()))));
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn requests_are_the_protocols_objects() {
        let (value_type, value) = (ValueType::Json, &br#"{"x":1}"#[..]);
        let anonymous = Request::Connect { id: 1, name: "ab", capabilities: 3, login: &Login::default() };
        check_encode(anonymous, r#"{"op":"connect","version":1,"client":"ab","id":1}"#);
        let login = Login { principal: "ann".to_owned(), password: "p\"w".to_owned() };
        let connect = Request::Connect { id: 1, name: "ab", capabilities: 3, login: &login };
        check_encode(connect, r#"{"op":"connect","version":1,"client":"ab","principal":"ann","password":"p\"w","id":1}"#);
        check_encode(Request::Subscribe { id: 300, selector: "?a//" }, r#"{"op":"subscribe","selector":"?a//","id":300}"#);
        check_encode(
            Request::Create { id: 2, path: "a/b", value_type, value },
            r#"{"op":"add_and_set","path":"a/b","type":"json","value":{"x":1},"id":2}"#,
        );
        check_encode(Request::Set { id: 3, path: "a/b", value_type, value }, r#"{"op":"set","path":"a/b","value":{"x":1},"id":3}"#);
        check_encode(Request::Set { id: 0, path: "a/b", value_type, value }, r#"{"op":"set","path":"a/b","value":{"x":1}}"#);
        check_encode(Request::Remove { id: 5, selector: "?a//" }, r#"{"op":"remove","selector":"?a//","id":5}"#);
        check_encode(Request::Ping, r#"{"op":"ping"}"#);
        check_encode(Request::Pong, r#"{"op":"pong"}"#);
        check_encode(Request::Close, r#"{"op":"close"}"#);
    }

    #[test]
    fn values_are_read_in_place_in_any_order_of_members() {
        let value = |value| Event::Value { topic: 300, value };
        check_parse(r#"{"op":"value","topic":300,"path":"a/b","value":{"x":"}]"}}"#, value(br#"{"x":"}]"}"#));
        check_parse(r#"{"op":"value","topic":300,"path":"a\"b","value":"\"}"}"#, value(br#""\"}""#));
        check_parse(r#"{"op":"value","topic":300,"path":"a","value":17}"#, value(b"17"));
        check_parse(r#"{"value":[1,2],"path":"a","later":{},"topic":300,"op":"value"}"#, value(b"[1,2]"));
        check_parse(r#"{ "op": "value", "topic": 300, "path": "a", "value": null }"#, value(b"null"));
    }

    #[test]
    fn other_objects_are_read_as_what_they_are() {
        check_parse(
            r#"{"op":"welcome","id":1,"version":1,"server":"t","session":"s","keep_alive_ms":30000}"#,
            Event::Welcome { keep_alive_ms: 30_000, in_flight_max: u16::MAX },
        );
        check_parse(r#"{"op":"subscribed","topic":1,"path":"a/b","type":"json","properties":{}}"#, Event::Topic { topic: 1, path: "a/b" });
        check_parse(r#"{"op":"ok","id":5,"created":true}"#, Event::Accepted { id: 5 });
        check_parse(
            r#"{"op":"error","id":2,"code":201,"name":"invalid_selector","message":"not \"a\"","position":1}"#,
            Event::Refused { id: 2, code: 201, message: r#"not \"a\""# },
        );
        check_parse(r#"{"op":"unsubscribed","topic":1,"path":"a/b","reason":"removed"}"#, Event::Other);
        check_parse(r#"{"op":"ping"}"#, Event::Ping);
        check_parse(r#"{"op":"pong"}"#, Event::Other);
    }

    #[test]
    fn an_arrays_objects_come_one_by_one() {
        let message = br#"[{"op":"ok","id":1}, {"op":"value","topic":1,"path":"a","value":1},{"op":"ok","id":2}]"#;
        let (mut at, mut found) = (0, Vec::new());
        while at < message.len() {
            let (event, length) = parse(&message[at..]).unwrap().unwrap();
            at += length;
            found.extend((event != Event::Other).then_some(event));
        }
        assert_eq!(found, [Event::Accepted { id: 1 }, Event::Value { topic: 1, value: b"1" }, Event::Accepted { id: 2 }]);
    }

    #[test]
    fn broken_objects_are_malformed() {
        for text in [
            "x",
            "17",
            "{}",
            r#"{"op":7}"#,
            r#"{"op":"ok","id":"5"}"#,
            r#"{"op":"ok","id":-5}"#,
            r#"{"op":"value","topic":1,"path":"a"}"#,
            r#"{"op":"value","topic":1,"path":"a","value":}"#,
            r#"{"op":"value","topic":1,"path":"a","value":{} x}"#,
            r#"{"op":"value","topic":1,"path":"a","value":{},}"#,
            r#"{"op":"value","topic":1 "path":"a","value":{}}"#,
            r#"{"op":"value","topic":99999999999999999999,"path":"a","value":{}}"#,
            r#"{"op":"subscribed","topic":1}"#,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"{\"op\":\"error\",\"message\":\"\xff\"}").is_err());
    }
}
