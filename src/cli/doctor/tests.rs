//! What `doctor` says of hosts, from what their files hold.

use std::fs;
use std::path::PathBuf;

use super::*;

/// A host in a folder of its own, which goes when it is dropped.
struct Tree(PathBuf);

impl Tree {
    /// A host on which everything is as wanted: four cores, shards on 2 and 3.
    fn good(name: &str) -> Self {
        let tree = Self(std::env::temp_dir().join(format!("tidewire-doctor-{}-{name}", std::process::id())));
        for sysctl in sysctl::wanted() {
            tree.write(&format!("proc/sys/{}", sysctl.key.replace('.', "/")), &sysctl.value.replace(' ', "\t"));
        }
        tree.write("proc/sys/kernel/osrelease", "6.1.0-18-amd64");
        tree.limits("67108864", "1050000");
        tree.write("sys/devices/system/cpu/online", "0-3");
        tree.write("sys/devices/system/cpu/isolated", "2-3");
        for core in 0..4 {
            let folder = format!("sys/devices/system/cpu/cpu{core}");
            tree.write(&format!("{folder}/topology/thread_siblings_list"), &core.to_string());
            tree.write(&format!("{folder}/cpufreq/scaling_governor"), "performance");
        }
        tree.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc");
        for (interrupt, core) in [(30, "0"), (31, "1"), (32, "0")] {
            tree.write(&format!("sys/class/net/eth0/device/msi_irqs/{interrupt}"), "msix");
            tree.write(&format!("proc/irq/{interrupt}/smp_affinity_list"), core);
        }
        tree.write("sys/class/net/lo/mtu", "65536");
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn limits(&self, memlock: &str, files: &str) {
        let text = format!(
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max open files            1024                 {files}              files\n\
             Max locked memory         {memlock}            {memlock}            bytes"
        );
        self.write("proc/self/limits", &text);
    }

    fn host(&self) -> Host {
        Host::read(&self.0, Ring::Works)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn wanted() -> Wanted {
    Wanted { shard_cores: vec![2, 3], connections_max: 1_000_000 }
}

/// Checks that `what` alone is not in order on this host, how much so, and what is to be done.
fn check(host: &Host, what: &str, severity: Severity, remedy: &str) {
    let mut findings = examine(host, &wanted());
    findings.retain(|finding| finding.severity != Severity::Ok);
    let names: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(names, [what]);
    assert_eq!(findings[0].severity, severity, "{what}");
    assert!(findings[0].remedy.contains(remedy), "{what}: {}", findings[0].remedy);
    assert!(!findings[0].why.is_empty(), "{what}");
}

/// Checks the only complaint about the good host after one file of it says something else.
fn check_file(name: &str, file: &str, text: &str, what: &str, remedy: &str) {
    let tree = Tree::good(name);
    tree.write(file, text);
    check(&tree.host(), what, Severity::Advice, remedy);
}

#[test]
fn a_host_as_wanted_has_no_finding() {
    let tree = Tree::good("good");
    let findings = examine(&tree.host(), &wanted());
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok && finding.remedy.is_empty()), "{findings:?}");
    assert!(print::table(&findings, print::Style::Plain).ends_with("\nThis host is as it should be.\n"));
}

#[test]
fn an_old_kernel_is_a_problem() {
    let tree = Tree::good("kernel");
    tree.write("proc/sys/kernel/osrelease", "6.0.19");
    check(&tree.host(), "kernel", Severity::Problem, "newer kernel");
    tree.write("proc/sys/kernel/osrelease", "6.1.0");
    assert!(missing_for_start(&tree.host(), 2).is_empty());
}

#[test]
fn a_refused_ring_is_a_problem_and_its_error_says_what_to_do() {
    let tree = Tree::good("ring");
    let refused = |number| Host::read(&tree.0, Ring::Refused(number));
    check(&refused(libc::EPERM), "io_uring", Severity::Problem, "seccomp=tuning/seccomp.json");
    check(&refused(libc::ENOSYS), "io_uring", Severity::Problem, "CONFIG_IO_URING");
    check(&refused(libc::ENOMEM), "io_uring", Severity::Problem, "ulimit -l");
    check(&refused(libc::EINVAL), "io_uring", Severity::Problem, "from 6.1 on");
    check(&refused(libc::EMFILE), "io_uring", Severity::Problem, "io_uring_setup(2)");
}

#[test]
fn a_ring_that_the_kernel_disables_is_told_from_one_that_a_profile_forbids() {
    let tree = Tree::good("disabled");
    tree.write("proc/sys/kernel/io_uring_disabled", "2");
    let missing = missing_for_start(&Host::read(&tree.0, Ring::Refused(libc::EPERM)), 2);
    assert_eq!(missing.len(), 1);
    assert!(missing[0].to_string().contains("sysctl -w kernel.io_uring_disabled=0"), "{}", missing[0]);
}

#[test]
fn locked_memory_has_to_suffice_for_every_shard() {
    let tree = Tree::good("memlock");
    let missing = |bytes: u64, shards: usize| {
        tree.limits(&bytes.to_string(), "1050000");
        missing_for_start(&tree.host(), shards).len()
    };
    assert_eq!(missing((512 << 10) - 1, 1), 1);
    assert_eq!(missing(512 << 10, 1), 0);
    assert_eq!(missing(512 << 10, 2), 0);
    assert_eq!(missing(512 << 10, 3), 1);
    assert_eq!(missing(768 << 10, 3), 0);
    tree.limits("unlimited", "1050000");
    assert!(missing_for_start(&tree.host(), 256).is_empty());
}

#[test]
fn fewer_files_than_connections_are_advised_against() {
    let tree = Tree::good("files");
    tree.limits("67108864", "1001023");
    check(&tree.host(), "RLIMIT_NOFILE", Severity::Advice, "LimitNOFILE");
    tree.limits("67108864", "512");
    check(&tree.host(), "RLIMIT_NOFILE", Severity::Problem, "limits.connections_max");
}

#[test]
fn a_kernel_setting_below_the_tuning_file_is_advised_against() {
    check_file("somaxconn", "proc/sys/net/core/somaxconn", "128", "net.core.somaxconn", "sysctl -w net.core.somaxconn=");
}

#[test]
fn a_kernel_setting_that_is_not_shown_is_told() {
    let tree = Tree::good("hidden");
    fs::remove_file(tree.0.join("proc/sys/net/core/rmem_max")).unwrap();
    check(&tree.host(), "net.core.rmem_max", Severity::Advice, "on the host");
}

#[test]
fn the_governor_counts_on_the_cores_of_shards_only() {
    let file = "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor";
    check_file("governor", file, "powersave", "clock governor", "--shard-cores 2,3");
    let tree = Tree::good("governor-elsewhere");
    tree.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave");
    assert!(examine(&tree.host(), &wanted()).iter().all(|finding| finding.severity == Severity::Ok));
}

#[test]
fn slow_clocks_are_advised_against() {
    let clock = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    check_file("clock", clock, "hpet", "clocksource", "clocksource=tsc");
}

#[test]
fn shards_on_one_physical_core_are_advised_against() {
    let tree = Tree::good("siblings");
    for (core, list) in [(0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3")] {
        tree.write(&format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"), list);
    }
    check(&tree.host(), "SMT siblings", Severity::Advice, "--cores 0,2");
}

#[test]
fn interrupts_belong_on_the_cores_without_shards() {
    check_file("interrupt", "proc/irq/31/smp_affinity_list", "2", "interrupts of eth0", "--device eth0 --irq-cores 0,1");
    check_file("crowded", "proc/irq/31/smp_affinity_list", "0", "interrupts of eth0", "--irq-cores 0,1");
}

#[test]
fn an_empty_root_is_examined_without_failing() {
    let host = Host::read(std::path::Path::new("/nowhere"), Ring::Works);
    let missing = missing_for_start(&host, 1);
    let names: Vec<&str> = missing.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(names, ["kernel", "RLIMIT_MEMLOCK"]);
}

#[test]
fn colour_is_in_the_table_only_where_it_is_wanted() {
    let findings = examine(&Tree::good("colour").host(), &wanted());
    assert!(!print::table(&findings, print::Style::Plain).contains('\x1b'));
    assert!(print::table(&findings, print::Style::Coloured).contains('\x1b'));
}
