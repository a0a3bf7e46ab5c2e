//! What each network interface carried since the last sample, from `/proc/net/dev`; sockets, from `/proc/net/sockstat`.

use serde::Serialize;

use super::board::{Board, per_second, round1, segment};
use super::host::Host;

/// A host with more, as one with thousands of virtual interfaces, shows the first of them.
const INTERFACES_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Network {
    before: Vec<Interface>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Interface {
    name: String,
    rx: Counters,
    tx: Counters,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    bytes: u64,
    packets: u64,
    errors: u64,
    dropped: u64,
}

#[derive(Serialize)]
struct Rates {
    state: String,
    rx_bytes_per_s: f64,
    tx_bytes_per_s: f64,
    rx_packets_per_s: f64,
    tx_packets_per_s: f64,
    /// These count since the interface came up.
    rx_errors: u64,
    tx_errors: u64,
    rx_dropped: u64,
    tx_dropped: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Sockets {
    used: u64,
    tcp_in_use: u64,
    tcp_time_wait: u64,
    udp_in_use: u64,
}

impl Network {
    pub fn sample(&mut self, host: &mut Host, seconds: f64, board: &mut Board) {
        if let Some(sockets) = host.read("proc/net/sockstat").and_then(|text| parse_sockets(&text)) {
            board.put_json("host/sockets", &sockets);
        }
        let Some(interfaces) = host.read("proc/net/dev").map(|text| parse_interfaces(&text)) else { return };
        for interface in &interfaces {
            let Some(before) = self.before.iter().find(|before| before.name == interface.name) else { continue };
            let path = format!("host/network/{}", segment(&interface.name));
            let rates = interface.rates_since(before, seconds, read_state(host, &interface.name));
            board.put_double(&format!("{path}/rx_bytes_per_s"), rates.rx_bytes_per_s);
            board.put_double(&format!("{path}/tx_bytes_per_s"), rates.tx_bytes_per_s);
            board.put_json(&path, &rates);
        }
        self.before = interfaces;
    }
}

/// `up`, `down` or `unknown`, as the kernel has it. A name is looked up only if it is one path segment.
fn read_state(host: &mut Host, name: &str) -> String {
    let state = match name.contains('/') || name.starts_with('.') {
        true => None,
        false => host.read_trimmed(&format!("sys/class/net/{name}/operstate")),
    };
    state.unwrap_or_else(|| "unknown".to_owned())
}

impl Interface {
    fn rates_since(&self, before: &Self, seconds: f64, state: String) -> Rates {
        let rate = |now, before| per_second(now, before, seconds);
        Rates {
            state,
            rx_bytes_per_s: rate(self.rx.bytes, before.rx.bytes).round(),
            tx_bytes_per_s: rate(self.tx.bytes, before.tx.bytes).round(),
            rx_packets_per_s: round1(rate(self.rx.packets, before.rx.packets)),
            tx_packets_per_s: round1(rate(self.tx.packets, before.tx.packets)),
            rx_errors: self.rx.errors,
            tx_errors: self.tx.errors,
            rx_dropped: self.rx.dropped,
            tx_dropped: self.tx.dropped,
        }
    }
}

/// The two lines of headings have no counters, so they are skipped like any line of another form.
fn parse_interfaces(text: &str) -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = text.lines().filter_map(parse_interface).collect();
    // An interface that has carried nothing is put behind those that have, so that the bound drops it first.
    interfaces.sort_by_key(|interface| interface.rx.bytes == 0 && interface.tx.bytes == 0);
    interfaces.truncate(INTERFACES_MAX);
    interfaces
}

/// `name: bytes packets errs drop fifo frame compressed multicast bytes packets errs drop …`; the first counter may touch the colon.
fn parse_interface(line: &str) -> Option<Interface> {
    // The name of an alias holds a colon itself; counters never do.
    let (name, counters) = line.rsplit_once(':')?;
    let columns: Vec<u64> = counters.split_ascii_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let counters = |first: usize| match columns.get(first..first + 4)? {
        &[bytes, packets, errors, dropped] => Some(Counters { bytes, packets, errors, dropped }),
        _ => None,
    };
    Some(Interface { name: name.trim().to_owned(), rx: counters(0)?, tx: counters(8)? })
}

fn parse_sockets(text: &str) -> Option<Sockets> {
    let mut sockets = Sockets::default();
    let mut found = false;
    for line in text.lines() {
        let Some((family, rest)) = line.split_once(':') else { continue };
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        for pair in words.chunks_exact(2) {
            let Ok(count) = pair[1].parse::<u64>() else { continue };
            match (family, pair[0]) {
                ("sockets", "used") => sockets.used = count,
                ("TCP", "inuse") => sockets.tcp_in_use = count,
                ("TCP", "tw") => sockets.tcp_time_wait = count,
                ("UDP", "inuse") => sockets.udp_in_use = count,
                _ => continue,
            }
            found = true;
        }
    }
    found.then_some(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_and_bad_lines_are_not_interfaces() {
        let text = "Inter-| Receive | Transmit\n face |bytes packets errs:x|bytes\n\
                    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n eth0:77 2 3 4 0 0 0 0 88 5 6 7 0 0 0 0\nbad: 1 2 3\nworse: a b\n";
        let interfaces = parse_interfaces(text);
        assert_eq!(interfaces.len(), 2);
        assert_eq!(interfaces[1].name, "eth0");
        assert_eq!(interfaces[1].rx, Counters { bytes: 77, packets: 2, errors: 3, dropped: 4 });
        assert_eq!(interfaces[1].tx, Counters { bytes: 88, packets: 5, errors: 6, dropped: 7 });
    }

    #[test]
    fn an_alias_keeps_its_colon() {
        assert_eq!(parse_interface("eth0:1: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0").unwrap().name, "eth0:1");
    }

    #[test]
    fn rates_are_per_second() {
        let interface = |line| parse_interface(line).unwrap();
        let before = interface("e: 100 10 0 0 0 0 0 0 50 5 0 0 0 0 0 0");
        let rates = interface("e: 300 12 1 2 0 0 0 0 40 6 3 4 0 0 0 0").rates_since(&before, 0.5, "up".into());
        assert_eq!((rates.rx_bytes_per_s, rates.rx_packets_per_s), (400.0, 4.0));
        assert_eq!((rates.tx_bytes_per_s, rates.tx_packets_per_s), (0.0, 2.0), "a counter that was reset grew by nothing");
        assert_eq!((rates.rx_errors, rates.rx_dropped, rates.tx_errors, rates.tx_dropped), (1, 2, 3, 4));
    }

    #[test]
    fn sockets_are_counted_by_family() {
        let sockets = parse_sockets("sockets: used 31\nTCP: inuse 4 orphan 0 tw 2 alloc x\nUDP: inuse 3 mem\nodd\n").unwrap();
        assert_eq!(sockets, Sockets { used: 31, tcp_in_use: 4, tcp_time_wait: 2, udp_in_use: 3 });
        assert_eq!(parse_sockets("nothing of use"), None);
    }
}
