//! Memory, from `/proc/meminfo`, in bytes.

use serde::Serialize;

use super::board::{Board, percent};
use super::host::Host;

#[derive(Debug, Default, PartialEq, Serialize)]
struct Memory {
    total: u64,
    available: u64,
    free: u64,
    buffers: u64,
    cached: u64,
    swap_total: u64,
    swap_free: u64,
}

pub(super) fn sample(host: &mut Host, board: &mut Board) {
    let Some(memory) = host.read("proc/meminfo").and_then(|text| parse(&text)) else { return };
    let used = memory.total.saturating_sub(memory.available);
    board.put_json("host/memory", &memory);
    board.put_int64("host/memory/available_bytes", memory.available);
    board.put_double("host/memory/used_percent", percent(used as f64, memory.total as f64));
}

/// `None` where the file does not say how much memory there is. Lines of other names or forms are skipped.
fn parse(text: &str) -> Option<Memory> {
    let mut memory = Memory::default();
    let mut available = None;
    for (name, bytes) in text.lines().filter_map(parse_line) {
        match name {
            "MemTotal" => memory.total = bytes,
            "MemAvailable" => available = Some(bytes),
            "MemFree" => memory.free = bytes,
            "Buffers" => memory.buffers = bytes,
            "Cached" => memory.cached = bytes,
            "SwapTotal" => memory.swap_total = bytes,
            "SwapFree" => memory.swap_free = bytes,
            _ => {}
        }
    }
    // Kernels before 3.14 have no estimate of their own; this is the usual one.
    memory.available = available.unwrap_or(memory.free.saturating_add(memory.buffers).saturating_add(memory.cached));
    (memory.total > 0).then_some(memory)
}

fn parse_line(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.split_once(':')?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((name, kibibytes.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibibytes_become_bytes() {
        let memory = parse("MemTotal:  8 kB\nMemFree: 2 kB\nMemAvailable: 5 kB\nCached: 1 kB\nSwapTotal: 3 kB\n").unwrap();
        let expected = Memory { total: 8192, available: 5120, free: 2048, buffers: 0, cached: 1024, swap_total: 3072, swap_free: 0 };
        assert_eq!(memory, expected);
    }

    #[test]
    fn available_is_estimated_where_the_kernel_does_not_say() {
        assert_eq!(parse("MemTotal: 9 kB\nMemFree: 1 kB\nBuffers: 1 kB\nCached: 1 kB").unwrap().available, 3072);
    }

    #[test]
    fn odd_lines_are_skipped() {
        for odd in ["", "MemTotal", "MemTotal: x kB", "MemTotal: 5", "MemTotal: 99999999999999999 kB", "::::"] {
            assert_eq!(parse(odd), None, "{odd:?}");
        }
        assert!(parse("HugePages_Total: 0\nnonsense\nMemTotal: 1 kB\nMemFree: -3 kB").is_some());
    }
}
