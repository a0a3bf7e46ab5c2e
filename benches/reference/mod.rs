//! Reference forms: what the product's deltas are compared with. Own encoders of public formats, made to do well:
//! they share one matcher that weighs each match by what the form pays to tell it.

pub mod fossil;
pub mod splice;
pub mod vcdiff;
pub mod zlib;

/// A delta as the copying forms see it.
pub enum Piece {
    Add { start: usize, end: usize },
    Copy { from: usize, length: usize },
}

/// The matcher's view of a form.
pub struct Prices {
    /// Shorter copies are not told.
    pub copy_min: usize,
    /// Whether copies may come from the part of the target that is there already.
    pub from_target: bool,
    /// Bytes for a copy, where the one before ended at `last`.
    pub copy: fn(from: usize, length: usize, last: usize) -> usize,
}

const CANDIDATES: usize = 96;
const HASHED: usize = 4;

/// Cuts `target` into literal runs and copies from `source` (places from 0) or `target` (places behind the source's).
pub fn pieces(source: &[u8], target: &[u8], prices: &Prices) -> Vec<Piece> {
    let joined = [source, target].concat();
    let mut chains = Chains::new(joined.len());
    for place in 0..source.len() {
        if place + HASHED <= source.len() {
            chains.insert(&joined, place);
        }
    }
    let (mut pieces, mut place, mut literals, mut last) = (Vec::new(), 0, 0, 0);
    while place < target.len() {
        let here = best(&chains, source.len(), target, &joined, place, last + place - literals, prices);
        let Some((mut from, mut length)) = here else {
            chains.insert_target(&joined, source.len() + place, prices.from_target);
            place += 1;
            continue;
        };
        while place > literals && from > 0 && from != source.len() && joined[from - 1] == target[place - 1] {
            (from, length, place) = (from - 1, length + 1, place - 1);
        }
        if literals < place {
            pieces.push(Piece::Add { start: literals, end: place });
        }
        pieces.push(Piece::Copy { from, length });
        for inside in 0..length {
            chains.insert_target(&joined, source.len() + place + inside, prices.from_target);
        }
        place += length;
        literals = place;
        last = from + length;
    }
    if literals < place {
        pieces.push(Piece::Add { start: literals, end: place });
    }
    pieces
}

fn best(
    chains: &Chains,
    source: usize,
    target: &[u8],
    joined: &[u8],
    place: usize,
    expected: usize,
    prices: &Prices,
) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    let mut best_gain = 0;
    let mut consider = |from: usize| {
        let end = if from < source { source } else { joined.len() };
        let length = joined[from..end].iter().zip(&target[place..]).take_while(|(a, b)| a == b).count();
        let gain = length as isize - (prices.copy)(from, length, expected) as isize;
        if length >= prices.copy_min && gain > best_gain {
            (best, best_gain) = (Some((from, length)), gain);
        }
    };
    if expected < source {
        consider(expected);
    }
    let mut candidate = chains.first(joined, source + place);
    for _ in 0..CANDIDATES {
        let Some(from) = candidate else { break };
        consider(from);
        candidate = chains.before(from);
    }
    best
}

struct Chains {
    heads: Vec<u32>,
    chain: Vec<u32>,
}

impl Chains {
    fn new(length: usize) -> Self {
        Self { heads: vec![u32::MAX; 1 << 14], chain: vec![u32::MAX; length] }
    }

    fn hash(joined: &[u8], place: usize) -> Option<usize> {
        let word = u32::from_le_bytes(joined.get(place..place + HASHED)?.try_into().expect("four bytes"));
        Some((word.wrapping_mul(0x9e37_79b1) >> 18) as usize)
    }

    fn insert(&mut self, joined: &[u8], place: usize) {
        if let Some(hash) = Self::hash(joined, place) {
            self.chain[place] = std::mem::replace(&mut self.heads[hash], place as u32);
        }
    }

    fn insert_target(&mut self, joined: &[u8], place: usize, wanted: bool) {
        if wanted {
            self.insert(joined, place);
        }
    }

    fn first(&self, joined: &[u8], place: usize) -> Option<usize> {
        let head = self.heads[Self::hash(joined, place)?];
        (head != u32::MAX).then_some(head as usize)
    }

    fn before(&self, place: usize) -> Option<usize> {
        (self.chain[place] != u32::MAX).then_some(self.chain[place] as usize)
    }
}
