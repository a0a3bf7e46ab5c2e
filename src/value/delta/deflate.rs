//! A DEFLATE encoder (RFC 1951) for short texts that mostly repeat a dictionary.
//!
//! It does two things that a general library does not: it starts with tables no larger than the text, so a text of 1 KB costs
//! microseconds, and it stops as soon as the stream cannot get shorter than the caller wants. For each block it takes
//! the cheapest parse, and fixed, dynamic or stored codes as they come out shortest. Any inflater reads the stream.

use super::huffman::{BitWriter, Builder, CODE_BITS_MAX, canonical_codes};
use super::parse::{Costs, Matches, Parse, Token, WINDOW_BYTES, distance_code, length_code};

/// The text of one block. Codes fit one kind of text; giving up is considered once a block.
const BLOCK_BYTES: usize = 16_384;
/// Telling dynamic codes takes some 200 bits at least, so a block this short is written in the fixed ones.
const DYNAMIC_BITS_MIN: usize = 400;
/// A second parse of a short text saves a byte in two hundred and costs a seventh of the time.
const PARSED_ONCE_BYTES_MAX: usize = 2048;
const END_OF_BLOCK: usize = 256;
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
/// RFC 1951, 3.2.7: the order in which the lengths of the code length code are written.
const CODE_LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// A pair of codes, for literals with lengths and for distances.
#[derive(Clone)]
struct Codes {
    literal_lengths: [u8; 288],
    distance_lengths: [u8; DISTANCES],
}

impl Codes {
    /// RFC 1951, 3.2.6.
    fn fixed() -> Self {
        let mut codes = Self { literal_lengths: [8; 288], distance_lengths: [5; DISTANCES] };
        codes.literal_lengths[144..256].fill(9);
        codes.literal_lengths[256..280].fill(7);
        codes
    }

    fn empty() -> Self {
        Self { literal_lengths: [0; 288], distance_lengths: [0; DISTANCES] }
    }

    /// The bits that symbols counted so take, extra bits included.
    fn bits(&self, counts: &Counts) -> usize {
        let sum = |counts: &[u32], lengths: &[u8]| {
            counts.iter().zip(lengths).map(|(count, length)| *count as usize * usize::from(*length)).sum::<usize>()
        };
        sum(&counts.literals, &self.literal_lengths) + sum(&counts.distances, &self.distance_lengths) + counts.extra_bits
    }
}

/// The bits that a pair of codes is written in, first bit lowest.
struct Written {
    literals: [u16; 288],
    distances: [u16; DISTANCES],
}

impl Written {
    fn new(codes: &Codes) -> Self {
        let mut written = Self { literals: [0; 288], distances: [0; DISTANCES] };
        canonical_codes(&codes.literal_lengths, &mut written.literals);
        canonical_codes(&codes.distance_lengths, &mut written.distances);
        written
    }
}

struct Counts {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    extra_bits: usize,
}

impl Counts {
    fn of(tokens: &[Token]) -> Self {
        let mut counts = Self { literals: [0; LITERALS], distances: [0; DISTANCES], extra_bits: 0 };
        counts.literals[END_OF_BLOCK] = 1;
        for token in tokens {
            if token.length == 0 {
                counts.literals[usize::from(token.value)] += 1;
                continue;
            }
            let (length, length_extra) = length_code(token.length);
            let (distance, distance_extra) = distance_code(token.value);
            counts.literals[length] += 1;
            counts.distances[distance] += 1;
            counts.extra_bits += (length_extra + distance_extra) as usize;
        }
        counts
    }
}

/// How the codes of a dynamic block are told: RFC 1951, 3.2.7.
struct Header {
    literals: usize,
    distances: usize,
    code_lengths: usize,
    /// Symbols of the code length code, with their extra bits' value.
    symbols: Vec<(u8, u8)>,
    lengths: [u8; 19],
    bits: usize,
}

fn extra_bits_of_code_length(symbol: u8) -> u32 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

/// Reusable state. `deflate` is all there is to call.
pub struct Deflater {
    window: Vec<u8>,
    matches: Matches,
    parse: Parse,
    other_parse: Parse,
    builder: Builder,
    fixed: Codes,
    /// Made once: it would be half of the work for a value of a hundred bytes.
    fixed_written: Written,
    fixed_costs: Costs,
}

impl Deflater {
    pub fn new() -> Self {
        let fixed = Codes::fixed();
        let fixed_costs = Costs::new(&fixed.literal_lengths, &fixed.distance_lengths, 15);
        Self {
            window: Vec::new(),
            matches: Matches::default(),
            parse: Parse::default(),
            other_parse: Parse::default(),
            builder: Builder::default(),
            fixed_written: Written::new(&fixed),
            fixed,
            fixed_costs,
        }
    }

    /// Appends `text` deflated with the last 32 KiB of `dictionary`, and tells whether that is shorter than `bytes_end`.
    /// Where it is not, `out` may hold a part of the stream, which the caller cuts off.
    pub fn deflate(&mut self, dictionary: &[u8], text: &[u8], bytes_end: usize, out: &mut Vec<u8>) -> bool {
        let dictionary = &dictionary[dictionary.len().saturating_sub(WINDOW_BYTES)..];
        let mut window = std::mem::take(&mut self.window);
        window.clear();
        window.extend_from_slice(dictionary);
        window.extend_from_slice(text);
        self.matches.start(&window, dictionary.len());
        let shorter = self.deflate_blocks(&window, dictionary.len(), bytes_end, out);
        self.window = window;
        shorter
    }

    fn deflate_blocks(&mut self, window: &[u8], dictionary: usize, bytes_end: usize, out: &mut Vec<u8>) -> bool {
        let mut writer = BitWriter::new(out);
        let (mut start, mut bits) = (dictionary, 0);
        loop {
            let end = window.len().min(start + BLOCK_BYTES);
            let last = end == window.len();
            self.matches.find(window, start, end);
            bits += self.block(&window[start..end], last, &mut writer);
            // Text that hardly shrinks in one block is taken to go on like that.
            let plain_bits = (end - dictionary) * 8;
            if bits.div_ceil(8) >= bytes_end || !last && bits > plain_bits / 16 * 15 {
                return false;
            }
            if last {
                writer.align();
                return true;
            }
            start = end;
        }
    }

    /// Writes one block in the form that comes out shortest, and returns its bits.
    fn block(&mut self, text: &[u8], last: bool, writer: &mut BitWriter) -> usize {
        self.parse.run(text, &self.matches, &self.fixed_costs);
        let mut counts = Counts::of(&self.parse.tokens);
        let fixed_bits = 3 + self.fixed.bits(&counts);
        let stored_bits = 8 * (text.len() + 5);
        let dynamic = if fixed_bits > DYNAMIC_BITS_MIN { Some(self.dynamic(text, &mut counts)) } else { None };
        let dynamic_bits = dynamic.as_ref().map_or(usize::MAX, |(_, _, bits)| *bits);
        if stored_bits < fixed_bits.min(dynamic_bits) {
            writer.write(last.into(), 3);
            writer.write_bytes(&[]);
            writer.write_bytes(&(text.len() as u16).to_le_bytes());
            writer.write_bytes(&(!(text.len() as u16)).to_le_bytes());
            writer.write_bytes(text);
            return stored_bits;
        }
        match dynamic {
            Some((codes, header, bits)) if bits < fixed_bits => {
                writer.write(u32::from(last) | 2 << 1, 3);
                write_header(&header, writer);
                write_tokens(&self.other_parse.tokens, &codes, &Written::new(&codes), writer);
                bits
            }
            _ => {
                writer.write(u32::from(last) | 1 << 1, 3);
                write_tokens(&self.parse.tokens, &self.fixed, &self.fixed_written, writer);
                fixed_bits
            }
        }
    }

    /// Codes made for the block. In a long one their first form judges the parse anew, and the second is made for that.
    fn dynamic(&mut self, text: &[u8], counts: &mut Counts) -> (Codes, Header, usize) {
        let mut codes = self.codes(counts);
        if text.len() > PARSED_ONCE_BYTES_MAX {
            let costs = Costs::new(&codes.literal_lengths, &codes.distance_lengths, 12);
            self.other_parse.run(text, &self.matches, &costs);
            *counts = Counts::of(&self.other_parse.tokens);
            codes = self.codes(counts);
        } else {
            self.other_parse.tokens.clone_from(&self.parse.tokens);
        }
        let header = self.header(&codes);
        let bits = 3 + header.bits + codes.bits(counts);
        (codes, header, bits)
    }

    fn codes(&mut self, counts: &Counts) -> Codes {
        let mut codes = Codes::empty();
        self.builder.build(&counts.literals, CODE_BITS_MAX, &mut codes.literal_lengths[..LITERALS]);
        self.builder.build(&counts.distances, CODE_BITS_MAX, &mut codes.distance_lengths);
        codes
    }

    fn header(&mut self, codes: &Codes) -> Header {
        let used = |lengths: &[u8], least: usize| lengths.iter().rposition(|length| *length > 0).map_or(least, |last| least.max(last + 1));
        let literals = used(&codes.literal_lengths, 257);
        let distances = used(&codes.distance_lengths, 1);
        let mut all = [0; LITERALS + DISTANCES];
        all[..literals].copy_from_slice(&codes.literal_lengths[..literals]);
        all[literals..literals + distances].copy_from_slice(&codes.distance_lengths[..distances]);
        let symbols = run_lengths(&all[..literals + distances]);
        let mut counts = [0; 19];
        for (symbol, _) in &symbols {
            counts[usize::from(*symbol)] += 1;
        }
        let mut lengths = [0; 19];
        self.builder.build(&counts, 7, &mut lengths);
        let code_lengths = CODE_LENGTH_ORDER.iter().rposition(|symbol| lengths[*symbol] > 0).map_or(4, |last| (last + 1).max(4));
        let told: u32 =
            symbols.iter().map(|(symbol, _)| u32::from(lengths[usize::from(*symbol)]) + extra_bits_of_code_length(*symbol)).sum();
        Header { literals, distances, code_lengths, symbols, lengths, bits: 14 + 3 * code_lengths + told as usize }
    }
}

/// Code lengths as symbols: 16 repeats the one before 3–6 times, 17 and 18 are 3–10 and 11–138 zeros.
fn run_lengths(all: &[u8]) -> Vec<(u8, u8)> {
    let mut symbols = Vec::with_capacity(80);
    let mut place = 0;
    while place < all.len() {
        let length = all[place];
        let run = all[place..].iter().take_while(|other| **other == length).count();
        let (symbol, taken) = match (length, run) {
            (0, 11..) => ((18, run.min(138) - 11), run.min(138)),
            (0, 3..) => ((17, run - 3), run),
            _ if place > 0 && all[place - 1] == length && run >= 3 => ((16, run.min(6) - 3), run.min(6)),
            _ => ((length, 0), 1),
        };
        symbols.push((symbol.0, symbol.1 as u8));
        place += taken;
    }
    symbols
}

fn write_header(header: &Header, writer: &mut BitWriter) {
    let mut codes = [0; 19];
    canonical_codes(&header.lengths, &mut codes);
    writer.write(header.literals as u32 - 257, 5);
    writer.write(header.distances as u32 - 1, 5);
    writer.write(header.code_lengths as u32 - 4, 4);
    for symbol in &CODE_LENGTH_ORDER[..header.code_lengths] {
        writer.write(header.lengths[*symbol].into(), 3);
    }
    for (symbol, extra) in &header.symbols {
        let index = usize::from(*symbol);
        writer.write(codes[index].into(), header.lengths[index].into());
        writer.write((*extra).into(), extra_bits_of_code_length(*symbol));
    }
}

fn write_tokens(tokens: &[Token], codes: &Codes, written: &Written, writer: &mut BitWriter) {
    let Written { literals, distances } = written;
    for token in tokens {
        if token.length == 0 {
            let symbol = usize::from(token.value);
            writer.write(literals[symbol].into(), codes.literal_lengths[symbol].into());
            continue;
        }
        let (symbol, extra) = length_code(token.length);
        writer.write(literals[symbol].into(), codes.literal_lengths[symbol].into());
        writer.write((u32::from(token.length) - 3) & ((1 << extra) - 1), extra);
        let (symbol, extra) = distance_code(token.value);
        writer.write(distances[symbol].into(), codes.distance_lengths[symbol].into());
        writer.write((u32::from(token.value) - 1) & ((1 << extra) - 1), extra);
    }
    writer.write(literals[END_OF_BLOCK].into(), codes.literal_lengths[END_OF_BLOCK].into());
}
