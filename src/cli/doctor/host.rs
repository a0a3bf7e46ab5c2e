//! What the running host is like: facts from `/proc` and `/sys`, without judgement.
//!
//! Everything is read under a root folder, so that tests bring a host of their own. What
//! cannot be read is absent, never an error: a container shows only a part.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::sysctl;

/// The facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Major and minor.
    pub kernel: (u32, u32),
    pub ring: Ring,
    /// RLIMIT_MEMLOCK of this process, in bytes; `u64::MAX` is unlimited.
    pub memlock_bytes: u64,
    /// RLIMIT_NOFILE of this process; what it may be raised to by the process itself.
    pub files_max: u64,
    /// Those of the tuning file that this kernel has.
    pub sysctls: BTreeMap<String, String>,
    pub cores_online: Vec<usize>,
    pub cores_isolated: Vec<usize>,
    /// Cores that are threads of one physical core, of those that have more than one.
    pub siblings: Vec<Vec<usize>>,
    /// By core, where the kernel governs the clock at all.
    pub governors: BTreeMap<usize, String>,
    pub clocksource: Option<String>,
    pub network: Vec<NetworkDevice>,
}

/// A network card, and the cores that each of its interrupts may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkDevice {
    pub name: String,
    pub interrupts: Vec<Vec<usize>>,
}

/// What the kernel answers to a process that wants a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    Works,
    /// The error number of io_uring_setup.
    Refused(i32),
}

impl Ring {
    /// Makes a ring of one entry, as the runtime's are, and drops it.
    pub fn probe() -> Self {
        // Larger than the kernel's `struct io_uring_params`, which is 120 bytes.
        let mut parameters = [0u64; 32];
        // Its third member of 32 bits: IORING_SETUP_SINGLE_ISSUER and IORING_SETUP_DEFER_TASKRUN.
        parameters[1] = 1 << 12 | 1 << 13;
        // SAFETY: the kernel writes at most the size of its structure behind the pointer, and the
        // file descriptor that it returns belongs to nobody else.
        unsafe {
            let descriptor = libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr());
            if descriptor < 0 {
                return Self::Refused(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
            }
            libc::close(descriptor as i32);
        }
        Self::Works
    }
}

impl Host {
    /// The host whose `proc` and `sys` stand in `root`.
    pub fn read(root: &Path, ring: Ring) -> Self {
        let cpu = root.join("sys/devices/system/cpu");
        let cores_online = text(&cpu.join("online")).map_or_else(Vec::new, |list| cores(&list));
        let limits = text(&root.join("proc/self/limits")).unwrap_or_default();
        Self {
            kernel: text(&root.join("proc/sys/kernel/osrelease")).map_or((0, 0), |release| version(&release)),
            ring,
            memlock_bytes: limit(&limits, "Max locked memory", Column::Soft),
            files_max: limit(&limits, "Max open files", Column::Hard),
            sysctls: sysctls(root),
            cores_isolated: text(&cpu.join("isolated")).map_or_else(Vec::new, |list| cores(&list)),
            siblings: siblings(&cpu, &cores_online),
            governors: governors(&cpu, &cores_online),
            clocksource: text(&root.join("sys/devices/system/clocksource/clocksource0/current_clocksource")),
            network: network(root),
            cores_online,
        }
    }
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// `6.18.44-generic` → (6, 18)
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// `0-2,5` → 0, 1, 2, 5. What is no such list is empty.
fn cores(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[derive(Clone, Copy)]
enum Column {
    Soft,
    Hard,
}

/// A line of `/proc/self/limits`: name, soft limit, hard limit, unit.
fn limit(limits: &str, name: &str, column: Column) -> u64 {
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    match line.split_whitespace().nth(column as usize) {
        Some("unlimited") => u64::MAX,
        Some(number) => number.parse().unwrap_or(0),
        None => 0,
    }
}

fn sysctls(root: &Path) -> BTreeMap<String, String> {
    let read = |key: String| {
        let value = text(&root.join("proc/sys").join(key.replace('.', "/")))?;
        Some((key, value.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    sysctl::wanted().into_iter().filter_map(|sysctl| read(sysctl.key)).collect()
}

fn siblings(cpu: &Path, online: &[usize]) -> Vec<Vec<usize>> {
    let group = |core: &usize| text(&cpu.join(format!("cpu{core}/topology/thread_siblings_list")));
    let mut groups: Vec<Vec<usize>> = online.iter().filter_map(group).map(|list| cores(&list)).collect();
    groups.retain(|group| group.len() > 1);
    groups.sort();
    groups.dedup();
    groups
}

fn governors(cpu: &Path, online: &[usize]) -> BTreeMap<usize, String> {
    let governor = |core: &usize| Some((*core, text(&cpu.join(format!("cpu{core}/cpufreq/scaling_governor")))?));
    online.iter().filter_map(governor).collect()
}

/// The cards, in the order of their names. A device without hardware (lo, bridges) is none.
fn network(root: &Path) -> Vec<NetworkDevice> {
    let table = text(&root.join("proc/interrupts")).unwrap_or_default();
    let mut names = entries(&root.join("sys/class/net"));
    names.retain(|name| root.join("sys/class/net").join(name).join("device").exists());
    let device = |name: String| {
        let numbers = interrupt_numbers(&root.join("sys/class/net").join(&name).join("device"), &name, &table);
        let interrupts = numbers.iter().filter_map(|number| affinity(&root.join("proc/irq").join(number))).collect();
        NetworkDevice { name, interrupts }
    };
    names.into_iter().map(device).collect()
}

/// From the card's bus (for virtio one folder up), or where that lists none, by name.
fn interrupt_numbers(device: &Path, name: &str, table: &str) -> Vec<String> {
    let folders = [device.join("msi_irqs"), device.join("../msi_irqs")];
    if let Some(folder) = folders.iter().find(|folder| folder.is_dir()) {
        return entries(folder);
    }
    let of_card = |line: &str| {
        let last = line.split_whitespace().last()?;
        let matches = last == name || last.starts_with(&format!("{name}-"));
        matches.then(|| line.trim().split(':').next().unwrap_or_default().to_owned())
    };
    table.lines().filter_map(of_card).collect()
}

/// The cores that an interrupt goes to in fact; the kernel may use fewer than it is allowed.
fn affinity(interrupt: &Path) -> Option<Vec<usize>> {
    let effective = text(&interrupt.join("effective_affinity_list")).filter(|list| !list.is_empty());
    let list = effective.or_else(|| text(&interrupt.join("smp_affinity_list")))?;
    Some(cores(&list))
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}
