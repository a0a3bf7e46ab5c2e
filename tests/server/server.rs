//! One server process, from its first line to its exit code.

use crate::client::{Session, Socket};
use crate::raw::RawSocket;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Bounds every wait; nothing takes nearly as long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A command of the binary, or of that which TIDEWIRE_BIN names, without what the environment of the tests would set.
pub fn tidewire(arguments: &[&str]) -> Command {
    let binary = std::env::var_os("TIDEWIRE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_tidewire").into());
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEWIRE_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// A directory of its own, which ends with this.
pub struct Directory {
    pub path: PathBuf,
}

impl Directory {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidewire-{name}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self { path }
    }

    pub fn name(&self) -> &str {
        self.path.to_str().expect("the name is text")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What a failed test leaves is what somebody wants to look at.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Starts a server and kills it so much later, whether it has begun to serve or not.
pub fn start_and_kill(variables: &[(&str, String)], later: Duration) {
    let mut command = tidewire(&["serve", "--listen", "127.0.0.1:0", "--mqtt", "off", "--shards", "1", "--dev"]);
    command.envs(variables.iter().map(|(name, value)| (format!("TIDEWIRE_{name}"), value)));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    std::thread::sleep(later);
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
}

/// A server that runs. Dropping it ends it by SIGTERM and expects exit code 0.
pub struct Server {
    child: Child,
    is_killed: bool,
    /// Held open: the process may print as long as it runs.
    _stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
    /// Where it serves MQTT, if it does.
    pub mqtt: Option<SocketAddr>,
    /// Where its further listeners are, by their names.
    pub listeners: HashMap<String, SocketAddr>,
}

impl Server {
    pub fn start(shards: usize) -> Self {
        Self::start_with(shards, &[])
    }

    /// With environment variables, named without their prefix. Nothing is stored unless one names a directory.
    pub fn start_with(shards: usize, variables: &[(&str, &str)]) -> Self {
        Self::start_serving(shards, variables, "off", &[])
    }

    /// With a configuration file of this text; `listeners` are where its listeners are.
    pub fn start_with_file(shards: usize, variables: &[(&str, &str)], file: &Path) -> Self {
        Self::start_serving(shards, variables, "off", &["--config", file.to_str().expect("the name is text")])
    }

    /// As [`Self::start_with`], with further flags.
    pub fn start_with_flags(shards: usize, variables: &[(&str, &str)], flags: &[&str]) -> Self {
        Self::start_serving(shards, variables, "off", flags)
    }

    /// As [`Self::start_with`], on a port of its own for MQTT too.
    pub fn start_with_mqtt(shards: usize, variables: &[(&str, &str)]) -> Self {
        Self::start_serving(shards, variables, "127.0.0.1:0", &[])
    }

    fn start_serving(shards: usize, variables: &[(&str, &str)], mqtt: &str, flags: &[&str]) -> Self {
        let mut command = tidewire(&["serve", "--listen", "127.0.0.1:0", "--mqtt", mqtt, "--shards", &shards.to_string()]);
        command.args(flags);
        command.env("TIDEWIRE_LOG_LEVEL", "error");
        if !variables.iter().any(|(name, _)| *name == "AUTHENTICATION_CHAIN") {
            command.env("TIDEWIRE_SERVER_DEV", "true");
        }
        if !variables.iter().any(|(name, _)| *name == "STORAGE_DIRECTORY") {
            command.env("TIDEWIRE_STORAGE_EPHEMERAL", "true");
        }
        command.envs(variables.iter().map(|(name, value)| (format!("TIDEWIRE_{name}"), value)));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the first line is text");
        let Some((_, address)) = line.trim().split_once("listening on http://") else {
            let mut errors = String::new();
            let _ = child.stderr.take().expect("it is piped").read_to_string(&mut errors);
            panic!("the server did not start: {line}{errors}");
        };
        let address = address.parse().expect("the first line ends in an address");
        let mqtt = read_mqtt_address(&mut stdout);
        let listeners = read_listeners(&mut stdout);
        Self { address, mqtt, listeners, child, is_killed: false, _stdout: stdout }
    }

    /// A session of the binary form that decodes both delta forms.
    pub fn connect(&self) -> Session {
        Session::connect(self.address, 3)
    }

    /// A WebSocket with this subprotocol and no session yet.
    pub fn open(&self, protocol: &str) -> Socket {
        Socket::open(self.address, protocol)
    }

    pub fn open_raw(&self) -> RawSocket {
        RawSocket::open(self.address)
    }

    /// What a new connection is answered to a request for `/health`; `None` where it is not taken.
    pub fn ask_for_health(&self) -> Option<String> {
        let mut socket = self.open_raw();
        socket.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = socket.read_to_end();
        (!answer.is_empty()).then(|| String::from_utf8(answer).expect("an answer is text"))
    }

    /// One of the report's counts, of all shards together.
    pub fn count(&self, name: &str) -> u64 {
        let mut socket = self.open_raw();
        socket.send(b"GET /latency HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = String::from_utf8(socket.read_to_end()).expect("an answer is text");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let report: serde_json::Value = serde_json::from_str(body).expect("the report is JSON");
        report["shards"].as_array().expect("shards").iter().map(|shard| shard["counts"][name].as_u64().expect(name)).sum()
    }

    /// Runs one of the client commands against this server.
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.client(arguments).output().expect("the binary starts")
    }

    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = tidewire(arguments);
        command.args(["--server", &format!("ws://{}", self.address)]).stdin(Stdio::null());
        command
    }

    /// The most memory that the process has held so far.
    pub fn memory_bytes_most(&self) -> usize {
        let most = self.status("VmHWM:").expect("Linux tells the high-water mark");
        most.trim_end_matches(" kB").parse::<usize>().expect("a number of KiB") << 10
    }

    /// What the kernel tells of the process behind this name.
    pub fn status(&self, name: &str) -> Option<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process runs");
        status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_string())
    }

    /// Asks the process to end.
    pub fn terminate(&self) {
        terminate(&self.child);
    }

    /// Tells the process to read its certificates again.
    pub fn refresh(&self) {
        // SAFETY: the process is our child and not waited for yet, so its number is nobody else's.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGHUP) };
    }

    /// Ends the process at once, by SIGKILL.
    pub fn kill(&mut self) {
        self.is_killed = true;
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The exit code of a process that ends.
    pub fn wait(&mut self) -> Option<i32> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

/// Where the lines that a server prints behind its first say that it serves MQTT.
fn read_mqtt_address(lines: &mut impl BufRead) -> Option<SocketAddr> {
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).expect("the lines are text");
        assert!(!line.is_empty(), "the server says where it serves MQTT");
        let Some(place) = line.trim().strip_prefix("mqtt ") else { continue };
        let address = place.trim().strip_prefix("mqtt://")?.split(',').next().expect("a first part");
        return Some(address.parse().expect("an address"));
    }
}

/// Where the lines up to that on its shards say that the server's further listeners are.
fn read_listeners(lines: &mut impl BufRead) -> HashMap<String, SocketAddr> {
    let mut found = HashMap::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).expect("the lines are text");
        assert!(!line.is_empty(), "the server says how many shards it has");
        if line.trim().starts_with("shards ") {
            return found;
        }
        let Some((name, place)) = line.trim().strip_prefix("listens ").and_then(|rest| rest.trim().split_once(" at ")) else { continue };
        let (_, address) = place.split_once("://").expect("a scheme");
        found.insert(name.to_owned(), address.parse().expect("an address"));
    }
}

/// Sends SIGTERM to a process that a test started.
pub fn terminate(child: &Child) {
    // SAFETY: the process is our child and not waited for yet, so its number is nobody else's.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_killed {
            return;
        }
        terminate(&self.child);
        let code = self.wait();
        if code.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if !std::thread::panicking() {
            assert_eq!(code, Some(0), "the server's exit code");
        }
    }
}
