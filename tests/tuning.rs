//! The tuning files are what they say: calls that exist, a profile under which a shard runs,
//! a script that writes only when told and only once.
#![cfg(all(feature = "server", target_os = "linux"))]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use libc::sock_filter;
use serde_json::Value;

fn tuning(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(file)
}

fn profile() -> Value {
    let text = fs::read_to_string(tuning("seccomp.json")).expect("the profile is in the repository");
    serde_json::from_str(&text).expect("the profile is JSON")
}

/// Calls by name, from the headers that a C compiler brings along; the x86-64 ones have all
/// the names that the profile may use.
fn call_numbers() -> Option<HashMap<String, u32>> {
    let header = ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"];
    let text = header.iter().find_map(|path| fs::read_to_string(path).ok())?;
    let number = |line: &str| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    Some(text.lines().filter_map(number).collect())
}

#[test]
fn every_call_of_the_profile_exists_and_stands_once() {
    let Some(numbers) = call_numbers() else {
        return eprintln!("skipped: no kernel headers for x86-64 here");
    };
    let mut seen = Vec::new();
    for rule in profile()["syscalls"].as_array().unwrap() {
        for name in rule["names"].as_array().unwrap() {
            let name = name.as_str().unwrap().to_owned();
            assert!(numbers.contains_key(&name), "{name} is no system call");
            assert!(!seen.contains(&name), "{name} stands twice");
            seen.push(name);
        }
    }
    assert!(["io_uring_setup", "io_uring_enter", "io_uring_register"].iter().all(|name| seen.contains(&name.to_string())));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_shard_serves_a_connection_under_the_profile() {
    let Some(numbers) = call_numbers() else {
        return eprintln!("skipped: no kernel headers for x86-64 here");
    };
    let filter = filter(&profile(), &numbers);
    // The filter stays on the thread that installs it, and on those that it starts.
    let thread = std::thread::spawn(move || {
        install(&filter);
        // SAFETY: the call takes no pointer, and concerns this thread alone.
        let refused = unsafe { libc::unshare(libc::CLONE_NEWUTS) };
        assert_eq!((refused, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
        LocalExecutorBuilder::new(Placement::Fixed(tidewire::surface::config::usable_cores()[0]))
            .io_memory(64 << 10)
            .spawn(echo)
            .expect("an executor starts under the profile")
            .join()
            .expect("an executor runs under the profile");
    });
    thread.join().unwrap();
}

async fn echo() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut client = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("a connection");
    let mut server = listener.accept().await.expect("its other end");
    client.write_all(b"tide").await.expect("sent");
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).await.expect("received");
    assert_eq!(&bytes, b"tide");
}

/// The profile as the kernel takes it: for each call a test, what is left over is refused.
fn filter(profile: &Value, numbers: &HashMap<String, u32>) -> Vec<sock_filter> {
    let load = |offset: u32| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let unless_equal = |value: u32, skipped: u8| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, 0, skipped);
    let give = |value: u32| instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0);
    let mut program = vec![load(0)];
    for rule in profile["syscalls"].as_array().unwrap() {
        let action = match rule["action"].as_str().unwrap() {
            "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
            _ => libc::SECCOMP_RET_ERRNO | rule["errnoRet"].as_u64().unwrap() as u32,
        };
        for name in rule["names"].as_array().unwrap() {
            let number = numbers[name.as_str().unwrap()];
            // The only condition in use: the first argument, masked by `value`, is `valueTwo`.
            if let Some(condition) = rule.get("args").map(|conditions| &conditions[0]) {
                let [mask, value] = ["value", "valueTwo"].map(|key| condition[key].as_u64().unwrap() as u32);
                let masked = instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask, 0, 0);
                program.extend([unless_equal(number, 5), load(16), masked, unless_equal(value, 1), give(action), load(0)]);
            } else {
                program.extend([unless_equal(number, 1), give(action)]);
            }
        }
    }
    let refused = profile["defaultErrnoRet"].as_u64().unwrap() as u32;
    program.push(give(libc::SECCOMP_RET_ERRNO | refused));
    program
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

fn install(filter: &[sock_filter]) {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which outlives both calls, and writes nothing.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
}

/// A host for the script: a card with three interrupts and one receiving queue, four cores.
fn host() -> PathBuf {
    let root = std::env::temp_dir().join(format!("tidewire-pin-{}", std::process::id()));
    let card = root.join("sys/class/net/e0");
    for interrupt in ["10", "11", "12"] {
        write(&card.join("device/msi_irqs").join(interrupt), "msix");
        write(&root.join("proc/irq").join(interrupt).join("smp_affinity_list"), "0-3");
    }
    write(&card.join("queues/rx-0/rps_cpus"), "00000000,00000000");
    write(&card.join("queues/tx-0/xps_cpus"), "00000000,00000000");
    for core in 0..4 {
        write(&root.join(format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")), "powersave");
    }
    root
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
}

/// Runs the script on `root` and gives its exit code and what it printed.
fn pin(root: &Path, arguments: &str) -> (i32, String) {
    let script = Command::new(tuning("pin.sh")).args(arguments.split(' ')).env("SYSROOT", root).output().unwrap();
    (script.status.code().unwrap(), String::from_utf8(script.stdout).unwrap())
}

#[test]
fn pinning_writes_only_when_told_and_only_once() {
    let root = host();
    let arguments = "--device e0 --irq-cores 0-1 --shard-cores 2,3";
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap().trim().to_owned();

    let (code, output) = pin(&root, arguments);
    assert_eq!((code, output.matches("would ").count()), (0, 7), "{output}");
    assert_eq!(read("proc/irq/10/smp_affinity_list"), "0-3");

    let (code, output) = pin(&root, &format!("{arguments} --apply"));
    assert_eq!((code, output.matches("wrote ").count()), (0, 7), "{output}");
    assert_eq!(read("proc/irq/10/smp_affinity_list"), "0");
    assert_eq!(read("proc/irq/11/smp_affinity_list"), "1");
    assert_eq!(read("sys/class/net/e0/queues/rx-0/rps_cpus"), "3");
    assert_eq!(read("sys/class/net/e0/queues/tx-0/xps_cpus"), "c");
    assert_eq!(read("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor"), "performance");
    assert_eq!(read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "powersave");

    let (code, output) = pin(&root, &format!("{arguments} --apply"));
    assert_eq!((code, output.matches("ok ").count(), output.matches("wrote ").count()), (0, 7, 0), "{output}");
    assert_eq!(pin(&root, "--device e0 --irq-cores 0-2 --shard-cores 2").0, 2);
    assert_eq!(pin(&root, "--device e0 --irq-cores 4").0, 2);
    fs::remove_dir_all(root).unwrap();
}
