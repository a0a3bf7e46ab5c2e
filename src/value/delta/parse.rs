//! Which matches and literals a DEFLATE stream is made of.
//!
//! `Matches` finds, for each place of a text, the earlier places that go on the same way; `Parse` picks the cheapest
//! way through them under given costs. Bounded: the chains are searched to a fixed depth, and long matches are
//! taken without looking further. Writing the stream is left to `deflate`.

/// The farthest a DEFLATE match reaches back.
pub const WINDOW_BYTES: usize = 32_768;
const MATCH_MIN: usize = 3;
const MATCH_MAX: usize = 258;
/// A match as long as this is taken at once. Text in between changed places is left behind in a few steps.
const TAKEN_AT_ONCE: usize = 16;
const NOWHERE: u32 = u32::MAX;

/// A literal (length 0, the byte) or a match (its length and distance).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub length: u16,
    pub value: u16,
}

impl Token {
    pub fn literal(byte: u8) -> Self {
        Self { length: 0, value: byte.into() }
    }
}

/// Code and number of extra bits for a length of 3..=258: RFC 1951, 3.2.5.
pub fn length_code(length: u16) -> (usize, u32) {
    let x = u32::from(length) - 3;
    match x {
        0..8 => (257 + x as usize, 0),
        255 => (285, 0),
        _ => {
            let n = x.ilog2();
            ((257 + 4 * (n - 1) + (x >> (n - 2) & 3)) as usize, n - 2)
        }
    }
}

/// Code and number of extra bits for a distance of 1..=32768: RFC 1951, 3.2.5.
pub fn distance_code(distance: u16) -> (usize, u32) {
    let x = u32::from(distance) - 1;
    if x < 4 {
        return (x as usize, 0);
    }
    let n = x.ilog2();
    ((2 * n + (x >> (n - 1) & 1)) as usize, n - 1)
}

/// What each symbol costs, in bits, extra bits counted.
pub struct Costs {
    literal: [u16; 256],
    length: [u16; MATCH_MAX + 1],
    distance: [u16; 30],
}

impl Costs {
    /// From the code lengths of literals and lengths, and of distances. A symbol without a code costs `absent`.
    pub fn new(literals: &[u8], distances: &[u8], absent: u16) -> Self {
        let bits = |lengths: &[u8], symbol: usize| if lengths[symbol] == 0 { absent } else { lengths[symbol].into() };
        let mut costs = Self { literal: [0; 256], length: [0; MATCH_MAX + 1], distance: [0; 30] };
        for symbol in 0..256 {
            costs.literal[symbol] = bits(literals, symbol);
        }
        for length in MATCH_MIN..=MATCH_MAX {
            let (code, extra) = length_code(length as u16);
            costs.length[length] = bits(literals, code) + extra as u16;
        }
        for code in 0..30 {
            costs.distance[code] = bits(distances, code) + (code as u16 / 2).saturating_sub(1);
        }
        costs
    }
}

/// Hash chains over a window, and the matches found for one block of it.
#[derive(Default)]
pub struct Matches {
    heads: Vec<u32>,
    /// The place before with the same hash, for each place of the window.
    chain: Vec<u32>,
    shift: u32,
    depth: usize,
    /// A match this long at the last distance is taken without looking for a nearer one.
    trusted: usize,
    last_distance: usize,
    /// The matches found, and where those of each place of the block begin; one more marks the end.
    found: Vec<Token>,
    first: Vec<u32>,
}

impl Matches {
    /// Forgets all and takes in the dictionary, the window's first `dictionary` bytes.
    pub fn start(&mut self, window: &[u8], dictionary: usize) {
        let text = window.len() - dictionary;
        let bits = window.len().max(256).ilog2().min(15);
        self.shift = 32 - bits;
        self.heads.clear();
        self.heads.resize(1 << bits, NOWHERE);
        // What an older window left here is never read: chains are followed from the heads, through places inserted since.
        if self.chain.len() < window.len() {
            self.chain.resize(window.len(), NOWHERE);
        }
        (self.depth, self.trusted) = if text <= 2048 {
            (16, TAKEN_AT_ONCE)
        } else if text <= 16_384 {
            (32, 64)
        } else {
            (16, 64)
        };
        self.last_distance = dictionary;
        for place in 0..dictionary {
            self.insert(window, place);
        }
    }

    fn hash(&self, window: &[u8], place: usize) -> Option<usize> {
        let bytes = window.get(place..place + 4)?;
        let word = u32::from_le_bytes(bytes.try_into().expect("four bytes were taken"));
        Some((word.wrapping_mul(0x9e37_79b1) >> self.shift) as usize)
    }

    #[inline]
    fn insert(&mut self, window: &[u8], place: usize) {
        if let Some(hash) = self.hash(window, place) {
            self.chain[place] = std::mem::replace(&mut self.heads[hash], place as u32);
        }
    }

    /// Finds the matches for `window[start..end]`. What is before must have been taken in.
    pub fn find(&mut self, window: &[u8], start: usize, end: usize) {
        self.found.clear();
        self.first.clear();
        let mut place = start;
        while place < end {
            self.first.push(self.found.len() as u32);
            let longest = self.find_at(window, place, end);
            self.insert(window, place);
            place += 1;
            if longest >= TAKEN_AT_ONCE {
                // What is inside a long match stands in the window once already, so its middle is left out.
                let after = place + longest - 1;
                let edge = if longest > 128 { after - 32 } else { place };
                for inside in edge..after {
                    self.insert(window, inside);
                }
                self.first.resize(after - start, self.found.len() as u32);
                place = after;
            }
        }
        self.first.push(self.found.len() as u32);
    }

    /// Notes the matches at `place`, each longer than the one before, and returns the longest's length.
    fn find_at(&mut self, window: &[u8], place: usize, end: usize) -> usize {
        let longest_possible = MATCH_MAX.min(end - place);
        if longest_possible < MATCH_MIN {
            return 0;
        }
        let lowest = place.saturating_sub(WINDOW_BYTES);
        let mut longest = MATCH_MIN - 1;
        let distance = self.last_distance;
        if distance > 0 && distance <= place - lowest {
            let length = common_prefix(&window[place - distance..], &window[place..place + longest_possible]);
            if length >= self.trusted.min(longest_possible).max(MATCH_MIN) {
                self.found.push(Token { length: length as u16, value: distance as u16 });
                return length;
            }
        }
        let Some(hash) = self.hash(window, place) else { return 0 };
        let mut candidate = self.heads[hash];
        for _ in 0..self.depth {
            let from = candidate as usize;
            if candidate == NOWHERE || from < lowest {
                break;
            }
            candidate = self.chain[from];
            if window[from + longest] != window[place + longest] {
                continue;
            }
            let length = common_prefix(&window[from..], &window[place..place + longest_possible]);
            if length > longest {
                longest = length;
                self.found.push(Token { length: length as u16, value: (place - from) as u16 });
                if length == longest_possible {
                    break;
                }
            }
        }
        if distance > 0 && distance <= place - lowest && longest < longest_possible {
            let length = common_prefix(&window[place - distance..], &window[place..place + longest_possible]);
            if length > longest {
                longest = length;
                self.found.push(Token { length: length as u16, value: distance as u16 });
            }
        }
        if longest < MATCH_MIN {
            return 0;
        }
        if longest >= TAKEN_AT_ONCE {
            let last = *self.found.last().expect("a match was noted");
            self.last_distance = last.value.into();
        }
        longest
    }
}

/// How many first bytes `a` and `b` have in common.
#[inline]
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let length_max = a.len().min(b.len());
    let mut length = 0;
    while length + 8 <= length_max {
        let x = u64::from_le_bytes(a[length..length + 8].try_into().expect("eight bytes were taken"));
        let y = u64::from_le_bytes(b[length..length + 8].try_into().expect("eight bytes were taken"));
        if x != y {
            return length + ((x ^ y).trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    while length < length_max && a[length] == b[length] {
        length += 1;
    }
    length
}

/// The cheapest way through a block.
#[derive(Default)]
pub struct Parse {
    /// The least cost of reaching each place, and the token that ends there.
    cost: Vec<u32>,
    reached_by: Vec<Token>,
    pub tokens: Vec<Token>,
}

impl Parse {
    /// Puts the cheapest tokens for `block` into `tokens`. `matches` must have been found for it.
    pub fn run(&mut self, block: &[u8], matches: &Matches, costs: &Costs) {
        self.cost.clear();
        self.cost.resize(block.len() + 1, u32::MAX);
        self.reached_by.clear();
        self.reached_by.resize(block.len() + 1, Token::literal(0));
        self.cost[0] = 0;
        let mut place = 0;
        while place < block.len() {
            let found = &matches.found[matches.first[place] as usize..matches.first[place + 1] as usize];
            match found.last() {
                Some(last) if usize::from(last.length) >= TAKEN_AT_ONCE => {
                    let length = last.length.into();
                    self.reach(place, *last, length, costs);
                    place += length;
                }
                _ => {
                    self.step(block[place], place, found, costs);
                    place += 1;
                }
            }
        }
        self.trace(block.len());
    }

    #[inline]
    fn step(&mut self, byte: u8, place: usize, found: &[Token], costs: &Costs) {
        let here = self.cost[place];
        let cost = here + u32::from(costs.literal[usize::from(byte)]);
        if cost < self.cost[place + 1] {
            self.cost[place + 1] = cost;
            self.reached_by[place + 1] = Token::literal(byte);
        }
        let mut shorter = MATCH_MIN;
        for token in found {
            self.reach(place, *token, shorter, costs);
            shorter = usize::from(token.length) + 1;
        }
    }

    /// Notes what it costs to go on from `place` by the match, cut to each length from `shortest` on.
    #[inline]
    fn reach(&mut self, place: usize, token: Token, shortest: usize, costs: &Costs) {
        let before = self.cost[place] + u32::from(costs.distance[distance_code(token.value).0]);
        let longest = usize::from(token.length);
        let cost = &mut self.cost[place..=place + longest][shortest..];
        let reached_by = &mut self.reached_by[place..=place + longest][shortest..];
        for (index, ((cost, reached_by), price)) in cost.iter_mut().zip(reached_by).zip(&costs.length[shortest..=longest]).enumerate() {
            let here = before + u32::from(*price);
            if here < *cost {
                *cost = here;
                *reached_by = Token { length: (shortest + index) as u16, value: token.value };
            }
        }
    }

    fn trace(&mut self, end: usize) {
        self.tokens.clear();
        let mut place = end;
        while place > 0 {
            let token = self.reached_by[place];
            self.tokens.push(token);
            place -= usize::from(token.length).max(1);
        }
        self.tokens.reverse();
    }
}
