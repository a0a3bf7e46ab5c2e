//! This host's telemetry as topic updates.
//!
//! A sample says what changed since the one before, never more. Rates and shares are those between two samples, so
//! their topics come with the second. What cannot be read is left out: no file that is missing, vanishes or has
//! another form than expected is an error.

use std::path::Path;

use super::board::Board;
use super::cpu::Cpu;
use super::disk::Disks;
use super::host::Host;
use super::memory;
use super::network::Network;
use super::process::Processes;
use crate::value::ValueType;

/// A topic's new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub path: String,
    pub kind: ValueType,
    /// As it goes over the wire: compact JSON text, UTF-8, or 8 bytes big-endian.
    pub value: Vec<u8>,
}

/// What changed between two samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub updates: Vec<Update>,
    /// Paths of topics that went away, as that of a process that ended.
    pub removed: Vec<String>,
}

/// Call `sample` several times a second; each call reads some forty small files.
pub struct Telemetry {
    host: Host,
    board: Board,
    sampled_ns: Option<u64>,
    cpu: Cpu,
    disks: Disks,
    network: Network,
    processes: Processes,
}

impl Telemetry {
    /// Reads `proc` and `sys` below `root`, which is `/` but in tests.
    pub fn new(root: &Path) -> Self {
        Self {
            host: Host::new(root),
            board: Board::default(),
            sampled_ns: None,
            cpu: Cpu::default(),
            disks: Disks::default(),
            network: Network::default(),
            processes: Processes::default(),
        }
    }

    /// What changed until `now_ns`, nanoseconds of a clock that never goes back. A time that is not later than the
    /// last sample's says nothing.
    pub fn sample(&mut self, now_ns: u64) -> Sample {
        let elapsed_ns = self.sampled_ns.map(|before| now_ns.saturating_sub(before));
        if elapsed_ns == Some(0) {
            return Sample::default();
        }
        self.sampled_ns = Some(now_ns);
        // The first sample has nothing to compare with, so the samplers do not use its interval.
        let seconds = elapsed_ns.unwrap_or(1) as f64 / 1e9;
        let (host, board) = (&mut self.host, &mut self.board);
        sample_identity(host, board);
        self.cpu.sample(host, board);
        memory::sample(host, board);
        self.disks.sample(host, seconds, now_ns, board);
        self.network.sample(host, seconds, board);
        self.processes.sample(host, now_ns, board);
        self.board.finish_round()
    }
}

fn sample_identity(host: &mut Host, board: &mut Board) {
    for (path, file) in [("host/name", "proc/sys/kernel/hostname"), ("host/kernel", "proc/sys/kernel/osrelease")] {
        if let Some(text) = host.read_trimmed(file) {
            board.put_string(path, &text);
        }
    }
    if let Some(seconds) = host.read("proc/uptime").and_then(|text| parse_uptime(&text)) {
        board.put_double("host/uptime_s", seconds);
    }
}

fn parse_uptime(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok().filter(|seconds: &f64| seconds.is_finite())
}

#[cfg(test)]
mod tests;
