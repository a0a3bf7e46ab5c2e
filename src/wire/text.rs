//! The text form: one JSON object a message, the same requests and events as the binary form.

use super::native::{Outcome, Request, VERSION, Verb, Welcome};
use crate::base::TopicId;
use crate::value::{ValueType, scalar};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Write;

/// Why a message of the text form is not a request.
#[derive(Debug, PartialEq, Eq)]
pub enum TextError {
    /// Not a JSON object; the byte offset.
    Malformed { position: usize, message: String },
    /// A field is missing or has the wrong type.
    Field { id: u64, message: String },
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    op: Option<Cow<'a, str>>,
    #[serde(default)]
    id: u64,
    version: Option<u64>,
    #[serde(borrow, default)]
    client: Cow<'a, str>,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    selector: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    scope: Cow<'a, str>,
    #[serde(borrow, default)]
    after: Cow<'a, str>,
    #[serde(default)]
    first: u64,
    #[serde(default)]
    values: bool,
    #[serde(borrow)]
    properties: Option<std::collections::BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

/// A member that is there is a value, also where it is null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A member that does not fit its type still leaves the id readable.
#[derive(Deserialize)]
struct OnlyId {
    #[serde(default)]
    id: u64,
}

/// Reads a message. An update's value is still JSON text: `scalar::from_json` turns it into its type.
pub fn decode_request(message: &str) -> Result<Request<'_>, TextError> {
    let start = message.len() - message.trim_start().len();
    if !message[start..].starts_with('{') {
        return Err(TextError::Malformed { position: start, message: "expected a JSON object".to_owned() });
    }
    let members: Members<'_> = serde_json::from_str(message).map_err(|error| refuse(message, &error))?;
    let id = members.id;
    let missing = |name: &str| TextError::Field { id, message: format!("'{name}' is missing") };
    let op = members.op.ok_or_else(|| missing("op"))?;
    let update = |verb| -> Result<Request<'_>, TextError> {
        let kind = members.kind.as_deref().unwrap_or("json");
        let kind = ValueType::from_name(kind).map_or(0, |k| k as u8);
        let value = match (verb, members.value) {
            (Verb::Add, _) => "",
            (_, Some(value)) => value.get(),
            (_, None) => return Err(missing("value")),
        };
        let path = members.path.clone().ok_or_else(|| missing("path"))?;
        let properties = members.properties.as_ref().map_or(0, |p| p.len() as u64);
        Ok(Request::Update { id, verb, path, kind, value: value.as_bytes().into(), properties })
    };
    let selector = || members.selector.clone().ok_or_else(|| missing("selector"));
    Ok(match &*op {
        "connect" => Request::Connect { id, version: members.version.unwrap_or(VERSION), name: members.client, capabilities: 0 },
        "ping" => Request::Ping,
        "pong" => Request::Pong,
        "close" => Request::Close,
        "add" => update(Verb::Add)?,
        "set" => update(Verb::Set)?,
        "add_and_set" => update(Verb::AddAndSet)?,
        "remove" => Request::Remove { id, selector: selector()? },
        "fetch" => Request::Fetch { id, selector: selector()?, after: members.after, first: members.first, with_values: members.values },
        "subscribe" => Request::Subscribe { id, selector: selector()?, scope: members.scope },
        "unsubscribe" => Request::Unsubscribe { id, selector: selector()?, scope: members.scope },
        other => Request::Unknown { id, name: other.chars().take(40).collect() },
    })
}

fn refuse(message: &str, error: &serde_json::Error) -> TextError {
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default().to_owned();
    if error.is_data() {
        let id = serde_json::from_str::<OnlyId>(message).map_or(0, |only| only.id);
        return TextError::Field { id, message: what };
    }
    if error.is_eof() {
        return TextError::Malformed { position: message.len(), message: what };
    }
    let line_start: usize = message.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    TextError::Malformed { position: (line_start + error.column().saturating_sub(1)).min(message.len()), message: what }
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string to memory does not fail");
}

pub fn put_welcome(out: &mut Vec<u8>, id: u64, welcome: &Welcome) {
    let _ = write!(out, r#"{{"op":"welcome","id":{id},"version":{VERSION},"server":"#);
    string(out, &welcome.server);
    out.extend_from_slice(br#","session":"#);
    string(out, &welcome.session);
    for (_, name, value) in welcome.numbers() {
        let _ = write!(out, r#","{name}":{value}"#);
    }
    out.push(b'}');
}

pub fn put_ok(out: &mut Vec<u8>, id: u64, outcome: &Outcome) {
    let _ = write!(out, r#"{{"op":"ok","id":{id}"#);
    match outcome {
        Outcome::Done => {}
        Outcome::Created(created) => {
            let _ = write!(out, r#","created":{created}"#);
        }
        Outcome::Removed(count) => {
            let _ = write!(out, r#","removed":{count}"#);
        }
        Outcome::Page { has_more, entries, .. } => {
            let _ = write!(out, r#","has_more":{has_more},"topics":["#);
            for (at, entry) in entries.iter().enumerate() {
                out.extend_from_slice(if at == 0 { br#"{"path":"# } else { br#",{"path":"# });
                string(out, &entry.path);
                let _ = write!(out, r#","type":"{}""#, entry.kind.name());
                if let Some(value) = &entry.value {
                    out.extend_from_slice(br#","value":"#);
                    scalar::append_json(entry.kind, value, out);
                }
                out.push(b'}');
            }
            out.push(b']');
        }
    }
    out.push(b'}');
}

pub fn put_error(out: &mut Vec<u8>, id: u64, code: u16, name: &str, position: Option<usize>, message: &str) {
    let _ = write!(out, r#"{{"op":"error","id":{id},"code":{code},"name":"{name}","message":"#);
    string(out, message);
    if let Some(position) = position {
        let _ = write!(out, r#","position":{position}"#);
    }
    out.push(b'}');
}

pub fn put_subscribed(out: &mut Vec<u8>, topic: TopicId, path: &str, kind: ValueType) {
    let _ = write!(out, r#"{{"op":"subscribed","topic":{},"path":"#, topic.0);
    string(out, path);
    let _ = write!(out, r#","type":"{}","properties":{{}}}}"#, kind.name());
}

pub fn put_value(out: &mut Vec<u8>, topic: TopicId, path: &str, kind: ValueType, value: &[u8]) {
    let _ = write!(out, r#"{{"op":"value","topic":{},"path":"#, topic.0);
    string(out, path);
    out.extend_from_slice(br#","value":"#);
    scalar::append_json(kind, value, out);
    out.push(b'}');
}

pub fn put_unsubscribed(out: &mut Vec<u8>, topic: TopicId, path: &str, reason: &str) {
    let _ = write!(out, r#"{{"op":"unsubscribed","topic":{},"path":"#, topic.0);
    string(out, path);
    let _ = write!(out, r#","reason":"{reason}"}}"#);
}
