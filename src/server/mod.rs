//! Assembles the process: listeners, shards, signals, and the order in which it stops.

use crate::admin::Pages;
use crate::base::TopicId;
use crate::config::Config;
use crate::runtime::{self, Listeners, Places, Runtime, Settings, Stored};
use crate::shard::Limits;
use crate::storage::{Options, Recovered, Store};
use signal_hook::consts::{SIGINT, SIGTERM};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A server that runs.
pub struct Server {
    runtime: Runtime,
    /// Where it listens; the port is the real one.
    pub address: SocketAddr,
    /// Where it listens for MQTT, likewise; `None` where it does not.
    pub mqtt_address: Option<SocketAddr>,
    /// The core of each shard.
    pub cores: Vec<usize>,
    /// What was found in the store, in words; `None` where nothing is stored.
    pub restored: Option<String>,
    /// Set by SIGTERM and SIGINT.
    stop: Arc<AtomicBool>,
}

/// Connections that may wait to be accepted, before the host's own limit.
const BACKLOG: i32 = 4096;

/// Starts to serve.
pub fn start(config: &Config, pages: Pages) -> io::Result<Server> {
    raise_open_files();
    keep_pages_small();
    ignore_file_size_signal();
    let cores = config.placement(&crate::config::usable_cores());
    let (address, listeners) = listen_on_common_port(config, &cores)?;
    let (mqtt_address, mqtt_listeners) = listen_for_mqtt(config, &cores)?.unzip();
    let mut mqtt_listeners = mqtt_listeners.into_iter().flatten();
    let listeners = listeners.into_iter().zip(&cores);
    let listeners = listeners.map(|(http, core)| Listeners { http, mqtt: mqtt_listeners.next(), core: *core }).collect();
    let settings = Settings {
        limits: limits(config, cores.len()),
        server: format!("tidewire {}", env!("CARGO_PKG_VERSION")),
        start: runtime::now().0,
        spin_before_park_us: config.server.spin_before_park_us,
        shutdown_drain_ms: config.server.shutdown_drain_ms,
        pages: Arc::new(pages),
        places: config.server.geoip_file.as_deref().map(Places::read).transpose()?.map(Arc::new),
    };
    // Before anybody can know that the server is up: whoever does may end it.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let started = runtime::now();
    let stored = open_store(config, &cores)?;
    let (stored, found) = stored.unzip();
    let runtime = runtime::start(&settings, listeners, stored)?;
    let restored = found.map(|found| format!("{found} in {} ms", runtime::now().since(started) / 1_000_000));
    Ok(Server { runtime, address, mqtt_address, cores, restored, stop })
}

/// Opens the store and reads what it holds; nothing where the server is ephemeral.
fn open_store(config: &Config, cores: &[usize]) -> io::Result<Option<(Stored, String)>> {
    let wanted = &config.storage;
    if wanted.ephemeral {
        return Ok(None);
    }
    let shards = u16::try_from(cores.len()).expect("there are at most 64 shards");
    let options = Options { shards, ..wanted.options };
    let (store, recovered) = Store::open(&wanted.directory, options).map_err(|error| io::Error::other(error.to_string()))?;
    let Recovered { state, torn, records, .. } = recovered;
    let views = state.topics.values().filter(|topic| topic.view_name().is_some()).count();
    let topics = state.topics.values().filter(|topic| topic.is_topic()).count();
    let sessions = state.topics.len() - topics - views;
    let mut found = format!("{topics} topics, {views} views, {sessions} sessions, {records} records replayed");
    if let Some(torn) = torn {
        tracing::warn!("{torn}");
        found = format!("{found}, a torn tail cut");
    }
    // A core that serves no shard, where there is one.
    let free = crate::config::usable_cores().into_iter().rev().find(|core| !cores.contains(core));
    let core = free.or(cores.last().copied());
    let highest_topic = state.highest_topic;
    let topics: Vec<(TopicId, _)> = state.topics.into_iter().collect();
    Ok(Some((Stored { store, options, core, topics, highest_topic }, found)))
}

impl Server {
    /// Where a client on this host reaches it.
    pub fn local_address(&self) -> SocketAddr {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        address
    }

    /// Serves until the process is told to end by SIGTERM or SIGINT, then takes leave of every session.
    pub fn run(self) -> io::Result<()> {
        let mut beats = self.runtime.beats();
        let mut turns = 0;
        while !self.stop.load(Ordering::Relaxed) && !self.runtime.has_failed() {
            std::thread::sleep(Duration::from_millis(50));
            turns += 1;
            // At least one tick of a shard, unless it is late by as much.
            if turns % 4 == 0 {
                self.runtime.interrupt_stalled(&beats);
                beats = self.runtime.beats();
            }
        }
        tracing::info!("stopping");
        self.runtime.stop()
    }
}

fn listen_on_common_port(config: &Config, cores: &[usize]) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let address = config.server.listen;
    listen_for_all(address, cores.len(), config.server.socket_send_bytes)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

fn listen_for_mqtt(config: &Config, cores: &[usize]) -> io::Result<Option<(SocketAddr, Vec<OwnedFd>)>> {
    let Some(address) = config.mqtt.listen else { return Ok(None) };
    let listening = listen_for_all(address, cores.len(), config.server.socket_send_bytes).map_err(|error| {
        let remedy = "--mqtt ADDR:PORT chooses another, --mqtt off none";
        io::Error::new(error.kind(), format!("cannot listen for MQTT on {address}: {error}; {remedy}"))
    })?;
    Ok(Some(listening))
}

/// A listener on `address` for each shard; the port is the real one.
fn listen_for_all(mut address: SocketAddr, shards: usize, socket_send_bytes: usize) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    check_free(address)?;
    let mut listeners = Vec::new();
    for _ in 0..shards {
        let listener = listen(address, socket_send_bytes)?;
        // The first shard's port is every shard's, also where any was asked for.
        address = listener.local_addr()?.as_socket().expect("an IP socket has an IP address");
        listeners.push(OwnedFd::from(listener));
    }
    Ok((address, listeners))
}

/// The shards share their port, so a second server could join them unnoticed: a socket that does not share must find the port free.
///
/// A server that has just ended still holds it for a moment, until the kernel has taken its rings apart.
fn check_free(address: SocketAddr) -> io::Result<()> {
    let mut tries_left = 20;
    loop {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        match socket.bind(&address.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries_left > 0 => tries_left -= 1,
            result => return result,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn listen(address: SocketAddr, socket_send_bytes: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    // Accepted sockets inherit these: small messages must not wait for each other.
    socket.set_tcp_nodelay(true)?;
    if socket_send_bytes > 0 {
        socket.set_send_buffer_size(socket_send_bytes)?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Those of each shard.
fn limits(config: &Config, shards: usize) -> Limits {
    let has_mqtt = config.mqtt.listen.is_some();
    let mut limits = Limits { has_mqtt, web: config.web(), ..config.limits.clone() }.split(shards);
    limits.views.language.selector = limits.selector;
    limits
}

/// A file that reaches the host's limit is a full disk: the write fails and is tried again, and the process does not end.
fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal runs no code of ours in a handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Every connection is an open file: take what the host allows.
fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid place; what they refuse stays as it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// The kernel clears a huge page when it is first touched, which takes as long as clearing 512 small ones at once: where a table grows, many are touched
/// in one turn, and all that its core serves waits.
fn keep_pages_small() {
    // SAFETY: it changes how this process is given memory, and nothing that it has; a kernel without it gives pages of any size.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::MqttLimits;
    use crate::wire::origin::Hosts;

    #[test]
    fn one_shard_gets_the_default_limits_of_mqtt() {
        assert_eq!(limits(&Config::default(), 1).mqtt, MqttLimits::default());
    }

    #[test]
    fn what_is_accepted_delays_no_small_message() {
        let (address, listeners) = listen_for_all("127.0.0.1:0".parse().unwrap(), 1, 0).unwrap();
        let _peer = std::net::TcpStream::connect(address).unwrap();
        let listener = std::net::TcpListener::from(listeners.into_iter().next().expect("one for the one shard"));
        assert!(listener.accept().unwrap().0.nodelay().unwrap());
    }

    #[test]
    fn shards_share_what_the_server_may_hold() {
        let shared = limits(&Config::default(), 3);
        assert_eq!((shared.topics_max, shared.connections_max), (3_333_334, 333_334));
        assert_eq!(shared.mqtt.sessions_max, 33_334);
    }

    #[test]
    fn a_selector_of_a_view_obeys_the_limits_of_any_selector() {
        let mut config = Config::default();
        config.limits.selector.members_max = 7;
        assert_eq!(limits(&config, 1).views.language.selector, config.limits.selector);
    }

    #[test]
    fn a_server_that_others_reach_has_any_name_unless_some_are_listed() {
        let hosts = |listen: &str, listed: &[String]| {
            let mut config = Config::default();
            config.server.listen = listen.parse().expect("an address");
            config.limits.web.hosts = Hosts::parse(listed).expect("names");
            limits(&config, 1).web.hosts
        };
        let listed = ["a.example".to_owned()];
        let named = Hosts::parse(&listed).expect("names");
        assert_eq!(hosts("127.0.0.1:1", &[]), Hosts::default());
        assert_eq!(hosts("[::ffff:127.0.0.1]:1", &listed), named);
        assert_eq!(hosts("0.0.0.0:1", &[]), Hosts::Any);
        assert_eq!(hosts("[::]:1", &listed), named);
    }

    #[test]
    fn without_a_listener_no_client_of_mqtt_may_connect_and_what_sessions_hold_is_bounded_as_ever() {
        let mut config = Config::default();
        assert!(limits(&config, 1).has_mqtt);
        config.mqtt.listen = None;
        config.limits.mqtt.queued_messages_max = 7;
        let limits = limits(&config, 1);
        assert_eq!((limits.has_mqtt, limits.mqtt.queued_messages_max), (false, 7));
    }
}
