//! Prefix codes for DEFLATE: lengths from frequencies, codes from lengths, and the bits they are written in.

/// The longest code that DEFLATE allows for literals, lengths and distances.
pub const CODE_BITS_MAX: u8 = 15;

/// Room to build a code in, kept between uses.
#[derive(Default)]
pub struct Builder {
    /// Symbols in use with their weight, lightest first, then the inner nodes.
    nodes: Vec<(u32, u16)>,
    parents: Vec<u16>,
}

impl Builder {
    /// Sets `lengths` to those of a best code for the `counts`, none longer than `bits_max`. At least two symbols get
    /// a code, as an incomplete code of one is refused by some decoders.
    pub fn build(&mut self, counts: &[u32], bits_max: u8, lengths: &mut [u8]) {
        let mut flatter = 0;
        while !self.try_build(counts, bits_max, flatter, lengths) {
            flatter += 1;
        }
    }

    /// With each weight divided by 2^`flatter` the tree gets less deep.
    fn try_build(&mut self, counts: &[u32], bits_max: u8, flatter: u32, lengths: &mut [u8]) -> bool {
        lengths.fill(0);
        self.nodes.clear();
        let used = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        self.nodes.extend(used.map(|(symbol, count)| ((count >> flatter).max(1), symbol as u16)));
        for symbol in 0..2 {
            if self.nodes.len() < 2 && counts[symbol as usize] == 0 {
                self.nodes.push((1, symbol));
            }
        }
        self.nodes.sort_unstable();
        let leaves = self.nodes.len();
        self.join(leaves);
        // A parent stands behind its children, so walking back meets it first.
        let root = self.nodes.len() - 1;
        let mut depths = [0_u8; 2 * 288];
        for node in (0..root).rev() {
            depths[node] = depths[usize::from(self.parents[node])] + 1;
            if node < leaves {
                if depths[node] > bits_max {
                    return false;
                }
                lengths[usize::from(self.nodes[node].1)] = depths[node];
            }
        }
        true
    }

    /// Joins the two lightest nodes until one is left. Inner nodes come out lightest first, so two queues do.
    fn join(&mut self, leaves: usize) {
        self.parents.clear();
        self.parents.resize(2 * leaves, 0);
        let (mut leaf, mut inner) = (0, leaves);
        for parent in leaves..2 * leaves - 1 {
            let mut weight = 0;
            for _ in 0..2 {
                let from_leaves = leaf < leaves && (inner >= parent || self.nodes[leaf].0 <= self.nodes[inner].0);
                let child = if from_leaves { &mut leaf } else { &mut inner };
                weight += self.nodes[*child].0;
                self.parents[*child] = parent as u16;
                *child += 1;
            }
            self.nodes.push((weight, 0));
        }
    }
}

/// Sets `codes` to the canonical codes of the `lengths` (RFC 1951, 3.2.2), first bit lowest, as they are written.
pub fn canonical_codes(lengths: &[u8], codes: &mut [u16]) {
    let mut used = [0_u16; CODE_BITS_MAX as usize + 1];
    for length in lengths.iter().filter(|length| **length > 0) {
        used[usize::from(*length)] += 1;
    }
    let mut next = [0_u16; CODE_BITS_MAX as usize + 1];
    for bits in 1..CODE_BITS_MAX as usize {
        next[bits + 1] = (next[bits] + used[bits]) << 1;
    }
    for (code, length) in codes.iter_mut().zip(lengths).filter(|(_, length)| **length > 0) {
        let length = usize::from(*length);
        *code = next[length].reverse_bits() >> (16 - length);
        next[length] += 1;
    }
}

/// Appends bits to bytes, lowest bit first.
pub struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    held_bits: u32,
}

impl<'a> BitWriter<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, held: 0, held_bits: 0 }
    }

    /// Writes the lowest `count` bits of `bits`, at most 32; the others are zero.
    #[inline]
    pub fn write(&mut self, bits: u32, count: u32) {
        self.held |= u64::from(bits) << self.held_bits;
        self.held_bits += count;
        if self.held_bits >= 32 {
            self.out.extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.held_bits -= 32;
        }
    }

    /// Fills up the byte begun with zero bits and appends `bytes`.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        self.align();
        self.out.extend_from_slice(bytes);
    }

    pub fn align(&mut self) {
        while self.held_bits > 0 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.held_bits = self.held_bits.saturating_sub(8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_rfc_example() {
        let mut codes = [0; 8];
        canonical_codes(&[3, 3, 3, 3, 3, 2, 4, 4], &mut codes);
        let expected: [(u16, u32); 8] = [(0b010, 3), (0b011, 3), (0b100, 3), (0b101, 3), (0b110, 3), (0b00, 2), (0b1110, 4), (0b1111, 4)];
        for (code, (bits, length)) in codes.iter().zip(expected) {
            assert_eq!(*code, bits.reverse_bits() >> (16 - length));
        }
    }

    #[test]
    fn no_code_is_longer_than_allowed() {
        let mut counts = [0_u32; 40];
        let (mut a, mut b) = (1, 1);
        for count in &mut counts {
            *count = a;
            (a, b) = (b, a + b);
        }
        let mut lengths = [0; 40];
        Builder::default().build(&counts, 15, &mut lengths);
        let filled: f64 = lengths.iter().map(|length| 0.5_f64.powi((*length).into())).sum();
        assert!(lengths.iter().all(|length| (1..=15).contains(length)));
        assert_eq!(filled, 1.0);
    }

    #[test]
    fn a_single_symbol_gets_a_complete_code() {
        let mut lengths = [0; 4];
        Builder::default().build(&[0, 0, 9, 0], 15, &mut lengths);
        assert_eq!(lengths, [1, 0, 1, 0]);
    }
}
