//! Eclipse Mosquitto: its commands as clients (the package `mosquitto-clients`), and its broker (`mosquitto`), which bridges.

use crate::server::{Directory, PATIENCE, Server};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

pub const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

/// Topic, QoS, RETAIN and payload of a message.
const FORMAT: [&str; 2] = ["-F", "got %t %q %r %p"];

/// What clients connect to.
pub trait Broker {
    /// The arguments that say where it is.
    fn place(&self) -> Vec<String>;
}

impl Broker for Server {
    fn place(&self) -> Vec<String> {
        let address = self.mqtt.expect("it serves MQTT");
        vec!["-h".into(), address.ip().to_string(), "-p".into(), address.port().to_string()]
    }
}

/// A command of Mosquitto that talks to this broker.
pub fn mosquitto(name: &str, broker: &impl Broker, version: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("stdbuf");
    // Its lines are to be read as they come.
    command.args(["-oL", name]).args(broker.place()).args(["-V", version]).args(arguments).stdin(Stdio::null());
    command
}

pub fn publish(broker: &impl Broker, version: &str, arguments: &[&str]) -> Output {
    let output = mosquitto("mosquitto_pub", broker, version, arguments).output().expect("the package mosquitto-clients is installed");
    assert!(output.status.success(), "mosquitto_pub {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// `mosquitto_sub` from the moment that it is subscribed.
pub struct Subscriber {
    child: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    pub fn start(broker: &impl Broker, version: &str, arguments: &[&str]) -> Self {
        let subscriber = Self::start_unheard(broker, version, arguments);
        while !subscriber.line().starts_with("Subscribed ") {}
        subscriber
    }

    /// Some messages may come before it says that it is subscribed: its output is read from the start.
    pub fn start_unheard(broker: &impl Broker, version: &str, arguments: &[&str]) -> Self {
        let mut command = mosquitto("mosquitto_sub", broker, version, &["-d"]);
        if !arguments.contains(&"-F") {
            command.args(FORMAT);
        }
        let mut child = command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the package mosquitto-clients is installed");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line comes")
    }

    /// The next message, as its format says.
    pub fn next(&self) -> String {
        loop {
            if let Some(message) = self.line().strip_prefix("got ") {
                return message.to_owned();
            }
        }
    }

    pub fn expect(&self, message: &str) {
        assert_eq!(self.next(), message);
    }

    /// Ends the process without a word to the server.
    pub fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Waits for the process to end; its exit code.
    pub fn wait(mut self) -> Option<i32> {
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().expect("it is our child").code()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker with a bridge to a server, as `mosquitto.conf` makes it where nothing else is said: it is reached on a socket of Unix.
pub struct Bridge {
    child: Child,
    directory: Directory,
}

impl Bridge {
    /// In this version of MQTT, with lines such as `topic # both 1`.
    pub fn start(server: SocketAddr, version: &str, topics: &[&str]) -> Self {
        let directory = Directory::new("mosquitto");
        std::fs::create_dir_all(&directory.path).expect("a directory can be made");
        let socket = directory.path.join("socket");
        let topics: String = topics.iter().map(|topic| format!("topic {topic}\n")).collect();
        let configuration = format!(
            "user root\nlistener 0 {}\nallow_anonymous true\nconnection tidewire\naddress {server}\n\
             bridge_protocol_version {version}\nrestart_timeout 1\n{topics}",
            socket.display()
        );
        let file = directory.path.join("mosquitto.conf");
        std::fs::write(&file, configuration).expect("the directory is ours");
        let binary = if std::path::Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let log = std::fs::File::create(directory.path.join("log")).expect("the directory is ours");
        let command = Command::new(binary).arg("-v").arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let bridge = Self { child: command.expect("the package mosquitto is installed"), directory };
        let started = std::time::Instant::now();
        while !bridge.log().contains(" running") {
            assert!(started.elapsed() < PATIENCE, "mosquitto did not start: {}", bridge.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        bridge
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path.join("log")).unwrap_or_default()
    }
}

impl Broker for Bridge {
    fn place(&self) -> Vec<String> {
        vec!["--unix".into(), self.directory.path.join("socket").display().to_string()]
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
