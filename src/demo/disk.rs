//! What each whole disk did since the last sample, from `/proc/diskstats`, and the room on file systems.

use serde::Serialize;

use super::board::{Board, per_second, percent, round1, segment};
use super::host::Host;

/// The kernel counts sectors of 512 bytes, whatever the disk's own are.
const SECTOR_BYTES: f64 = 512.0;
/// The room on a file system changes slowly, and asking is not always cheap.
const SPACE_EVERY_NS: u64 = 5_000_000_000;
/// A host with more mounts, as with one for each of many containers, shows the first of them.
const FILE_SYSTEMS_MAX: usize = 32;
/// A mount point that is longer is not shown: its topic path must stay well under any server's bound.
const MOUNT_BYTES_MAX: usize = 200;

#[derive(Default)]
pub(super) struct Disks {
    before: Vec<Disk>,
    file_systems: Vec<(String, FileSystem)>,
    space_due_ns: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Disk {
    name: String,
    reads: u64,
    sectors_read: u64,
    writes: u64,
    sectors_written: u64,
    busy_ms: u64,
}

#[derive(Serialize)]
struct Rates {
    read_bytes_per_s: f64,
    write_bytes_per_s: f64,
    reads_per_s: f64,
    writes_per_s: f64,
    busy_percent: f64,
}

#[derive(Serialize)]
struct FileSystem {
    device: String,
    kind: String,
    total: u64,
    available: u64,
    used_percent: f64,
}

#[derive(Debug, PartialEq)]
struct Mount {
    device: String,
    at: String,
    kind: String,
}

impl Disks {
    pub fn sample(&mut self, host: &mut Host, seconds: f64, now_ns: u64, board: &mut Board) {
        self.sample_disks(host, seconds, board);
        if now_ns >= self.space_due_ns {
            self.space_due_ns = now_ns.saturating_add(SPACE_EVERY_NS);
            self.file_systems = read_file_systems(host);
        }
        for (path, file_system) in &self.file_systems {
            board.put_json(path, file_system);
        }
    }

    fn sample_disks(&mut self, host: &mut Host, seconds: f64, board: &mut Board) {
        let whole = host.names("sys/block");
        let Some(text) = host.read("proc/diskstats") else { return };
        let mut disks: Vec<Disk> = text.lines().filter_map(parse_disk).collect();
        disks.retain(|disk| is_shown(disk, &whole));
        for disk in &disks {
            let Some(before) = self.before.iter().find(|before| before.name == disk.name) else { continue };
            board.put_json(&format!("host/disk/{}", segment(&disk.name)), &disk.rates_since(before, seconds));
        }
        self.before = disks;
    }
}

impl Disk {
    fn rates_since(&self, before: &Self, seconds: f64) -> Rates {
        let rate = |now, before| per_second(now, before, seconds);
        Rates {
            read_bytes_per_s: (rate(self.sectors_read, before.sectors_read) * SECTOR_BYTES).round(),
            write_bytes_per_s: (rate(self.sectors_written, before.sectors_written) * SECTOR_BYTES).round(),
            reads_per_s: round1(rate(self.reads, before.reads)),
            writes_per_s: round1(rate(self.writes, before.writes)),
            busy_percent: percent(rate(self.busy_ms, before.busy_ms), 1000.0),
        }
    }
}

/// A whole disk, not a partition of one, that has been used: hosts have many loop and memory disks that never are.
/// `whole` names the disks as `/sys/block` does, with `!` for `/`; where it is empty nothing is known of partitions.
fn is_shown(disk: &Disk, whole: &[String]) -> bool {
    let used = disk.reads > 0 || disk.writes > 0;
    used && (whole.is_empty() || whole.contains(&disk.name.replace('/', "!")))
}

/// `major minor name reads merged sectors ms writes merged sectors ms in-flight busy-ms …`
fn parse_disk(line: &str) -> Option<Disk> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let name = words.next()?.to_owned();
    let columns: Vec<u64> = words.take(10).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let &[reads, _, sectors_read, _, writes, _, sectors_written, _, _, busy_ms] = columns.as_slice() else { return None };
    Some(Disk { name, reads, sectors_read, writes, sectors_written, busy_ms })
}

/// The file systems on block devices, each once, with the topic path that each is shown at.
fn read_file_systems(host: &mut Host) -> Vec<(String, FileSystem)> {
    let mounts: Vec<Mount> = host.read("proc/self/mounts").map(|text| parse_mounts(&text)).unwrap_or_default();
    let mut out = Vec::new();
    for mount in mounts {
        let Some(space) = host.space(&mount.at).filter(|space| space.total > 0) else { continue };
        let used_percent = percent(space.used as f64, space.used.saturating_add(space.available) as f64);
        let Mount { device, at, kind } = mount;
        let shown = FileSystem { device, kind, total: space.total, available: space.available, used_percent };
        out.push((mount_path(&at), shown));
    }
    out
}

/// `host/filesystem` followed by the mount point, so that the topics nest as the mounts do.
fn mount_path(at: &str) -> String {
    let mut path = "host/filesystem".to_owned();
    for name in at.split('/').filter(|name| !name.is_empty()) {
        path.push('/');
        path.push_str(&segment(name));
    }
    path
}

/// The mounts of `/proc/self/mounts` that have a device, the first of each device.
fn parse_mounts(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(device), Some(at), Some(kind)) = (words.next(), words.next(), words.next()) else { continue };
        let is_shown = device.starts_with("/dev/") && at.starts_with('/') && at.len() <= MOUNT_BYTES_MAX;
        let is_new = mounts.iter().all(|mount| mount.device != device && mount.at != at);
        if is_shown && is_new && mounts.len() < FILE_SYSTEMS_MAX {
            mounts.push(Mount { device: device.to_owned(), at: unescape(at), kind: kind.to_owned() });
        }
    }
    mounts
}

/// The kernel writes white space and `\` in a mount point as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', &[a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = &tail[3..];
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_line_has_ten_counters() {
        let disk = parse_disk(" 8 0 sda 10 1 800 5 20 2 1600 6 0 70 11").unwrap();
        let expected = Disk { name: "sda".into(), reads: 10, sectors_read: 800, writes: 20, sectors_written: 1600, busy_ms: 70 };
        assert_eq!(disk, expected);
        for odd in ["", "8 0", "8 0 sda 1 2 3", "8 0 sda 1 2 3 4 5 6 7 8 x 10", "8 0 sda -1 0 0 0 0 0 0 0 0 0"] {
            assert_eq!(parse_disk(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn rates_are_bytes_and_operations_per_second() {
        let disk = |line| parse_disk(line).unwrap();
        let rates = disk("8 0 sda 14 0 10 0 21 0 4 0 0 125").rates_since(&disk("8 0 sda 10 0 2 0 20 0 0 0 0 0"), 0.25);
        assert_eq!((rates.read_bytes_per_s, rates.write_bytes_per_s), (16384.0, 8192.0));
        assert_eq!((rates.reads_per_s, rates.writes_per_s, rates.busy_percent), (16.0, 4.0, 50.0));
    }

    #[test]
    fn partitions_and_unused_disks_are_not_shown() {
        let whole = ["sda".to_owned(), "cciss!c0d0".to_owned(), "loop0".to_owned()];
        let check = |line: &str, expected| assert_eq!(is_shown(&parse_disk(line).unwrap(), &whole), expected, "{line}");
        check("8 0 sda 1 0 0 0 0 0 0 0 0 0", true);
        check("8 1 sda1 1 0 0 0 0 0 0 0 0 0", false);
        check("104 0 cciss/c0d0 1 0 0 0 0 0 0 0 0 0", true);
        check("7 0 loop0 0 0 0 0 0 0 0 0 0 0", false);
    }

    #[test]
    fn a_device_mounted_twice_is_shown_once() {
        let mounts = parse_mounts(
            "proc /proc proc rw 0 0\n/dev/a / ext4 rw 0 0\nbad\n\
             /dev/b /mnt/my\\040disk xfs rw 0 0\n/dev/a /etc/hosts ext4 rw 0 0\n",
        );
        assert_eq!(mounts.iter().map(|mount| mount.at.as_str()).collect::<Vec<_>>(), ["/", "/mnt/my disk"]);
    }

    #[test]
    fn topics_nest_as_mounts_do() {
        assert_eq!(mount_path("/"), "host/filesystem");
        assert_eq!(mount_path("/var/lib//x%"), "host/filesystem/var/lib/x%25");
    }

    #[test]
    fn only_whole_octal_escapes_are_decoded() {
        assert_eq!(unescape("a\\040b\\134"), "a b\\");
        assert_eq!(unescape("\\04\\9\\"), "\\04\\9\\");
        assert_eq!(unescape("\\377"), "\u{fffd}");
    }
}
