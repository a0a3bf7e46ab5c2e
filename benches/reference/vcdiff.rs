//! VCDIFF (RFC 3284): one window over the whole source, default code table and caches. The file header's five bytes,
//! the same for every delta, are not counted, and RUN is not used.

use super::{Piece, Prices, pieces};

pub fn encode(previous: &[u8], next: &[u8]) -> Vec<u8> {
    let copy = |from: usize, length: usize, last: usize| 1 + usize::from(length > 18) + if from.abs_diff(last) < 128 { 1 } else { 2 };
    let mut window = Window {
        cache: Cache { near: [0; 4], slot: 0, same: [0; 768] },
        adds: Vec::new(),
        instructions: Vec::new(),
        addresses: Vec::new(),
        open: None,
    };
    let mut here = previous.len();
    for piece in pieces(previous, next, &Prices { copy_min: 4, from_target: true, copy }) {
        match piece {
            Piece::Add { start, end } => {
                window.add(&next[start..end]);
                here += end - start;
            }
            Piece::Copy { from, length } => {
                window.copy(from, length, here);
                here += length;
            }
        }
    }
    window.close();
    window.finish(previous.len(), next.len())
}

/// The instruction written last, while it may still be joined with the next.
enum Open {
    Add(usize),
    Copy { length: usize, mode: usize },
}

struct Window {
    cache: Cache,
    adds: Vec<u8>,
    instructions: Vec<u8>,
    addresses: Vec<u8>,
    open: Option<Open>,
}

impl Window {
    fn add(&mut self, bytes: &[u8]) {
        self.adds.extend_from_slice(bytes);
        if bytes.len() == 1
            && let Some(Open::Copy { length: 4, mode }) = self.open
        {
            self.instructions.push((247 + mode) as u8);
            self.open = None;
            return;
        }
        self.close();
        self.open = Some(Open::Add(bytes.len()));
    }

    fn copy(&mut self, from: usize, length: usize, here: usize) {
        let mode = self.cache.encode(from, here, &mut self.addresses);
        if let Some(Open::Add(added @ 1..=4)) = self.open {
            let joined = match (mode, length) {
                (0..6, 4..=6) => Some(163 + mode * 12 + (added - 1) * 3 + length - 4),
                (6..9, 4) => Some(235 + (mode - 6) * 4 + added - 1),
                _ => None,
            };
            if let Some(code) = joined {
                self.instructions.push(code as u8);
                self.open = None;
                return;
            }
        }
        self.close();
        self.open = Some(Open::Copy { length, mode });
    }

    fn close(&mut self) {
        match self.open.take() {
            Some(Open::Add(length @ 1..=17)) => self.instructions.push(1 + length as u8),
            Some(Open::Add(length)) => {
                self.instructions.push(1);
                number(length, &mut self.instructions);
            }
            Some(Open::Copy { length: length @ 4..=18, mode }) => self.instructions.push((19 + mode * 16 + length - 3) as u8),
            Some(Open::Copy { length, mode }) => {
                self.instructions.push((19 + mode * 16) as u8);
                number(length, &mut self.instructions);
            }
            None => {}
        }
    }

    fn finish(self, source: usize, target: usize) -> Vec<u8> {
        let mut body = Vec::new();
        number(target, &mut body);
        body.push(0);
        for section in [&self.adds, &self.instructions, &self.addresses] {
            number(section.len(), &mut body);
        }
        for section in [self.adds, self.instructions, self.addresses] {
            body.extend(section);
        }
        let mut out = vec![1];
        number(source, &mut out);
        number(0, &mut out);
        number(body.len(), &mut out);
        out.extend(body);
        out
    }
}

/// RFC 3284, 5.1.
struct Cache {
    near: [usize; 4],
    slot: usize,
    same: [usize; 768],
}

impl Cache {
    /// Writes the address in the mode that is shortest, and returns that.
    fn encode(&mut self, address: usize, here: usize, out: &mut Vec<u8>) -> usize {
        let mut choice = (0, address);
        for (mode, value) in [(1, Some(here - address))].into_iter().chain((0..4).map(|i| (2 + i, address.checked_sub(self.near[i])))) {
            if let Some(value) = value
                && number_bytes(value) < number_bytes(choice.1)
            {
                choice = (mode, value);
            }
        }
        let slot = address % 768;
        if self.same[slot] == address && number_bytes(choice.1) > 1 {
            choice = (6 + slot / 256, 0);
            out.push((slot % 256) as u8);
        } else {
            number(choice.1, out);
        }
        self.near[self.slot] = address;
        self.slot = (self.slot + 1) % 4;
        self.same[slot] = address;
        choice.0
    }
}

fn number_bytes(value: usize) -> usize {
    (value.max(1).ilog2() / 7 + 1) as usize
}

/// RFC 3284, 2: base 128, most significant digit first.
fn number(value: usize, out: &mut Vec<u8>) {
    for digit in (0..number_bytes(value)).rev() {
        let more = if digit > 0 { 0x80 } else { 0 };
        out.push((value >> (7 * digit) & 0x7f) as u8 | more);
    }
}
