//! Where in a value six bytes stand: places sorted by hash, then by place, so the nearest to a wanted one are found first.

const HASHED_BYTES: usize = 6;
/// How many places are offered on each side of the one wanted.
const OFFERED: usize = 8;

#[derive(Default)]
pub struct Index {
    /// Where each hash's places begin; one more marks the end.
    starts: Vec<u32>,
    places: Vec<u32>,
    shift: u32,
}

impl Index {
    pub fn build(&mut self, value: &[u8]) {
        let bits = value.len().max(256).ilog2().min(16);
        self.shift = 64 - bits;
        let count = (value.len() + 1).saturating_sub(8);
        self.starts.clear();
        self.starts.resize((1 << bits) + 1, 0);
        self.places.clear();
        self.places.resize(count, 0);
        for eight in value.windows(8) {
            let hash = hash(eight, self.shift);
            self.starts[hash] += 1;
        }
        let mut sum = 0;
        for start in &mut self.starts {
            sum += *start;
            *start = sum;
        }
        // Each start is its hash's end so far, and moves back to the start as the places are put in from the last on.
        for (place, eight) in value.windows(8).enumerate().rev() {
            let start = &mut self.starts[hash(eight, self.shift)];
            *start -= 1;
            self.places[*start as usize] = place as u32;
        }
    }

    /// Places that may start like `wanted`, those nearest to `expected`.
    pub fn near(&self, wanted: &[u8], expected: usize) -> impl Iterator<Item = u32> {
        let places = match wanted.get(..8) {
            Some(eight) => {
                let hash = hash(eight, self.shift);
                &self.places[self.starts[hash] as usize..self.starts[hash + 1] as usize]
            }
            None => &[],
        };
        let middle = places.partition_point(|place| (*place as usize) < expected);
        places[middle.saturating_sub(OFFERED)..places.len().min(middle + OFFERED)].iter().copied()
    }
}

#[inline]
fn hash(eight: &[u8], shift: u32) -> usize {
    let word = u64::from_le_bytes(eight.try_into().expect("windows of eight bytes"));
    ((word << (64 - 8 * HASHED_BYTES)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
}
