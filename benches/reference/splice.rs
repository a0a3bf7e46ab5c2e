//! One splice: what both values have in common at the start and at the end is left out.

pub fn encode(previous: &[u8], next: &[u8]) -> Vec<u8> {
    let prefix = previous.iter().zip(next).take_while(|(a, b)| a == b).count();
    let suffix = previous[prefix..].iter().rev().zip(next[prefix..].iter().rev()).take_while(|(a, b)| a == b).count();
    let mut out = Vec::new();
    varint(prefix, &mut out);
    varint(previous.len() - prefix - suffix, &mut out);
    out.extend_from_slice(&next[prefix..next.len() - suffix]);
    out
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
