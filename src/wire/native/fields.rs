//! How the binary form writes an event: a frame, each member at its place.

use super::{fill_length, put_bytes_field, put_number_field};
use crate::value::ValueType;
use crate::wire::event::{Fields, Form, Properties};
use crate::wire::varint;

/// A frame that is being written.
pub struct Body<'o> {
    out: &'o mut Vec<u8>,
    length_at: usize,
}

/// Appends the frame that `describe` makes.
pub fn put_fields(out: &mut Vec<u8>, describe: impl FnOnce(&mut Body<'_>)) {
    let mut body = Body { out, length_at: 0 };
    describe(&mut body);
    fill_length(body.out, body.length_at);
}

impl Fields for Body<'_> {
    const FORM: Form = Form::Binary;

    fn begin(&mut self, op: u8, _: &str) {
        self.out.push(op);
        self.length_at = self.out.len();
        self.out.push(0);
    }

    fn number(&mut self, _: &str, number: u64) {
        varint::put(self.out, number);
    }

    fn flag(&mut self, _: &str, flag: bool) {
        self.out.push(u8::from(flag));
    }

    fn text(&mut self, _: &str, text: &str) {
        varint::put_bytes(self.out, text.as_bytes());
    }

    fn named(&mut self, _: &str, number: u8, _: &str) {
        self.out.push(number);
    }

    fn properties(&mut self, properties: Properties<'_>) {
        varint::put(self.out, properties.len() as u64);
        properties.for_each(|key, value| {
            varint::put_bytes(self.out, key.as_bytes());
            varint::put_bytes(self.out, value.as_bytes());
        });
    }

    fn optional(&mut self, _: &str, number: Option<u64>) {
        varint::put(self.out, number.map_or(0, |number| number + 1));
    }

    fn value(&mut self, _: ValueType, value: &[u8]) {
        varint::put_bytes(self.out, value);
    }

    fn optional_value(&mut self, _: ValueType, value: Option<&[u8]>) {
        varint::put(self.out, value.map_or(0, |value| 1 + value.len() as u64));
        self.out.extend_from_slice(value.unwrap_or_default());
    }

    fn tagged_number(&mut self, tag: u64, _: &str, number: u64) {
        put_number_field(self.out, tag, number);
    }

    fn tagged_text(&mut self, tag: u64, _: &str, text: &str) {
        put_bytes_field(self.out, tag, text.as_bytes());
    }

    fn rest(&mut self, _: &str, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, _: &str, items: &[T], describe: impl Fn(&mut Self, &T)) {
        varint::put(self.out, items.len() as u64);
        items.iter().for_each(|item| describe(self, item));
    }
}
