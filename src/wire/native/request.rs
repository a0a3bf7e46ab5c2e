//! What a client asks for, in either form.

use super::{Frame, op, put_bytes_field, put_frame, put_number_field, put_properties, read_properties};
use crate::wire::varint::{self, Malformed, Reader};
use std::borrow::Cow;

/// In an update's `kind`: the value is null, and its bytes are empty.
pub const NULL_BIT: u8 = 0x80;

/// Keys and values of topic properties, as they came.
pub type Properties<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// What a client asks for. Values are in their wire form but for the text form's, which are JSON still.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    Connect {
        id: u64,
        version: u64,
        name: Cow<'a, str>,
        capabilities: u64,
    },
    Ping,
    Pong,
    Close,
    Update {
        id: u64,
        path: Cow<'a, str>,
        update: Update<'a>,
    },
    Remove {
        id: u64,
        selector: Cow<'a, str>,
    },
    Fetch {
        id: u64,
        fetch: Box<Fetch<'a>>,
    },
    Subscribe {
        id: u64,
        selector: Cow<'a, str>,
        scope: Cow<'a, str>,
    },
    Unsubscribe {
        id: u64,
        selector: Cow<'a, str>,
        scope: Cow<'a, str>,
    },
    UnsubscribeAllScopes {
        id: u64,
        selector: Cow<'a, str>,
    },
    Listen {
        id: u64,
        listener: u64,
        kind: u8,
        selector: Cow<'a, str>,
    },
    Unlisten {
        id: u64,
        listener: u64,
        selector: Cow<'a, str>,
    },
    StreamOpen {
        id: u64,
        stream: u64,
        path: Cow<'a, str>,
        update: Update<'a>,
    },
    StreamSet {
        id: u64,
        stream: u64,
        value: Cow<'a, [u8]>,
    },
    StreamDelta {
        id: u64,
        stream: u64,
        form: u8,
        delta: Cow<'a, [u8]>,
    },
    StreamClose {
        id: u64,
        stream: u64,
    },
    Append {
        id: u64,
        path: Cow<'a, str>,
        kind: u8,
        append: Append,
        value: Cow<'a, [u8]>,
    },
    Query {
        id: u64,
        path: Cow<'a, str>,
        query: Query,
    },
    CreateView {
        id: u64,
        name: Cow<'a, str>,
        definition: Cow<'a, str>,
    },
    RemoveView {
        id: u64,
        name: Cow<'a, str>,
    },
    /// Those created later than the view of the place `after`; of 0 from the first.
    ListViews {
        id: u64,
        after: u64,
    },
    GetView {
        id: u64,
        name: Cow<'a, str>,
    },
    Unknown {
        id: u64,
        name: String,
    },
    /// A body that does not have its operation's form; the id is 0 where it cannot be told.
    Broken {
        id: u64,
    },
}

/// What happens to one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Update<'a> {
    pub verb: Verb,
    /// The number of the value's type, with `NULL_BIT` for null; of the topic's type where the topic may be added. 0 where it is not said.
    pub kind: u8,
    /// Of `Verb::Patch` the patch; empty of `Verb::Add`.
    pub value: Cow<'a, [u8]>,
    pub properties: Properties<'a>,
    /// JSON text; empty for none.
    pub constraint: Cow<'a, [u8]>,
}

/// How an update treats a topic that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Add,
    Set,
    AddAndSet,
    Patch,
    /// Changes nothing: the topic is there, of the type, and the constraint holds.
    Check,
}

/// A new event of a time series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// `None`: the server's clock.
    Original {
        timestamp_ms: Option<u64>,
    },
    Edit {
        original: u64,
    },
}

/// Which topics a fetch wants, and what of them. Empty paths are not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fetch<'a> {
    pub selector: Cow<'a, str>,
    pub from: Cow<'a, str>,
    pub after: Cow<'a, str>,
    pub to: Cow<'a, str>,
    pub before: Cow<'a, str>,
    pub first: u64,
    pub last: u64,
    /// Bit n for topic type n; 0 for all.
    pub types: u64,
    pub with_values: bool,
    pub with_properties: bool,
    pub with_sizes: bool,
    pub depth: u64,
    pub depth_limit: u64,
    pub bytes_max: u64,
}

/// A range query as it came; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub kind: u8,
    pub range: QueryRange,
    pub edit_range: Option<QueryRange>,
    pub limit: u64,
}

/// Anchor and span by the numbers of the wire, each with its figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryRange {
    pub anchor: (u8, u64),
    pub span: (u8, u64),
}

impl Request<'_> {
    /// 0 where it has none.
    pub fn id(&self) -> u64 {
        match self {
            Self::Connect { id, .. }
            | Self::Update { id, .. }
            | Self::Remove { id, .. }
            | Self::Fetch { id, .. }
            | Self::Subscribe { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::UnsubscribeAllScopes { id, .. }
            | Self::Listen { id, .. }
            | Self::Unlisten { id, .. }
            | Self::StreamOpen { id, .. }
            | Self::StreamSet { id, .. }
            | Self::StreamDelta { id, .. }
            | Self::StreamClose { id, .. }
            | Self::Append { id, .. }
            | Self::Query { id, .. }
            | Self::CreateView { id, .. }
            | Self::RemoveView { id, .. }
            | Self::ListViews { id, .. }
            | Self::GetView { id, .. }
            | Self::Unknown { id, .. }
            | Self::Broken { id } => *id,
            Self::Ping | Self::Pong | Self::Close => 0,
        }
    }
}

impl<'a> Update<'a> {
    pub fn new(verb: Verb, kind: u8, value: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { verb, kind, value: value.into(), properties: Vec::new(), constraint: Cow::Borrowed(&[]) }
    }
}

/// Reads what a client's frame asks for.
pub fn decode_request(frame: Frame<'_>) -> Request<'_> {
    match frame.op {
        op::PING => return Request::Ping,
        op::PONG => return Request::Pong,
        op::CLOSE => return Request::Close,
        _ => {}
    }
    let mut reader = Reader(frame.body);
    let Ok(id) = reader.varint() else { return Request::Broken { id: 0 } };
    decode_body(frame.op, id, &mut reader).unwrap_or(Request::Broken { id })
}

fn decode_body<'a>(op: u8, id: u64, reader: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    let request = match op {
        op::CONNECT => decode_connect(id, reader)?,
        op::ADD => decode_update(id, Verb::Add, reader)?,
        op::SET => decode_update(id, Verb::Set, reader)?,
        op::ADD_AND_SET => decode_update(id, Verb::AddAndSet, reader)?,
        op::UPDATE => Request::Update { id, path: reader.string()?.into(), update: decode_update_fields(reader)? },
        op::REMOVE => Request::Remove { id, selector: reader.string()?.into() },
        op::FETCH => Request::Fetch { id, fetch: Box::new(decode_fetch(reader)?) },
        op::SUBSCRIBE => Request::Subscribe { id, selector: reader.string()?.into(), scope: reader.string()?.into() },
        op::UNSUBSCRIBE => Request::Unsubscribe { id, selector: reader.string()?.into(), scope: reader.string()?.into() },
        op::UNSUBSCRIBE_ALL_SCOPES => Request::UnsubscribeAllScopes { id, selector: reader.string()?.into() },
        op::LISTEN => Request::Listen { id, listener: reader.varint()?, kind: reader.byte()?, selector: reader.string()?.into() },
        op::UNLISTEN => Request::Unlisten { id, listener: reader.varint()?, selector: reader.string()?.into() },
        op::STREAM_OPEN => {
            let (stream, path) = (reader.varint()?, reader.string()?.into());
            Request::StreamOpen { id, stream, path, update: decode_update_fields(reader)? }
        }
        op::STREAM_SET => Request::StreamSet { id, stream: reader.varint()?, value: reader.rest().into() },
        op::STREAM_DELTA => Request::StreamDelta { id, stream: reader.varint()?, form: reader.byte()?, delta: reader.rest().into() },
        op::STREAM_CLOSE => Request::StreamClose { id, stream: reader.varint()? },
        op::APPEND => {
            let (path, kind) = (reader.string()?.into(), reader.byte()?);
            let append = Append::Original { timestamp_ms: reader.varint()?.checked_sub(1) };
            Request::Append { id, path, kind, append, value: reader.rest().into() }
        }
        op::EDIT => {
            let (path, kind) = (reader.string()?.into(), reader.byte()?);
            let append = Append::Edit { original: reader.varint()? };
            Request::Append { id, path, kind, append, value: reader.rest().into() }
        }
        op::QUERY => Request::Query { id, path: reader.string()?.into(), query: decode_query(reader)? },
        op::CREATE_VIEW => Request::CreateView { id, name: reader.string()?.into(), definition: reader.string()?.into() },
        op::REMOVE_VIEW => Request::RemoveView { id, name: reader.string()?.into() },
        op::LIST_VIEWS => Request::ListViews { id, after: reader.varint()? },
        op::GET_VIEW => Request::GetView { id, name: reader.string()?.into() },
        _ => return Ok(Request::Unknown { id, name: format!("0x{op:02x}") }),
    };
    if reader.is_empty() { Ok(request) } else { Err(Malformed) }
}

/// Reads tagged fields to the end of the frame.
fn decode_fields<'a>(reader: &mut Reader<'a>, mut take: impl FnMut(u64, &'a [u8]) -> Result<(), Malformed>) -> Result<(), Malformed> {
    while !reader.is_empty() {
        let tag = reader.varint()?;
        take(tag, reader.bytes()?)?;
    }
    Ok(())
}

fn number(field: &[u8]) -> Result<u64, Malformed> {
    let mut reader = Reader(field);
    let number = reader.varint()?;
    if reader.is_empty() { Ok(number) } else { Err(Malformed) }
}

fn text(field: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(field).map_err(|_| Malformed)
}

fn decode_connect<'a>(id: u64, reader: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    let version = reader.varint()?;
    let (mut name, mut capabilities) = ("", 0);
    decode_fields(reader, |tag, field| {
        match tag {
            1 => name = text(field)?,
            2 => capabilities = Reader(field).varint()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Request::Connect { id, version, name: name.into(), capabilities })
}

fn owned_properties<'a>(properties: Vec<(&'a str, &'a str)>) -> Properties<'a> {
    properties.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

fn decode_update<'a>(id: u64, verb: Verb, reader: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    let path = reader.string()?.into();
    let kind = reader.byte()?;
    let properties = if verb == Verb::Set { Vec::new() } else { owned_properties(read_properties(reader)?) };
    let value = if verb == Verb::Add { &[] } else { reader.rest() };
    Ok(Request::Update { id, path, update: Update { properties, ..Update::new(verb, kind, value) } })
}

fn decode_update_fields<'a>(reader: &mut Reader<'a>) -> Result<Update<'a>, Malformed> {
    let (mut kind, mut value, mut patch, mut constraint, mut properties) = (0, None, None, &[][..], None);
    decode_fields(reader, |tag, field| {
        match tag {
            1 => kind = *field.first().filter(|_| field.len() == 1).ok_or(Malformed)?,
            2 => value = Some(field),
            3 => constraint = field,
            4 => {
                let mut reader = Reader(field);
                properties = Some(owned_properties(read_properties(&mut reader)?));
                if !reader.is_empty() {
                    return Err(Malformed);
                }
            }
            5 => patch = Some(field),
            _ => {}
        }
        Ok(())
    })?;
    let (verb, value) = match (patch, value, &properties) {
        (Some(patch), None, None) => (Verb::Patch, patch),
        (Some(_), ..) => return Err(Malformed),
        (None, Some(value), Some(_)) => (Verb::AddAndSet, value),
        (None, Some(value), None) => (Verb::Set, value),
        (None, None, Some(_)) => (Verb::Add, &[][..]),
        (None, None, None) => (Verb::Check, &[][..]),
    };
    Ok(Update { constraint: constraint.into(), properties: properties.unwrap_or_default(), ..Update::new(verb, kind, value) })
}

fn decode_fetch<'a>(reader: &mut Reader<'a>) -> Result<Fetch<'a>, Malformed> {
    let mut fetch =
        Fetch { selector: reader.string()?.into(), after: reader.string()?.into(), first: reader.varint()?, ..Fetch::default() };
    let flags = reader.varint()?;
    (fetch.with_values, fetch.with_properties, fetch.with_sizes) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
    decode_fields(reader, |tag, field| {
        match tag {
            1 => fetch.from = text(field)?.into(),
            2 => fetch.to = text(field)?.into(),
            3 => fetch.before = text(field)?.into(),
            4 => fetch.last = number(field)?,
            5 => fetch.types = number(field)?,
            6 => fetch.depth = number(field)?,
            7 => fetch.depth_limit = number(field)?,
            8 => fetch.bytes_max = number(field)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(fetch)
}

fn decode_query(reader: &mut Reader<'_>) -> Result<Query, Malformed> {
    let mut query = Query::default();
    decode_fields(reader, |tag, field| {
        match tag {
            1 => query.kind = u8::try_from(number(field)?).map_err(|_| Malformed)?,
            2 => query.range = decode_range(field)?,
            3 => query.edit_range = Some(decode_range(field)?),
            4 => query.limit = number(field)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(query)
}

fn decode_range(field: &[u8]) -> Result<QueryRange, Malformed> {
    let mut reader = Reader(field);
    let range = QueryRange { anchor: (reader.byte()?, reader.varint()?), span: (reader.byte()?, reader.varint()?) };
    if reader.is_empty() { Ok(range) } else { Err(Malformed) }
}

/// Appends a client's request. Text values and unknown requests have no binary form.
pub fn put_request(out: &mut Vec<u8>, request: &Request<'_>) {
    match request {
        Request::Connect { id, version, name, capabilities } => put_frame(out, op::CONNECT, |out| {
            varint::put(out, *id);
            varint::put(out, *version);
            if !name.is_empty() {
                put_bytes_field(out, 1, name.as_bytes());
            }
            if *capabilities != 0 {
                put_number_field(out, 2, *capabilities);
            }
        }),
        Request::Ping => put_frame(out, op::PING, |_| {}),
        Request::Pong => put_frame(out, op::PONG, |_| {}),
        Request::Close => put_frame(out, op::CLOSE, |_| {}),
        Request::Update { id, path, update } => put_update(out, *id, path, update),
        Request::Remove { id, selector } => put_texts(out, op::REMOVE, &[*id], &[selector]),
        Request::Fetch { id, fetch } => put_fetch(out, *id, fetch),
        Request::Subscribe { id, selector, scope } => put_texts(out, op::SUBSCRIBE, &[*id], &[selector, scope]),
        Request::Unsubscribe { id, selector, scope } => put_texts(out, op::UNSUBSCRIBE, &[*id], &[selector, scope]),
        Request::UnsubscribeAllScopes { id, selector } => put_texts(out, op::UNSUBSCRIBE_ALL_SCOPES, &[*id], &[selector]),
        Request::Listen { id, listener, kind, selector } => put_frame(out, op::LISTEN, |out| {
            varint::put(out, *id);
            varint::put(out, *listener);
            out.push(*kind);
            varint::put_bytes(out, selector.as_bytes());
        }),
        Request::Unlisten { id, listener, selector } => put_texts(out, op::UNLISTEN, &[*id, *listener], &[selector]),
        Request::StreamOpen { id, stream, path, update } => put_frame(out, op::STREAM_OPEN, |out| {
            varint::put(out, *id);
            varint::put(out, *stream);
            varint::put_bytes(out, path.as_bytes());
            put_update_fields(out, update);
        }),
        Request::StreamSet { id, stream, value } => put_frame(out, op::STREAM_SET, |out| {
            varint::put(out, *id);
            varint::put(out, *stream);
            out.extend_from_slice(value);
        }),
        Request::StreamDelta { id, stream, form, delta } => put_frame(out, op::STREAM_DELTA, |out| {
            varint::put(out, *id);
            varint::put(out, *stream);
            out.push(*form);
            out.extend_from_slice(delta);
        }),
        Request::StreamClose { id, stream } => put_texts(out, op::STREAM_CLOSE, &[*id, *stream], &[]),
        Request::Append { id, path, kind, append, value } => put_append(out, *id, path, *kind, *append, value),
        Request::Query { id, path, query } => put_query(out, *id, path, query),
        Request::CreateView { id, name, definition } => put_texts(out, op::CREATE_VIEW, &[*id], &[name, definition]),
        Request::RemoveView { id, name } => put_texts(out, op::REMOVE_VIEW, &[*id], &[name]),
        Request::ListViews { id, after } => put_texts(out, op::LIST_VIEWS, &[*id, *after], &[]),
        Request::GetView { id, name } => put_texts(out, op::GET_VIEW, &[*id], &[name]),
        Request::Unknown { .. } | Request::Broken { .. } => {}
    }
}

/// A frame of numbers, then strings.
fn put_texts(out: &mut Vec<u8>, op: u8, numbers: &[u64], texts: &[&Cow<'_, str>]) {
    put_frame(out, op, |out| {
        numbers.iter().for_each(|number| varint::put(out, *number));
        texts.iter().for_each(|text| varint::put_bytes(out, text.as_bytes()));
    });
}

fn borrowed<'a>(properties: &'a Properties<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    properties.iter().map(|(key, value)| (&**key, &**value))
}

fn put_update(out: &mut Vec<u8>, id: u64, path: &str, update: &Update<'_>) {
    let op = match update.verb {
        Verb::Add => op::ADD,
        Verb::Set => op::SET,
        Verb::AddAndSet => op::ADD_AND_SET,
        Verb::Patch | Verb::Check => op::UPDATE,
    };
    if !update.constraint.is_empty() || op == op::UPDATE {
        return put_frame(out, op::UPDATE, |out| {
            varint::put(out, id);
            varint::put_bytes(out, path.as_bytes());
            put_update_fields(out, update);
        });
    }
    put_frame(out, op, |out| {
        varint::put(out, id);
        varint::put_bytes(out, path.as_bytes());
        out.push(update.kind);
        if update.verb != Verb::Set {
            put_properties(out, borrowed(&update.properties));
        }
        out.extend_from_slice(&update.value);
    });
}

fn put_update_fields(out: &mut Vec<u8>, update: &Update<'_>) {
    if update.kind != 0 {
        put_bytes_field(out, 1, &[update.kind]);
    }
    if matches!(update.verb, Verb::Set | Verb::AddAndSet) {
        put_bytes_field(out, 2, &update.value);
    }
    if !update.constraint.is_empty() {
        put_bytes_field(out, 3, &update.constraint);
    }
    if matches!(update.verb, Verb::Add | Verb::AddAndSet) {
        let mut properties = Vec::new();
        put_properties(&mut properties, borrowed(&update.properties));
        put_bytes_field(out, 4, &properties);
    }
    if update.verb == Verb::Patch {
        put_bytes_field(out, 5, &update.value);
    }
}

fn put_fetch(out: &mut Vec<u8>, id: u64, fetch: &Fetch<'_>) {
    put_frame(out, op::FETCH, |out| {
        varint::put(out, id);
        varint::put_bytes(out, fetch.selector.as_bytes());
        varint::put_bytes(out, fetch.after.as_bytes());
        varint::put(out, fetch.first);
        varint::put(out, u64::from(fetch.with_values) | u64::from(fetch.with_properties) << 1 | u64::from(fetch.with_sizes) << 2);
        for (tag, path) in [(1, &fetch.from), (2, &fetch.to), (3, &fetch.before)] {
            if !path.is_empty() {
                put_bytes_field(out, tag, path.as_bytes());
            }
        }
        let numbers = [(4, fetch.last), (5, fetch.types), (6, fetch.depth), (7, fetch.depth_limit), (8, fetch.bytes_max)];
        for (tag, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
            put_number_field(out, tag, number);
        }
    });
}

fn put_append(out: &mut Vec<u8>, id: u64, path: &str, kind: u8, append: Append, value: &[u8]) {
    let (op, number) = match append {
        Append::Original { timestamp_ms } => (op::APPEND, timestamp_ms.map_or(0, |timestamp_ms| timestamp_ms.saturating_add(1))),
        Append::Edit { original } => (op::EDIT, original),
    };
    put_frame(out, op, |out| {
        varint::put(out, id);
        varint::put_bytes(out, path.as_bytes());
        out.push(kind);
        varint::put(out, number);
        out.extend_from_slice(value);
    });
}

fn put_query(out: &mut Vec<u8>, id: u64, path: &str, query: &Query) {
    let put_range = |out: &mut Vec<u8>, tag: u64, range: &QueryRange| {
        let mut field = vec![range.anchor.0];
        varint::put(&mut field, range.anchor.1);
        field.push(range.span.0);
        varint::put(&mut field, range.span.1);
        put_bytes_field(out, tag, &field);
    };
    put_frame(out, op::QUERY, |out| {
        varint::put(out, id);
        varint::put_bytes(out, path.as_bytes());
        if query.kind != 0 {
            put_number_field(out, 1, u64::from(query.kind));
        }
        if query.range != QueryRange::default() {
            put_range(out, 2, &query.range);
        }
        if let Some(range) = &query.edit_range {
            put_range(out, 3, range);
        }
        if query.limit != 0 {
            put_number_field(out, 4, query.limit);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::native::next_frame;

    /// The request is written as the bytes, and read from them.
    fn check(request: &Request<'_>, bytes: &[u8]) {
        let mut written = Vec::new();
        put_request(&mut written, request);
        assert_eq!(written, bytes);
        assert_eq!(&decode_request(next_frame(&mut &*bytes).unwrap().unwrap()), request);
    }

    #[test]
    fn requests_about_views_come_back() {
        let (name, definition) = ("n".into(), "map a to b".into());
        check(&Request::CreateView { id: 1, name, definition }, b"\x40\x0e\x01\x01n\x0amap a to b");
        check(&Request::RemoveView { id: 2, name: "n".into() }, b"\x41\x03\x02\x01n");
        check(&Request::ListViews { id: 3, after: 0 }, b"\x42\x02\x03\x00");
        check(&Request::ListViews { id: 3, after: 300 }, b"\x42\x03\x03\xac\x02");
        check(&Request::GetView { id: 4, name: "n\u{e9}".into() }, b"\x43\x05\x04\x03n\xc3\xa9");
    }

    #[test]
    fn a_broken_request_about_views_keeps_its_id() {
        for bytes in [&b"\x40\x03\x07\x01n"[..], b"\x41\x04\x07\x01nx", b"\x41\x03\x07\x01\xff", b"\x42\x01\x07", b"\x43\x02\x07\x05"] {
            let frame = next_frame(&mut &*bytes).unwrap().unwrap();
            assert_eq!(decode_request(frame), Request::Broken { id: 7 }, "{bytes:?}");
        }
    }
}
