//! How the text form writes an event: a JSON object, each member by its name.

use super::string;
use crate::value::{ValueType, scalar};
use crate::wire::event::{Fields, Form, Properties};
use std::io::Write;

/// An object that is being written.
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

/// Appends the object that `describe` makes.
pub fn put_fields(out: &mut Vec<u8>, describe: impl FnOnce(&mut Object<'_>)) {
    let mut object = Object { out, is_first: true };
    object.out.push(b'{');
    describe(&mut object);
    object.out.push(b'}');
}

impl Object<'_> {
    /// Begins a member; its value has to follow. Names are plain: nothing in them is escaped.
    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(if self.is_first { b"\"" } else { b",\"" });
        self.is_first = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

impl Fields for Object<'_> {
    const FORM: Form = Form::Text;

    fn begin(&mut self, _: u8, name: &str) {
        self.text("op", name);
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        write!(self.out, "{number}").expect("writing to memory does not fail");
    }

    fn flag(&mut self, name: &str, flag: bool) {
        self.name(name);
        self.out.extend_from_slice(if flag { b"true" } else { b"false" });
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        string(self.out, text);
    }

    fn named(&mut self, name: &str, _: u8, meaning: &str) {
        self.text(name, meaning);
    }

    fn properties(&mut self, properties: Properties<'_>) {
        self.name("properties");
        self.out.push(b'{');
        self.is_first = true;
        properties.for_each(|key, value| {
            self.out.extend_from_slice(if self.is_first { b"" } else { b"," });
            self.is_first = false;
            string(self.out, key);
            self.out.push(b':');
            string(self.out, value);
        });
        self.is_first = false;
        self.out.push(b'}');
    }

    fn optional(&mut self, name: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    fn value(&mut self, kind: ValueType, value: &[u8]) {
        self.name("value");
        scalar::append_json(kind, value, self.out);
    }

    fn optional_value(&mut self, kind: ValueType, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.value(kind, value);
        }
    }

    fn tagged_number(&mut self, _: u64, name: &str, number: u64) {
        self.number(name, number);
    }

    fn tagged_flag(&mut self, _: u64, name: &str, flag: bool) {
        if flag {
            self.flag(name, flag);
        }
    }

    fn tagged_text(&mut self, _: u64, name: &str, text: &str) {
        self.text(name, text);
    }

    fn rest(&mut self, name: &str, text: &str) {
        self.text(name, text);
    }

    fn list<T>(&mut self, name: &str, items: &[T], describe: impl Fn(&mut Self, &T)) {
        self.name(name);
        self.out.push(b'[');
        for (at, item) in items.iter().enumerate() {
            self.out.extend_from_slice(if at == 0 { b"{" } else { b",{" });
            self.is_first = true;
            describe(self, item);
            self.out.push(b'}');
        }
        self.is_first = false;
        self.out.push(b']');
    }
}
