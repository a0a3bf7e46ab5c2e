//! The Fossil delta format: size, copies and literals as text with base-64 numbers, and a checksum.

use super::{Piece, Prices, pieces};

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

pub fn encode(previous: &[u8], next: &[u8]) -> Vec<u8> {
    // A copy ends a literal run, so another one has to be begun: two bytes more.
    let copy = |from, length, _| digits(from) + digits(length) + 2 + 2;
    let mut out = Vec::new();
    number(next.len(), &mut out);
    out.push(b'\n');
    for piece in pieces(previous, next, &Prices { copy_min: 4, from_target: false, copy }) {
        match piece {
            Piece::Add { start, end } => {
                number(end - start, &mut out);
                out.push(b':');
                out.extend_from_slice(&next[start..end]);
            }
            Piece::Copy { from, length } => {
                number(length, &mut out);
                out.push(b'@');
                number(from, &mut out);
                out.push(b',');
            }
        }
    }
    number(checksum(next) as usize, &mut out);
    out.push(b';');
    out
}

fn digits(value: usize) -> usize {
    (value.max(1).ilog2() / 6 + 1) as usize
}

fn number(value: usize, out: &mut Vec<u8>) {
    for digit in (0..digits(value)).rev() {
        out.push(DIGITS[value >> (6 * digit) & 63]);
    }
}

/// The sum of the value as big-endian 32-bit words, the last one filled up with zeros.
fn checksum(value: &[u8]) -> u32 {
    let word = |four: &[u8]| four.iter().enumerate().fold(0, |word, (i, byte)| word | u32::from(*byte) << (24 - 8 * i));
    value.chunks(4).map(word).fold(0, u32::wrapping_add)
}
