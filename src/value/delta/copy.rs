//! The program of the copy form: pieces copied from the previous value and literal bytes between them.
//!
//! A step's copy starts where the step before ended, as if its literals had replaced as many bytes: text mostly changes
//! without changing its length, and then no place has to be told. `sdk/protocol/README.md` has the layout. Whether
//! the program is deflated is decided above.

use super::DeltaError;
use super::index::Index;
use super::parse::common_prefix;

const INSERT_ESCAPE: usize = 7;
const COPY_ESCAPE: usize = 15;
/// A copy that goes on where it is expected costs one byte; it pays from here.
const COPY_MIN: usize = 3;
/// How far around the place expected a copy is looked for before the index is made.
const NEAR_BYTES: usize = 16;
/// So many literals without a copy make the index worth its time.
const LITERALS_BEFORE_INDEX: usize = 12;

/// Literals `next[start..end]`, then `copy` bytes (0: the rest) `step` behind the place expected.
struct Instruction {
    start: usize,
    end: usize,
    step: isize,
    copy: usize,
}

/// A piece of `previous` that goes on like `next`.
struct Piece {
    from: usize,
    length: usize,
}

/// Reusable state. `difference` is all there is to call.
#[derive(Default)]
pub struct Copier {
    index: Index,
    indexed: bool,
    pub program: Vec<u8>,
}

impl Copier {
    /// Puts the steps from `previous` to `next` into `program`. Returns how many bytes are copied first, or `None` where
    /// the program does not get shorter than `next`.
    pub fn difference(&mut self, previous: &[u8], next: &[u8]) -> Option<usize> {
        self.program.clear();
        self.indexed = false;
        let prefix = common_prefix(previous, next);
        let suffix = common_suffix(&previous[prefix..], &next[prefix..]);
        let end = next.len() - suffix;
        let (mut place, mut literals, mut position) = (prefix, prefix, prefix);
        let mut held: Option<Instruction> = None;
        while place < end {
            let expected = position + (place - literals);
            let Some(mut piece) = self.piece(previous, &next[..end], place, expected, place - literals) else {
                // The longer nothing was found, the fewer places are tried, so that unlike values cost little.
                place += 1 + (place - literals) / 64;
                if place - prefix > 4096 && self.program.len() + (place - literals) > (place - prefix) / 16 * 15 {
                    return None;
                }
                continue;
            };
            while place > literals && piece.from > 0 && previous[piece.from - 1] == next[place - 1] {
                place -= 1;
                piece = Piece { from: piece.from - 1, length: piece.length + 1 };
            }
            let expected = position + (place - literals);
            let step = Instruction { start: literals, end: place, step: piece.from as isize - expected as isize, copy: piece.length };
            if let Some(before) = held.replace(step) {
                self.write(&before, next);
            }
            place += piece.length;
            literals = place;
            position = piece.from + piece.length;
        }
        self.finish(held, next, literals..end, previous.len(), position, suffix);
        (self.program.len() < next.len()).then_some(prefix)
    }

    /// The last literals, and what stays at the end.
    fn finish(
        &mut self,
        held: Option<Instruction>,
        next: &[u8],
        literals: std::ops::Range<usize>,
        previous_length: usize,
        position: usize,
        suffix: usize,
    ) {
        let goes_on = literals.is_empty() && position + suffix == previous_length;
        if let Some(mut step) = held {
            if goes_on {
                step.copy = 0;
            }
            self.write(&step, next);
            if goes_on {
                return;
            }
        }
        if !literals.is_empty() || suffix > 0 {
            let expected = position + literals.len();
            let step = previous_length as isize - suffix as isize - expected as isize;
            self.write(&Instruction { start: literals.start, end: literals.end, step, copy: 0 }, next);
        }
    }

    /// The best piece to go on with at `next[place..]`, if any pays.
    fn piece(&mut self, previous: &[u8], next: &[u8], place: usize, expected: usize, literals: usize) -> Option<Piece> {
        let wanted = &next[place..];
        let length = previous.get(expected..).map_or(0, |from| common_prefix(from, wanted));
        let mut best = Piece { from: expected, length };
        let mut best_gain = if length >= COPY_MIN { length } else { 0 };
        if length >= 32 {
            return Some(best);
        }
        let mut consider = |from: usize| {
            let length = common_prefix(&previous[from..], wanted);
            let told = match from.abs_diff(expected) {
                0..64 => 1,
                64..8192 => 2,
                _ => 3,
            };
            let gain = length.saturating_sub(told + 3);
            if gain > best_gain {
                best_gain = gain;
                best = Piece { from, length };
            }
        };
        if !self.indexed && literals < LITERALS_BEFORE_INDEX {
            if let Some(start) = wanted.get(..4) {
                let lowest = expected.saturating_sub(NEAR_BYTES).min(previous.len());
                let highest = previous.len().min(expected + NEAR_BYTES + 4);
                for (offset, four) in previous[lowest..highest].windows(4).enumerate() {
                    if four == start {
                        consider(lowest + offset);
                    }
                }
            }
        } else {
            if !self.indexed {
                self.index.build(previous);
                self.indexed = true;
            }
            self.index.near(wanted, expected).for_each(|from| consider(from as usize));
        }
        (best_gain > 0).then_some(best)
    }

    fn write(&mut self, step: &Instruction, next: &[u8]) {
        let insert = step.end - step.start;
        let moves = if step.step == 0 { 0 } else { 0x80 };
        self.program.push(moves | (insert.min(INSERT_ESCAPE) << 4) as u8 | step.copy.min(COPY_ESCAPE) as u8);
        if insert >= INSERT_ESCAPE {
            write_varint(insert - INSERT_ESCAPE, &mut self.program);
        }
        if step.copy >= COPY_ESCAPE {
            write_varint(step.copy - COPY_ESCAPE, &mut self.program);
        }
        if step.step != 0 {
            write_varint((step.step << 1 ^ step.step >> (isize::BITS - 1)) as usize, &mut self.program);
        }
        self.program.extend_from_slice(&next[step.start..step.end]);
    }
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

pub fn write_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a varint below 2^32 off the front of `bytes`.
pub fn read_varint(bytes: &mut &[u8]) -> Result<usize, DeltaError> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).map(|value| value as usize).map_err(|_| DeltaError::NumberTooLarge);
        }
    }
    Err(DeltaError::NumberTooLarge)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], DeltaError> {
    let (taken, left) = bytes.split_at_checked(count).ok_or(DeltaError::Truncated)?;
    *bytes = left;
    Ok(taken)
}

/// What `program` makes of `previous`, of which `copied` bytes come first.
pub fn apply(previous: &[u8], copied: usize, mut program: &[u8], value_bytes_max: usize) -> Result<Vec<u8>, DeltaError> {
    let first = previous.get(..copied).ok_or(DeltaError::CopyOutside)?;
    let mut next = Vec::new();
    append(&mut next, first, value_bytes_max)?;
    let mut position = copied as i64;
    while !program.is_empty() {
        let token = take(&mut program, 1)?[0];
        let (mut insert, mut copy) = (usize::from(token >> 4 & 7), usize::from(token & 15));
        if insert == INSERT_ESCAPE {
            insert += read_varint(&mut program)?;
        }
        if copy == COPY_ESCAPE {
            copy += read_varint(&mut program)?;
        }
        let zigzag = if token & 0x80 == 0 { 0 } else { read_varint(&mut program)? as i64 };
        append(&mut next, take(&mut program, insert)?, value_bytes_max)?;
        position += insert as i64 + (zigzag >> 1 ^ -(zigzag & 1));
        let from = usize::try_from(position).ok().and_then(|position| previous.get(position..)).ok_or(DeltaError::CopyOutside)?;
        let piece = if copy == 0 { from } else { from.get(..copy).ok_or(DeltaError::CopyOutside)? };
        append(&mut next, piece, value_bytes_max)?;
        position += piece.len() as i64;
    }
    Ok(next)
}

fn append(next: &mut Vec<u8>, bytes: &[u8], value_bytes_max: usize) -> Result<(), DeltaError> {
    if bytes.len() > value_bytes_max - next.len() {
        return Err(DeltaError::ValueTooLarge);
    }
    next.extend_from_slice(bytes);
    Ok(())
}
