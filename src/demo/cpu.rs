//! What each core did since the last sample, from `/proc/stat`; the load, from `/proc/loadavg`.

use serde::Serialize;

use super::board::{Board, percent};
use super::host::Host;

#[derive(Default)]
pub(super) struct Cpu {
    before: Vec<Core>,
}

/// One line of `/proc/stat`: `total`, or a core's number, and the ticks it spent in each state.
#[derive(Clone, Debug, PartialEq)]
struct Core {
    name: String,
    ticks: Ticks,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ticks {
    user: u64,
    system: u64,
    idle: u64,
    iowait: u64,
    irq: u64,
    steal: u64,
}

/// Percent of the time between two samples.
#[derive(Debug, PartialEq, Serialize)]
struct Shares {
    user: f64,
    system: f64,
    idle: f64,
    iowait: f64,
    irq: f64,
    steal: f64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Load {
    #[serde(rename = "1m")]
    one_minute: f64,
    #[serde(rename = "5m")]
    five_minutes: f64,
    #[serde(rename = "15m")]
    fifteen_minutes: f64,
    running: u64,
    total: u64,
}

impl Cpu {
    pub fn sample(&mut self, host: &mut Host, board: &mut Board) {
        if let Some(load) = host.read("proc/loadavg").and_then(|text| parse_load(&text)) {
            board.put_json("host/load", &load);
        }
        let Some(text) = host.read("proc/stat") else { return };
        let cores = parse_stat(&text);
        for core in &cores {
            let Some(before) = self.before.iter().find(|before| before.name == core.name) else { continue };
            let path = format!("host/cpu/{}", core.name);
            board.put_json(&path, &core.ticks.shares_since(&before.ticks));
            board.put_double(&format!("{path}/busy_percent"), core.ticks.busy_since(&before.ticks));
        }
        self.before = cores;
    }
}

impl Ticks {
    fn shares_since(&self, before: &Self) -> Shares {
        let spent = self.since(before);
        let share = |ticks: u64| percent(ticks as f64, spent.sum() as f64);
        Shares {
            user: share(spent.user),
            system: share(spent.system),
            idle: share(spent.idle),
            iowait: share(spent.iowait),
            irq: share(spent.irq),
            steal: share(spent.steal),
        }
    }

    /// Percent of the time in which the core did anything but wait.
    fn busy_since(&self, before: &Self) -> f64 {
        let spent = self.since(before);
        percent((spent.sum() - spent.idle - spent.iowait) as f64, spent.sum() as f64)
    }

    /// The kernel's idle and iowait counters may go back a little; that counts as no time.
    fn since(&self, before: &Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            idle: self.idle.saturating_sub(before.idle),
            iowait: self.iowait.saturating_sub(before.iowait),
            irq: self.irq.saturating_sub(before.irq),
            steal: self.steal.saturating_sub(before.steal),
        }
    }

    fn sum(&self) -> u64 {
        let parts = [self.user, self.system, self.idle, self.iowait, self.irq, self.steal];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// The cores of `/proc/stat`. Old kernels leave out the last columns: those count as 0.
fn parse_stat(text: &str) -> Vec<Core> {
    text.lines().take_while(|line| line.starts_with("cpu")).filter_map(parse_core).collect()
}

fn parse_core(line: &str) -> Option<Core> {
    let mut words = line.split_ascii_whitespace();
    let name = match words.next()?.strip_prefix("cpu")? {
        "" => "total".to_owned(),
        number => number.parse::<u32>().ok()?.to_string(),
    };
    let columns: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    if columns.len() < 4 {
        return None;
    }
    let column = |index: usize| columns.get(index).copied().unwrap_or(0);
    // The guest columns are left out: the kernel counts that time in `user` and `nice` already.
    let ticks = Ticks {
        user: column(0).saturating_add(column(1)),
        system: column(2),
        idle: column(3),
        iowait: column(4),
        irq: column(5).saturating_add(column(6)),
        steal: column(7),
    };
    Some(Core { name, ticks })
}

fn parse_load(text: &str) -> Option<Load> {
    let mut words = text.split_ascii_whitespace();
    let mut average = || words.next()?.parse::<f64>().ok().filter(|average| average.is_finite());
    let (one_minute, five_minutes, fifteen_minutes) = (average()?, average()?, average()?);
    let (running, total) = words.next()?.split_once('/')?;
    let (running, total) = (running.parse().ok()?, total.parse().ok()?);
    Some(Load { one_minute, five_minutes, fifteen_minutes, running, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_stat(text: &str, names: &[&str]) {
        let cores = parse_stat(text);
        assert_eq!(cores.iter().map(|core| core.name.as_str()).collect::<Vec<_>>(), names, "in {text:?}");
    }

    #[test]
    fn every_core_and_their_total_are_read() {
        check_stat("cpu  9 0 1 90 0 0 0 0 0 0\ncpu0 4 0 1 45 0 0 0 0\ncpu11 5 0 0 45 0 0 0 0\nctxt 7\n", &["total", "0", "11"]);
    }

    #[test]
    fn a_bad_core_line_is_skipped() {
        check_stat("cpu 1 2 3 4\ncpu0 one 2 3 4\ncpux 1 2 3 4\ncpu2 1 2\ncpu3 1 2 3 4\n", &["total", "3"]);
        check_stat("", &[]);
        check_stat("cpu", &[]);
        check_stat("cpu 99999999999999999999999 1 1 1", &[]);
    }

    #[test]
    fn shares_are_percent_of_the_interval() {
        let ticks = |line| parse_core(line).unwrap().ticks;
        let (before, now) = (ticks("cpu0 10 0 10 100 0 0 0 0"), ticks("cpu0 15 5 20 175 5 1 1 3"));
        let shares = now.shares_since(&before);
        assert_eq!(shares, Shares { user: 9.5, system: 9.5, idle: 71.4, iowait: 4.8, irq: 1.9, steal: 2.9 });
        assert_eq!(now.busy_since(&before), 23.8);
    }

    #[test]
    fn an_interval_without_ticks_is_all_zero() {
        let ticks = parse_core("cpu0 1 2 3 4").unwrap().ticks;
        assert_eq!(ticks.busy_since(&ticks), 0.0);
    }

    #[test]
    fn load_has_averages_and_counts() {
        let load = Load { one_minute: 0.5, five_minutes: 1.25, fifteen_minutes: 2.0, running: 3, total: 412 };
        assert_eq!(parse_load("0.50 1.25 2.00 3/412 9001\n"), Some(load));
        for odd in ["", "0.5 1.0", "a b c 1/2", "1 1 1 12", "1 1 1 x/y", "NaN 1 1 1/2"] {
            assert_eq!(parse_load(odd), None, "{odd:?}");
        }
    }
}
