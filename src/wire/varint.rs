//! What the binary form is made of: unsigned LEB128 varints, frames and their fields, and the reader that takes them apart.

pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// The bytes do not have the form that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes a frame's body apart from the front.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        if length > self.0.len() {
            return Err(Malformed);
        }
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(bytes)
    }

    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// One frame of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub op: u8,
    pub body: &'a [u8],
}

/// Takes the next frame off `message`; `None` at its end.
pub fn next_frame<'a>(message: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Malformed> {
    if message.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader(message);
    let op = reader.byte()?;
    let body = reader.bytes()?;
    *message = reader.0;
    Ok(Some(Frame { op, body }))
}

/// Says how long the body is that follows the byte at `at`.
pub fn fill_length(out: &mut Vec<u8>, at: usize) {
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(len(length as u64));
    put(&mut prefix, length as u64);
    out.splice(at..=at, prefix);
}

/// Appends a tagged field that holds one number.
pub fn put_number_field(out: &mut Vec<u8>, tag: u64, value: u64) {
    put(out, tag);
    put(out, len(value) as u64);
    put(out, value);
}

/// Appends a tagged field.
pub fn put_bytes_field(out: &mut Vec<u8>, tag: u64, bytes: &[u8]) {
    put(out, tag);
    put_bytes(out, bytes);
}

/// Appends `count, count × (key, value)`.
pub fn put_properties<'a>(out: &mut Vec<u8>, properties: impl Iterator<Item = (&'a str, &'a str)>) {
    // Fewer than 128 properties have a value: the count takes one byte, known at the end.
    let at = out.len();
    out.push(0);
    let mut count = 0;
    for (key, value) in properties {
        put_bytes(out, key.as_bytes());
        put_bytes(out, value.as_bytes());
        count += 1;
    }
    if count < 0x80 {
        out[at] = count as u8;
        return;
    }
    let mut prefix = Vec::new();
    put(&mut prefix, count);
    out.splice(at..=at, prefix);
}

/// Reads `count, count × (key, value)`.
pub fn read_properties<'a>(reader: &mut Reader<'a>) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
    let count = reader.varint()?;
    let mut properties = Vec::new();
    for _ in 0..count {
        properties.push((reader.string()?, reader.string()?));
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_varint_comes_back() {
        for value in (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), len(value), "{value}");
            assert_eq!(Reader(&out).varint(), Ok(value));
        }
    }

    #[test]
    fn an_overlong_or_cut_varint_is_refused() {
        assert_eq!(Reader(&[0xff; 10]).varint(), Err(Malformed));
        assert_eq!(Reader(&[0x80; 11]).varint(), Err(Malformed));
        assert_eq!(Reader(&[0x80]).varint(), Err(Malformed));
        assert_eq!(Reader(&[5, 1]).bytes(), Err(Malformed));
    }
}
