//! What is wanted of a host, as a function from facts to findings.

use std::collections::BTreeSet;

use super::host::{Host, NetworkDevice, Ring};
use super::sysctl::{self, Sysctl};
use super::{Finding, Severity};

/// The oldest kernel whose io_uring has every operation that the runtime uses.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Below this the runtime refuses to make a ring at all.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// What one shard registers with its ring.
const MEMLOCK_BYTES_PER_SHARD: u64 = 256 << 10;

/// Files beside the connections: rings, listeners, event counters, logs, storage.
const FILES_RESERVED: u64 = 1024;

/// Clocks that are read without entering the kernel.
const CLOCKS_READ_IN_PLACE: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];

/// What the server is going to ask of the host.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The core of each shard.
    pub shard_cores: Vec<usize>,
    pub connections_max: usize,
}

/// All that there is to say about the host.
pub fn examine(host: &Host, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = vec![kernel(host), ring(host), memlock(host, wanted.shard_cores.len()), files(host, wanted.connections_max)];
    findings.extend(sysctl::wanted().iter().map(|sysctl| kernel_setting(host, sysctl)));
    findings.push(cores(host));
    findings.push(siblings(host, wanted));
    findings.push(governor(host, wanted));
    findings.push(clocksource(host));
    findings.extend(host.network.iter().map(|device| interrupts(host, device, wanted)));
    for finding in findings.iter_mut().filter(|finding| finding.severity == Severity::Ok) {
        finding.remedy.clear();
    }
    findings
}

/// What keeps a server with this many shards from starting on the host; empty if nothing does.
pub fn missing_for_start(host: &Host, shards: usize) -> Vec<Finding> {
    let mut findings = vec![kernel(host), ring(host), memlock(host, shards)];
    findings.retain(|finding| finding.severity == Severity::Problem);
    findings
}

fn kernel(host: &Host) -> Finding {
    Finding {
        severity: if host.kernel >= KERNEL_MIN { Severity::Ok } else { Severity::Problem },
        what: "kernel".into(),
        found: format!("{}.{}", host.kernel.0, host.kernel.1),
        wanted: format!("at least {}.{}", KERNEL_MIN.0, KERNEL_MIN.1),
        why: "The server's threads run on io_uring: receiving many times by one request is there from 6.0 on, deferred task work from 6.1 on.".into(),
        remedy: "Run a newer kernel.".into(),
    }
}

fn ring(host: &Host) -> Finding {
    let disabled = host.sysctls.get("kernel.io_uring_disabled").is_some_and(|value| value != "0");
    let (found, remedy) = match host.ring {
        Ring::Works => ("works".to_owned(), ""),
        Ring::Refused(libc::EINVAL) => ("lacks deferred task work (EINVAL)".to_owned(), "Run a kernel from 6.1 on."),
        Ring::Refused(libc::EPERM) if disabled => (
            "refused (EPERM): kernel.io_uring_disabled is set".to_owned(),
            "sysctl -w kernel.io_uring_disabled=0, on the host where this is a container.",
        ),
        Ring::Refused(libc::EPERM) => (
            "refused (EPERM): a seccomp profile forbids it".to_owned(),
            "Run the container with --security-opt seccomp=tuning/seccomp.json; under systemd, allow io_uring_setup, \
             io_uring_enter and io_uring_register in SystemCallFilter.",
        ),
        Ring::Refused(libc::ENOSYS) => (
            "not there (ENOSYS): the kernel, its sandbox or a seccomp profile does not have it".to_owned(),
            "Run a kernel with CONFIG_IO_URING; in a container, --security-opt seccomp=tuning/seccomp.json; a sandbox that \
             is its own kernel may not have io_uring at all.",
        ),
        Ring::Refused(libc::ENOMEM) => (
            "refused (ENOMEM): too little memory may be locked".to_owned(),
            "Raise RLIMIT_MEMLOCK: `ulimit -l`, or LimitMEMLOCK= under systemd.",
        ),
        Ring::Refused(number) => {
            (format!("refused: {}", std::io::Error::from_raw_os_error(number)), "See io_uring_setup(2) for this error.")
        }
    };
    Finding {
        severity: if host.ring == Ring::Works { Severity::Ok } else { Severity::Problem },
        what: "io_uring".into(),
        found,
        wanted: "works".into(),
        why: "Each shard waits for its sockets, timers and files in a ring of its own.".into(),
        remedy: remedy.into(),
    }
}

fn memlock(host: &Host, shards: usize) -> Finding {
    let bytes = MEMLOCK_BYTES_MIN.max(shards as u64 * MEMLOCK_BYTES_PER_SHARD);
    let kib = bytes >> 10;
    Finding {
        severity: if host.memlock_bytes >= bytes { Severity::Ok } else { Severity::Problem },
        what: "RLIMIT_MEMLOCK".into(),
        found: if host.memlock_bytes == u64::MAX { "unlimited".into() } else { format!("{} KiB", host.memlock_bytes >> 10) },
        wanted: format!("at least {kib} KiB"),
        why: "A shard registers about 256 KiB with its ring, which is locked memory, and needs 512 KiB to begin.".into(),
        remedy: format!(
            "`ulimit -l {kib}` as root before the start, tuning/limits-tidewire.conf for a login, LimitMEMLOCK= under \
             systemd, or --ulimit memlock={bytes} for a container."
        ),
    }
}

/// The server raises its soft limit by itself: the hard one counts.
fn files(host: &Host, connections_max: usize) -> Finding {
    let files = connections_max as u64 + FILES_RESERVED;
    let severity = match host.files_max {
        found if found >= files => Severity::Ok,
        found if found >= FILES_RESERVED => Severity::Advice,
        _ => Severity::Problem,
    };
    Finding {
        severity,
        what: "RLIMIT_NOFILE".into(),
        found: if host.files_max == u64::MAX { "unlimited".into() } else { host.files_max.to_string() },
        wanted: format!("at least {files}"),
        why: format!("limits.connections_max is {connections_max}, and every connection is a file descriptor."),
        remedy: format!(
            "LimitNOFILE= under systemd, tuning/limits-tidewire.conf for a login, or --ulimit nofile={files} for a \
             container; or lower limits.connections_max."
        ),
    }
}

fn kernel_setting(host: &Host, sysctl: &Sysctl) -> Finding {
    let Sysctl { key, value, why, comparison } = sysctl;
    let found = host.sysctls.get(key);
    let (severity, remedy) = match found {
        Some(found) if sysctl.is_met_by(found) => (Severity::Ok, String::new()),
        Some(_) => (Severity::Advice, format!("sysctl -w {key}='{value}'")),
        None => (Severity::Advice, format!("Not to be seen here: set {key}='{value}' on the host, if it has it.")),
    };
    Finding {
        severity,
        what: key.clone(),
        found: found.cloned().unwrap_or_else(|| "not shown".into()),
        wanted: format!("{}{value}", comparison.name()),
        why: why.clone(),
        remedy,
    }
}

fn cores(host: &Host) -> Finding {
    let isolated = if host.cores_isolated.is_empty() { "none".to_owned() } else { list(&host.cores_isolated) };
    Finding {
        severity: Severity::Ok,
        what: "cores".into(),
        found: format!("{} online, isolated: {isolated}", host.cores_online.len()),
        wanted: "any".into(),
        why: "On an isolated core (isolcpus=) nothing runs but what is pinned to it.".into(),
        remedy: String::new(),
    }
}

fn siblings(host: &Host, wanted: &Wanted) -> Finding {
    let shards_of = |group: &Vec<usize>| group.iter().filter(|core| wanted.shard_cores.contains(core)).count();
    let shared: Vec<&Vec<usize>> = host.siblings.iter().filter(|group| shards_of(group) > 1).collect();
    let first: Vec<usize> = host.siblings.iter().map(|group| group[0]).collect();
    Finding {
        severity: if shared.is_empty() { Severity::Ok } else { Severity::Advice },
        what: "SMT siblings".into(),
        found: match (host.siblings.is_empty(), shared.first()) {
            (true, _) => "none".into(),
            (false, None) => "no two shards share a core".into(),
            (false, Some(group)) => format!("shards share {} physical cores, such as {}", shared.len(), list(group)),
        },
        wanted: "a physical core for each shard".into(),
        why: "Two threads of one core slow each other down, which shows in the slowest percentiles first.".into(),
        remedy: format!("tidewire serve --cores {}", list(&first)),
    }
}

fn governor(host: &Host, wanted: &Wanted) -> Finding {
    let of_shards = host.governors.iter().filter(|(core, _)| wanted.shard_cores.contains(core));
    let names: BTreeSet<&str> = of_shards.map(|(_, name)| name.as_str()).collect();
    let met = names.iter().all(|name| *name == "performance");
    Finding {
        severity: if met { Severity::Ok } else { Severity::Advice },
        what: "clock governor".into(),
        found: if names.is_empty() { "not shown".into() } else { names.into_iter().collect::<Vec<_>>().join(", ") },
        wanted: "performance".into(),
        why: "A core that has clocked down takes a while to come back, which a burst then waits for.".into(),
        remedy: format!(
            "tuning/pin.sh --device NAME --irq-cores LIST --shard-cores {}, or cpupower frequency-set -g performance.",
            list(&wanted.shard_cores)
        ),
    }
}

fn clocksource(host: &Host) -> Finding {
    let name = host.clocksource.as_deref().unwrap_or("not shown");
    let met = host.clocksource.as_deref().is_none_or(|name| CLOCKS_READ_IN_PLACE.contains(&name));
    Finding {
        severity: if met { Severity::Ok } else { Severity::Advice },
        what: "clocksource".into(),
        found: name.into(),
        wanted: "tsc, or another that is read in place".into(),
        why: "The clock is read at every turn of a shard; other sources take a system call each time.".into(),
        remedy: "Boot with clocksource=tsc, if the processor's is stable.".into(),
    }
}

/// Interrupts belong on cores without a shard where there are such cores, and on more than
/// one core where there are several interrupts.
fn interrupts(host: &Host, device: &NetworkDevice, wanted: &Wanted) -> Finding {
    let used: BTreeSet<usize> = device.interrupts.iter().flatten().copied().collect();
    let free = host.cores_online.iter().filter(|core| !wanted.shard_cores.contains(core));
    let free: Vec<usize> = free.copied().collect();
    let on_shards = !free.is_empty() && used.iter().any(|core| wanted.shard_cores.contains(core));
    let crowded = device.interrupts.len() > 2 && used.len() == 1 && host.cores_online.len() > 1;
    let on = list(&used.into_iter().collect::<Vec<_>>());
    let targets = if free.is_empty() { &host.cores_online } else { &free };
    Finding {
        severity: if on_shards || (crowded && free.len() != 1) { Severity::Advice } else { Severity::Ok },
        what: format!("interrupts of {}", device.name),
        found: match device.interrupts.len() {
            0 => "not shown".into(),
            count => format!("{count} on cores {on}"),
        },
        wanted: if free.is_empty() { "spread over the cores".into() } else { format!("on cores {}", list(&free)) },
        why: "A core that takes all packets is the first to be full, and its shard the slowest.".into(),
        remedy: format!("tuning/pin.sh --device {} --irq-cores {}", device.name, list(targets)),
    }
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
