//! This host's telemetry, from texts as the kernel writes them.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::topic::path::check_path;

const MS: u64 = 1_000_000;

/// A host made of files: a tree that goes away with this value.
struct Fake {
    root: PathBuf,
}

impl Fake {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("tidewire-telemetry-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let fake = Self { root };
        fake.write("proc/sys/kernel/hostname", "mill\n");
        fake.write("proc/uptime", "12.5 40.0\n");
        fake.write("proc/loadavg", "0.10 0.20 0.30 1/50 77\n");
        fake.write("proc/stat", "cpu 10 0 0 90\ncpu0 10 0 0 90\nintr 1\n");
        fake.write("proc/meminfo", "MemTotal: 8 kB\nMemAvailable: 6 kB\n");
        fake.write("proc/diskstats", "8 0 sda 1 0 0 0 0 0 0 0 0 0\n");
        fake.write("proc/net/dev", "eth0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n");
        fake.write("proc/42/stat", &process_text(42, 7));
        fake
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_dir_all(self.root.join(path)).unwrap();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn process_text(pid: u32, ticks: u64) -> String {
    format!("{pid} (mill wheel) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 3 0 900 1 10 1\n")
}

fn text<'a>(sample: &'a Sample, path: &str) -> Option<&'a str> {
    let update = sample.updates.iter().find(|update| update.path == path)?;
    Some(std::str::from_utf8(&update.value).expect("a text value"))
}

fn double(sample: &Sample, path: &str) -> Option<f64> {
    let update = sample.updates.iter().find(|update| update.path == path && update.kind == ValueType::Double)?;
    Some(f64::from_be_bytes(update.value.as_slice().try_into().unwrap()))
}

#[test]
fn the_first_sample_tells_what_needs_no_interval() {
    let fake = Fake::new("first");
    let sample = Telemetry::new(&fake.root).sample(0);
    assert_eq!(text(&sample, "host/name"), Some("mill"));
    assert_eq!(double(&sample, "host/uptime_s"), Some(12.5));
    assert_eq!(text(&sample, "host/load"), Some(r#"{"1m":0.1,"5m":0.2,"15m":0.3,"running":1,"total":50}"#));
    assert!(text(&sample, "host/process/42").unwrap().starts_with(r#"{"name":"mill wheel","state":"sleeping","#));
    assert_eq!(text(&sample, "host/cpu/0"), None);
    assert_eq!(text(&sample, "host/network/eth0"), None);
}

#[test]
fn the_second_sample_tells_rates() {
    let fake = Fake::new("second");
    let mut telemetry = Telemetry::new(&fake.root);
    telemetry.sample(0);
    fake.write("proc/stat", "cpu 15 0 0 95\ncpu0 15 0 0 95\n");
    fake.write("proc/net/dev", "eth0: 501 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n");
    fake.write("sys/class/net/eth0/operstate", "up\n");
    let sample = telemetry.sample(250 * MS);
    assert_eq!(double(&sample, "host/cpu/0/busy_percent"), Some(50.0));
    assert_eq!(double(&sample, "host/network/eth0/rx_bytes_per_s"), Some(2000.0));
    assert!(text(&sample, "host/network/eth0").unwrap().contains(r#""state":"up""#));
    assert!(text(&sample, "host/disk/sda").is_some());
}

#[test]
fn what_did_not_change_is_not_told_again() {
    let fake = Fake::new("same");
    let mut telemetry = Telemetry::new(&fake.root);
    telemetry.sample(0);
    // By now the interval's topics and the processes' shares have come, and neither changes any more.
    telemetry.sample(1000 * MS);
    telemetry.sample(2000 * MS);
    assert_eq!(telemetry.sample(3000 * MS), Sample::default());
    fake.write("proc/uptime", "13 40");
    let sample = telemetry.sample(4000 * MS);
    assert_eq!(sample.updates.iter().map(|update| update.path.as_str()).collect::<Vec<_>>(), ["host/uptime_s"]);
}

#[test]
fn a_process_that_ends_is_removed() {
    let fake = Fake::new("ends");
    let mut telemetry = Telemetry::new(&fake.root);
    telemetry.sample(0);
    fake.remove("proc/42");
    assert_eq!(telemetry.sample(250 * MS).removed, ["host/process/42"]);
}

#[test]
fn an_interface_that_goes_is_removed_with_its_numbers() {
    let fake = Fake::new("interface");
    let mut telemetry = Telemetry::new(&fake.root);
    telemetry.sample(0);
    telemetry.sample(250 * MS);
    fake.write("proc/net/dev", "");
    let mut removed = telemetry.sample(500 * MS).removed;
    removed.sort();
    assert_eq!(removed, ["host/network/eth0", "host/network/eth0/rx_bytes_per_s", "host/network/eth0/tx_bytes_per_s"]);
}

#[test]
fn a_time_that_stands_still_says_nothing() {
    let fake = Fake::new("still");
    let mut telemetry = Telemetry::new(&fake.root);
    telemetry.sample(5 * MS);
    assert_eq!(telemetry.sample(5 * MS), Sample::default());
    assert_eq!(telemetry.sample(4 * MS), Sample::default());
}

#[test]
fn an_empty_host_has_no_topics() {
    let mut telemetry = Telemetry::new(Path::new("/nowhere/at/all"));
    assert_eq!(telemetry.sample(1), Sample::default());
    assert_eq!(telemetry.sample(2), Sample::default());
}

#[test]
fn files_of_another_form_are_left_out() {
    let fake = Fake::new("odd");
    for path in ["proc/uptime", "proc/loadavg", "proc/stat", "proc/meminfo", "proc/diskstats", "proc/net/dev", "proc/42/stat"] {
        fs::write(fake.root.join(path), b"\xff\xfe (:) / cpu0 \0 -1 99999999999999999999\n::\n)(\n").unwrap();
    }
    let mut telemetry = Telemetry::new(&fake.root);
    telemetry.sample(0);
    let sample = telemetry.sample(250 * MS);
    assert!(sample.updates.is_empty() && sample.removed.is_empty(), "{sample:?}");
}

#[test]
fn this_host_can_be_sampled() {
    let mut telemetry = Telemetry::new(Path::new("/"));
    telemetry.sample(0);
    let sample = telemetry.sample(250 * MS);
    for update in &sample.updates {
        check_path(&update.path, 255).unwrap_or_else(|error| panic!("{}: {error:?}", update.path));
        if update.kind == ValueType::Json {
            serde_json::from_slice::<serde_json::Value>(&update.value).expect("JSON text");
        }
    }
}
