//! Deltas: the next value from the one before, in fewer bytes.
//!
//! Two forms, chosen for each update by size: copy steps, for changes far apart and for values beyond DEFLATE's
//! window, and DEFLATE with the previous value as dictionary. A delta is made once by a topic's owner, and given
//! up where it does not pay. `docs/deltas.md` has the measurements, `sdk/protocol/README.md` the layout.

mod copy;
mod deflate;
mod huffman;
mod index;
mod parse;
#[cfg(test)]
mod tests;

use flate2::{Decompress, FlushDecompress, Status};

/// Shorter values cost less than thinking about them.
pub const VALUE_BYTES_MIN: usize = 24;
/// Longer values are sent whole; it bounds an encoder's memory to some 12 times this.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Programs this short do not get shorter by DEFLATE.
const DEFLATED_PROGRAM_BYTES_MIN: usize = 40;
/// A delta this short is sent as it is: DEFLATE may take another byte or two off it, and costs several times what finding it did.
const DELTA_BYTES_GOOD: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Raw DEFLATE with the previous value's last 32 KiB as preset dictionary.
    Deflate,
    /// Copy steps, deflated where that is shorter.
    Copy,
}

/// Why a delta, which is peer input, does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaError {
    /// The delta ends inside a step, a number or its DEFLATE stream.
    Truncated,
    /// A number is 2^32 or more.
    NumberTooLarge,
    /// A copy starts or ends outside the previous value.
    CopyOutside,
    /// The DEFLATE stream is broken, or bytes follow it.
    BadDeflate,
    /// The value would be longer than allowed.
    ValueTooLarge,
}

/// Makes deltas. One per shard, reused for all topics; its memory is bounded by `VALUE_BYTES_MAX`.
pub struct Encoder {
    copier: copy::Copier,
    deflater: deflate::Deflater,
    deflated: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    pub fn new() -> Self {
        Self { copier: copy::Copier::default(), deflater: deflate::Deflater::new(), deflated: Vec::new() }
    }

    /// Appends the delta from `previous` to `next` to `out` and tells its form. `None`, with `out` as it was, where
    /// no delta is smaller than `next` or a value is too short or too long.
    pub fn encode(&mut self, previous: &[u8], next: &[u8], out: &mut Vec<u8>) -> Option<Form> {
        if next.len() < VALUE_BYTES_MIN || previous.is_empty() || previous.len().max(next.len()) > VALUE_BYTES_MAX {
            return None;
        }
        let start = out.len();
        let mut form = None;
        let mut best = next.len();
        let copied = self.copier.difference(previous, next);
        if let Some(copied) = copied {
            copy::write_varint(copied << 1, out);
            out.extend_from_slice(&self.copier.program);
            if out.len() - start < best {
                best = out.len() - start;
                form = Some(Form::Copy);
            }
        }
        if best > DELTA_BYTES_GOOD && deflated_bytes_least(next.len()) < best {
            self.deflated.clear();
            if self.deflater.deflate(previous, next, best, &mut self.deflated) && self.deflated.len() < best {
                best = self.deflated.len();
                form = Some(Form::Deflate);
                out.truncate(start);
                out.extend_from_slice(&self.deflated);
            }
        }
        if let Some(copied) = copied {
            best = self.deflate_program(copied, best, start, &mut form, out);
        }
        if form.is_none() {
            out.truncate(start);
        }
        debug_assert!(form.is_none() || out.len() - start == best);
        form
    }

    /// Replaces the delta by the deflated program where that is shorter than `best`; returns the best length then.
    fn deflate_program(&mut self, copied: usize, best: usize, start: usize, form: &mut Option<Form>, out: &mut Vec<u8>) -> usize {
        let program = &self.copier.program;
        // A short program shrinks by digits and steps alone, a tenth or so; in a long one there may be text that repeats.
        let bytes_max = if program.len() < 256 { best + best / 3 } else { best.saturating_mul(3) };
        if program.len() < DEFLATED_PROGRAM_BYTES_MIN || program.len() > bytes_max {
            return best;
        }
        self.deflated.clear();
        copy::write_varint(copied << 1 | 1, &mut self.deflated);
        if !self.deflater.deflate(&[], program, best, &mut self.deflated) || self.deflated.len() >= best {
            return best;
        }
        *form = Some(Form::Copy);
        out.truncate(start);
        out.extend_from_slice(&self.deflated);
        self.deflated.len()
    }
}

/// A DEFLATE stream of unchanged text takes a match for each 258 bytes, and one is hardly cheaper than 15 bits.
fn deflated_bytes_least(text: usize) -> usize {
    2 + text / 258 * 15 / 8
}

/// The next value. For clients, tests, the load generator and the simulator. The result is no longer than
/// `value_bytes_max`, and no more memory than that is taken, whatever the delta says.
pub fn apply(form: Form, previous: &[u8], delta: &[u8], value_bytes_max: usize) -> Result<Vec<u8>, DeltaError> {
    match form {
        Form::Deflate => {
            let dictionary = &previous[previous.len().saturating_sub(parse::WINDOW_BYTES)..];
            inflate(dictionary, delta, value_bytes_max)
        }
        Form::Copy => {
            let mut rest = delta;
            let head = copy::read_varint(&mut rest)?;
            if head & 1 == 0 {
                return copy::apply(previous, head >> 1, rest, value_bytes_max);
            }
            // No encoder has reason for a program longer than the value and a few bytes for each step.
            let program = inflate(&[], rest, value_bytes_max)?;
            copy::apply(previous, head >> 1, &program, value_bytes_max)
        }
    }
}

fn inflate(dictionary: &[u8], stream: &[u8], bytes_max: usize) -> Result<Vec<u8>, DeltaError> {
    let mut inflater = Decompress::new(false);
    if !dictionary.is_empty() {
        inflater.set_dictionary(dictionary).map_err(|_| DeltaError::BadDeflate)?;
    }
    // One byte more than allowed shows that the text is too long.
    let mut text = Vec::with_capacity(bytes_max.saturating_add(1).min(1024 + stream.len().saturating_mul(8)));
    loop {
        let taken = inflater.total_in() as usize;
        let status = inflater.decompress_vec(&stream[taken..], &mut text, FlushDecompress::None).map_err(|_| DeltaError::BadDeflate)?;
        if text.len() > bytes_max {
            return Err(DeltaError::ValueTooLarge);
        }
        match status {
            Status::StreamEnd if inflater.total_in() as usize == stream.len() => return Ok(text),
            Status::StreamEnd => return Err(DeltaError::BadDeflate),
            _ if text.len() == text.capacity() => {
                text.reserve_exact(text.len().clamp(64, bytes_max.saturating_add(1).saturating_sub(text.len()).max(64)))
            }
            _ if inflater.total_in() as usize == stream.len() => return Err(DeltaError::Truncated),
            _ => {}
        }
    }
}

/// Whether deltas pay for one topic. After each failure in a row twice as many updates go without an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gain {
    failures: u8,
    skip: u8,
}

impl Gain {
    const SKIPPED_MAX_LOG2: u8 = 6;

    /// Whether to attempt a delta for this update. Ask once an update.
    pub fn should_attempt(&mut self) -> bool {
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    /// Notes how the attempt ended. A delta of more than seven eighths of the value is no gain.
    pub fn note(&mut self, delta_bytes: Option<usize>, value_bytes: usize) {
        if delta_bytes.is_some_and(|delta| delta < value_bytes / 8 * 7) {
            *self = Self::default();
            return;
        }
        self.failures = (self.failures + 1).min(Self::SKIPPED_MAX_LOG2 + 1);
        // The first failure may be chance and skips none.
        self.skip = (1 << (self.failures - 1)) - 1;
    }
}
