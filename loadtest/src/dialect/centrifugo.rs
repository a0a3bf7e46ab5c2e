//! Centrifugo's bidirectional protocol in JSON, version 2, as far as a load speaks it.
//!
//! A client sends commands, each with an id and a member that names the method; the server sends replies with that id, and
//! pushes without one. A message holds one object, or several, each on a line. The server pings with `{}` and waits for `{}`.
//!
//! A load's topics are channels, which nobody creates or removes: `Create` publishes the first value, which without a
//! history nobody receives, and `Remove` is nothing. Every publication is answered. Texts need no escapes, as in `json`.

use super::{Event, Malformed, Request, text, topic_number};
use crate::payload::push_digits;

/// What a report calls it; on the wire no subprotocol is offered, which means JSON.
pub const NAME: &str = "centrifugo json";
pub const PATH: &str = "/connection/websocket";
/// What a channel's name may hold beside letters and digits; other characters mean something to the server.
pub const CHANNEL_CHARACTERS: &str = "/-_.";
/// Leaves room for a topic's number within the 255 bytes that the server takes.
pub const CHANNEL_BYTES_MAX: usize = 200;

/// Appends one command as a JSON object.
pub fn encode(request: &Request<'_>, out: &mut Vec<u8>) {
    match *request {
        Request::Connect { id, name, .. } => command(id, "connect\":{\"name\":\"", &[name.as_bytes(), b"\"}}"], out),
        Request::Subscribe { id, selector } => command(id, "subscribe\":{\"channel\":\"", &[selector.as_bytes(), b"\"}}"], out),
        Request::Create { id, path, value, .. } | Request::Set { id, path, value, .. } => {
            command(id, "publish\":{\"channel\":\"", &[path.as_bytes(), b"\",\"data\":", value, b"}}"], out);
        }
        Request::Pong => out.extend_from_slice(b"{}"),
        // A channel goes with its last subscriber, the server pings, and no delivery is answered.
        Request::Remove { .. } | Request::Answer(_) | Request::Ping | Request::Close => {}
    }
}

fn command(id: u64, head: &str, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    push_digits(id, out);
    out.extend_from_slice(b",\"");
    out.extend_from_slice(head.as_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Reads the object at the start of `bytes` and its length, the line's end included. `Ok(None)`: not whole yet.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Option<(Event<'_>, usize)>, Malformed> {
    let found = match delivery(bytes).or_else(|| published(bytes)) {
        Some(found) => Some(found),
        None => parse_rare(bytes)?,
    };
    Ok(found.map(|(event, length)| (event, length + usize::from(bytes.get(length) == Some(&b'\n')))))
}

/// A publication as the server writes it: `{"push":{"channel":"a/7","pub":{"data":…}}}`, with more behind the data where it
/// tells who published.
#[inline]
fn delivery(bytes: &[u8]) -> Option<(Event<'_>, usize)> {
    let rest = bytes.strip_prefix(b"{\"push\":{\"channel\":\"")?;
    let (channel, rest) = rest.split_at(text::string_end(rest)?);
    let rest = rest.strip_prefix(b"\",\"pub\":{\"data\":")?;
    let (value, rest) = rest.split_at(text::value_length(rest).ok()??);
    let length = match rest {
        [b'}', b'}', b'}', ..] => 3,
        [b',', ..] => text::close(rest, 3)?,
        _ => return None,
    };
    Some((Event::Value { topic: topic_number(channel), value }, bytes.len() - rest.len() + length))
}

/// The reply to a publication: `{"id":7,"publish":{}}`.
#[inline]
fn published(bytes: &[u8]) -> Option<(Event<'_>, usize)> {
    let (id, rest) = text::take_number(bytes.strip_prefix(b"{\"id\":")?)?;
    let rest = rest.strip_prefix(b",\"publish\":{}}")?;
    Some((Event::Accepted { id }, bytes.len() - rest.len()))
}

/// Everything else, out of the loop's way.
#[cold]
fn parse_rare(bytes: &[u8]) -> Result<Option<(Event<'_>, usize)>, Malformed> {
    match bytes.first() {
        None => Ok(None),
        Some(b'{') => match text::value_length(bytes)? {
            None => Ok(None),
            Some(length) => Ok(Some((reply(&bytes[..length])?, length))),
        },
        Some(byte) if text::is_space(*byte) => Ok(Some((Event::Other, 1))),
        Some(_) => Err(Malformed("a reply is no JSON object")),
    }
}

fn reply(object: &[u8]) -> Result<Event<'_>, Malformed> {
    let (mut id, mut event) = (0, None);
    let mut is_empty = true;
    let mut members = text::Members::new(object)?;
    while let Some((name, member)) = members.next_member()? {
        is_empty = false;
        match name {
            b"id" => id = text::number(member)?,
            b"error" => {
                let (code, message) = code_and_text(member, b"message")?;
                event = Some(Event::Refused { id, code, message });
            }
            // The server pings by itself, so there is no time within which something has to be sent.
            b"connect" => event = Some(Event::Welcome { keep_alive_ms: 0, in_flight_max: u16::MAX }),
            b"push" => event = Some(push(member)?),
            _ => {}
        }
    }
    Ok(match event {
        _ if is_empty => Event::Ping,
        Some(Event::Refused { code, message, .. }) => Event::Refused { id, code, message },
        Some(event) => event,
        None if id > 0 => Event::Accepted { id },
        None => return Err(Malformed("a reply has neither id nor push")),
    })
}

/// A push; the end of a subscription ends the connection, as nothing else would tell.
fn push(object: &[u8]) -> Result<Event<'_>, Malformed> {
    let (mut channel, mut publication) = ("", None);
    let mut members = text::Members::new(object)?;
    while let Some((name, member)) = members.next_member()? {
        match name {
            b"channel" => channel = text::string(member)?,
            b"pub" => publication = Some(member),
            b"disconnect" | b"unsubscribe" => {
                let (code, message) = code_and_text(member, b"reason")?;
                return Ok(Event::Closing { code, message });
            }
            _ => {}
        }
    }
    let Some(publication) = publication else { return Ok(Event::Other) };
    let mut members = text::Members::new(publication)?;
    let mut data = None;
    while let Some((name, member)) = members.next_member()? {
        data = if name == b"data" { Some(member) } else { data };
    }
    let value = data.ok_or(Malformed("a publication has no data"))?;
    Ok(Event::Value { topic: topic_number(channel.as_bytes()), value })
}

fn code_and_text<'a>(object: &'a [u8], text_name: &[u8]) -> Result<(u64, &'a str), Malformed> {
    let (mut code, mut message) = (0, "");
    let mut members = text::Members::new(object)?;
    while let Some((name, member)) = members.next_member()? {
        match name {
            b"code" => code = text::number(member)?,
            _ if name == text_name => message = text::string(member)?,
            _ => {}
        }
    }
    Ok((code, message))
}

#[cfg(test)]
mod tests {
    use super::super::NO_TOPIC;
    use super::*;
    use crate::login::Login;
    use tidewire::surface::value::ValueType;

    fn check_encode(request: Request<'_>, expected: &str) {
        let mut out = b"before".to_vec();
        encode(&request, &mut out);
        assert_eq!(std::str::from_utf8(&out[6..]).unwrap(), expected, "{request:?}");
    }

    fn check_parse(bytes: &str, expected: Event<'_>) {
        let bytes = bytes.as_bytes();
        assert_eq!(parse(bytes), Ok(Some((expected, bytes.len()))));
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let line = [bytes, b"\n"].concat();
        assert_eq!(parse(&line), Ok(Some((expected, line.len()))));
    }

    #[test]
    fn requests_are_the_protocols_commands() {
        let (value_type, value) = (ValueType::Json, &br#"{"x":1}"#[..]);
        check_encode(
            Request::Connect { id: 1, name: "ab", capabilities: 0, login: &Login::default() },
            r#"{"id":1,"connect":{"name":"ab"}}"#,
        );
        check_encode(Request::Subscribe { id: 2, selector: "a/7" }, r#"{"id":2,"subscribe":{"channel":"a/7"}}"#);
        let publish = r#"{"id":3,"publish":{"channel":"a/7","data":{"x":1}}}"#;
        check_encode(Request::Set { id: 3, path: "a/7", value_type, value }, publish);
        check_encode(Request::Create { id: 3, path: "a/7", value_type, value }, publish);
        check_encode(Request::Pong, "{}");
        for nothing in [Request::Remove { id: 4, selector: "a/7" }, Request::Ping, Request::Close] {
            check_encode(nothing, "");
        }
    }

    #[test]
    fn publications_are_read_in_place() {
        let value = |topic, value| Event::Value { topic, value };
        check_parse(r#"{"push":{"channel":"load/7","pub":{"data":{"x":"}"}}}}"#, value(7, br#"{"x":"}"}"#));
        check_parse(r#"{"push":{"channel":"load/7","pub":{"data":"a","info":{"client":"}","user":""},"offset":3}}}"#, value(7, b"\"a\""));
        check_parse(r#"{"push":{"pub":{"offset":3,"data":[1]},"channel":"load/7"}}"#, value(7, b"[1]"));
        check_parse(r#"{"push":{"channel":"news","pub":{"data":1}}}"#, value(NO_TOPIC, b"1"));
    }

    #[test]
    fn replies_and_pushes_are_read_as_what_they_are() {
        check_parse(
            r#"{"id":1,"connect":{"client":"c","version":"6","ping":25,"pong":true}}"#,
            Event::Welcome { keep_alive_ms: 0, in_flight_max: u16::MAX },
        );
        check_parse(r#"{"id":2,"subscribe":{}}"#, Event::Accepted { id: 2 });
        check_parse(r#"{"id":3,"publish":{}}"#, Event::Accepted { id: 3 });
        for refused in [
            r#"{"id":4,"error":{"code":103,"message":"permission denied"}}"#,
            r#"{"error":{"message":"permission denied","code":103},"id":4}"#,
        ] {
            check_parse(refused, Event::Refused { id: 4, code: 103, message: "permission denied" });
        }
        check_parse("{}", Event::Ping);
        check_parse(r#"{"push":{"channel":"a/7","join":{"info":{}}}}"#, Event::Other);
        check_parse(
            r#"{"push":{"channel":"a/7","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#,
            Event::Closing { code: 2500, message: "insufficient state" },
        );
        check_parse(r#"{"push":{"disconnect":{"code":3000,"reason":"x"}}}"#, Event::Closing { code: 3000, message: "x" });
    }

    #[test]
    fn lines_of_one_message_come_one_by_one() {
        let message = b"{\"id\":1,\"publish\":{}}\n{}\n{\"push\":{\"channel\":\"a/1\",\"pub\":{\"data\":1}}}\n\n{\"id\":2,\"publish\":{}}";
        let (mut at, mut found) = (0, Vec::new());
        while at < message.len() {
            let (event, length) = parse(&message[at..]).unwrap().unwrap();
            at += length;
            found.extend((event != Event::Other).then_some(event));
        }
        let value = Event::Value { topic: 1, value: b"1" };
        assert_eq!(found, [Event::Accepted { id: 1 }, Event::Ping, value, Event::Accepted { id: 2 }]);
    }

    #[test]
    fn broken_replies_are_malformed() {
        for text in [
            "x",
            "[]",
            r#"{"publish":{}}"#,
            r#"{"id":"1","publish":{}}"#,
            r#"{"id":1 "publish":{}}"#,
            r#"{"push":7}"#,
            r#"{"push":{"channel":"a/7","pub":{}}}"#,
            r#"{"push":{"channel":"a/7","pub":{"data":}}}"#,
            r#"{"push":{"channel":"a/7","pub":{"data":1 2}}}"#,
            r#"{"id":4,"error":{"code":"103"}}"#,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
