//! The processes that use most of the host, from `/proc/<pid>/stat`.
//!
//! All processes are looked at seldom, those shown at every sample: a look at one costs several system calls,
//! and a host has thousands. Who is shown changes only when ranks change clearly, so that topics do not flicker.

use std::collections::HashMap;

use serde::Serialize;

use super::board::{Board, round1};
use super::host::{Host, Units};

/// How many processes are shown.
const SHOWN_MAX: usize = 20;
/// A process below this rank leaves; one above `RANK_ENTER` displaces the lowest of those shown.
const RANK_STAY: usize = 30;
const RANK_ENTER: usize = 10;
/// The kernel counts processor time in ticks of about 10 ms: over less than this the share would jump.
const CPU_WINDOW_NS: u64 = 1_000_000_000;
/// All processes are looked at this often, and more seldom the more there are.
const SCAN_EVERY_NS: u64 = 2_000_000_000;
const SCAN_NS_PER_PROCESS: u64 = 4_000_000;

#[derive(Default)]
pub(super) struct Processes {
    tracks: HashMap<u32, Track>,
    shown: Vec<u32>,
    scan_due_ns: u64,
}

/// One process as last seen, and since when its processor time is measured.
struct Track {
    stat: Stat,
    window_ticks: u64,
    window_ns: u64,
    /// Of one core; unknown until the first window ends.
    cpu_percent: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
struct Stat {
    name: String,
    state: char,
    ticks: u64,
    threads: u64,
    /// When the process started: a number of another process that ended may be given out again.
    start: u64,
    rss_pages: u64,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    state: &'static str,
    cpu_percent: Option<f64>,
    rss_bytes: u64,
    threads: u64,
}

impl Processes {
    pub fn sample(&mut self, host: &mut Host, now_ns: u64, board: &mut Board) {
        if now_ns >= self.scan_due_ns {
            self.scan(host, now_ns);
        } else {
            self.look_at_shown(host, now_ns);
        }
        for pid in &self.shown {
            let Some(track) = self.tracks.get(pid) else { continue };
            board.put_json(&format!("host/process/{pid}"), &track.shown(host.units));
        }
    }

    fn scan(&mut self, host: &mut Host, now_ns: u64) {
        let pids: Vec<u32> = host.names("proc").iter().filter_map(|name| name.parse().ok()).collect();
        let mut before = std::mem::take(&mut self.tracks);
        for &pid in &pids {
            if let Some(stat) = read_stat(host, pid) {
                let track = Track::follow(before.remove(&pid), stat, now_ns, host.units);
                self.tracks.insert(pid, track);
            }
        }
        self.choose();
        let pause_ns = (pids.len() as u64).saturating_mul(SCAN_NS_PER_PROCESS).max(SCAN_EVERY_NS);
        self.scan_due_ns = now_ns.saturating_add(pause_ns);
    }

    fn look_at_shown(&mut self, host: &mut Host, now_ns: u64) {
        for pid in &self.shown {
            let before = self.tracks.remove(pid);
            // A number that stands for another process by now waits for the next scan, where it is ranked.
            let stat = read_stat(host, *pid).filter(|stat| before.as_ref().is_some_and(|b| b.stat.start == stat.start));
            if let Some(stat) = stat {
                self.tracks.insert(*pid, Track::follow(before, stat, now_ns, host.units));
            }
        }
        let tracks = &self.tracks;
        self.shown.retain(|pid| tracks.contains_key(pid));
    }

    fn choose(&mut self) {
        let mut ranked: Vec<(u32, i64, u64)> =
            self.tracks.iter().map(|(&pid, track)| (pid, track.cpu_rank(), track.stat.rss_pages)).collect();
        ranked.sort_by_key(|&(pid, cpu, pages)| (std::cmp::Reverse((cpu, pages)), pid));
        let ranked: Vec<u32> = ranked.into_iter().map(|(pid, ..)| pid).collect();
        self.shown = choose(&ranked, &self.shown);
    }
}

/// Who is shown next, of all in order of rank and those shown before.
fn choose(ranked: &[u32], shown: &[u32]) -> Vec<u32> {
    let (enter, rest) = ranked.split_at(ranked.len().min(RANK_ENTER));
    let stays = rest.iter().take(RANK_STAY - RANK_ENTER).filter(|pid| shown.contains(pid));
    let mut next: Vec<u32> = enter.iter().chain(stays).copied().take(SHOWN_MAX).collect();
    for pid in rest {
        if next.len() >= SHOWN_MAX {
            break;
        }
        if !next.contains(pid) {
            next.push(*pid);
        }
    }
    next
}

impl Track {
    /// The process `before` as it is now, or a new one.
    fn follow(before: Option<Self>, stat: Stat, now_ns: u64, units: Units) -> Self {
        let Some(before) = before.filter(|before| before.stat.start == stat.start) else {
            return Self { window_ticks: stat.ticks, window_ns: now_ns, cpu_percent: None, stat };
        };
        let elapsed_ns = now_ns.saturating_sub(before.window_ns);
        if elapsed_ns < CPU_WINDOW_NS {
            return Self { stat, ..before };
        }
        let seconds = stat.ticks.saturating_sub(before.window_ticks) as f64 / units.ticks_per_second;
        let cpu_percent = Some(round1(seconds / (elapsed_ns as f64 / 1e9) * 100.0));
        Self { window_ticks: stat.ticks, window_ns: now_ns, cpu_percent, stat }
    }

    /// Whole percents: less is not worth a change of rank.
    fn cpu_rank(&self) -> i64 {
        self.cpu_percent.map_or(0, |percent| percent as i64)
    }

    fn shown(&self, units: Units) -> Shown<'_> {
        Shown {
            name: &self.stat.name,
            state: state_name(self.stat.state),
            cpu_percent: self.cpu_percent,
            rss_bytes: self.stat.rss_pages.saturating_mul(units.page_bytes),
            threads: self.stat.threads,
        }
    }
}

fn read_stat(host: &mut Host, pid: u32) -> Option<Stat> {
    host.read(&format!("proc/{pid}/stat")).and_then(|text| parse_stat(&text))
}

/// `pid (name) state …`: the name may itself hold spaces and brackets, so it ends at the last bracket.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let columns: Vec<&str> = after.split_ascii_whitespace().collect();
    // proc(5) counts the columns from 1 and the state is its third.
    let column = |number: usize| columns.get(number - 3).copied();
    let count = |number: usize| column(number)?.parse::<u64>().ok();
    Some(Stat {
        name: name.to_owned(),
        state: column(3)?.chars().next()?,
        ticks: count(14)?.saturating_add(count(15)?),
        threads: count(20)?,
        start: count(22)?,
        rss_pages: count(24)?,
    })
}

fn state_name(state: char) -> &'static str {
    match state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "waiting",
        'Z' => "zombie",
        'T' | 't' => "stopped",
        'I' => "idle",
        'X' | 'x' => "dead",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: Units = Units { ticks_per_second: 100.0, page_bytes: 4096 };

    fn stat(start: u64, ticks: u64) -> Stat {
        Stat { name: "x".into(), state: 'S', ticks, threads: 1, start, rss_pages: 2 }
    }

    #[test]
    fn a_name_may_hold_brackets_and_spaces() {
        let text = "77 (a (b) c) R 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20 0 6 0 5000 999 256 1 1\n";
        let expected = Stat { name: "a (b) c".into(), state: 'R', ticks: 42, threads: 6, start: 5000, rss_pages: 256 };
        assert_eq!(parse_stat(text), Some(expected));
    }

    #[test]
    fn an_odd_line_is_no_process() {
        for odd in ["", "1", "1 (x", "1 x) S", "1 (x) S 1 2 3", "1 (x)", ")(", "1 (x) R 1 1 1 0 -1 0 0 0 0 0 a b 0 0 20 0 6 0 5 9 2"] {
            assert_eq!(parse_stat(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn processor_time_is_a_share_of_one_core_over_a_whole_window() {
        let first = Track::follow(None, stat(1, 100), 0, UNITS);
        assert_eq!(first.cpu_percent, None);
        let within = Track::follow(Some(first), stat(1, 150), 500_000_000, UNITS);
        assert_eq!(within.cpu_percent, None);
        let after = Track::follow(Some(within), stat(1, 400), 2_000_000_000, UNITS);
        assert_eq!(after.cpu_percent, Some(150.0));
    }

    #[test]
    fn a_number_given_out_again_starts_anew() {
        let first = Track::follow(None, stat(1, 1000), 0, UNITS);
        let other = Track::follow(Some(first), stat(2, 1), 5_000_000_000, UNITS);
        assert_eq!((other.cpu_percent, other.window_ticks), (None, 1));
    }

    #[test]
    fn ranks_near_the_edge_do_not_change_who_is_shown() {
        let ranked: Vec<u32> = (0..40).collect();
        let shown = choose(&ranked, &[]);
        assert_eq!(shown, (0..20).collect::<Vec<_>>());
        let mut swapped = ranked.clone();
        swapped.swap(19, 25);
        let mut kept = choose(&swapped, &shown);
        kept.sort_unstable();
        assert_eq!(kept, shown, "19 fell to rank 25 and stays");
    }

    #[test]
    fn a_process_that_rises_clearly_displaces_the_lowest() {
        let shown: Vec<u32> = (0..20).collect();
        let ranked: Vec<u32> = std::iter::once(99).chain(0..40).collect();
        let next = choose(&ranked, &shown);
        assert!(next.contains(&99) && !next.contains(&19));
        assert_eq!(next.len(), SHOWN_MAX);
    }

    #[test]
    fn few_processes_are_all_shown() {
        assert_eq!(choose(&[5, 3], &[9]), [5, 3]);
        assert!(choose(&[], &[1]).is_empty());
    }
}
