//! How the binary form reads and writes a request: a frame, each member at its place.

use super::op;
use crate::wire::request::{
    About, Append, Ask, Credentials, Fetch, OPERATIONS, Properties, Query, QueryRange, Request, Source, Update, Verb,
};
use crate::wire::varint::{
    self, Frame, Malformed, Reader, fill_length, put_bytes_field, put_number_field, put_properties, read_properties,
};
use std::borrow::Cow;

/// Reads what a client's frame asks for.
pub fn decode_request(frame: Frame<'_>) -> Request<'_> {
    let mut body = Body { op: frame.op, reader: Reader(frame.body), has_fields: false };
    let is_bare = BARE[usize::from(frame.op)];
    let id = match body.reader.varint() {
        _ if is_bare => 0,
        Ok(id) => id,
        Err(Malformed) => return Request { id: 0, ask: Ask::Broken },
    };
    let ask = match Ask::read(frame.op, &mut body) {
        Ok(Some(ask)) if is_bare || body.is_at_end() => ask,
        Ok(None) => Ask::Unknown { name: format!("0x{:02x}", frame.op) },
        Ok(Some(_)) | Err(Malformed) => Ask::Broken,
    };
    Request { id, ask }
}

/// The operations without id and members.
const BARE: [bool; 256] = {
    let mut bare = [false; 256];
    let mut at = 0;
    while at < OPERATIONS.len() {
        bare[OPERATIONS[at].op as usize] = OPERATIONS[at].is_bare;
        at += 1;
    }
    bare
};

/// A frame's body that is being read.
struct Body<'a> {
    op: u8,
    reader: Reader<'a>,
    /// The rest is tagged fields.
    has_fields: bool,
}

impl<'a> Body<'a> {
    fn is_at_end(&self) -> bool {
        self.has_fields || self.reader.is_empty()
    }

    /// The last of the fields with the tag. All that follow in the frame are fields, in any order.
    fn tagged<T>(&mut self, tag: u64, read: impl Fn(&'a [u8]) -> Result<T, Malformed>) -> Result<Option<T>, Malformed> {
        self.has_fields = true;
        let (mut fields, mut found) = (self.reader, None);
        decode_fields(&mut fields, |of, field| {
            if of == tag {
                found = Some(read(field)?);
            }
            Ok(())
        })?;
        Ok(found)
    }
}

impl<'a> Source<'a> for Body<'a> {
    type Error = Malformed;

    fn number(&mut self, _: &'static str) -> Result<u64, Malformed> {
        self.reader.varint()
    }

    fn byte(&mut self, _: &'static str) -> Result<u8, Malformed> {
        self.reader.byte()
    }

    fn text(&mut self, _: &'static str) -> Result<Cow<'a, str>, Malformed> {
        self.reader.string().map(Cow::Borrowed)
    }

    fn optional_number(&mut self, name: &'static str) -> Result<u64, Malformed> {
        self.number(name)
    }

    fn flag(&mut self, _: &'static str) -> Result<bool, Malformed> {
        Ok(self.reader.byte()? != 0)
    }

    fn properties(&mut self, _: &'static str) -> Result<Properties<'a>, Malformed> {
        Ok(owned_properties(read_properties(&mut self.reader)?))
    }

    fn mappings(&mut self, name: &'static str) -> Result<Properties<'a>, Malformed> {
        self.properties(name)
    }

    fn tagged_properties(&mut self, tag: u64, _: &'static str) -> Result<Properties<'a>, Malformed> {
        let read = |field| {
            let mut reader = Reader(field);
            let properties = owned_properties(read_properties(&mut reader)?);
            if reader.is_empty() { Ok(properties) } else { Err(Malformed) }
        };
        Ok(self.tagged(tag, read)?.unwrap_or_default())
    }

    fn texts(&mut self, _: &'static str) -> Result<Vec<Cow<'a, str>>, Malformed> {
        let count = self.reader.varint()?;
        // No more are there than bytes.
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.reader.string()?.into());
        }
        Ok(texts)
    }

    fn optional_text(&mut self, name: &'static str) -> Result<Cow<'a, str>, Malformed> {
        self.text(name)
    }

    fn tagged_number(&mut self, tag: u64, _: &'static str) -> Result<u64, Malformed> {
        Ok(self.tagged(tag, number)?.unwrap_or_default())
    }

    fn tagged_flag(&mut self, tag: u64, name: &'static str) -> Result<bool, Malformed> {
        Ok(self.tagged_number(tag, name)? != 0)
    }

    fn tagged_text(&mut self, tag: u64, _: &'static str) -> Result<Cow<'a, str>, Malformed> {
        Ok(self.tagged(tag, text)?.unwrap_or_default().into())
    }

    fn rest(&mut self, _: &'static str) -> Result<Cow<'a, [u8]>, Malformed> {
        Ok(self.reader.rest().into())
    }

    fn version(&mut self) -> Result<u64, Malformed> {
        self.reader.varint()
    }

    fn capabilities(&mut self, tag: u64) -> Result<u64, Malformed> {
        Ok(self.tagged(tag, |field| Reader(field).varint())?.unwrap_or_default())
    }

    fn update(&mut self) -> Result<Update<'a>, Malformed> {
        let verb = match self.op {
            op::ADD => Verb::Add,
            op::SET => Verb::Set,
            op::ADD_AND_SET => Verb::AddAndSet,
            _ => return decode_update_fields(&mut self.reader),
        };
        let kind = self.reader.byte()?;
        let properties = if verb == Verb::Set { Vec::new() } else { owned_properties(read_properties(&mut self.reader)?) };
        let value = if verb == Verb::Add { &[] } else { self.reader.rest() };
        Ok(Update { properties, ..Update::new(verb, kind, value) })
    }

    fn about(&mut self) -> Result<Box<About<'a>>, Malformed> {
        let environment = self.tagged_text(9, "environment")?;
        let (principal, password) = (self.tagged_text(10, "principal")?, self.tagged_text(11, "password")?);
        let credentials = Credentials { principal, password, bearer: self.tagged_text(12, "bearer")? };
        Ok(Box::new(About { environment, credentials }))
    }

    fn credentials(&mut self) -> Result<Box<Credentials<'a>>, Malformed> {
        let (principal, password) = (self.text("principal")?, self.text("password")?);
        Ok(Box::new(Credentials { principal, password, bearer: self.text("bearer")? }))
    }

    fn fetch(&mut self) -> Result<Box<Fetch<'a>>, Malformed> {
        decode_fetch(&mut self.reader).map(Box::new)
    }

    fn listener_kind(&mut self) -> Result<u8, Malformed> {
        self.reader.byte()
    }

    fn new_stream(&mut self) -> Result<u64, Malformed> {
        self.reader.varint()
    }

    fn value_kind(&mut self) -> Result<u8, Malformed> {
        self.reader.byte()
    }

    fn typed_value(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        Ok(self.reader.rest().into())
    }

    fn append(&mut self) -> Result<Append, Malformed> {
        let number = self.reader.varint()?;
        Ok(match self.op {
            op::EDIT => Append::Edit { original: number },
            _ => Append::Original { timestamp_ms: number.checked_sub(1) },
        })
    }

    fn query(&mut self) -> Result<Query, Malformed> {
        decode_query(&mut self.reader)
    }

    fn place_after(&mut self) -> Result<u64, Malformed> {
        self.reader.varint()
    }

    fn lock_scope(&mut self) -> Result<u8, Malformed> {
        self.reader.byte()
    }
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

fn owned_properties<'a>(properties: Vec<(&'a str, &'a str)>) -> Properties<'a> {
    properties.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
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
    let Some(operation) = request.ask.operation() else { return };
    let op = match &request.ask {
        Ask::Update { update, .. } => update_op(update),
        Ask::Append { append: Append::Edit { .. }, .. } => op::EDIT,
        _ => operation.op,
    };
    out.push(op);
    let length_at = out.len();
    out.push(0);
    if !operation.is_bare {
        varint::put(out, request.id);
    }
    request.ask.write(&mut Writer { op, out });
    fill_length(out, length_at);
}

/// The shortest operation that says it.
fn update_op(update: &Update<'_>) -> u8 {
    match update.verb {
        _ if !update.constraint.is_empty() => op::UPDATE,
        Verb::Add => op::ADD,
        Verb::Set => op::SET,
        Verb::AddAndSet => op::ADD_AND_SET,
        Verb::Patch | Verb::Check => op::UPDATE,
    }
}

/// A request's frame that is being written, member by member, as `Source` reads them.
pub struct Writer<'o> {
    op: u8,
    out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    pub fn number(&mut self, _: &str, number: &u64) {
        varint::put(self.out, *number);
    }

    pub fn byte(&mut self, _: &str, byte: &u8) {
        self.out.push(*byte);
    }

    pub fn text(&mut self, _: &str, text: &str) {
        varint::put_bytes(self.out, text.as_bytes());
    }

    pub fn optional_number(&mut self, name: &str, number: &u64) {
        self.number(name, number);
    }

    pub fn flag(&mut self, _: &str, flag: &bool) {
        self.out.push(u8::from(*flag));
    }

    pub fn properties(&mut self, _: &str, properties: &Properties<'_>) {
        put_properties(self.out, borrowed(properties));
    }

    pub fn tagged_properties(&mut self, tag: u64, _: &str, properties: &Properties<'_>) {
        if !properties.is_empty() {
            let mut field = Vec::new();
            put_properties(&mut field, borrowed(properties));
            put_bytes_field(self.out, tag, &field);
        }
    }

    pub fn mappings(&mut self, name: &str, mappings: &Properties<'_>) {
        self.properties(name, mappings);
    }

    pub fn texts(&mut self, name: &str, texts: &[Cow<'_, str>]) {
        varint::put(self.out, texts.len() as u64);
        texts.iter().for_each(|text| self.text(name, text));
    }

    pub fn optional_text(&mut self, name: &str, text: &str) {
        self.text(name, text);
    }

    pub fn tagged_number(&mut self, tag: u64, _: &str, number: &u64) {
        if *number != 0 {
            put_number_field(self.out, tag, *number);
        }
    }

    pub fn tagged_flag(&mut self, tag: u64, name: &str, flag: &bool) {
        self.tagged_number(tag, name, &u64::from(*flag));
    }

    pub fn tagged_text(&mut self, tag: u64, _: &str, text: &str) {
        if !text.is_empty() {
            put_bytes_field(self.out, tag, text.as_bytes());
        }
    }

    pub fn rest(&mut self, _: &str, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub fn version(&mut self, version: &u64) {
        varint::put(self.out, *version);
    }

    pub fn capabilities(&mut self, tag: u64, capabilities: &u64) {
        if *capabilities != 0 {
            put_number_field(self.out, tag, *capabilities);
        }
    }

    pub fn update(&mut self, update: &Update<'_>) {
        if !matches!(self.op, op::ADD | op::SET | op::ADD_AND_SET) {
            return put_update_fields(self.out, update);
        }
        self.out.push(update.kind);
        if update.verb != Verb::Set {
            put_properties(self.out, borrowed(&update.properties));
        }
        self.out.extend_from_slice(&update.value);
    }

    pub fn about(&mut self, about: &About<'_>) {
        self.tagged_text(9, "environment", &about.environment);
        let Credentials { principal, password, bearer } = &about.credentials;
        self.tagged_text(10, "principal", principal);
        self.tagged_text(11, "password", password);
        self.tagged_text(12, "bearer", bearer);
    }

    pub fn credentials(&mut self, credentials: &Credentials<'_>) {
        let Credentials { principal, password, bearer } = credentials;
        self.text("principal", principal);
        self.text("password", password);
        self.text("bearer", bearer);
    }

    pub fn fetch(&mut self, fetch: &Fetch<'_>) {
        put_fetch(self.out, fetch);
    }

    pub fn listener_kind(&mut self, kind: &u8) {
        self.out.push(*kind);
    }

    pub fn new_stream(&mut self, stream: &u64) {
        varint::put(self.out, *stream);
    }

    pub fn value_kind(&mut self, kind: &u8) {
        self.out.push(*kind);
    }

    pub fn typed_value(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    pub fn append(&mut self, append: &Append) {
        let number = match append {
            Append::Original { timestamp_ms } => timestamp_ms.map_or(0, |timestamp_ms| timestamp_ms.saturating_add(1)),
            Append::Edit { original } => *original,
        };
        varint::put(self.out, number);
    }

    pub fn query(&mut self, query: &Query) {
        put_query(self.out, query);
    }

    pub fn place_after(&mut self, place: &u64) {
        varint::put(self.out, *place);
    }

    pub fn lock_scope(&mut self, scope: &u8) {
        self.out.push(*scope);
    }
}

fn borrowed<'a>(properties: &'a Properties<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    properties.iter().map(|(key, value)| (&**key, &**value))
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

fn put_fetch(out: &mut Vec<u8>, fetch: &Fetch<'_>) {
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
}

fn put_query(out: &mut Vec<u8>, query: &Query) {
    let put_range = |out: &mut Vec<u8>, tag: u64, range: &QueryRange| {
        let mut field = vec![range.anchor.0];
        varint::put(&mut field, range.anchor.1);
        field.push(range.span.0);
        varint::put(&mut field, range.span.1);
        put_bytes_field(out, tag, &field);
    };
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
        check(&Request { id: 1, ask: Ask::CreateView { name, definition } }, b"\x40\x0e\x01\x01n\x0amap a to b");
        check(&Request { id: 2, ask: Ask::RemoveView { name: "n".into() } }, b"\x41\x03\x02\x01n");
        check(&Request { id: 3, ask: Ask::ListViews { after: 0 } }, b"\x42\x02\x03\x00");
        check(&Request { id: 3, ask: Ask::ListViews { after: 300 } }, b"\x42\x03\x03\xac\x02");
        check(&Request { id: 4, ask: Ask::GetView { name: "n\u{e9}".into() } }, b"\x43\x05\x04\x03n\xc3\xa9");
    }

    #[test]
    fn a_broken_request_about_views_keeps_its_id() {
        for bytes in [&b"\x40\x03\x07\x01n"[..], b"\x41\x04\x07\x01nx", b"\x41\x03\x07\x01\xff", b"\x42\x01\x07", b"\x43\x02\x07\x05"] {
            let frame = next_frame(&mut &*bytes).unwrap().unwrap();
            assert_eq!(decode_request(frame), Request { id: 7, ask: Ask::Broken }, "{bytes:?}");
        }
    }
}
